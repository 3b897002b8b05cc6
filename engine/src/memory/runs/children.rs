//! Runs that the code of other runs starts.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::Runs;
use super::run::{Parent, Run, Status};
use super::start::object;
use super::steps::{MOST_STEPS, check_path};
use super::views::RunStart;
use crate::lifecycle::{
    ChildEnd, EndedChild, FleetError, HIGHEST_PRIORITY, Kind, ManagerError, NewChild, RunId, RunRequest, StepState,
    StepStatus, misfit_attributes,
};

/// Whoever claims a parent may not see an end that was on its way to be committed, for so long at most.
const UNTOLD: Duration = Duration::from_secs(60);

impl Runs {
    /// Each child with the open step that waits for it, or neither.
    pub(super) fn start_children(&mut self, group: &[NewChild], now: DateTime<Utc>) -> Result<Vec<bool>, FleetError> {
        for child in group {
            self.check_child(child)?;
        }
        let refused = |error: ManagerError| FleetError::Refused(error.to_string());
        self.check_room(group.len()).map_err(refused)?;
        Ok(group.iter().map(|child| self.start_child(child, now)).collect())
    }

    fn check_child(&mut self, child: &NewChild) -> Result<(), FleetError> {
        check_path(&child.path)?;
        let refused = |why: String| Err(FleetError::Refused(why));
        let wishes = &child.wishes;
        for text in [&wishes.queue, &wishes.tenant, &wishes.limit_key] {
            if text
                .as_deref()
                .is_some_and(|text| text.is_empty() || text.contains('\0'))
            {
                return refused(format!(
                    "the queue, tenant or limit key of child {} is none",
                    child.path
                ));
            }
        }
        if wishes.priority.is_some_and(|priority| priority > HIGHEST_PRIORITY) {
            return refused(format!(
                "the priority of child {} is above {HIGHEST_PRIORITY}",
                child.path
            ));
        }
        let attributes = wishes.attributes.as_ref().and_then(Value::as_object);
        if let Some(wrong) = attributes.and_then(misfit_attributes) {
            return refused(format!("child {}: {wrong}", child.path));
        }
        match self.held(&child.claim) {
            Some(run) if run.steps.len() >= MOST_STEPS => refused(format!("run {} has {MOST_STEPS} steps", run.id())),
            _ => Ok(()),
        }
    }

    fn start_child(&mut self, child: &NewChild, now: DateTime<Utc>) -> bool {
        let Some(parent) = self.held(&child.claim) else {
            return false;
        };
        let token = parent.token;
        parent.steps.entry(child.path.clone()).or_insert_with(|| StepState {
            path: child.path.clone(),
            kind: Kind::Child,
            status: StepStatus::Open,
            result: None,
            started_at: child.begun_at,
            finished_at: None,
            due_at: None,
            attempts: 0,
            claim_token: token,
            plan_cursor: None,
            planned: false,
        });
        let above = Parent {
            run: parent.id(),
            path: child.path.clone(),
            depth: parent.parent.as_ref().map_or(0, |parent| parent.depth) + 1,
            detached: child.wishes.detached,
        };
        let start = RunStart {
            request: RunRequest {
                id: child.id,
                params: child.params.clone(),
                origin_id: Some(child.origin_id),
                start_at: child.wishes.start_at,
                deadline: child.wishes.deadline,
                traceparent: child.wishes.traceparent.clone().or(parent.request.traceparent.clone()),
                ..RunRequest::new(&*child.workflow).for_engine()
            },
            queue: child.wishes.queue.clone(),
            priority: child.wishes.priority.unwrap_or(parent.priority),
            after_run: None,
            tenant: child.wishes.tenant.clone().or(parent.tenant.clone()),
            limit_key: child.wishes.limit_key.clone(),
            debounce_key: None,
            attributes: object(child.wishes.attributes.as_ref()),
        };
        if !self.by_id.contains_key(&child.id) {
            self.queue(start, Some(above), now);
        }
        true
    }

    /// Of those that went on in one another's place the last one counts.
    pub(super) fn ended_children(&self, parent: RunId, paths: &[String]) -> Vec<EndedChild> {
        let children = self.by_id.values().filter(|run| run.continued_as.is_none());
        let by_path: HashMap<&str, &Run> = children
            .filter_map(|run| {
                let above = run.parent.as_ref().filter(|above| above.run == parent)?;
                Some((above.path.as_str(), run))
            })
            .collect();
        let ended = paths.iter().filter_map(|path| {
            let child = by_path.get(path.as_str());
            let end = match child {
                None => ChildEnd::Gone,
                Some(child) => child.end()?,
            };
            Some(EndedChild {
                path: path.clone(),
                run: child.map(|child| child.id()),
                end,
            })
        });
        ended.collect()
    }

    /// Whether there was anything to stop, or to drop.
    pub(super) fn stop_children(&mut self, run: RunId, now: DateTime<Utc>) -> bool {
        let Some(parent) = self.by_id.get(&run) else {
            return false;
        };
        let is_over = parent.status.is_over();
        if !is_over && parent.stop.is_none() {
            return false;
        }
        let reason = parent
            .stop
            .as_ref()
            .map(|stop| stop.reason.clone())
            .or(parent.reason.clone());
        let reason = match reason {
            Some(root) if root.starts_with("the run that started it ") => root,
            reason => {
                let why = if is_over { "over" } else { "stopped" };
                let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
                format!("the run that started it is {why}{reason}")
            }
        };
        let open: Vec<String> = parent.open_children().collect();
        let mut changed = false;
        let children: Vec<RunId> = self
            .by_id
            .values()
            .filter(|child| child.is_to_stop(run, &open))
            .map(Run::id)
            .collect();
        for child in children {
            self.request_stop(child, Status::Cancelled, &reason, false, now);
            changed = true;
        }
        if let Some(parent) = self.by_id.get_mut(&run).filter(|_| is_over) {
            for path in open {
                if let Some(step) = parent.steps.get_mut(&path) {
                    (step.status, step.finished_at) = (StepStatus::Dropped, Some(now));
                    changed = true;
                }
            }
        }
        changed
    }

    /// What branches started that have lost a select is stopped, but for detached children; nobody waits for it any more.
    /// Whether there was anything to stop.
    pub(super) fn stop_lost_children(&mut self, run: RunId, lost: &[String], now: DateTime<Utc>) -> bool {
        let Some(parent) = self.by_id.get(&run) else {
            return false;
        };
        let is_lost = |path: &String| lost.iter().any(|prefix| path.starts_with(prefix));
        let open: Vec<String> = parent.open_children().filter(is_lost).collect();
        let to_stop = self.by_id.values().filter(|child| child.is_to_stop(run, &open));
        let children: Vec<RunId> = to_stop.map(Run::id).collect();
        for child in &children {
            let reason = "the branch that started it lost a select";
            self.request_stop(*child, Status::Cancelled, reason, false, now);
        }
        if let Some(parent) = self.by_id.get_mut(&run) {
            for path in open {
                if let Some(step) = parent.steps.get_mut(&path) {
                    (step.status, step.finished_at) = (StepStatus::Dropped, Some(now));
                }
            }
        }
        !children.is_empty()
    }

    /// The run itself, or the one that goes on in its place by now.
    pub(super) fn last_run(&self, run: RunId) -> RunId {
        let mut meant = run;
        while let Some(next) = self.by_id.get(&meant).and_then(|run| run.continued_as) {
            meant = next;
        }
        meant
    }

    pub(super) fn cancel(&mut self, run: RunId, reason: &str, force: bool, now: DateTime<Utc>) -> &'static str {
        let meant = self.last_run(run);
        let state = self.request_stop(meant, Status::Cancelled, reason, force, now);
        self.stop_children(meant, now);
        let child = self.by_id.get(&meant).filter(|run| run.status.is_over());
        if let Some(parent) = child.and_then(|child| child.parent.as_ref()).map(|parent| parent.run) {
            self.wake(&[parent], now);
        }
        state
    }

    /// Wakes parents that sleep though a child of theirs is over, and stops the children of those that are over, and of branches
    /// that lost.
    pub(super) fn look_after_children(&mut self, now: DateTime<Utc>) -> u64 {
        let with_open = |run: &&Run| run.open_children().next().is_some();
        let parents: Vec<RunId> = self.by_id.values().filter(with_open).map(Run::id).collect();
        let mut changed = 0;
        for run in &parents {
            let Some(parent) = self.by_id.get(run) else { continue };
            let open: Vec<String> = parent.open_children().collect();
            let sleeps = parent.holder.is_none()
                && matches!(parent.status, Status::Running | Status::Suspended)
                && parent.ready.is_none_or(|ready| ready.at > now);
            // Of what was over long before its last claim the holder was told.
            let since = parent.claimed_at.map(|at| at - UNTOLD);
            let is_untold = |child: &Run| {
                let above = child.parent.as_ref().filter(|above| above.run == *run);
                above.is_some_and(|above| open.contains(&above.path))
                    && child.continued_as.is_none()
                    && since.is_some_and(|since| child.finished_at.is_some_and(|at| at > since))
            };
            if sleeps && self.by_id.values().any(is_untold) {
                changed += self.wake(&[*run], now);
            }
        }
        let mut more = true;
        while more {
            more = false;
            for run in self.by_id.keys().copied().collect::<Vec<_>>() {
                let lost = self.by_id.get(&run).map(Run::lost_branches).unwrap_or_default();
                for stopped in [self.stop_children(run, now), self.stop_lost_children(run, &lost, now)] {
                    more |= stopped;
                    changed += u64::from(stopped);
                }
            }
        }
        changed
    }
}

impl Run {
    fn open_children(&self) -> impl Iterator<Item = String> {
        let steps = self.steps.values();
        let open = steps.filter(|step| step.kind == Kind::Child && step.status == StepStatus::Open);
        open.map(|step| step.path.clone())
    }

    /// Branches in which steps wait for children though another one won the select.
    fn lost_branches(&self) -> Vec<String> {
        let open = self.open_children();
        let lost = open.flat_map(|path| {
            let selects = self.lost_selects(&path).into_iter();
            selects.map(|(_, end)| path[..=end].to_owned()).collect::<Vec<_>>()
        });
        lost.collect()
    }

    /// The selects above a step that another branch has won, outermost first: where the path of each ends, and that of the branch.
    pub(super) fn lost_selects(&self, path: &str) -> Vec<(usize, usize)> {
        let slashes: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
        // Each branch adds two parts to a path: its place and its own number.
        let lost = slashes.chunks_exact(2).filter_map(|ends| {
            let select = self.steps.get(path.get(..ends[0])?)?;
            let number = path.get(ends[0] + 1..ends[1])?;
            let is_lost = select.kind == Kind::Select
                && select.status == StepStatus::Completed
                && select.result.as_deref() != Some(number.as_bytes());
            is_lost.then_some((ends[0], ends[1]))
        });
        lost.collect()
    }

    /// A child of that run, started at one of these steps, that is neither over nor asked to stop, nor detached.
    fn is_to_stop(&self, parent: RunId, paths: &[String]) -> bool {
        let above = self
            .parent
            .as_ref()
            .filter(|above| above.run == parent && !above.detached);
        above.is_some_and(|above| paths.contains(&above.path)) && !self.status.is_over() && self.stop.is_none()
    }

    fn end(&self) -> Option<ChildEnd> {
        let reason = || self.reason.clone().unwrap_or_default();
        match self.status {
            Status::Completed => Some(ChildEnd::Completed(
                self.output.clone().unwrap_or_else(|| b"null".to_vec()),
            )),
            Status::Failed => Some(ChildEnd::Failed(reason())),
            Status::Cancelled => Some(ChildEnd::Cancelled(reason())),
            _ => None,
        }
    }
}

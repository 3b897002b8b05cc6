//! Pausing, resuming and stopping.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};

use super::Runs;
use super::run::{Ready, Run, Status, Stop};
use crate::lifecycle::{Ended, Kind, RunClaim, RunId, StepState, StepStatus, Swept};

const UNKNOWN: &str = "unknown";
const STOPPING: &str = "stopping";

impl Runs {
    pub(super) fn pause(&mut self, run: RunId, reason: &str) -> &'static str {
        let run = self.last_run(run);
        let Some(run) = self.by_id.get_mut(&run) else {
            return UNKNOWN;
        };
        if run.status.may_be_claimed() && run.stop.is_none() {
            run.reason = Some(reason.to_owned());
            run.turn_to(Status::Paused, Some(reason.to_owned()));
        }
        run.status.as_str()
    }

    /// What has begun runs again at once: something may have reached it meanwhile, which woke nobody. What has not
    /// keeps its time.
    pub(super) fn resume(&mut self, run: RunId, now: DateTime<Utc>) -> &'static str {
        let (ready_now, run) = (self.ready(now), self.last_run(run));
        let Some(run) = self.by_id.get_mut(&run) else {
            return UNKNOWN;
        };
        if !matches!(run.status, Status::Paused | Status::Quarantined) {
            return run.status.as_str();
        }
        let begun = run.started_at.is_some();
        let later = run.ready.filter(|ready| !begun && ready.at > now);
        run.ready = Some(later.unwrap_or(ready_now));
        run.reason = None;
        run.attempts = 0;
        run.wake_seq += 1;
        let next = if begun { Status::Running } else { Status::Queued };
        run.turn_to(next, Some("resumed".to_owned()));
        next.as_str()
    }

    pub(super) fn request_stop(
        &mut self,
        run: RunId,
        status: Status,
        reason: &str,
        force: bool,
        now: DateTime<Utc>,
    ) -> &'static str {
        let ready = self.ready(now);
        let Some(asked) = self.by_id.get_mut(&run) else {
            return UNKNOWN;
        };
        let was_over = asked.status.is_over();
        let state = asked.request_stop(status, reason, force, ready);
        if !was_over {
            self.tell_parents(&[run], now);
        }
        state
    }

    /// Those of the runs that are over by now wake the runs that started them.
    fn tell_parents(&mut self, ended: &[RunId], now: DateTime<Utc>) {
        for run in ended {
            let over = self.by_id.get(run).filter(|run| run.status.is_over());
            if let Some(parent) = over.and_then(|run| run.parent.as_ref()).map(|parent| parent.run) {
                self.wake(&[parent], now);
            }
        }
    }

    pub(super) fn fail_claimed(&mut self, claim: &RunClaim, reason: &str, now: DateTime<Utc>) -> Ended {
        let ready = self.ready(now);
        let Some(run) = self.held(claim) else {
            return Ended::Lost;
        };
        let stop = run.stop.get_or_insert_with(|| Stop {
            status: Status::Failed,
            reason: reason.to_owned(),
        });
        let reason = stop.reason.clone();
        run.ready = None;
        run.end_claim(run.status, STOPPING, Some(reason));
        run.settle_stop(ready);
        self.tell_parents(&[claim.run], now);
        Ended::Done
    }

    pub(super) fn sweep(&mut self, now: DateTime<Utc>) -> Swept {
        let runs = self.recover(now);
        let batches = self.by_id.values_mut().map(|run| run.recover_batches(now)).sum();
        let fan_outs = self.complete_idle(now);
        self.hold_places();
        let unfinished: Vec<&Run> = self.by_id.values().filter(|run| !run.status.is_over()).collect();
        let is_late = |run: &&&Run| run.stop.is_none() && run.is_overdue(now);
        let late = unfinished.iter().filter(is_late);
        let mut overdue: Vec<_> = late.map(|run| (run.deadline_at, run.id())).collect();
        overdue.sort_unstable();
        let unfinished: Vec<RunId> = unfinished.into_iter().map(Run::id).collect();
        for (_, run) in &overdue {
            self.request_stop(*run, Status::Failed, "not over before its deadline", false, now);
        }
        // In order of ids: a run that ends before the one that it started is not woken by its end.
        let settled = unfinished.iter().filter(|run| self.settle_stop(**run, now)).count();
        Swept {
            batches,
            runs,
            fan_outs,
            stopped: (overdue.len() + settled) as u64,
            parents: self.look_after_children(now),
            ..Swept::default()
        }
    }

    pub(super) fn settle_stop(&mut self, run: RunId, now: DateTime<Utc>) -> bool {
        let ready = self.ready(now);
        let settled = self.by_id.get_mut(&run).is_some_and(|run| run.settle_stop(ready));
        if settled {
            self.tell_parents(&[run], now);
        }
        settled
    }
}

impl Run {
    fn is_overdue(&self, now: DateTime<Utc>) -> bool {
        self.deadline_at.is_some_and(|at| at <= now)
    }

    /// Asked again with force, what it did stays.
    fn request_stop(&mut self, status: Status, reason: &str, force: bool, ready: Ready) -> &'static str {
        if self.status.is_over() {
            return self.status.as_str();
        }
        let waives = force && self.undoing != Some(false);
        if self.stop.is_none() || waives {
            let mut reason = reason.to_owned();
            let waived = self.not_undone();
            if waives && !waived.is_empty() {
                reason = format!("{reason}; by force, not undone: {}", waived.join(", "));
            }
            self.note(Some(self.status), STOPPING, Some(reason.clone()));
            let status = self.stop.as_ref().map_or(status, |stop| stop.status);
            self.stop = Some(Stop { status, reason });
            self.undoing = if force { Some(false) } else { self.undoing };
        }
        match self.settle_stop(ready) {
            true => self.status.as_str(),
            false => STOPPING,
        }
    }

    /// Steps that can be undone, that were begun, and that are not undone; the last one first.
    fn not_undone(&self) -> Vec<&str> {
        let undone = |step: &StepState| {
            let undo = self.steps.get(&format!("undo/{}", step.path));
            undo.is_some_and(|undo| undo.status == StepStatus::Completed)
        };
        let undoable = self.steps.values().filter(|step| step.kind == Kind::Undoable);
        let mut not_undone: Vec<&StepState> = undoable.filter(|step| !undone(step)).collect();
        let is_open = |step: &StepState| step.finished_at.is_none();
        not_undone.sort_by_key(|step| (!is_open(step), Reverse(step.finished_at)));
        not_undone.into_iter().map(|step| step.path.as_str()).collect()
    }

    /// Asked to stop, its code is not running, what it did is undone and no batch of it is held: it is over. What is still
    /// to be undone is left to whoever has its code.
    fn settle_stop(&mut self, ready: Ready) -> bool {
        if self.status.is_over() || self.holder.is_some() || self.undoing == Some(true) {
            return false;
        }
        let Some(Stop { status, reason }) = self.stop.clone() else {
            return false;
        };
        if self.undoing.is_none() && !self.not_undone().is_empty() {
            self.note(Some(self.status), "undoing", Some(reason));
            self.undoing = Some(true);
            self.wake_seq += 1;
            self.ready = Some(ready);
            if matches!(self.status, Status::Paused | Status::Quarantined) {
                self.status = Status::Running;
            }
            return false;
        }
        let (_, held_batches) = self.unfinished();
        if held_batches > 0 {
            return false;
        }
        self.ready = None;
        self.finished_at = Some(ready.at);
        self.reason = Some(reason.clone());
        self.turn_to(status, Some(reason));
        true
    }
}

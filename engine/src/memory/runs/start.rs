//! Starting runs.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};

use super::Runs;
use super::run::{Run, Status};
use super::views::RunStart;
use crate::lifecycle::{Driver, FleetError, ManagerError, NewRun, RunId, RunRequest, Started};

/// More runs than any test needs; what is over stays, as in the tables until retention.
const MOST_RUNS: usize = 100_000;
const HIGHEST_PRIORITY: u8 = 20;

impl Runs {
    pub(super) fn start(&mut self, start: RunStart, now: DateTime<Utc>) -> Result<Option<RunId>, ManagerError> {
        check(&start)?;
        if let Some(found) = self.same_start(&start) {
            return Ok(Some(found));
        }
        let key = &start.request.singleton_key;
        let holds_key = |run: &Run| !run.status.is_over() && run.request.singleton_key == *key;
        if key.is_some() && self.by_id.values().any(holds_key) {
            return Ok(None);
        }
        if self.by_id.len() >= MOST_RUNS {
            return Err(ManagerError::Invalid(format!(
                "there are {MOST_RUNS} runs in memory, no more fit"
            )));
        }
        let ready = self.ready(start.request.start_at.unwrap_or(now));
        let id = start.request.id;
        let mut run = Run {
            request: start.request,
            queue: start.queue,
            priority: start.priority,
            after_run: start.after_run,
            created_at: now,
            status: Status::Queued,
            reason: None,
            output: None,
            started_at: None,
            code_version: None,
            ready: Some(ready),
            wake_seq: 0,
            token: 0,
            holder: None,
            attempts: 0,
            stop: None,
            batches: (0, 0),
            steps: BTreeMap::new(),
            signals: Vec::new(),
            changes: VecDeque::new(),
        };
        run.note(None, Status::Queued.as_str(), None);
        self.by_id.insert(id, run);
        Ok(Some(id))
    }

    pub(super) fn start_page(&mut self, page: &[NewRun], again: bool, now: DateTime<Utc>) -> Result<(), FleetError> {
        let is_there = |run: &&NewRun| self.by_id.contains_key(&run.id);
        if !again && let Some(run) = page.iter().find(is_there) {
            return Err(FleetError::Refused(format!("there is a run {}", run.id)));
        }
        // All or none.
        let refused = |error: ManagerError| FleetError::Refused(error.to_string());
        page.iter().try_for_each(|run| check(&start_of(run)).map_err(refused))?;
        if self.by_id.len() + page.len() > MOST_RUNS {
            return Err(FleetError::Refused(format!(
                "no more than {MOST_RUNS} runs fit in memory"
            )));
        }
        page.iter().try_for_each(|run| self.start_new(run, now).map(|_| ()))
    }

    pub(super) fn start_new(&mut self, run: &NewRun, now: DateTime<Utc>) -> Result<Started, FleetError> {
        let is_known = self.by_id.contains_key(&run.id);
        match self.start(start_of(run), now) {
            Ok(Some(id)) if id == run.id && !is_known => Ok(Started::New(id)),
            Ok(Some(id)) => Ok(Started::Found(id)),
            Ok(None) => Ok(Started::Held),
            Err(error) => Err(FleetError::Refused(error.to_string())),
        }
    }

    /// The run that answers for this request already.
    fn same_start(&self, start: &RunStart) -> Option<RunId> {
        let asked = &start.request;
        if self.by_id.contains_key(&asked.id) {
            return Some(asked.id);
        }
        if asked.idempotency_key.is_none() && asked.slot.is_none() {
            return None;
        }
        let same = |run: &&Run| {
            let other = &run.request;
            let same_key = asked.idempotency_key.is_some() && asked.idempotency_key == other.idempotency_key;
            (same_key && asked.workflow == other.workflow) || (asked.slot.is_some() && asked.slot == other.slot)
        };
        self.by_id.values().find(same).map(Run::id)
    }
}

fn start_of(run: &NewRun) -> RunStart {
    let run = run.clone();
    let request = RunRequest {
        id: run.id,
        params: run.params,
        singleton_key: run.singleton_key,
        idempotency_key: run.idempotency_key,
        start_at: run.start_at,
        pace_per_s: run.pace_per_s.map(i32::unsigned_abs),
        deadline: run.deadline,
        origin_id: run.origin_id,
        traceparent: run.traceparent,
        actor: run.actor,
        ..RunRequest::new(run.workflow).for_engine()
    };
    RunStart {
        request,
        queue: run.queue,
        priority: run.priority,
        after_run: None,
    }
}

fn check(start: &RunStart) -> Result<(), ManagerError> {
    start.request.check()?;
    let invalid = |why: String| Err(ManagerError::Invalid(why));
    if start.request.driven_by == Driver::Caller {
        return invalid("a caller's run has no code to run".to_owned());
    }
    if start.priority > HIGHEST_PRIORITY {
        return invalid(format!("priority {} is above {HIGHEST_PRIORITY}", start.priority));
    }
    match start.queue.as_deref() {
        Some(queue) if queue.is_empty() || queue.contains('\0') => invalid("the queue has no name".to_owned()),
        _ => Ok(()),
    }
}

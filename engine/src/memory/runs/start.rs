//! Starting runs.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};

use super::Runs;
use super::run::{Run, Status};
use super::views::RunStart;
use crate::lifecycle::{Driver, ManagerError, RunId};

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
            planned: BTreeMap::new(),
            steps: BTreeMap::new(),
            signals: Vec::new(),
            changes: VecDeque::new(),
        };
        run.note(None, Status::Queued.as_str(), None);
        self.by_id.insert(id, run);
        Ok(Some(id))
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

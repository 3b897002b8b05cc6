//! Starting runs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::Runs;
use super::run::{Holder, Parent, Run, Status};
use super::views::RunStart;
use crate::lifecycle::{
    Birth, Driver, FleetError, HIGHEST_PRIORITY, ManagerError, NewRun, RunId, RunRequest, Started, misfit_attributes,
    misnamed,
};

/// More runs than any test needs; what is over stays, as in the tables until retention.
const MOST_RUNS: usize = 100_000;

impl Runs {
    pub(super) fn start(&mut self, start: RunStart, now: DateTime<Utc>) -> Result<Option<RunId>, ManagerError> {
        check(&start)?;
        if let Some(found) = self.same_start(&start) {
            return Ok(Some(found));
        }
        if let Some(waiting) = self.debounce(&start, now) {
            return Ok(Some(waiting));
        }
        let key = &start.request.singleton_key;
        let holds_key = |run: &Run| !run.status.is_over() && run.request.singleton_key == *key;
        if key.is_some() && self.by_id.values().any(holds_key) {
            return Ok(None);
        }
        self.check_room(1)?;
        Ok(Some(self.queue(start, None, now)))
    }

    /// Whether so many more runs fit.
    pub(super) fn check_room(&self, more: usize) -> Result<(), ManagerError> {
        if self.by_id.len() + more > MOST_RUNS {
            return Err(ManagerError::Invalid(format!(
                "there are {MOST_RUNS} runs in memory, no more fit"
            )));
        }
        Ok(())
    }

    /// Queues a run that nothing stands in the way of.
    pub(super) fn queue(&mut self, start: RunStart, parent: Option<Parent>, now: DateTime<Utc>) -> RunId {
        let ready = self.ready(start.request.start_at.unwrap_or(now));
        let id = start.request.id;
        let mut run = Run {
            deadline_at: start.request.deadline.map(|deadline| ready.at + deadline),
            request: start.request,
            queue: start.queue,
            priority: start.priority,
            after_run: start.after_run,
            tenant: start.tenant,
            limit_key: start.limit_key,
            debounce_key: start.debounce_key,
            holds: None,
            overruns: 0,
            created_at: now,
            status: Status::Queued,
            reason: None,
            output: None,
            started_at: None,
            code_version: None,
            attributes: start.attributes,
            ready: Some(ready),
            wake_seq: 0,
            token: 0,
            holder: None,
            attempts: 0,
            stop: None,
            undoing: None,
            batches: (0, 0),
            planned: BTreeMap::new(),
            consistent: BTreeSet::new(),
            steps: BTreeMap::new(),
            signals: Vec::new(),
            changes: VecDeque::new(),
            parent,
            continued_as: None,
            repeats: None,
            claimed_at: None,
            finished_at: None,
        };
        run.note(None, Status::Queued.as_str(), None);
        self.by_id.insert(id, run);
        id
    }

    pub(super) fn start_page(&mut self, page: &[NewRun], again: bool, now: DateTime<Utc>) -> Result<(), FleetError> {
        let is_there = |run: &&NewRun| self.by_id.contains_key(&run.id);
        if !again && let Some(run) = page.iter().find(is_there) {
            return Err(FleetError::Refused(format!("there is a run {}", run.id)));
        }
        // All or none.
        let refused = |error: ManagerError| FleetError::Refused(error.to_string());
        page.iter()
            .try_for_each(|run| check(&start_of(run, now)).map_err(refused))?;
        if self.by_id.len() + page.len() > MOST_RUNS {
            return Err(FleetError::Refused(format!(
                "no more than {MOST_RUNS} runs fit in memory"
            )));
        }
        page.iter().try_for_each(|run| self.start_new(run, now).map(|_| ()))
    }

    /// Born claimed: begun in the moment of their start.
    pub(super) fn start_claimed(&mut self, births: &[&Birth], holder: Holder) -> Result<DateTime<Utc>, FleetError> {
        let page: Vec<NewRun> = births.iter().map(|birth| birth.run.clone()).collect();
        self.start_page(&page, false, holder.since)?;
        for birth in births {
            if let Some(run) = self.by_id.get_mut(&birth.run.id) {
                run.begin(birth.code_version, holder);
            }
        }
        Ok(holder.since)
    }

    pub(super) fn start_new(&mut self, run: &NewRun, now: DateTime<Utc>) -> Result<Started, FleetError> {
        run.check().map_err(FleetError::Refused)?;
        let is_known = self.by_id.contains_key(&run.id);
        match self.start(start_of(run, now), now) {
            Ok(Some(id)) if id == run.id && !is_known => Ok(Started::New(id)),
            Ok(Some(id)) if id != run.id && self.waits_under(id, run.debounce_key.as_ref()) => {
                Ok(Started::Debounced(id))
            }
            Ok(Some(id)) => Ok(Started::Found(id)),
            Ok(None) => Ok(Started::Held),
            Err(error) => Err(FleetError::Refused(error.to_string())),
        }
    }

    /// A run that waits under the debounce key is given this input, and this time.
    fn debounce(&mut self, start: &RunStart, now: DateTime<Utc>) -> Option<RunId> {
        let key = start.debounce_key.as_ref()?;
        let waits =
            |run: &&Run| run.request.workflow == start.request.workflow && run.debounce_key.as_ref() == Some(key);
        let id = self.by_id.values().filter(|run| run.has_not_begun()).find(waits)?.id();
        let ready = self.ready(start.request.start_at.unwrap_or(now));
        let run = self.by_id.get_mut(&id)?;
        run.request.params = start.request.params.clone();
        run.deadline_at = start.request.deadline.map(|deadline| ready.at + deadline);
        run.ready = Some(ready);
        run.note(Some(run.status), run.status.as_str(), Some("debounced".to_owned()));
        Some(id)
    }

    fn waits_under(&self, run: RunId, key: Option<&String>) -> bool {
        let run = self.by_id.get(&run).filter(|run| run.has_not_begun());
        key.is_some() && run.is_some_and(|run| run.debounce_key.as_ref() == key)
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

fn start_of(run: &NewRun, now: DateTime<Utc>) -> RunStart {
    let run = run.clone();
    let request = RunRequest {
        id: run.id,
        params: run.params,
        singleton_key: run.singleton_key,
        idempotency_key: run.idempotency_key,
        start_at: run.start_at.max(run.delay.map(|delay| now + delay)),
        pace_per_s: run.pace_per_s.map(i32::unsigned_abs),
        deadline: run.deadline,
        origin_id: None,
        traceparent: run.traceparent,
        actor: run.actor,
        ..RunRequest::new(run.workflow).for_engine()
    };
    RunStart {
        request,
        queue: run.queue,
        priority: run.priority,
        after_run: None,
        tenant: run.tenant,
        limit_key: run.limit_key,
        debounce_key: run.debounce_key,
        attributes: object(run.attributes.as_ref()),
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
    if let Some(wrong) = misfit_attributes(&start.attributes) {
        return invalid(wrong);
    }
    let names = [
        ("queue", &start.queue),
        ("tenant", &start.tenant),
        ("limit key", &start.limit_key),
        ("debounce key", &start.debounce_key),
    ];
    let wrong = names
        .iter()
        .find_map(|(what, name)| Some(format!("the {what} {}", misnamed(name.as_deref()?)?)));
    wrong.map_or(Ok(()), invalid)
}

/// Attributes as they are kept; what is none was refused before.
pub(super) fn object(attributes: Option<&Value>) -> Map<String, Value> {
    attributes.and_then(Value::as_object).cloned().unwrap_or_default()
}

//! Runs as plain collections.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use uuid::Uuid;

use super::run::{Batch, ClaimRequest, Run};
use crate::lifecycle::{Driver, Held, ManagerError, RunId, RunRequest};

/// What a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchState {
    /// Planned and nobody's.
    Free,
    /// Held under a lease.
    Claimed,
    /// Taken from its holder; its items wait to be claimed again.
    Recoverable,
    /// Every item of it is delivered.
    Done,
}

impl BatchState {
    /// The state's name, the same in every store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Claimed => "claimed",
            Self::Recoverable => "recoverable",
            Self::Done => "done",
        }
    }
}

/// A run as it can be looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryRun {
    /// What was asked for.
    pub request: RunRequest,
    /// `queued`, `running`, `completed` or `failed`.
    pub status: &'static str,
    /// Why it failed.
    pub reason: Option<String>,
}

/// A batch as it can be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryBatch {
    /// Its number.
    pub number: i32,
    /// What it is.
    pub state: BatchState,
    /// Its items, ascending.
    pub ids: Vec<i64>,
    /// How many holders died on it.
    pub attempts: u32,
    /// Token of its last claim; 0 before the first.
    pub token: i64,
}

/// One change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryTransition {
    /// The batch; `None`: the run itself.
    pub batch: Option<i32>,
    /// State before; `None`: it came into being.
    pub from: Option<&'static str>,
    /// State after.
    pub to: &'static str,
    /// The handle under whose claim it was done.
    pub holder: Option<Uuid>,
}

/// Everything the handles share.
#[derive(Default)]
pub(super) struct Store {
    runs: HashMap<RunId, Run>,
}

impl Store {
    pub(super) fn start(&mut self, request: RunRequest) -> Option<RunId> {
        let same_start = |run: &&Run| {
            let other = &run.view.request;
            let same_key = request.idempotency_key.is_some() && request.idempotency_key == other.idempotency_key;
            other.id == request.id
                || (same_key && request.workflow == other.workflow)
                || (request.slot.is_some() && request.slot == other.slot)
        };
        if let Some(found) = self.runs.values().find(same_start) {
            return Some(found.view.request.id);
        }
        let holds_key = |run: &Run| {
            let key = &run.view.request.singleton_key;
            run.is_active() && key.is_some() && *key == request.singleton_key
        };
        if self.runs.values().any(holds_key) {
            return None;
        }
        let id = request.id;
        let status = match request.driven_by {
            Driver::Caller => "running",
            Driver::Engine => "queued",
        };
        let mut run = Run {
            view: MemoryRun {
                request,
                status,
                reason: None,
            },
            batches: BTreeMap::new(),
            transitions: Vec::new(),
            token: 0,
        };
        run.record(None, None, status, None);
        self.runs.insert(id, run);
        Some(id)
    }

    pub(super) fn complete(&mut self, run: RunId) -> Result<(), ManagerError> {
        let found = self.callers_run(run)?;
        if found.view.status == "completed" {
            return Ok(());
        }
        found.check_active()?;
        let batches = found
            .batches
            .values()
            .filter(|batch| batch.state != BatchState::Done)
            .count() as i64;
        if batches > 0 {
            return Err(ManagerError::Unfinished { run, batches });
        }
        found.end("completed", None);
        Ok(())
    }

    pub(super) fn fail(&mut self, run: RunId, reason: &str) -> Result<(), ManagerError> {
        let found = self.callers_run(run)?;
        if found.view.status == "failed" && found.view.reason.as_deref() == Some(reason) {
            return Ok(());
        }
        found.check_active()?;
        found.hand_back(|_| true, 0);
        found.end("failed", Some(reason.to_owned()));
        Ok(())
    }

    pub(super) fn claim(&mut self, request: &ClaimRequest<'_>) -> Result<Held, ManagerError> {
        let run = self.active_run(request.run)?;
        match run.batches.get(&request.batch) {
            Some(own) if own.planned => run.claim_planned(request),
            None if run.view.request.driven_by == Driver::Engine => {
                Err(request.refused("the engine plans this run, without this batch"))
            }
            _ => run.claim_made(request),
        }
    }

    /// `None`: not this claim's. Else whether it was done before.
    pub(super) fn release(&mut self, run: RunId, batch: i32, held: Held) -> Option<bool> {
        let found_run = self.runs.get_mut(&run)?;
        let found = found_run.batches.get_mut(&batch)?;
        let claim = found.claim.clone().filter(|claim| claim.held == held)?;
        match found.state {
            BatchState::Done => Some(true),
            BatchState::Claimed => {
                found.state = BatchState::Done;
                found_run.record(Some(batch), Some("claimed"), "done", Some(claim.holder));
                Some(false)
            }
            BatchState::Free | BatchState::Recoverable => None,
        }
    }

    pub(super) fn recover(&mut self, run: RunId, now: Instant) -> Result<Vec<i64>, ManagerError> {
        let found = self.active_run(run)?;
        found.hand_back(|claim| claim.lease_until <= now, 1);
        let stuck = found
            .batches
            .values()
            .filter(|batch| batch.state == BatchState::Recoverable);
        let mut ids: Vec<i64> = stuck.flat_map(|batch| batch.ids.iter().copied()).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    pub(super) fn plan_batch(&mut self, run: RunId, batch: i32, ids: &[i64]) -> Result<(), ManagerError> {
        let found = self.active_run(run)?;
        if found.view.request.driven_by == Driver::Caller {
            return Err(ManagerError::Invalid(format!(
                "run {run} is driven by its caller and has no plan"
            )));
        }
        if found.batches.contains_key(&batch) {
            return Err(ManagerError::Invalid(format!(
                "batch {batch} of run {run} is planned already"
            )));
        }
        let ids = ids.iter().copied().collect();
        let planned = Batch {
            state: BatchState::Free,
            planned: true,
            ids,
            attempts: 0,
            claim: None,
            token: 0,
        };
        found.batches.insert(batch, planned);
        Ok(())
    }

    pub(super) fn runs(&self) -> Vec<RunId> {
        let mut runs: Vec<RunId> = self.runs.keys().copied().collect();
        runs.sort_unstable();
        runs
    }

    pub(super) fn run(&self, run: RunId) -> Option<MemoryRun> {
        self.runs.get(&run).map(|run| run.view.clone())
    }

    pub(super) fn batches(&self, run: RunId) -> Vec<MemoryBatch> {
        let batches = self.runs.get(&run).into_iter().flat_map(|run| &run.batches);
        batches
            .map(|(number, batch)| MemoryBatch {
                number: *number,
                state: batch.state,
                ids: batch.ids.iter().copied().collect(),
                attempts: batch.attempts,
                token: batch.token,
            })
            .collect()
    }

    pub(super) fn transitions(&self, run: RunId) -> Vec<MemoryTransition> {
        self.runs
            .get(&run)
            .map(|run| run.transitions.clone())
            .unwrap_or_default()
    }

    fn active_run(&mut self, run: RunId) -> Result<&mut Run, ManagerError> {
        let unknown = || ManagerError::NotActive {
            run,
            state: "unknown".to_owned(),
        };
        let found = self.runs.get_mut(&run).ok_or_else(unknown)?;
        found.check_active()?;
        Ok(found)
    }

    fn callers_run(&mut self, run: RunId) -> Result<&mut Run, ManagerError> {
        let unknown = || ManagerError::NotActive {
            run,
            state: "unknown".to_owned(),
        };
        let found = self.runs.get_mut(&run).ok_or_else(unknown)?;
        if found.view.request.driven_by == Driver::Engine {
            return Err(ManagerError::NotOwner {
                what: format!("run {run}, the engine drives it"),
            });
        }
        Ok(found)
    }
}

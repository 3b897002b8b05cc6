//! Handles on runs kept in memory. What they share is behind one lock, so every verb is atomic.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use uuid::Uuid;

use super::run::ClaimRequest;
use super::store::{MemoryBatch, MemoryRun, MemoryTransition, Store};
use crate::lifecycle::{Claims, Held, ManagerError, RunId, RunRequest, TaskRunManager, check_ids, storable_reason};

/// Says what time it is, on a clock that only goes forward.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// How long a claim lasts unless another lease is asked for.
const DEFAULT_LEASE: Duration = Duration::from_secs(60);

/// A handle on runs kept in memory; [`handle`](Self::handle) makes further ones on the same runs.
pub struct MemoryTaskRunManager {
    store: Arc<Mutex<Store>>,
    clock: Clock,
    lease: Duration,
    holder: Uuid,
    claims: Claims,
}

impl Default for MemoryTaskRunManager {
    fn default() -> Self {
        Self::new(DEFAULT_LEASE, Arc::new(Instant::now))
    }
}

impl MemoryTaskRunManager {
    /// A first handle, without any runs.
    #[must_use]
    pub fn new(lease: Duration, clock: Clock) -> Self {
        Self {
            store: Arc::default(),
            clock,
            lease,
            holder: Uuid::new_v4(),
            claims: Claims::default(),
        }
    }

    /// Another handle on the same runs, with claims of its own.
    #[must_use]
    pub fn handle(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            clock: Arc::clone(&self.clock),
            lease: self.lease,
            holder: Uuid::new_v4(),
            claims: Claims::default(),
        }
    }

    /// Records a batch in the plan of a run that the engine drives, as its planner does.
    ///
    /// # Errors
    /// The ids are no batch, the number is taken, or the run is not the engine's.
    pub fn plan_batch(&self, run: RunId, batch: i32, ids: &[i64]) -> Result<(), ManagerError> {
        let ids = check_ids(ids)?;
        self.store().plan_batch(run, batch, ids.as_slice())
    }

    /// All runs, oldest first.
    #[must_use]
    pub fn runs(&self) -> Vec<RunId> {
        self.store().runs()
    }

    /// A run as it is now.
    #[must_use]
    pub fn run(&self, run: RunId) -> Option<MemoryRun> {
        self.store().run(run)
    }

    /// The batches of a run by number.
    #[must_use]
    pub fn batches(&self, run: RunId) -> Vec<MemoryBatch> {
        self.store().batches(run)
    }

    /// What happened to a run and its batches, in order.
    #[must_use]
    pub fn transitions(&self, run: RunId) -> Vec<MemoryTransition> {
        self.store().transitions(run)
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        // A verb checks everything before it changes anything, so a panic leaves nothing half done.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl TaskRunManager for MemoryTaskRunManager {
    async fn try_start_new_run(&self, request: RunRequest) -> Result<Option<RunId>, ManagerError> {
        request.check()?;
        Ok(self.store().start(request))
    }

    async fn complete_run(&self, run: RunId) -> Result<(), ManagerError> {
        self.store().complete(run)
    }

    async fn fail_run(&self, run: RunId, reason: &str) -> Result<(), ManagerError> {
        self.store().fail(run, &storable_reason(reason))
    }

    async fn claim_batch(&self, run: RunId, batch: i32, ids: &[i64]) -> Result<(), ManagerError> {
        let ids = check_ids(ids)?;
        let lease_until = (self.clock)() + self.lease;
        let (claim_id, known) = self.claims.ask(run, batch);
        let request = ClaimRequest {
            run,
            batch,
            ids: ids.as_slice(),
            claim_id,
            known,
            holder: self.holder,
            lease_until,
        };
        match self.store().claim(&request) {
            Ok(held) => {
                self.claims.granted(run, batch, held);
                Ok(())
            }
            Err(refusal) => {
                self.claims.refused(run, batch, claim_id);
                Err(refusal)
            }
        }
    }

    async fn release_batch(&self, run: RunId, batch: i32) -> Result<(), ManagerError> {
        let not_owner = || ManagerError::NotOwner {
            what: format!("batch {batch} of run {run}"),
        };
        let held: Held = self.claims.known(run, batch).held.ok_or_else(not_owner)?;
        match self.store().release(run, batch, held) {
            Some(was_done) => {
                if !was_done {
                    self.claims.released(run, batch);
                }
                Ok(())
            }
            None => {
                self.claims.lost(run, batch, held);
                Err(not_owner())
            }
        }
    }

    async fn recover_stale_ids(&self, run: RunId) -> Result<Vec<i64>, ManagerError> {
        self.store().recover(run, (self.clock)())
    }
}

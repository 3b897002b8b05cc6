//! The frozen contract of run lifecycle management: six verbs.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Identifies one run: a UUIDv7 made by whoever starts it.
pub type RunId = Uuid;

/// Most bytes of an input: it is stored with the run and read with every claim of it.
pub(crate) const LARGEST_PARAMS: usize = 1 << 20;
/// Most bytes of what a run returns: it is written in one statement with the ends of others, and may be another's input.
pub(crate) const LARGEST_OUTPUT: usize = LARGEST_PARAMS;

/// Who makes a run move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// Whoever started it, by the verbs of [`TaskRunManager`].
    Caller,
    /// Any replica that has the workflow's code.
    Engine,
}

/// What to start.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRequest {
    /// The id the run will have unless an earlier one answers for it.
    pub id: RunId,
    /// The workflow.
    pub workflow: String,
    /// Who makes it move.
    pub driven_by: Driver,
    /// The input: exact bytes of a JSON document.
    pub params: Vec<u8>,
    /// At most one unfinished run has this key.
    pub singleton_key: Option<String>,
    /// At most one run of the workflow ever has this key; a second request finds the first one's run.
    pub idempotency_key: Option<String>,
    /// The schedule and the nominal instant it stands for.
    pub slot: Option<(String, DateTime<Utc>)>,
    /// The run starts no earlier.
    pub start_at: Option<DateTime<Utc>>,
    /// Messages per second the fleet may send for it.
    pub pace_per_s: Option<u32>,
    /// It fails when not over this long after its start.
    pub deadline: Option<Duration>,
    /// The first run of the chain this one retries; its messages keep that run's ids.
    pub origin_id: Option<RunId>,
    /// W3C trace context to continue.
    pub traceparent: Option<String>,
    /// The leader's term, when a leader starts it.
    pub leader_term: Option<i64>,
    /// Who asks.
    pub actor: Option<String>,
}

impl RunRequest {
    /// A run that its caller drives by the six verbs.
    #[must_use]
    pub fn new(workflow: impl Into<String>) -> Self {
        Self {
            id: Uuid::now_v7(),
            workflow: workflow.into(),
            driven_by: Driver::Caller,
            params: b"{}".to_vec(),
            singleton_key: None,
            idempotency_key: None,
            slot: None,
            start_at: None,
            pace_per_s: None,
            deadline: None,
            origin_id: None,
            traceparent: None,
            leader_term: None,
            actor: None,
        }
    }

    /// Hands the run to the engine: any replica that has the workflow's code runs it.
    #[must_use]
    pub fn for_engine(mut self) -> Self {
        self.driven_by = Driver::Engine;
        self
    }

    /// Allows one unfinished run with this key.
    #[must_use]
    pub fn singleton(mut self, key: impl Into<String>) -> Self {
        self.singleton_key = Some(key.into());
        self
    }

    /// Makes a repeated request find the first one's run.
    #[must_use]
    pub fn idempotency(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Makes it the one run of a schedule's slot.
    #[must_use]
    pub fn slot(mut self, schedule: impl Into<String>, slot: DateTime<Utc>) -> Self {
        self.slot = Some((schedule.into(), slot));
        self
    }
}

/// Why a verb did not do what was asked. Nothing was changed, except where the text says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManagerError {
    /// Contended this moment: ask again.
    #[error("contended by another request: try again")]
    Busy,
    /// This handle does not hold what it wants to write: stop, and write nothing.
    #[error("not the owner of {what}: stop working on it")]
    NotOwner {
        /// The run or batch.
        what: String,
    },
    /// The ids differ from those the batch was planned with.
    #[error("batch {batch} of run {run} was planned with other ids; nothing was claimed")]
    WrongIds {
        /// The run.
        run: RunId,
        /// The batch.
        batch: i32,
    },
    /// The batch cannot be claimed as it is: held, done, or some of its ids are in another unfinished batch.
    #[error("batch {batch} of run {run} cannot be claimed: {why}")]
    NotClaimable {
        /// The run.
        run: RunId,
        /// The batch.
        batch: i32,
        /// What stands in the way.
        why: String,
    },
    /// The run is not there, or already over.
    #[error("run {run} is {state}; nothing was changed")]
    NotActive {
        /// The run.
        run: RunId,
        /// `unknown` or its final state.
        state: String,
    },
    /// The run cannot be completed yet.
    #[error("run {run} has {batches} unfinished batches; nothing was changed")]
    Unfinished {
        /// The run.
        run: RunId,
        /// How many.
        batches: i64,
    },
    /// The request itself is wrong.
    #[error("{0}; nothing was changed")]
    Invalid(String),
    /// The store failed: whether anything changed is not known; ask again, all verbs may be repeated.
    #[error("the store failed; whether anything changed is not known")]
    Store(#[source] anyhow::Error),
}

/// The complete and unchanging contract of run lifecycle management.
///
/// A handle remembers the claims it made and fences every later write with them: a handle whose claim was
/// taken over gets [`ManagerError::NotOwner`] and changes nothing. Leases end by the store's clock.
#[async_trait]
pub trait TaskRunManager: Send + Sync {
    /// Starts a run, ensuring uniqueness. `Some` is the run of this request, new or found again by the same
    /// idempotency key or slot; `None` means another unfinished run holds the singleton key.
    ///
    /// # Errors
    /// [`ManagerError::Busy`] when contended, [`ManagerError::Invalid`], [`ManagerError::Store`].
    async fn try_start_new_run(&self, request: RunRequest) -> Result<Option<RunId>, ManagerError>;

    /// Ends a run with success. Needs only that no batch of it is unfinished. Repeating it is harmless.
    ///
    /// # Errors
    /// [`ManagerError::Unfinished`], [`ManagerError::NotActive`], [`ManagerError::NotOwner`] for a run that the engine
    /// drives, [`ManagerError::Store`].
    async fn complete_run(&self, run: RunId) -> Result<(), ManagerError>;

    /// Ends a run as failed and keeps the reason; its claimed batches are handed back.
    ///
    /// # Errors
    /// [`ManagerError::NotActive`], [`ManagerError::NotOwner`], [`ManagerError::Store`].
    async fn fail_run(&self, run: RunId, reason: &str) -> Result<(), ManagerError>;

    /// Registers a batch as taken into work. An unknown number creates the batch; a planned one must have exactly
    /// these ids; ids recorded in recoverable batches move here, in any grouping.
    ///
    /// # Errors
    /// [`ManagerError::WrongIds`], [`ManagerError::NotClaimable`], [`ManagerError::NotActive`],
    /// [`ManagerError::Invalid`] for no ids or an id twice, [`ManagerError::Store`].
    async fn claim_batch(&self, run: RunId, batch: i32, ids: &[i64]) -> Result<(), ManagerError>;

    /// Confirms the success of a batch this handle claimed: every item of it is delivered. Repeating it is harmless.
    ///
    /// # Errors
    /// [`ManagerError::NotOwner`] when this handle does not hold the batch, [`ManagerError::Store`].
    async fn release_batch(&self, run: RunId, batch: i32) -> Result<(), ManagerError>;

    /// Takes the batches whose lease has ended from their holders and returns the *item* ids inside all stuck
    /// batches of the run, ascending, to be processed again. They stay recorded until a new `claim_batch` takes
    /// them: calling it twice returns them twice and loses nothing.
    ///
    /// # Errors
    /// [`ManagerError::NotActive`], [`ManagerError::Store`].
    async fn recover_stale_ids(&self, run: RunId) -> Result<Vec<i64>, ManagerError>;
}

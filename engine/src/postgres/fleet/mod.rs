//! The verbs of a replica on the tables.

mod batches;
mod children;
mod followers;
mod leases;
mod left;
mod plan;
mod runs;
mod sweep;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::database::{Database, DatabaseError};
use crate::lifecycle::{
    Batch, BatchClaim, BatchOutcome, Ended, Fleet, FleetError, HandBack, Heartbeat, ItemIds, PlanChunk, PlanProgress,
    Renewal, RunClaim, RunId, Runnable, StepState, Swept, Unrenewed, WorkRun,
};

/// What a replica's verbs need to know.
#[derive(Debug, Clone)]
pub struct FleetSettings {
    /// The replica, made at process start.
    pub replica: Uuid,
    /// How long a claim holds without renewal.
    pub lease: Duration,
    /// How many holders in a row a batch or run may kill.
    pub max_deaths: i16,
    /// A replica without a heartbeat for this long counts as gone.
    pub stale_after: Duration,
    /// When redelivery tries first.
    pub first_redelivery: Duration,
}

/// The fleet's verbs on Postgres.
#[derive(Debug, Clone)]
pub struct PostgresFleet {
    database: Database,
    settings: FleetSettings,
    /// Where the sweep's look at children ended; none: at the start.
    looked_at: Arc<Mutex<Option<(Uuid, String)>>>,
    /// Where the sweep's look at runs that wait for others ended; none: at the start.
    waited_for: Arc<Mutex<Option<followers::Place>>>,
}

impl PostgresFleet {
    /// The verbs of one replica.
    #[must_use]
    pub fn new(database: Database, settings: FleetSettings) -> Self {
        Self {
            database,
            settings,
            looked_at: Arc::default(),
            waited_for: Arc::default(),
        }
    }

    fn lock_looked_at(&self) -> MutexGuard<'_, Option<(Uuid, String)>> {
        self.looked_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deaths after which a batch runs alone, so that the next one tells.
    fn suspect_after(&self) -> i16 {
        (self.settings.max_deaths - 1).max(1)
    }

    fn lease_secs(&self) -> f64 {
        self.settings.lease.as_secs_f64()
    }
}

impl From<DatabaseError> for FleetError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Refused { .. } if error.is_for_good() => Self::Refused(error.to_string()),
            DatabaseError::Refused { .. } => Self::NotNow(error.to_string()),
            DatabaseError::Unanswered(_) | DatabaseError::TooSlow(_) | DatabaseError::BadUrl(_) => {
                Self::Unanswered(error.to_string())
            }
        }
    }
}

#[async_trait]
impl Fleet for PostgresFleet {
    async fn heartbeat(&self, beat: &Heartbeat) -> Result<DateTime<Utc>, FleetError> {
        self.heartbeat_row(beat).await
    }
    async fn leave(&self, replica: Uuid) -> Result<(), FleetError> {
        self.leave_row(replica).await
    }
    async fn read_run(&self, run: RunId) -> Result<Option<WorkRun>, FleetError> {
        self.read_run_row(run).await
    }
    async fn fail_claimed_run(&self, claim: &RunClaim, reason: &str) -> Result<Ended, FleetError> {
        self.fail_run_row(*claim, reason.to_owned()).await
    }
    async fn open_fan_out(
        &self,
        claim: &RunClaim,
        path: &str,
        consistent: bool,
    ) -> Result<Option<StepState>, FleetError> {
        self.open_fan_out_row(*claim, path.to_owned(), consistent).await
    }
    async fn note_plan_trouble(&self, claim: &RunClaim, path: &str, trouble: &str) -> Result<(), FleetError> {
        self.note_plan_trouble_row(*claim, path.to_owned(), trouble).await
    }
    async fn plan_chunk(&self, claim: &RunClaim, chunk: &PlanChunk) -> Result<PlanProgress, FleetError> {
        self.plan_chunk_rows(*claim, chunk).await
    }
    async fn waiting_batches(&self, run: RunId, at_most: i64) -> Result<i64, FleetError> {
        self.count_waiting(run, at_most).await
    }
    async fn complete_fan_out(&self, run: RunId, path: &str) -> Result<bool, FleetError> {
        self.complete_fan_out_row(run, path.to_owned()).await
    }
    async fn mark_alone(&self, claim: &BatchClaim) -> Result<Ended, FleetError> {
        self.mark_alone_row(*claim).await
    }
    async fn claimable_runs(
        &self,
        runnable: &[Runnable],
        without: &[RunId],
        behind: Option<RunId>,
        at_most: i64,
    ) -> Result<Vec<RunId>, FleetError> {
        self.claimable(runnable, without.to_vec(), behind, at_most).await
    }
    async fn claim_next_batch(&self, run: RunId, claim_id: Uuid) -> Result<Option<Batch>, FleetError> {
        self.claim_next(run, claim_id).await
    }
    async fn finish_and_claim_batch(
        &self,
        claim: &BatchClaim,
        next_run: RunId,
        next_claim_id: Uuid,
    ) -> Result<(Ended, Option<Batch>), FleetError> {
        self.finish_and_claim(*claim, next_run, next_claim_id).await
    }
    async fn finish_batch(
        &self,
        claim: &BatchClaim,
        ids: &ItemIds,
        outcome: &BatchOutcome,
    ) -> Result<Ended, FleetError> {
        self.finish_with_outcome(*claim, ids, outcome).await
    }
    async fn find_batch_claim(&self, run: RunId, claim_id: Uuid) -> Result<Option<Batch>, FleetError> {
        self.find_claim(run, claim_id).await
    }
    async fn renew_leases(&self, batches: &[Renewal], runs: &[RunClaim]) -> Result<Unrenewed, FleetError> {
        self.renew(batches.to_vec(), runs.to_vec()).await
    }
    async fn hand_back_batches(&self, batches: &[HandBack]) -> Result<u64, FleetError> {
        self.hand_back(batches.to_vec()).await
    }
    async fn request_stop(&self, run: RunId, reason: &str) -> Result<(), FleetError> {
        self.stop_run(run, reason.to_owned()).await
    }
    async fn settle_stop(&self, run: RunId) -> Result<bool, FleetError> {
        self.settle(run).await
    }
    async fn sweep(&self) -> Result<Swept, FleetError> {
        self.sweep_once().await
    }
}

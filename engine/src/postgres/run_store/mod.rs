//! The verbs of whoever runs the code of workflows, on the tables.

mod children;
mod claim;
mod endings;
mod limited;
mod news;
mod publish;
pub(super) mod rows;
mod steps;
mod transact;

pub(super) use children::{stop_children_of, stop_lost_children_of};
pub(super) use news::WAKE_RUNS;
pub(super) use transact::is_of;
pub use transact::transact;
#[cfg(feature = "testing")]
pub(super) use transact::{aborted, idled_too_long, too_slow};

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgArguments;
use uuid::Uuid;

use super::database::Database;
use super::run_control::send;
use crate::lifecycle::{
    Birth, ClaimPage, Continuation, EndedChild, Ending, FleetError, LetGo, LimitedClaim, NewChild, NewPublication,
    NewRun, NewSignal, NewStep, News, Poked, QueueNews, RunClaim, RunId, RunRecord, RunStore, Saved, Signalled,
    Started, Transacted, TransactionWork, WorkRun,
};

type Query = sqlx::query::Query<'static, sqlx::Postgres, PgArguments>;

/// Deaths of holders in a row after which a run is claimed apart.
pub(super) const SUSPECT_AFTER: i16 = 2;

/// The verbs of one replica on Postgres.
#[derive(Debug, Clone)]
pub struct PostgresRunStore {
    database: Database,
    transactions: Database,
    replica: Uuid,
    lease: Duration,
}

impl PostgresRunStore {
    /// The verbs of a replica, made at process start, whose claims hold for so long. The database is best one of
    /// [`Database::for_groups`]: what else the process asks must not hold up its checkpoints.
    #[must_use]
    pub fn new(database: Database, replica: Uuid, lease: Duration) -> Self {
        Self {
            transactions: database.clone(),
            database,
            replica,
            lease,
        }
    }

    /// Does the work of transaction steps on connections of this pool instead, to the same database: how long a workflow's
    /// own statements take nobody knows.
    #[must_use]
    pub fn transactions_on(mut self, database: Database) -> Self {
        self.transactions = database;
        self
    }

    pub(super) fn transactions(&self) -> &Database {
        &self.transactions
    }
}

#[async_trait]
impl RunStore for PostgresRunStore {
    async fn start_runs(&self, page: &[NewRun], again: bool) -> Result<(), FleetError> {
        Ok(self.database.start_runs(page, again, false).await?)
    }
    async fn start_run(&self, run: &NewRun) -> Result<Started, FleetError> {
        Ok(self.database.start_run(run, true, None).await?)
    }
    async fn start_claimed_runs(&self, births: &[&Birth], claim_id: Uuid) -> Result<DateTime<Utc>, FleetError> {
        let started = self
            .database
            .start_claimed_runs(births, claim_id, self.replica, self.lease);
        Ok(started.await?)
    }
    async fn claim_runs(&self, page: &ClaimPage) -> Result<Vec<(RunClaim, WorkRun)>, FleetError> {
        self.claim_page(page).await
    }
    async fn claim_limited_runs(&self, page: &ClaimPage) -> Result<LimitedClaim, FleetError> {
        self.claim_limited_page(page).await
    }
    async fn read_claimed_runs(&self, page: &ClaimPage) -> Result<Vec<(RunClaim, WorkRun)>, FleetError> {
        self.read_claimed_page(page).await
    }
    async fn acquit_run(&self, claim: &RunClaim) -> Result<bool, FleetError> {
        self.acquit(claim).await
    }
    async fn read_record(&self, run: RunId) -> Result<RunRecord, FleetError> {
        self.read_record_of(run).await
    }
    async fn save_steps(&self, group: &[NewStep]) -> Result<Vec<Saved>, FleetError> {
        self.save_step_rows(group).await
    }
    async fn settle_step(&self, step: &NewStep) -> Result<Saved, FleetError> {
        self.settle_step_row(step).await
    }
    async fn settle_select(&self, step: &NewStep, lost: &[String]) -> Result<Saved, FleetError> {
        self.settle_select_row(step, lost).await
    }
    async fn transact(
        &self,
        step: &NewStep,
        work: &TransactionWork,
        max_result: usize,
    ) -> Result<Transacted, FleetError> {
        self.transact_step(step, work, max_result).await
    }
    async fn let_go_runs(&self, group: &[Ending]) -> Result<Vec<LetGo>, FleetError> {
        self.let_go_rows(group).await
    }
    async fn continue_runs(&self, group: &[Continuation]) -> Result<Vec<LetGo>, FleetError> {
        self.continue_rows(group).await
    }
    async fn start_children(&self, group: &[NewChild]) -> Result<Vec<bool>, FleetError> {
        self.start_child_rows(group).await
    }
    async fn ended_children(&self, parent: RunId, paths: &[String]) -> Result<Vec<EndedChild>, FleetError> {
        self.ended_child_rows(parent, paths).await
    }
    async fn stop_children(&self, run: RunId) -> Result<(), FleetError> {
        Ok(stop_children_of(&self.database, run).await.map(|_| ())?)
    }
    async fn stop_lost_children(&self, run: RunId, lost: &[String]) -> Result<(), FleetError> {
        Ok(stop_lost_children_of(&self.database, run, lost).await.map(|_| ())?)
    }
    async fn cancel_run(&self, run: RunId, reason: &str) -> Result<(), FleetError> {
        self.cancel_run_row(run, reason).await
    }
    async fn publish(&self, group: &[NewPublication]) -> Result<Vec<Saved>, FleetError> {
        self.publish_rows(group).await
    }
    async fn wake_runs(&self, runs: &[RunId]) -> Result<u64, FleetError> {
        self.wake_rows(runs).await
    }
    async fn wake_behind(&self, run: RunId) -> Result<(), FleetError> {
        self.wake_rows_behind(run).await
    }
    async fn signal_run(&self, signal: &NewSignal) -> Result<Signalled, FleetError> {
        Ok(send(&self.database, signal, None).await?)
    }
    async fn poked_runs(&self, runs: &[RunId]) -> Result<Vec<Poked>, FleetError> {
        self.poked_rows(runs).await
    }
    async fn read_news(&self, runs: &[RunId]) -> Result<Vec<News>, FleetError> {
        self.read_news_of(runs).await
    }
    async fn read_queues(&self, workflows: &[String]) -> Result<QueueNews, FleetError> {
        self.read_queue_rows(workflows).await
    }
    async fn waiting_queues(&self, queues: &[String]) -> Result<Vec<String>, FleetError> {
        self.waiting_queue_rows(queues).await
    }
    async fn suspect_queues(&self) -> Result<Vec<String>, FleetError> {
        self.suspect_queue_rows().await
    }
    async fn next_due(&self, queues: &[String]) -> Result<Option<Duration>, FleetError> {
        self.next_due_of(queues).await
    }
}

//! Claiming pages of runs.

use futures::FutureExt;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::news::{read_signals, signals_of};
use super::rows::{read_steps, steps_of, work_run};
use super::{PostgresRunStore, Query, SUSPECT_AFTER};
use crate::lifecycle::{ClaimPage, FleetError, RunClaim, RunId, Runnable, WorkRun};

const CLAIM_RUNS: &str = include_str!("../../../queries/claim_runs.sql");
const READ_CLAIMED_RUNS: &str = include_str!("../../../queries/read_claimed_runs.sql");

impl PostgresRunStore {
    pub(super) async fn claim_page(&self, page: &ClaimPage) -> Result<Vec<(RunClaim, WorkRun)>, FleetError> {
        let asked = asked(page);
        let (queues, takes): (Vec<_>, Vec<_>) = page
            .shares
            .iter()
            .map(|share| (share.queue.clone(), share.take.cast_signed()))
            .unzip();
        let claim = self
            .database
            .statement(CLAIM_RUNS)
            .bind(queues)
            .bind(takes)
            .bind(asked.names)
            .bind(asked.newest)
            .bind(asked.replayed)
            .bind(page.claim_id)
            .bind(self.replica)
            .bind(SUSPECT_AFTER)
            .bind(page.suspects)
            .bind(self.lease.as_secs_f64());
        self.read_page(page, claim).await
    }

    pub(super) async fn read_claimed_page(&self, page: &ClaimPage) -> Result<Vec<(RunClaim, WorkRun)>, FleetError> {
        let claimed = self.database.statement(READ_CLAIMED_RUNS).bind(page.claim_id);
        self.read_page(page, claimed).await
    }

    /// The claim commits by itself: what is read after it may fail without taking it back.
    async fn read_page(&self, page: &ClaimPage, query: Query) -> Result<Vec<(RunClaim, WorkRun)>, FleetError> {
        let (database, claim_id) = (self.database.clone(), page.claim_id);
        let read = self.database.run(move |connection| {
            async move {
                let (mut page, begun) = claims_of(query, claim_id, &mut *connection).await?;
                read_past(&database, connection, begun, &mut page).await?;
                Ok(page)
            }
            .boxed()
        });
        Ok(read.await?)
    }
}

/// The workflows of a page as the statements take them: names, the versions that new runs begin with, and each version that is replayed.
pub(super) struct Asked {
    pub(super) names: Vec<String>,
    pub(super) newest: Vec<i32>,
    pub(super) replayed: Vec<String>,
}

pub(super) fn asked(page: &ClaimPage) -> Asked {
    let (names, newest) = page
        .runnable
        .iter()
        .map(|runnable| (runnable.workflow.clone(), runnable.version.cast_signed()))
        .unzip();
    Asked {
        names,
        newest,
        replayed: page.runnable.iter().flat_map(Runnable::replayed).collect(),
    }
}

/// Reads what a claim got, and which of it may have steps.
pub(super) async fn claims_of(
    query: Query,
    claim_id: Uuid,
    connection: &mut PgConnection,
) -> Result<(Vec<(RunClaim, WorkRun)>, Vec<RunId>), sqlx::Error> {
    let (mut page, mut begun) = (Vec::new(), Vec::new());
    for row in &query.fetch_all(connection).await? {
        let (token, run) = work_run(row)?;
        let claim = RunClaim {
            run: run.id,
            token,
            claim_id,
        };
        if row.try_get("begun")? {
            begun.push(run.id);
        }
        page.push((claim, run));
    }
    Ok((page, begun))
}

fn of((claim, _): &(RunClaim, WorkRun)) -> RunId {
    claim.run
}

/// Reads what is recorded of the runs; of those that have not begun or were never woken there is nothing.
pub(super) async fn read_past(
    database: &crate::postgres::Database,
    connection: &mut PgConnection,
    begun: Vec<RunId>,
    page: &mut [(RunClaim, WorkRun)],
) -> Result<(), sqlx::Error> {
    if !begun.is_empty() {
        let mut steps = read_steps(&mut *connection, steps_of(database, begun, None)).await?;
        for (claim, run) in &mut *page {
            run.steps = steps.remove(&claim.run).unwrap_or_default();
        }
    }
    let woken: Vec<_> = page.iter().filter(|(_, run)| run.wake_seq > 0).map(of).collect();
    if !woken.is_empty() {
        let mut signals = read_signals(connection, signals_of(database, woken)).await?;
        for (claim, run) in page {
            run.signals = signals.remove(&claim.run).unwrap_or_default();
        }
    }
    Ok(())
}

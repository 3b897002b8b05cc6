//! Claiming pages of runs.

use std::collections::{HashMap, HashSet};

use futures::FutureExt;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::news::{read_signals, signal, signals_of};
use super::rows::{read_steps, step_state, steps_of, work_run};
use super::{PostgresRunStore, Query, SUSPECT_AFTER};
use crate::lifecycle::{
    BYTES_OF_ROW, ClaimPage, FleetError, RunClaim, RunId, RunRecord, Runnable, SHORT_RECORD, WorkRun,
};
use crate::postgres::database::Database;

const CLAIM_RUNS: &str = include_str!("../../../queries/claim_runs.sql");
const READ_CLAIMED_RUNS: &str = include_str!("../../../queries/read_claimed_runs.sql");
const ACQUIT_RUN: &str = include_str!("../../../queries/acquit_run.sql");
const READ_SMALL_STEPS: &str = include_str!("../../../queries/read_small_steps.sql");
const READ_SHORT_RECORDS: &str = include_str!("../../../queries/read_short_records.sql");
const READ_SMALL_SIGNALS: &str = include_str!("../../../queries/read_small_signals.sql");

/// Most bytes of a result or payload that is read with all others of a page.
const SMALL: i32 = 4 * 1024;
/// Most rows that are read of a page at once: with small results, no more than 86 MB.
const ROWS_OF_PAGE: usize = 20_000;

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

    pub(super) async fn acquit(&self, claim: &RunClaim) -> Result<bool, FleetError> {
        let query = self.database.statement(ACQUIT_RUN).bind(claim.run);
        let query = query.bind(claim.token).bind(claim.claim_id);
        let done = self
            .database
            .run(move |connection| query.execute(connection).boxed())
            .await?;
        Ok(done.rows_affected() == 1)
    }

    pub(super) async fn read_record_of(&self, run: RunId) -> Result<RunRecord, FleetError> {
        let steps = steps_of(&self.database, vec![run], None);
        let signals = signals_of(&self.database, vec![run]);
        let read = self.database.run(move |connection| {
            async move {
                let mut steps = read_steps(&mut *connection, steps).await?;
                let mut signals = read_signals(connection, signals).await?;
                Ok(RunRecord {
                    steps: steps.remove(&run).unwrap_or_default(),
                    signals: signals.remove(&run).unwrap_or_default(),
                })
            }
            .boxed()
        });
        Ok(read.await?)
    }

    /// The claim commits by itself: what is read after it may fail without taking it back.
    async fn read_page(&self, page: &ClaimPage, query: Query) -> Result<Vec<(RunClaim, WorkRun)>, FleetError> {
        let (database, claim_id) = (self.database.clone(), page.claim_id);
        let read = self.database.run(move |connection| {
            async move {
                let (mut page, begun) = claims_of(query, claim_id, &mut *connection).await?;
                if !page.is_empty() {
                    // In pooler mode the transaction is still open here.
                    fail::fail_point!("claim_runs.before_commit");
                }
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

/// Reads what is recorded of the runs; of those that have not begun or were never woken there is nothing. However much a page
/// has, it takes no more than a short record for each of its runs: who has more is left to be read by itself.
pub(super) async fn read_past(
    database: &Database,
    connection: &mut PgConnection,
    begun: Vec<RunId>,
    page: &mut [(RunClaim, WorkRun)],
) -> Result<(), sqlx::Error> {
    let mut past = Past::default();
    if !begun.is_empty() {
        let small = database.statement(READ_SMALL_STEPS).bind(begun.clone()).bind(SMALL);
        let small = small.bind(ROWS_OF_PAGE as i64);
        past.add_steps(&small.fetch_all(&mut *connection).await?)?;
        let rest = past.take_rest(begun);
        if !rest.is_empty() {
            let short = database.statement(READ_SHORT_RECORDS).bind(rest);
            let short = short.bind(SHORT_RECORD as i32).bind(BYTES_OF_ROW as i32);
            past.add_steps(&short.fetch_all(&mut *connection).await?)?;
        }
    }
    let woken = page
        .iter()
        .filter(|(claim, run)| run.wake_seq > 0 && !past.left_out.contains(&claim.run));
    let woken: Vec<RunId> = woken.map(|(claim, _)| claim.run).collect();
    if !woken.is_empty() {
        let small = database.statement(READ_SMALL_SIGNALS).bind(woken.clone()).bind(SMALL);
        let small = small.bind(ROWS_OF_PAGE as i64);
        past.add_signals(&small.fetch_all(connection).await?, woken)?;
    }
    for (claim, run) in page {
        past.tell(claim.run, run);
    }
    Ok(())
}

/// What was read of the runs of a page.
#[derive(Default)]
struct Past {
    records: HashMap<RunId, RunRecord>,
    /// Of these something was left out.
    left_out: HashSet<RunId>,
    /// There may be more than was read, of this one and of those that nothing was read of.
    cut_at: Option<RunId>,
}

impl Past {
    fn add_steps(&mut self, rows: &[PgRow]) -> Result<(), sqlx::Error> {
        self.cut_at = None;
        for row in rows {
            let run = row.try_get("run_id")?;
            if rows.len() >= ROWS_OF_PAGE {
                self.cut_at = Some(run);
            }
            if row.try_get("left_out")? {
                self.left_out.insert(run);
            } else {
                self.records.entry(run).or_default().steps.push(step_state(row)?);
            }
        }
        Ok(())
    }

    /// The runs of which not everything was read; what was is forgotten.
    fn take_rest(&mut self, begun: Vec<RunId>) -> Vec<RunId> {
        let left_out = std::mem::take(&mut self.left_out);
        let is_cut = |run: &RunId| {
            self.cut_at
                .is_some_and(|at| at == *run || !self.records.contains_key(run))
        };
        let is_rest = |run: &RunId| is_cut(run) || left_out.contains(run);
        let rest: Vec<RunId> = begun.into_iter().filter(is_rest).collect();
        for run in &rest {
            self.records.remove(run);
        }
        rest
    }

    fn add_signals(&mut self, rows: &[PgRow], woken: Vec<RunId>) -> Result<(), sqlx::Error> {
        if rows.len() >= ROWS_OF_PAGE {
            self.left_out.extend(woken);
            return Ok(());
        }
        for row in rows {
            let run = row.try_get("run_id")?;
            if row.try_get("left_out")? {
                self.left_out.insert(run);
            } else {
                self.records.entry(run).or_default().signals.push(signal(row)?);
            }
        }
        Ok(())
    }

    fn tell(&mut self, id: RunId, run: &mut WorkRun) {
        let record = self.records.remove(&id).unwrap_or_default();
        run.unread = self.left_out.contains(&id);
        if !run.unread {
            (run.steps, run.signals) = (record.steps, record.signals);
        }
    }
}

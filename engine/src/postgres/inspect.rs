//! The read side: each answer is one statement that builds the very document people and scripts get.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::types::Json;
use uuid::Uuid;

use super::database::{Database, DatabaseError};
use crate::inspect::{
    BatchSummary, BrokenInvariant, Document, ItemFate, LaneSummary, LeaderFacts, OldSnapshot, Proof, ProofProblem,
    ReplicaFacts, ReplicaSummary, RunDetail, RunFacts, RunFilter, RunList, RunSummary, RunValues, Stuck, TimelineRow,
    WhyFacts,
};

const LIST_RUNS: &str = include_str!("../../queries/list_runs.sql");
const LIST_RUNS_BY_KEY: &str = include_str!("../../queries/list_runs_by_key.sql");
const LIST_UNFINISHED_RUNS: &str = include_str!("../../queries/list_unfinished_runs.sql");
const SHOW_RUN: &str = include_str!("../../queries/show_run.sql");
const VALUES_OF_RUN: &str = include_str!("../../queries/values_of_run.sql");
const RUN_TIMELINE: &str = include_str!("../../queries/run_timeline.sql");
const PROGRESS_OF_RUN: &str = include_str!("../../queries/progress_of_run.sql");
const LIST_BATCHES: &str = include_str!("../../queries/list_batches.sql");
const FATE_OF_ITEM: &str = include_str!("../../queries/fate_of_item.sql");
const RUN_EXISTS: &str = include_str!("../../queries/run_exists.sql");
const LIST_REPLICAS: &str = include_str!("../../queries/list_replicas.sql");
const PRUNING_SINCE: &str = include_str!("../../queries/pruning_since.sql");
const LIST_OUTBOX: &str = include_str!("../../queries/list_outbox.sql");
const READ_PROOF: &str = include_str!("../../queries/read_proof.sql");
const READ_PROOF_PROBLEMS: &str = include_str!("../../queries/read_proof_problems.sql");
const WHY_RUN: &str = include_str!("../../queries/why_run.sql");
const WHY_QUEUE: &str = include_str!("../../queries/why_queue.sql");
const WHY_FLEET: &str = include_str!("../../queries/why_fleet.sql");
const LIST_STUCK: &str = include_str!("../../queries/list_stuck.sql");
const LIST_INVARIANTS: &str = include_str!("../../queries/list_invariants.sql");
const STUCK_OF_RUN: &str = include_str!("../../queries/stuck_of_run.sql");
const RUN_INVARIANTS: &str = include_str!("../../queries/run_invariants.sql");
const LIST_OLD_SNAPSHOTS: &str = include_str!("../../queries/list_old_snapshots.sql");

/// Runs that one look for those that fit reads at most: some hundredths of a second.
const LOOKED_AT: i64 = 20_000;
/// History rows that `show_run` gives at most.
const HISTORY: i64 = 20;
/// Problems of a proof named at most; more say nothing new.
const PROBLEMS: i64 = 1000;

/// From when a snapshot is old: vacuum of busy tables falls behind within minutes.
pub const OLD_SNAPSHOT: Duration = Duration::from_secs(60);

/// How far a run is.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
pub struct Progress {
    /// Its state.
    pub status: String,
    /// Why it failed or was cancelled.
    pub reason: Option<String>,
    /// Items planned so far.
    pub planned: i64,
    /// Whether there is a plan and it is whole.
    pub planned_whole: bool,
    /// Items of batches that are done.
    pub done: i64,
    /// Items that the broker acknowledged at once.
    pub delivered: i64,
}

#[derive(serde::Deserialize)]
struct FleetFacts {
    replicas: Vec<ReplicaFacts>,
    leader: LeaderFacts,
}

/// Reads what people and scripts see.
#[derive(Debug, Clone)]
pub struct Inspector {
    pub(super) database: Database,
}

impl Inspector {
    /// Reads from a database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// Runs that fit, newest first; those behind an id when one is given. Of however many there are it looks at 20,000 at
    /// most, so that a page may have fewer than asked for, and even none, with more behind it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list_runs(
        &self,
        filter: &RunFilter,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<RunList, DatabaseError> {
        let over = ["completed", "failed", "cancelled"];
        let sql = match filter.status.as_deref() {
            _ if !filter.attributes.is_empty() || filter.parent.is_some() => LIST_RUNS_BY_KEY,
            // Runs that are over are most of the table, and those of a state among them near its end.
            Some(status) if !over.contains(&status) => LIST_UNFINISHED_RUNS,
            _ => LIST_RUNS,
        };
        if sql != LIST_RUNS
            && let Some(page) = self.list_page(sql, filter, after, limit).await?
        {
            return Ok(page);
        }
        Ok(self
            .list_page(LIST_RUNS, filter, after, limit)
            .await?
            .unwrap_or_default())
    }

    /// A page; none: an index of its own has more than are looked at.
    async fn list_page(
        &self,
        sql: &'static str,
        filter: &RunFilter,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Option<RunList>, DatabaseError> {
        let attributes = (!filter.attributes.is_empty()).then(|| serde_json::Value::Object(filter.attributes.clone()));
        let query = self
            .database
            .statement(sql)
            .bind(filter.status.clone())
            .bind(filter.workflow.clone())
            .bind(limit)
            .bind(filter.queue.clone())
            .bind(filter.parent)
            .bind(filter.schedule.clone())
            .bind(filter.tenant.clone())
            .bind(filter.since)
            .bind(filter.until)
            .bind(after)
            .bind(LOOKED_AT)
            .bind(attributes);
        let rows = self
            .database
            .run(move |connection| Box::pin(async move { query.fetch_all(&mut *connection).await }))
            .await?;
        let mut page = RunList::default();
        for row in &rows {
            if row.try_get("too_many")? {
                return Ok(None);
            }
            let run: Option<Json<RunSummary>> = row.try_get("run")?;
            page.runs.extend(run.map(|run| run.0));
            page.next = row.try_get("next")?;
        }
        if i64::try_from(page.runs.len()).is_ok_and(|listed| listed == limit) {
            page.next = page.runs.last().map(|run| run.run_id);
        }
        Ok(Some(page))
    }

    /// A page of how a run went, behind a cursor, and what steps returned only with `values`; none: there is no such run.
    ///
    /// # Errors
    /// The database failed, or the role may not read values.
    pub async fn timeline(
        &self,
        run: Uuid,
        after: Option<&str>,
        limit: i32,
        values: bool,
    ) -> Result<Option<Vec<TimelineRow>>, DatabaseError> {
        let query = self.database.statement(RUN_TIMELINE);
        let query = query.bind(run).bind(after.map(str::to_owned)).bind(limit).bind(values);
        let rows: Vec<TimelineRow> = documents(&self.database, query).await?;
        let known = !rows.is_empty() || self.run_exists(run).await?;
        Ok(known.then_some(rows))
    }

    /// One run with all that belongs to it, and what it was given and returned only with `values`; none: there is no such run.
    ///
    /// # Errors
    /// The database failed, or the role may not read values.
    pub async fn show_run(&self, run: Uuid, values: bool) -> Result<Option<RunDetail>, DatabaseError> {
        let query = self.database.statement(SHOW_RUN).bind(run).bind(HISTORY);
        let mut found: Option<RunDetail> = document(&self.database, query).await?;
        // Asked for afterwards: of a run that is seen to be over, what it returned is there.
        if let Some(found) = found.as_mut().filter(|_| values)
            && let Some(values) = self.values_of_run(run).await?
        {
            found.params = Some(values.params);
            found.output = values.output;
        }
        Ok(found)
    }

    /// What a run was given, and what it returned or the run that goes on in its place; none: there is no such run.
    ///
    /// # Errors
    /// The database failed, or the role may not read values.
    pub async fn values_of_run(&self, run: Uuid) -> Result<Option<RunValues>, DatabaseError> {
        let query = self.database.statement(VALUES_OF_RUN).bind(run);
        let row = self
            .database
            .run(move |connection| Box::pin(async move { query.fetch_optional(&mut *connection).await }))
            .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let params: Vec<u8> = row.try_get("params")?;
        let output: Option<Vec<u8>> = row.try_get("output")?;
        Ok(Some(RunValues {
            params: Document::of(&params),
            output: output.as_deref().map(Document::of),
        }))
    }

    /// How far a run is; none: there is no such run.
    ///
    /// # Errors
    /// The database failed.
    pub async fn progress_of_run(&self, run: Uuid) -> Result<Option<Progress>, DatabaseError> {
        document(&self.database, self.database.statement(PROGRESS_OF_RUN).bind(run)).await
    }

    /// Batches of a run in their order; none: there is no such run.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list_batches(
        &self,
        run: Uuid,
        status: Option<&str>,
        limit: i64,
    ) -> Result<Option<Vec<BatchSummary>>, DatabaseError> {
        let query = self.database.statement(LIST_BATCHES);
        let query = query.bind(run).bind(status.map(str::to_owned)).bind(limit);
        let batches: Vec<BatchSummary> = documents(&self.database, query).await?;
        let known = !batches.is_empty() || self.run_exists(run).await?;
        Ok(known.then_some(batches))
    }

    /// What became of one item of a run, in each fan-out that has it; reads all batches of the run. None: there is no such
    /// run, or retention has begun to delete it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn item_of_run(&self, run: Uuid, item: i64) -> Result<Option<Vec<ItemFate>>, DatabaseError> {
        let query = self.database.statement(FATE_OF_ITEM).bind(run).bind(item);
        let fates: Vec<ItemFate> = documents(&self.database, query).await?;
        Ok((!fates.is_empty()).then_some(fates))
    }

    async fn run_exists(&self, run: Uuid) -> Result<bool, DatabaseError> {
        let known = document(&self.database, self.database.statement(RUN_EXISTS).bind(run)).await?;
        Ok(known.unwrap_or(false))
    }

    /// Replicas, newest first; those that stopped or are gone only with `all`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list_replicas(&self, all: bool) -> Result<Vec<ReplicaSummary>, DatabaseError> {
        documents(&self.database, self.database.statement(LIST_REPLICAS).bind(all)).await
    }

    /// The lanes of the outbox.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list_outbox(&self) -> Result<Vec<LaneSummary>, DatabaseError> {
        documents(&self.database, self.database.statement(LIST_OUTBOX)).await
    }

    /// What became of a run's items and what does not add up; none: there is no such run.
    ///
    /// # Errors
    /// The database failed.
    pub async fn proof(&self, run: Uuid) -> Result<Option<Proof>, DatabaseError> {
        let found: Option<Proof> = document(&self.database, self.database.statement(READ_PROOF).bind(run)).await?;
        let Some(mut proof) = found else {
            return Ok(None);
        };
        let query = self.database.statement(READ_PROOF_PROBLEMS).bind(run).bind(PROBLEMS);
        proof.problems = documents::<ProofProblem>(&self.database, query).await?;
        Ok(Some(proof))
    }

    /// Since when retention has been deleting the rows of a run; none: it has not begun, or there is no such run.
    ///
    /// # Errors
    /// The database failed.
    pub async fn pruning_since(&self, run: Uuid) -> Result<Option<DateTime<Utc>>, DatabaseError> {
        document(&self.database, self.database.statement(PRUNING_SINCE).bind(run)).await
    }

    /// What decides why a run is not moving; see [`crate::inspect::causes`]. Snapshots that old are looked for.
    ///
    /// # Errors
    /// The database failed.
    pub async fn why(&self, id: Uuid, old_snapshot: Duration) -> Result<WhyFacts, DatabaseError> {
        let run: Option<RunFacts> = document(&self.database, self.database.statement(WHY_RUN).bind(id)).await?;
        let Some(read) = &run else {
            return Ok(WhyFacts::default());
        };
        let flow = match read.finished_at {
            Some(_) => None,
            None => document(&self.database, self.database.statement(WHY_QUEUE).bind(id)).await?,
        };
        let fleet: Option<FleetFacts> = document(&self.database, self.database.statement(WHY_FLEET)).await?;
        let (replicas, leader) = fleet.map(|fleet| (fleet.replicas, fleet.leader)).unwrap_or_default();
        Ok(WhyFacts {
            run,
            flow,
            replicas,
            leader,
            snapshots: self.list_old_snapshots(old_snapshot).await?,
        })
    }

    /// What does not move, the oldest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list_stuck(&self) -> Result<Vec<Stuck>, DatabaseError> {
        documents(&self.database, self.database.statement(LIST_STUCK)).await
    }

    /// What must never be and is.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list_invariants(&self) -> Result<Vec<BrokenInvariant>, DatabaseError> {
        documents(&self.database, self.database.statement(LIST_INVARIANTS)).await
    }

    /// What of one run does not move.
    ///
    /// # Errors
    /// The database failed.
    pub async fn stuck_of_run(&self, run: Uuid) -> Result<Vec<Stuck>, DatabaseError> {
        documents(&self.database, self.database.statement(STUCK_OF_RUN).bind(run)).await
    }

    /// What of one run must never be and is; costs what the run is long.
    ///
    /// # Errors
    /// The database failed.
    pub async fn run_invariants(&self, run: Uuid) -> Result<Vec<BrokenInvariant>, DatabaseError> {
        documents(&self.database, self.database.statement(RUN_INVARIANTS).bind(run)).await
    }

    /// Transactions that have stopped vacuum for longer than that, oldest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list_old_snapshots(&self, older_than: Duration) -> Result<Vec<OldSnapshot>, DatabaseError> {
        let query = self
            .database
            .statement(LIST_OLD_SNAPSHOTS)
            .bind(older_than.as_secs_f64());
        documents(&self.database, query).await
    }
}

/// The one document of a statement that gives at most one.
pub(super) async fn document<T: DeserializeOwned + Send + 'static>(
    database: &Database,
    query: Query<'static, sqlx::Postgres, PgArguments>,
) -> Result<Option<T>, DatabaseError> {
    Ok(documents(database, query).await?.into_iter().next())
}

/// The documents of a statement.
pub(super) async fn documents<T: DeserializeOwned + Send + 'static>(
    database: &Database,
    query: Query<'static, sqlx::Postgres, PgArguments>,
) -> Result<Vec<T>, DatabaseError> {
    let rows = database
        .run(move |connection| Box::pin(async move { query.fetch_all(&mut *connection).await }))
        .await?;
    rows.iter().map(|row| Ok(row.try_get::<Json<T>, _>(0)?.0)).collect()
}

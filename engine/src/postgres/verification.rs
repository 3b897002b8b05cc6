//! What verification reads, from Postgres.

use async_trait::async_trait;
use futures::FutureExt;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{Error, Row};
use uuid::Uuid;

use super::database::{Database, DatabaseError};
use crate::lifecycle::{FleetError, RunId};
use crate::verify::{BatchFacts, RunFacts, RunTables, StoredFacts};

const VERIFY_RUN: &str = include_str!("../../queries/verify_run.sql");
const VERIFY_BATCHES: &str = include_str!("../../queries/verify_batches.sql");
const VERIFY_LOST_CLAIMS: &str = include_str!("../../queries/verify_lost_claims.sql");
const VERIFY_STORED: &str = include_str!("../../queries/verify_stored.sql");

/// Batches read at once: a few hundred kilobytes of packed ids.
const BATCHES: i64 = 500;
/// Rows read at once.
const ROWS: i64 = 10_000;

/// The tables of a run, read as verification needs them.
#[derive(Debug, Clone)]
pub struct PostgresRunTables {
    database: Database,
}

type Query = sqlx::query::Query<'static, sqlx::Postgres, PgArguments>;

impl PostgresRunTables {
    /// Reads from a database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    async fn read<T>(&self, query: Query, row: impl Fn(&PgRow) -> Result<T, Error>) -> Result<Vec<T>, FleetError> {
        let rows = self.database.run(move |connection| query.fetch_all(connection).boxed());
        let read: Result<Vec<T>, Error> = rows.await?.iter().map(row).collect();
        Ok(read.map_err(DatabaseError::from)?)
    }
}

#[async_trait]
impl RunTables for PostgresRunTables {
    async fn read_run(&self, run: RunId) -> Result<Option<RunFacts>, FleetError> {
        let query = self.database.statement(VERIFY_RUN).bind(run);
        Ok(self.read(query, run_facts).await?.into_iter().next())
    }

    async fn read_batches(&self, run: RunId, after: i32) -> Result<Vec<BatchFacts>, FleetError> {
        let query = self.database.statement(VERIFY_BATCHES);
        self.read(query.bind(run).bind(after).bind(BATCHES), batch_facts).await
    }

    async fn read_lost_claims(&self, run: RunId) -> Result<Vec<(i32, i64)>, FleetError> {
        let query = self.database.statement(VERIFY_LOST_CLAIMS).bind(run);
        self.read(query, |row| Ok((row.try_get(0)?, row.try_get(1)?))).await
    }

    async fn read_stored(&self, run: RunId, after: Uuid) -> Result<Vec<StoredFacts>, FleetError> {
        let query = self.database.statement(VERIFY_STORED);
        self.read(query.bind(run).bind(after).bind(ROWS), stored_facts).await
    }
}

fn run_facts(row: &PgRow) -> Result<RunFacts, Error> {
    Ok(RunFacts {
        run: row.try_get("id")?,
        origin_id: row.try_get("origin_id")?,
        status: row.try_get("status")?,
        created_at: row.try_get("created_at")?,
        finished_at: row.try_get("finished_at")?,
        topics: row.try_get("topics")?,
    })
}

fn batch_facts(row: &PgRow) -> Result<BatchFacts, Error> {
    Ok(BatchFacts {
        seq: row.try_get("seq")?,
        step: row.try_get("step")?,
        status: row.try_get("status")?,
        parent_seq: row.try_get("parent_seq")?,
        first_id: row.try_get("first_id")?,
        last_id: row.try_get("last_id")?,
        n_items: row.try_get("n_items")?,
        ids: row.try_get("ids")?,
        refused_ids: row.try_get("refused_ids")?,
        unknown_ids: row.try_get("unknown_ids")?,
        skipped_ids: row.try_get("skipped_ids")?,
        vanished_ids: row.try_get("vanished_ids")?,
    })
}

fn stored_facts(row: &PgRow) -> Result<StoredFacts, Error> {
    let partition: Option<i32> = row.try_get("kafka_partition")?;
    Ok(StoredFacts {
        id: row.try_get("id")?,
        message_id: row.try_get("message_id")?,
        step: row.try_get("step")?,
        batch_seq: row.try_get("batch_seq")?,
        item_id: row.try_get("item_id")?,
        status: row.try_get("status")?,
        reason_code: row.try_get("reason_code")?,
        topic: row.try_get("topic")?,
        claims: row.try_get("claim_token")?,
        place: partition.zip(row.try_get("kafka_offset")?),
    })
}

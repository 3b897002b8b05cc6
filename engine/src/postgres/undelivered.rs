//! The verbs of redelivery on Postgres.

use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use sqlx::types::Json;
use sqlx::{Row, postgres::PgArguments, postgres::PgRow};
use uuid::Uuid;

use super::database::{Database, DatabaseError};
use crate::delivery::{PageRequest, RowClaim, SettledRow, Settlement, UndeliveredRow, UndeliveredStore};
use crate::lifecycle::FleetError;

const DUE_TOPICS: &str = include_str!("../../queries/due_topics.sql");
const CLAIM_UNDELIVERED: &str = include_str!("../../queries/claim_undelivered.sql");
const RENEW_UNDELIVERED: &str = include_str!("../../queries/renew_undelivered.sql");
const SETTLE_UNDELIVERED: &str = include_str!("../../queries/settle_undelivered.sql");
const COUNT_SETTLED: &str = include_str!("../../queries/count_settled.sql");
const HAND_BACK_UNDELIVERED: &str = include_str!("../../queries/hand_back_undelivered.sql");

/// What the last attempt met is for people: one line of bounded length.
const LONGEST_ERROR: usize = 300;

/// The rows of undelivered messages, as one replica claims and settles them.
#[derive(Debug, Clone)]
pub struct PostgresUndelivered {
    database: Database,
    replica: Uuid,
}

type Query = sqlx::query::Query<'static, sqlx::Postgres, PgArguments>;

impl PostgresUndelivered {
    /// The verbs of one replica.
    #[must_use]
    pub fn new(database: Database, replica: Uuid) -> Self {
        Self { database, replica }
    }

    async fn rows(&self, query: Query) -> Result<Vec<PgRow>, FleetError> {
        let rows = self.database.run(move |connection| query.fetch_all(connection).boxed());
        Ok(rows.await?)
    }

    async fn count(&self, query: Query) -> Result<u64, FleetError> {
        let row = self.database.run(move |connection| query.fetch_one(connection).boxed());
        let count: i64 = row.await?.try_get(0).map_err(DatabaseError::from)?;
        Ok(count.unsigned_abs())
    }
}

#[async_trait]
impl UndeliveredStore for PostgresUndelivered {
    async fn due_topics(&self) -> Result<Vec<String>, FleetError> {
        let rows = self.rows(self.database.statement(DUE_TOPICS)).await?;
        let topics = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>();
        Ok(topics.map_err(DatabaseError::from)?)
    }

    async fn claim_undelivered(&self, request: &PageRequest) -> Result<Vec<UndeliveredRow>, FleetError> {
        let query = self
            .database
            .statement(CLAIM_UNDELIVERED)
            .bind(request.claim_id)
            .bind(request.topic.clone())
            .bind(i64::from(request.rows))
            .bind(i64::try_from(request.bytes).unwrap_or(i64::MAX))
            .bind(self.replica)
            .bind(request.lease.as_secs_f64());
        let rows = self.rows(query).await?;
        let read = rows.iter().map(undelivered_row).collect::<Result<_, _>>();
        Ok(read.map_err(DatabaseError::from)?)
    }

    async fn renew_undelivered(&self, claim_id: Uuid, rows: &[RowClaim], lease: Duration) -> Result<u64, FleetError> {
        let query = self.database.statement(RENEW_UNDELIVERED).bind(claim_id);
        let query = bind_claims(query, rows).bind(lease.as_secs_f64());
        let done = self.database.run(move |connection| query.execute(connection).boxed());
        Ok(done.await?.rows_affected())
    }

    async fn settle_undelivered(&self, claim_id: Uuid, rows: &[SettledRow]) -> Result<u64, FleetError> {
        let claims: Vec<RowClaim> = rows.iter().map(|row| row.claim.clone()).collect();
        let columns: Vec<Columns> = rows.iter().map(|row| Columns::of(&row.settlement)).collect();
        let query = self
            .database
            .statement(SETTLE_UNDELIVERED)
            .bind(claim_id)
            .bind(self.replica);
        let query = bind_claims(query, &claims)
            .bind(columns.iter().map(|row| row.status.to_owned()).collect::<Vec<_>>())
            .bind(columns.iter().map(|row| row.partition).collect::<Vec<_>>())
            .bind(columns.iter().map(|row| row.offset).collect::<Vec<_>>())
            .bind(columns.iter().map(|row| row.delay_secs).collect::<Vec<_>>())
            .bind(columns.iter().map(|row| row.code.clone()).collect::<Vec<_>>())
            .bind(columns.iter().map(|row| row.error.clone()).collect::<Vec<_>>());
        let settled = self.count(query).await?;
        if settled == rows.len() as u64 {
            return Ok(settled);
        }
        let query = self.database.statement(COUNT_SETTLED).bind(claim_id);
        self.count(bind_claims(query, &claims)).await
    }

    async fn hand_back_undelivered(
        &self,
        claim_id: Uuid,
        rows: &[RowClaim],
        delay: Duration,
    ) -> Result<u64, FleetError> {
        let query = self.database.statement(HAND_BACK_UNDELIVERED).bind(claim_id);
        self.count(bind_claims(query, rows).bind(delay.as_secs_f64())).await
    }
}

fn bind_claims(query: Query, rows: &[RowClaim]) -> Query {
    query
        .bind(rows.iter().map(|row| row.command_type.clone()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.token).collect::<Vec<_>>())
}

/// A settlement as the row has it.
#[derive(Default)]
struct Columns {
    status: &'static str,
    partition: Option<i32>,
    offset: Option<i64>,
    delay_secs: Option<f64>,
    code: Option<String>,
    error: Option<String>,
}

impl Columns {
    fn of(settlement: &Settlement) -> Self {
        let (status, failure) = match settlement {
            Settlement::Delivered { partition, offset } => {
                return Self {
                    status: "delivered",
                    partition: Some(*partition),
                    offset: Some(*offset),
                    ..Self::default()
                };
            }
            Settlement::Refused(failure) => ("refused", failure),
            Settlement::Retry { failure, .. } => ("due", failure),
            Settlement::Dead(failure) => ("dead", failure),
        };
        let delay_secs = match settlement {
            Settlement::Retry { delay, .. } => Some(delay.as_secs_f64()),
            _ => None,
        };
        Self {
            status,
            delay_secs,
            code: Some(failure.code.to_owned()),
            error: Some(error_text(&format!("{}: {}", failure.code, failure.detail))),
            ..Self::default()
        }
    }
}

/// What was met, as it is stored.
pub(super) fn error_text(met: &str) -> String {
    let printable = met.chars().filter(|character| !character.is_control());
    printable.take(LONGEST_ERROR).collect()
}

fn undelivered_row(row: &PgRow) -> Result<UndeliveredRow, sqlx::Error> {
    let attempts: i32 = row.try_get("attempts")?;
    let headers: Json<Vec<(String, String)>> = row.try_get("headers")?;
    Ok(UndeliveredRow {
        claim: RowClaim {
            command_type: row.try_get("command_type")?,
            id: row.try_get("id")?,
            token: row.try_get("claim_token")?,
        },
        key: row.try_get("key")?,
        headers: headers.0,
        payload: row.try_get("payload")?,
        attempts: u32::try_from(attempts).unwrap_or(0),
    })
}

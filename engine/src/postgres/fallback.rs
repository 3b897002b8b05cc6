//! The verbs of the direct commands' fallback on Postgres.

use async_trait::async_trait;
use futures::FutureExt;
use sqlx::Row;
use uuid::Uuid;

use super::database::{Database, DatabaseError};
use crate::delivery::{ConfirmedRow, Due, FallbackError, FallbackRow, FallbackStore, Headers};

const STORE_UNDELIVERED: &str = include_str!("../../queries/store_undelivered.sql");
const CONFIRM_UNDELIVERED: &str = include_str!("../../queries/confirm_undelivered.sql");

/// The rows of direct commands that the broker did not take, as one process stores them.
#[derive(Debug, Clone)]
pub struct PostgresFallback {
    database: Database,
    process: Uuid,
}

impl PostgresFallback {
    /// The verbs of one process; its id stands in the audit.
    #[must_use]
    pub fn new(database: Database, process: Uuid) -> Self {
        Self { database, process }
    }
}

#[async_trait]
impl FallbackStore for PostgresFallback {
    async fn store_undelivered(&self, rows: &[FallbackRow]) -> Result<u64, FallbackError> {
        let due_at = |row: &FallbackRow| match row.due {
            Due::At(at) => Some(at),
            Due::After(_) => None,
        };
        let delay = |row: &FallbackRow| match row.due {
            Due::At(_) => 0.0,
            Due::After(delay) => delay.as_secs_f64(),
        };
        let query = self
            .database
            .statement(STORE_UNDELIVERED)
            .bind(column(rows, |row| row.command_type.to_string()))
            .bind(column(rows, |row| row.id))
            .bind(column(rows, |row| row.message_id))
            .bind(column(rows, |row| row.refused))
            .bind(column(rows, |row| row.code))
            .bind(column(rows, |row| row.reason.to_string()))
            .bind(column(rows, |row| row.topic.to_string()))
            .bind(column(rows, |row| row.key.clone()))
            .bind(column(rows, |row| headers_json(&row.headers)))
            .bind(column(rows, |row| row.payload.clone()))
            .bind(column(rows, due_at))
            .bind(column(rows, delay));
        let done = self.database.run(move |connection| query.execute(connection).boxed());
        Ok(done.await?.rows_affected())
    }

    async fn confirm_undelivered(&self, rows: &[ConfirmedRow]) -> Result<u64, FallbackError> {
        let query = self
            .database
            .statement(CONFIRM_UNDELIVERED)
            .bind(self.process)
            .bind(rows.iter().map(|row| row.command_type.clone()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.message_id).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.partition).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.offset).collect::<Vec<_>>());
        let row = self.database.run(move |connection| query.fetch_one(connection).boxed());
        let count: i64 = row.await?.try_get(0).map_err(DatabaseError::from)?;
        Ok(count.unsigned_abs())
    }
}

fn column<T>(rows: &[FallbackRow], value: impl Fn(&FallbackRow) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// An array of name and value. The type has no zero character, which no header that we make holds.
fn headers_json(headers: &Headers) -> String {
    let text = |value: &[u8]| String::from_utf8_lossy(value).replace('\0', "");
    let pairs = headers
        .iter()
        .map(|(name, value)| serde_json::json!([name, text(value)]));
    serde_json::Value::Array(pairs.collect()).to_string()
}

impl From<DatabaseError> for FallbackError {
    fn from(error: DatabaseError) -> Self {
        // Then a row is at fault, and will be at the next try.
        if error.is_for_good() {
            return Self::BadRow(error.to_string());
        }
        Self::NotNow(error.to_string())
    }
}

//! Runs that wait for others that are over, since whoever ended those did not wake them.

use std::sync::PoisonError;

use futures::FutureExt;
use sqlx::Row;
use uuid::Uuid;

use super::PostgresFleet;
use crate::lifecycle::FleetError;
use crate::postgres::database::DatabaseError;

const WAKE_LEFT_BEHIND: &str = include_str!("../../../queries/wake_left_behind.sql");

/// Waiting runs that one sweep looks at; the next goes on behind them.
const PAGE: i64 = 10_000;

impl PostgresFleet {
    /// Wakes those of the next page of waiting runs whose predecessors are over.
    pub(super) async fn wake_left_behind(&self) -> Result<u64, FleetError> {
        let behind = *self.waited_for.lock().unwrap_or_else(PoisonError::into_inner);
        let query = self.database.statement(WAKE_LEFT_BEHIND).bind(behind).bind(PAGE);
        let rows = self
            .database
            .run(move |connection| query.fetch_all(connection).boxed())
            .await?;
        let (mut last, mut looked, mut woken) = (Uuid::nil(), 0, 0);
        for row in &rows {
            last = row.try_get("run").map_err(DatabaseError::from)?;
            looked += row.try_get::<i64, _>("waiting").map_err(DatabaseError::from)?;
            woken += row.try_get::<i64, _>("woken").map_err(DatabaseError::from)?.unsigned_abs();
        }
        // Of the last run all that wait are woken, also those behind the page.
        let next = if looked < PAGE { Uuid::nil() } else { last };
        *self.waited_for.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(woken)
    }
}

//! Runs that wait for others that are over, since whoever ended those did not wake them.

use std::sync::{MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use futures::FutureExt;
use sqlx::Row;

use super::PostgresFleet;
use crate::lifecycle::FleetError;
use crate::postgres::database::DatabaseError;

const WAKE_LEFT_BEHIND: &str = include_str!("../../../queries/wake_left_behind.sql");

/// Waiting runs that one sweep looks at; the next goes on behind them.
const PAGE: i64 = 10_000;

/// A schedule and a slot.
pub(super) type Place = (String, DateTime<Utc>);

impl PostgresFleet {
    pub(super) fn lock_waited_for(&self) -> MutexGuard<'_, Option<Place>> {
        self.waited_for.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those of the next page of waiting runs whose predecessors are over.
    pub(super) async fn wake_left_behind(&self) -> Result<u64, FleetError> {
        let behind = self.lock_waited_for().clone();
        let (schedule, slot) = behind.unwrap_or_default();
        let query = self
            .database
            .statement(WAKE_LEFT_BEHIND)
            .bind(schedule)
            .bind(slot)
            .bind(PAGE);
        let row = self
            .database
            .run(move |connection| query.fetch_optional(connection).boxed())
            .await?;
        let Some(row) = row else {
            *self.lock_waited_for() = None;
            return Ok(0);
        };
        let read = || -> Result<(String, DateTime<Utc>, i64, i64), sqlx::Error> {
            Ok((
                row.try_get("schedule")?,
                row.try_get("slot")?,
                row.try_get("looked")?,
                row.try_get("woken")?,
            ))
        };
        let (schedule, slot, looked, woken) = read().map_err(DatabaseError::from)?;
        *self.lock_waited_for() = (looked >= PAGE).then_some((schedule, slot));
        Ok(woken.unsigned_abs())
    }
}

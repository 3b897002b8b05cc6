//! The leader's lease and what it prunes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::database::{Database, DatabaseError};
use crate::leader::{FleetGauge, LeaderStore, MeasureStore, Prunable, Pruned, RetentionStore, STUCK_KINDS, Untold};
use crate::lifecycle::FleetError;

const ELECT_LEADER: &str = include_str!("../../queries/elect_leader.sql");
const RENEW_LEADER: &str = include_str!("../../queries/renew_leader.sql");
const RESIGN_LEADER: &str = include_str!("../../queries/resign_leader.sql");
const MEASURE_FLEET: &str = include_str!("../../queries/measure_fleet.sql");
const MEASURE_TROUBLE: &str = include_str!("../../queries/measure_trouble.sql");
const TAKE_UNTOLD: &str = include_str!("../../queries/take_untold.sql");
const PRUNE_RUNS: &str = include_str!("../../queries/prune_runs.sql");
const PRUNE_TRANSITIONS: &str = include_str!("../../queries/prune_transitions.sql");
const PRUNE_UNDELIVERED: &str = include_str!("../../queries/prune_undelivered.sql");
const PRUNE_REPLICAS: &str = include_str!("../../queries/prune_replicas.sql");
const PRUNE_MEASURES: &str = include_str!("../../queries/prune_measures.sql");
const PRUNE_INBOX: &str = include_str!("../../queries/prune_inbox.sql");

pub(super) type Query = sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// What a leader does on Postgres. One per process start: its identity is the holder of the lease.
#[derive(Debug, Clone)]
pub struct PostgresLeader {
    pub(super) database: Database,
    pub(super) replica: Uuid,
    /// The last question about the lease had no answer in the little time it had: the next one gets all there is.
    is_slow: Arc<AtomicBool>,
}

impl PostgresLeader {
    /// The leader's verbs of one replica, whose id was made at process start.
    #[must_use]
    pub fn new(database: Database, replica: Uuid) -> Self {
        Self {
            database,
            replica,
            is_slow: Arc::default(),
        }
    }

    /// Asks about the lease. It is asked often and soon again, so that a dead connection may not take a call's time of it; a
    /// server that is only slow may, the second time.
    async fn about_lease<T, F>(&self, ask: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + 'static,
    {
        let answer = match self.is_slow.load(Ordering::Relaxed) {
            true => self.database.run(ask).await,
            false => self.database.hasty().run(ask).await,
        };
        let is_slow = answer.as_ref().is_err_and(DatabaseError::is_unanswered);
        self.is_slow.store(is_slow, Ordering::Relaxed);
        answer
    }

    async fn gauges(&self, query: Query) -> Result<Vec<FleetGauge>, FleetError> {
        let rows = self
            .database
            .run(move |connection| query.fetch_all(connection).boxed())
            .await?;
        let read = |row: &PgRow| {
            Ok(FleetGauge {
                gauge: row.try_get("gauge")?,
                label: row.try_get("label")?,
                value: row.try_get("value")?,
            })
        };
        let gauges: Result<_, sqlx::Error> = rows.iter().map(read).collect();
        Ok(gauges.map_err(DatabaseError::from)?)
    }

    async fn found(&self, query: Query) -> Result<bool, FleetError> {
        let rows = self
            .database
            .run(move |connection| query.fetch_all(connection).boxed())
            .await?;
        Ok(!rows.is_empty())
    }
}

#[async_trait]
impl LeaderStore for PostgresLeader {
    async fn elect_leader(&self, lease: Duration) -> Result<Option<i64>, FleetError> {
        let query = self
            .database
            .statement(ELECT_LEADER)
            .bind(self.replica)
            .bind(lease.as_secs_f64());
        let row = self
            .about_lease(move |connection| query.fetch_optional(connection).boxed())
            .await?;
        let term = row.map(|row| row.try_get("term")).transpose();
        Ok(term.map_err(DatabaseError::from)?)
    }

    async fn renew_leader(&self, term: i64, lease: Duration) -> Result<bool, FleetError> {
        let query = self
            .database
            .statement(RENEW_LEADER)
            .bind(term)
            .bind(self.replica)
            .bind(lease.as_secs_f64());
        let renewed = self
            .about_lease(move |connection| query.execute(connection).boxed())
            .await?;
        Ok(renewed.rows_affected() == 1)
    }

    async fn resign_leader(&self, term: i64) -> Result<bool, FleetError> {
        self.found(self.database.statement(RESIGN_LEADER).bind(term).bind(self.replica))
            .await
    }
}

#[async_trait]
impl RetentionStore for PostgresLeader {
    async fn prune(&self, what: Prunable, older_than: Duration, page: i32) -> Result<Pruned, FleetError> {
        let sql = match what {
            Prunable::Runs => PRUNE_RUNS,
            Prunable::Transitions => PRUNE_TRANSITIONS,
            Prunable::Undelivered => PRUNE_UNDELIVERED,
            Prunable::Replicas => PRUNE_REPLICAS,
            Prunable::Inbox => PRUNE_INBOX,
            Prunable::Measures => PRUNE_MEASURES,
        };
        let query = self.database.statement(sql).bind(older_than.as_secs_f64()).bind(page);
        let row = self
            .database
            .run(move |connection| query.fetch_one(connection).boxed())
            .await?;
        let pruned = match what {
            Prunable::Runs => pruned_runs(&row),
            _ => pruned_page(&row),
        };
        Ok(pruned.map_err(DatabaseError::from)?)
    }
}

#[async_trait]
impl MeasureStore for PostgresLeader {
    async fn measure_fleet(&self) -> Result<Vec<FleetGauge>, FleetError> {
        self.gauges(self.database.statement(MEASURE_FLEET)).await
    }

    async fn measure_trouble(&self) -> Result<Vec<FleetGauge>, FleetError> {
        let query = self.database.statement(MEASURE_TROUBLE).bind(&STUCK_KINDS[..]);
        self.gauges(query).await
    }

    async fn take_untold(&self, after: i64, page: i64) -> Result<Vec<Untold>, FleetError> {
        let query = self.database.statement(TAKE_UNTOLD).bind(after).bind(page);
        let rows = self
            .database
            .run(move |connection| query.fetch_all(connection).boxed())
            .await?;
        let untold: Result<_, sqlx::Error> = rows.iter().map(untold).collect();
        Ok(untold.map_err(DatabaseError::from)?)
    }
}

fn untold(row: &PgRow) -> Result<Untold, sqlx::Error> {
    let seconds = |name: &str| row.try_get(name).map(Duration::from_secs_f64);
    Ok(Untold {
        place: row.try_get("place")?,
        run: row.try_get("id")?,
        workflow: row.try_get("workflow")?,
        queue: row.try_get("queue")?,
        slot: row.try_get("slot")?,
        started_by: row.try_get("started_by")?,
        ended_as: row.try_get("ended_as")?,
        stands: row.try_get::<Option<bool>, _>("stands")?.unwrap_or_default(),
        token: row.try_get("claim_token")?,
        attempts: row.try_get::<i16, _>("attempts")?.unsigned_abs(),
        traceparent: row.try_get("traceparent")?,
        took: seconds("took_s")?,
        since: seconds("since_s")?,
    })
}

fn pruned_runs(row: &PgRow) -> Result<Pruned, sqlx::Error> {
    Ok(Pruned {
        rows: row.try_get::<i64, _>("pruned")?.unsigned_abs(),
        more: row.try_get("more")?,
    })
}

/// A page that was not empty may not have been the last.
fn pruned_page(row: &PgRow) -> Result<Pruned, sqlx::Error> {
    let rows = u64::from(row.try_get::<i32, _>(0)?.unsigned_abs());
    Ok(Pruned { rows, more: rows > 0 })
}

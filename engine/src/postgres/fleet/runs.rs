//! Reading, failing and stopping runs.

use chrono::{DateTime, Utc};
use futures::FutureExt;
use sqlx::Row;
use uuid::Uuid;

use super::PostgresFleet;
use crate::lifecycle::{Ended, FleetError, Heartbeat, RunClaim, RunId, WorkRun, storable_reason};
use crate::postgres::database::DatabaseError;
use crate::postgres::run_store::rows::{read_steps, steps_of, work_run};
use crate::telemetry::host;

const HEARTBEAT: &str = include_str!("../../../queries/heartbeat.sql");
const LEAVE: &str = include_str!("../../../queries/leave.sql");
const READ_RUN: &str = include_str!("../../../queries/read_run.sql");
const FAIL_CLAIMED_RUN: &str = include_str!("../../../queries/fail_claimed_run.sql");
const SETTLE_STOP: &str = include_str!("../../../queries/settle_stop.sql");
const REQUEST_STOP: &str = include_str!("../../../queries/request_stop.sql");

impl PostgresFleet {
    pub(super) async fn heartbeat_row(&self, beat: &Heartbeat) -> Result<DateTime<Utc>, FleetError> {
        let counts = beat.counts;
        let workflows: Vec<String> = beat.runnable.iter().map(|one| one.workflow.clone()).collect();
        let replays = beat.runnable.iter().map(|one| {
            let versions = [*one.replays.start(), *one.replays.end()];
            (one.workflow.clone(), serde_json::json!(versions))
        });
        let replays: serde_json::Map<_, _> = replays.collect();
        let query = self
            .database
            .statement(HEARTBEAT)
            .bind(beat.replica)
            .bind(env!("CARGO_PKG_VERSION"))
            .bind(beat.roles.clone())
            .bind(workflows)
            .bind(self.settings.stale_after.as_secs_f64())
            .bind(beat.draining)
            .bind(beat.in_flight)
            .bind(beat.window_used)
            .bind(beat.window_size)
            .bind(beat.breakers.clone())
            .bind(beat.clock_offset)
            .bind(counts.items_delivered)
            .bind(counts.items_refused)
            .bind(counts.items_unknown)
            .bind(counts.items_passed_over)
            .bind(counts.batches)
            .bind(counts.runs_completed)
            .bind(counts.runs_failed)
            .bind(counts.steps)
            .bind(counts.commands_delivered)
            .bind(counts.commands_stored)
            .bind(counts.outbox_delivered)
            .bind(counts.redelivered)
            .bind(counts.dead)
            .bind(counts.leases_lost)
            .bind(serde_json::Value::Object(replays))
            .bind(host());
        let row = self
            .database
            .run(move |connection| query.fetch_one(connection).boxed())
            .await?;
        Ok(row.try_get(0).map_err(DatabaseError::from)?)
    }

    pub(super) async fn leave_row(&self, replica: Uuid) -> Result<(), FleetError> {
        let query = self.database.statement(LEAVE).bind(replica);
        self.database
            .run(move |connection| async move { query.execute(connection).await.map(|_| ()) }.boxed())
            .await?;
        Ok(())
    }

    pub(super) async fn read_run_row(&self, run: RunId) -> Result<Option<WorkRun>, FleetError> {
        let query = self.database.statement(READ_RUN).bind(run);
        let steps = steps_of(&self.database, vec![run], None);
        let read = self.database.run(move |connection| {
            async move {
                let Some(row) = query.fetch_optional(&mut *connection).await? else {
                    return Ok(None);
                };
                let (_, mut found) = work_run(&row)?;
                found.steps = read_steps(connection, steps).await?.remove(&run).unwrap_or_default();
                Ok(Some(found))
            }
            .boxed()
        });
        Ok(read.await?)
    }

    pub(super) async fn fail_run_row(&self, claim: RunClaim, reason: String) -> Result<Ended, FleetError> {
        let fail = self
            .database
            .statement(FAIL_CLAIMED_RUN)
            .bind(claim.run)
            .bind(claim.token)
            .bind(claim.claim_id)
            .bind(storable_reason(&reason))
            .bind(self.settings.replica);
        let settle = self.database.statement(SETTLE_STOP).bind(claim.run);
        let rows = self
            .database
            .transaction(move |connection| {
                async move {
                    let rows = fail.execute(&mut *connection).await?.rows_affected();
                    settle.execute(&mut *connection).await?;
                    Ok(rows)
                }
                .boxed()
            })
            .await?;
        Ok(if rows == 1 { Ended::Done } else { Ended::Lost })
    }

    pub(super) async fn stop_run(&self, run: RunId, reason: String) -> Result<(), FleetError> {
        let query = self
            .database
            .statement(REQUEST_STOP)
            .bind(run)
            .bind(storable_reason(&reason))
            .bind(self.settings.replica.to_string());
        self.database
            .run(move |connection| async move { query.execute(connection).await.map(|_| ()) }.boxed())
            .await?;
        Ok(())
    }

    pub(super) async fn settle(&self, run: RunId) -> Result<bool, FleetError> {
        let query = self.database.statement(SETTLE_STOP).bind(run);
        let row = self
            .database
            .run(move |connection| query.fetch_one(connection).boxed())
            .await?;
        Ok(row.try_get(0).map_err(DatabaseError::from)?)
    }
}

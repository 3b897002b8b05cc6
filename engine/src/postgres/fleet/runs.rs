//! Claiming and ending runs.

use std::time::Duration;

use chrono::Utc;
use futures::FutureExt;
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::PostgresFleet;
use crate::lifecycle::{
    Ended, FleetError, Heartbeat, Kind, RunClaim, RunId, StepState, StepStatus, WorkRun, storable_reason,
};
use crate::postgres::database::DatabaseError;

const HEARTBEAT: &str = include_str!("../../../queries/heartbeat.sql");
const LEAVE: &str = include_str!("../../../queries/leave.sql");
const CLAIM_RUN: &str = include_str!("../../../queries/claim_run.sql");
const READ_RUN: &str = include_str!("../../../queries/read_run.sql");
const READ_STEPS: &str = include_str!("../../../queries/read_steps.sql");
const SUSPEND_RUN: &str = include_str!("../../../queries/suspend_run.sql");
const HAND_BACK_RUN: &str = include_str!("../../../queries/hand_back_run.sql");
const COMPLETE_CLAIMED_RUN: &str = include_str!("../../../queries/complete_claimed_run.sql");
const FAIL_CLAIMED_RUN: &str = include_str!("../../../queries/fail_claimed_run.sql");
const SETTLE_STOP: &str = include_str!("../../../queries/settle_stop.sql");
const REQUEST_STOP: &str = include_str!("../../../queries/request_stop.sql");
const HALTED_RUNS: &str = include_str!("../../../queries/halted_runs.sql");

impl PostgresFleet {
    pub(super) async fn heartbeat_row(&self, beat: &Heartbeat) -> Result<(), FleetError> {
        let query = self
            .database
            .statement(HEARTBEAT)
            .bind(beat.replica)
            .bind(env!("CARGO_PKG_VERSION"))
            .bind(beat.roles.clone())
            .bind(beat.workflows.clone())
            .bind(self.settings.stale_after.as_secs_f64())
            .bind(beat.draining)
            .bind(beat.in_flight)
            .bind(beat.window_used)
            .bind(beat.window_size)
            .bind(beat.breakers.clone());
        self.database
            .run(move |connection| async move { query.execute(connection).await.map(|_| ()) }.boxed())
            .await?;
        Ok(())
    }

    pub(super) async fn leave_row(&self, replica: Uuid) -> Result<(), FleetError> {
        let query = self.database.statement(LEAVE).bind(replica);
        self.database
            .run(move |connection| async move { query.execute(connection).await.map(|_| ()) }.boxed())
            .await?;
        Ok(())
    }

    pub(super) async fn claim_run_row(
        &self,
        claim_id: Uuid,
        workflows: Vec<String>,
    ) -> Result<Option<(RunClaim, WorkRun)>, FleetError> {
        let claim = self
            .database
            .statement(CLAIM_RUN)
            .bind(claim_id)
            .bind(workflows)
            .bind(self.settings.replica)
            .bind(self.lease_secs());
        let found = self.read_with_steps(claim).await?;
        Ok(found.map(|(token, run)| {
            (
                RunClaim {
                    run: run.id,
                    token,
                    claim_id,
                },
                run,
            )
        }))
    }

    pub(super) async fn read_run_row(&self, run: RunId) -> Result<Option<WorkRun>, FleetError> {
        let found = self
            .read_with_steps(self.database.statement(READ_RUN).bind(run))
            .await?;
        Ok(found.map(|(_, run)| run))
    }

    async fn read_with_steps(
        &self,
        query: sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>,
    ) -> Result<Option<(i64, WorkRun)>, DatabaseError> {
        let steps = self.database.statement(READ_STEPS);
        self.database
            .run(move |connection| {
                async move {
                    let Some(row) = query.fetch_optional(&mut *connection).await? else {
                        return Ok(None);
                    };
                    let (token, mut run) = work_run(&row)?;
                    run.steps = read_steps(connection, steps.bind(run.id)).await?;
                    Ok(Some((token, run)))
                }
                .boxed()
            })
            .await
    }

    pub(super) async fn suspend_run_row(&self, claim: RunClaim, seen: i64) -> Result<bool, FleetError> {
        let query = self.fenced_run(SUSPEND_RUN, claim).bind(seen);
        let rows = self
            .database
            .run(move |connection| query.execute(connection).boxed())
            .await?;
        Ok(rows.rows_affected() == 1)
    }

    pub(super) async fn hand_back_run_row(&self, claim: RunClaim, delay: Duration) -> Result<Ended, FleetError> {
        self.end_run(self.fenced_run(HAND_BACK_RUN, claim).bind(delay.as_secs_f64()))
            .await
    }

    pub(super) async fn complete_run_row(&self, claim: RunClaim, output: Vec<u8>) -> Result<Ended, FleetError> {
        self.end_run(self.fenced_run(COMPLETE_CLAIMED_RUN, claim).bind(output))
            .await
    }

    pub(super) async fn fail_run_row(&self, claim: RunClaim, reason: String) -> Result<Ended, FleetError> {
        let fail = self.fenced_run(FAIL_CLAIMED_RUN, claim).bind(storable_reason(&reason));
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

    async fn end_run(
        &self,
        query: sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>,
    ) -> Result<Ended, FleetError> {
        let rows = self
            .database
            .run(move |connection| query.execute(connection).boxed())
            .await?;
        Ok(if rows.rows_affected() == 1 {
            Ended::Done
        } else {
            Ended::Lost
        })
    }

    fn fenced_run(
        &self,
        sql: &'static str,
        claim: RunClaim,
    ) -> sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments> {
        self.database
            .statement(sql)
            .bind(claim.run)
            .bind(claim.token)
            .bind(claim.claim_id)
    }

    pub(super) async fn halted(&self, runs: Vec<RunId>) -> Result<Vec<RunId>, FleetError> {
        let query = self.database.statement(HALTED_RUNS).bind(runs);
        let rows = self
            .database
            .run(move |connection| query.fetch_all(connection).boxed())
            .await?;
        Ok(rows
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()
            .map_err(DatabaseError::from)?)
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

async fn read_steps(
    connection: &mut PgConnection,
    query: sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>,
) -> Result<Vec<StepState>, sqlx::Error> {
    let rows = query.fetch_all(connection).await?;
    rows.iter().map(step_state).collect()
}

pub(super) fn step_state(row: &PgRow) -> Result<StepState, sqlx::Error> {
    Ok(StepState {
        path: row.try_get("path")?,
        kind: Kind::FanOut,
        status: if row.try_get::<Option<Vec<u8>>, _>("result")?.is_some() {
            StepStatus::Completed
        } else {
            StepStatus::Open
        },
        result: row.try_get("result")?,
        started_at: Utc::now(),
        finished_at: None,
        due_at: None,
        attempts: 0,
        claim_token: 0,
        plan_cursor: row.try_get("plan_cursor")?,
        planned: row.try_get("planned")?,
    })
}

fn work_run(row: &PgRow) -> Result<(i64, WorkRun), sqlx::Error> {
    let run = WorkRun {
        id: row.try_get("id")?,
        workflow: row.try_get("workflow")?,
        params: row.try_get("params")?,
        origin_id: row.try_get("origin_id")?,
        slot: row.try_get("slot")?,
        created_at: row.try_get("created_at")?,
        traceparent: row.try_get("traceparent")?,
        started_at: None,
        claimed_at: Utc::now(),
        attempts: 0,
        code_version: 1,
        seed_id: None,
        wake_seq: row.try_get("wake_seq")?,
        steps: Vec::new(),
        signals: Vec::new(),
    };
    Ok((row.try_get("claim_token")?, run))
}

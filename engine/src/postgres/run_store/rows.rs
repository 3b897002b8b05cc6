//! Rows of runs and their steps, as the code of workflows sees them.

use std::collections::HashMap;

use sqlx::{PgConnection, Row, postgres::PgRow};

use super::Query;
use crate::lifecycle::{Kind, RunId, StepState, StepStatus, WorkRun};
use crate::postgres::database::Database;

const READ_STEPS_OF_RUNS: &str = include_str!("../../../queries/read_steps_of_runs.sql");

/// A run and its claim token; its steps and signals are read apart.
pub(in crate::postgres) fn work_run(row: &PgRow) -> Result<(i64, WorkRun), sqlx::Error> {
    let run = WorkRun {
        id: row.try_get("id")?,
        workflow: row.try_get("workflow")?,
        queue: row.try_get("queue")?,
        params: row.try_get("params")?,
        origin_id: row.try_get("origin_id")?,
        slot: row.try_get("slot")?,
        created_at: row.try_get("created_at")?,
        traceparent: row.try_get("traceparent")?,
        started_at: row.try_get("started_at")?,
        claimed_at: row.try_get("claimed_at")?,
        attempts: row.try_get::<i16, _>("attempts")?.unsigned_abs(),
        code_version: row.try_get::<i32, _>("code_version")?.unsigned_abs(),
        seed_id: row.try_get("seed_id")?,
        repeated_at: row.try_get("repeated_at")?,
        parent_id: row.try_get("parent_id")?,
        depth: row.try_get::<i16, _>("depth")?.unsigned_abs(),
        undoing: row.try_get("undoing")?,
        scheduled: row.try_get("scheduled")?,
        wake_seq: row.try_get("wake_seq")?,
        steps: Vec::new(),
        signals: Vec::new(),
        unread: false,
    };
    Ok((row.try_get("claim_token")?, run))
}

/// Asks for the steps of runs: all, or those of a kind.
pub(in crate::postgres) fn steps_of(database: &Database, runs: Vec<RunId>, kind: Option<Kind>) -> Query {
    database
        .statement(READ_STEPS_OF_RUNS)
        .bind(runs)
        .bind(kind.map(Kind::as_str))
}

/// Reads them, by run.
pub(in crate::postgres) async fn read_steps(
    connection: &mut PgConnection,
    query: Query,
) -> Result<HashMap<RunId, Vec<StepState>>, sqlx::Error> {
    let mut steps: HashMap<RunId, Vec<StepState>> = HashMap::new();
    for row in &query.fetch_all(connection).await? {
        steps.entry(row.try_get("run_id")?).or_default().push(step_state(row)?);
    }
    Ok(steps)
}

pub(in crate::postgres) fn step_state(row: &PgRow) -> Result<StepState, sqlx::Error> {
    let unknown = |what: &str| sqlx::Error::Decode(format!("a step is of no known {what}").into());
    Ok(StepState {
        path: row.try_get("path")?,
        kind: Kind::from_name(row.try_get("kind")?).ok_or_else(|| unknown("kind"))?,
        status: StepStatus::from_name(row.try_get("status")?).ok_or_else(|| unknown("state"))?,
        result: row.try_get("result")?,
        started_at: row.try_get("started_at")?,
        finished_at: row.try_get("finished_at")?,
        due_at: row.try_get("due_at")?,
        attempts: row.try_get::<i16, _>("attempts")?.unsigned_abs(),
        claim_token: row.try_get("claim_token")?,
        plan_cursor: row.try_get("plan_cursor")?,
        planned: row.try_get("planned")?,
    })
}

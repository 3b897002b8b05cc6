//! Recording steps.

use futures::FutureExt;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::rows::step_state;
use super::{PostgresRunStore, Query};
use crate::lifecycle::{FleetError, NewStep, RunClaim, Saved, StepState};
use crate::postgres::database::{Database, DatabaseError};

const SAVE_STEPS: &str = include_str!("../../../queries/save_steps.sql");
const RECORD_STEPS: &str = include_str!("../../../queries/record_steps.sql");
const SETTLE_STEP: &str = include_str!("../../../queries/settle_step.sql");
const SETTLE_SELECT: &str = include_str!("../../../queries/settle_select.sql");
const READ_STEP: &str = include_str!("../../../queries/read_step.sql");

impl PostgresRunStore {
    pub(super) async fn save_step_rows(&self, group: &[NewStep]) -> Result<Vec<Saved>, FleetError> {
        let query = self.save_query(group);
        let rows = self
            .database
            .run(move |connection| query.fetch_all(connection).boxed())
            .await?;
        let written = written(&rows, group.len())?;
        let mut answers = Vec::with_capacity(group.len());
        for (step, written) in group.iter().zip(written) {
            answers.push(match written {
                Some(true) => Saved::Done,
                // Its open row is gone: it was ended before, or there never was one.
                Some(false) => self.settle_step_row(step).await?,
                None => Saved::Lost,
            });
        }
        Ok(answers)
    }

    fn save_query(&self, group: &[NewStep]) -> Query {
        let claims = || group.iter().map(|step| step.claim);
        let is_plain = group.iter().all(|step| !step.ends_open && step.signal_seq.is_none());
        let query = self
            .database
            .statement(if is_plain { RECORD_STEPS } else { SAVE_STEPS })
            .bind(claims().map(|claim| claim.run).collect::<Vec<_>>())
            .bind(claims().map(|claim| claim.token).collect::<Vec<_>>())
            .bind(claims().map(|claim| claim.claim_id).collect::<Vec<_>>())
            .bind(group.iter().map(|step| step.path.clone()).collect::<Vec<_>>())
            .bind(group.iter().map(|step| step.kind.as_str()).collect::<Vec<_>>())
            .bind(group.iter().map(|step| step.status.as_str()).collect::<Vec<_>>())
            .bind(group.iter().map(|step| step.result.as_deref()).collect::<Vec<_>>())
            .bind(group.iter().map(|step| step.started_at).collect::<Vec<_>>())
            .bind(group.iter().map(NewStep::ended_at).collect::<Vec<_>>())
            .bind(group.iter().map(attempts).collect::<Vec<_>>());
        if is_plain {
            return query;
        }
        query
            .bind(group.iter().map(|step| step.signal_seq).collect::<Vec<_>>())
            .bind(group.iter().map(|step| step.ends_open).collect::<Vec<_>>())
    }

    pub(super) async fn settle_step_row(&self, step: &NewStep) -> Result<Saved, FleetError> {
        let settle = step_query(&self.database, SETTLE_STEP, step).bind(step.signal_seq);
        self.settle_with(settle, step).await
    }

    pub(super) async fn settle_select_row(&self, step: &NewStep, lost: &[String]) -> Result<Saved, FleetError> {
        let settle = step_query(&self.database, SETTLE_SELECT, step).bind(lost.to_vec());
        self.settle_with(settle, step).await
    }

    async fn settle_with(&self, settle: Query, step: &NewStep) -> Result<Saved, FleetError> {
        let written = self
            .database
            .run(move |connection| async move { settle.fetch_optional(connection).await }.boxed())
            .await?;
        if written.is_some() {
            return Ok(Saved::Done);
        }
        self.recorded(step).await
    }

    /// What became of a step that was not written now: its own earlier write, another's, or its claim is lost.
    pub(super) async fn recorded(&self, step: &NewStep) -> Result<Saved, FleetError> {
        let recorded = read_step(&self.database, step.claim, &step.path).await?;
        Ok(match recorded {
            Some(state) if is_mine(&state, step) => Saved::Done,
            Some(state) => Saved::Adopted(Box::new(state)),
            None => Saved::Lost,
        })
    }
}

/// Which of so many are held, by their place, and whether they were written.
pub(super) fn written(rows: &[PgRow], count: usize) -> Result<Vec<Option<bool>>, DatabaseError> {
    let mut written = vec![None; count];
    for row in rows {
        let (at, is_written): (i64, bool) = (row.try_get("at")?, row.try_get("written")?);
        if let Some(written) = usize::try_from(at - 1).ok().and_then(|at| written.get_mut(at)) {
            *written = Some(is_written || *written == Some(true));
        }
    }
    Ok(written)
}

/// Written by the same claim as it is given: by a request before this one, whose answer was lost.
fn is_mine(recorded: &StepState, step: &NewStep) -> bool {
    recorded.claim_token == step.claim.token && recorded.status == step.status && recorded.result == step.result
}

fn attempts(step: &NewStep) -> i16 {
    i16::try_from(step.attempts).unwrap_or(i16::MAX)
}

/// A statement about one step, with its values but the last.
pub(super) fn step_query(database: &Database, sql: &'static str, step: &NewStep) -> Query {
    database
        .statement(sql)
        .bind(step.claim.run)
        .bind(step.claim.token)
        .bind(step.claim.claim_id)
        .bind(step.path.clone())
        .bind(step.kind.as_str())
        .bind(step.status.as_str())
        .bind(step.result.clone())
        .bind(step.started_at)
        .bind(step.ended_at())
        .bind(attempts(step))
}

/// A step as it is recorded, while its run is held under the claim; `None`: it is not held, or nothing is recorded.
pub(super) async fn read_step(
    database: &Database,
    claim: RunClaim,
    path: &str,
) -> Result<Option<StepState>, DatabaseError> {
    let query = database
        .statement(READ_STEP)
        .bind(claim.run)
        .bind(claim.token)
        .bind(claim.claim_id)
        .bind(path.to_owned());
    let row = database
        .run(move |connection| async move { query.fetch_optional(connection).await }.boxed())
        .await?;
    match row {
        Some(row) if row.try_get("held")? => Ok(Some(step_state(&row)?)),
        _ => Ok(None),
    }
}

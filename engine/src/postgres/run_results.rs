//! What a client does with runs: starts one in its own transaction, and asks for the ends of those it waits for.

use async_trait::async_trait;
use futures::FutureExt;
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::database::{Database, DatabaseError};
use crate::client::{AskRuns, EndedRun, RunHandle, RunStatus, Start, StartError};
use crate::lifecycle::RunId;
use crate::workflow::Workflow;

const ENDED_RUNS: &str = include_str!("../../queries/ended_runs.sql");

#[async_trait]
impl AskRuns for Database {
    async fn ended_runs(&self, runs: Vec<RunId>) -> Result<Vec<(RunId, EndedRun)>, DatabaseError> {
        let query = self.statement(ENDED_RUNS).bind(runs);
        let rows = self.run(move |connection| query.fetch_all(connection).boxed()).await?;
        Ok(rows.iter().map(ended).collect::<Result<_, sqlx::Error>>()?)
    }
}

fn ended(row: &PgRow) -> Result<(Uuid, EndedRun), sqlx::Error> {
    let status: Option<&str> = row.try_get("status")?;
    let ended = EndedRun {
        status: status.and_then(RunStatus::from_name),
        output: row.try_get("output")?,
        reason: row.try_get("reason")?,
        continued_as: row.try_get("continued_as")?,
        refused: None,
    };
    Ok((row.try_get("id")?, ended))
}

impl<W: Workflow> Start<W> {
    /// Starts it in the caller's own transaction: it is there when that is committed, and never when it is rolled back.
    /// Wait for its result only after the commit.
    ///
    /// # Errors
    /// As [`Start::send`]; after [`StartError::Store`] the transaction can only be rolled back.
    pub async fn send_in(mut self, transaction: &mut PgConnection) -> Result<RunHandle<W::Output>, StartError> {
        self.check()?;
        let started = self.operator().start_in(transaction, self.request()).await?;
        self.handle(started)
    }
}

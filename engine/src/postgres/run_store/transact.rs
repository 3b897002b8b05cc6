//! A step whose record is committed together with the rows of the workflow's own.

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::PgConnection;

use super::steps::{read_step, step_query};
use crate::lifecycle::{FleetError, NewStep, RunClaim, Transacted};
use crate::postgres::database::{Database, DatabaseError};

const SAVE_STEP_IN: &str = include_str!("../../../queries/save_step_in.sql");
const UNIQUE_VIOLATION: &str = "23505";

/// Why a transaction decided against itself.
enum Undone {
    Failed(anyhow::Error),
    Taken,
    Lost,
}

/// Runs the work and records the step that it answers with, in one transaction. The database must be the one that holds the
/// run.
///
/// # Errors
/// The store did not answer, or refused; doing it again finds what was recorded.
pub async fn transact<F>(database: &Database, claim: RunClaim, path: &str, work: F) -> Result<Transacted, FleetError>
where
    F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, anyhow::Result<NewStep>> + Send + 'static,
{
    let own = database.clone();
    let decided = database.decided_transaction(move |connection| {
        async move {
            let step = match work(&mut *connection).await {
                Ok(step) => step,
                Err(error) => return Ok(Err(Undone::Failed(error))),
            };
            match step_query(&own, SAVE_STEP_IN, &step).execute(&mut *connection).await {
                Ok(done) if done.rows_affected() == 1 => {
                    fail::fail_point!("transaction.before_commit");
                    Ok(Ok(step))
                }
                Ok(_) => Ok(Err(Undone::Lost)),
                // The index waits for whoever writes the same path, so this one is committed.
                Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNIQUE_VIOLATION) => {
                    Ok(Err(Undone::Taken))
                }
                Err(error) => Err(error),
            }
        }
        .boxed()
    });
    let decided = decided.await;
    fail::fail_point!("transaction.after_commit");
    match decided {
        Ok(Ok(step)) => Ok(Transacted::Recorded(Box::new(step.into_state()))),
        Ok(Err(Undone::Failed(error))) => Ok(Transacted::Failed(error)),
        Ok(Err(Undone::Lost)) => Ok(Transacted::Lost),
        Ok(Err(Undone::Taken)) => Ok(read_step(database, claim, path)
            .await?
            .map_or(Transacted::Lost, |state| Transacted::Recorded(Box::new(state)))),
        Err(error @ DatabaseError::Unanswered(_)) => match read_step(database, claim, path).await? {
            Some(state) => Ok(Transacted::Recorded(Box::new(state))),
            None => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

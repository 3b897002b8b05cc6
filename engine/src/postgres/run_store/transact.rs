//! A step whose record is committed together with the rows of the workflow's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::PgConnection;

use super::steps::{read_step, step_query};
use crate::lifecycle::{FleetError, NewStep, RunClaim, StepState, StepStatus, Transacted};
use crate::postgres::database::{Database, DatabaseError};
use crate::postgres::foreign::{IDLED, IDLED_TOO_LONG, code_of, take_back};

const SAVE_STEP_IN: &str = include_str!("../../../queries/save_step_in.sql");

/// Why a transaction decided against itself.
enum Undone {
    Failed(anyhow::Error),
    Taken,
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
    let idled = Arc::new(AtomicBool::new(false));
    let has_idled = idled.clone();
    let decided = database.decided_transaction(move |connection| {
        async move {
            let step = match work(&mut *connection).await {
                Ok(step) => step,
                Err(error) => {
                    has_idled.store(is_of(&error, IDLED), Ordering::Relaxed);
                    return Ok(Err(Undone::Failed(error)));
                }
            };
            match record(&own, connection, &step).await {
                Ok(Some(1)) => {
                    fail::fail_point!("transaction.before_commit");
                    Ok(Ok(step))
                }
                // Recorded by somebody else, or not ours any more: what is recorded tells. The index waits for whoever writes
                // the same path, so that one is committed.
                Ok(Some(_)) => Ok(Err(Undone::Taken)),
                Ok(None) => Ok(Err(Undone::Failed(aborted()))),
                Err(error) => {
                    has_idled.store(code_of(&error).as_deref() == Some(IDLED), Ordering::Relaxed);
                    Err(error)
                }
            }
        }
        .boxed()
    });
    let decided = decided.await;
    fail::fail_point!("transaction.after_commit");
    match decided {
        Ok(Ok(step)) => Ok(Transacted::Recorded(Box::new(step.into_state()))),
        Ok(Err(Undone::Failed(error))) => Ok(Transacted::Failed(error)),
        Ok(Err(Undone::Taken)) => Ok(ended_step(database, claim, path)
            .await?
            .map_or(Transacted::Lost, |state| Transacted::Recorded(Box::new(state)))),
        // The server itself has taken it back, and will do so each time.
        Err(_) if idled.load(Ordering::Relaxed) => Ok(Transacted::Failed(idled_too_long())),
        // At the commit, as by a constraint or a trigger that is looked at only then.
        Err(error) if error.is_of_the_work() => Ok(Transacted::Failed(error.into())),
        Err(error) if error.is_unanswered() => match (ended_step(database, claim, path).await?, error) {
            (Some(state), _) => Ok(Transacted::Recorded(Box::new(state))),
            // The server answers, so it was the work: it will not be faster for being tried for ever.
            (None, DatabaseError::TooSlow(deadline)) => Ok(Transacted::Failed(too_slow(deadline))),
            (None, error) => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// Records the step under our own settings, whatever its work set; answers how many rows that were, or nothing of an aborted
/// transaction.
async fn record(own: &Database, connection: &mut PgConnection, step: &NewStep) -> Result<Option<u64>, sqlx::Error> {
    if !take_back(connection, own.pooler_mode()).await? {
        return Ok(None);
    }
    let recorded = step_query(own, SAVE_STEP_IN, step).execute(connection).await?;
    Ok(Some(recorded.rows_affected()))
}

/// Whether the work failed of this, whatever it was wrapped in.
pub(in crate::postgres) fn is_of(error: &anyhow::Error, code: &str) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref());
    causes.any(|cause| code_of(cause).as_deref() == Some(code))
}

/// Why work failed that went on after one of its statements had.
pub(in crate::postgres) fn aborted() -> anyhow::Error {
    anyhow::anyhow!(
        "a statement of its transaction failed, or ended it, and its work went on: nothing of it can be committed"
    )
}

/// Why work failed whose transaction the server has ended.
pub(in crate::postgres) fn idled_too_long() -> anyhow::Error {
    anyhow::anyhow!(IDLED_TOO_LONG)
}

/// Why work failed that took longer than one call to the database may.
pub(in crate::postgres) fn too_slow(deadline: Duration) -> anyhow::Error {
    let deadline = humantime::format_duration(deadline);
    anyhow::anyhow!("its transaction took longer than database.deadline ({deadline})")
}

/// A step that is over, as it is recorded; an open one is one that a try before has left.
async fn ended_step(database: &Database, claim: RunClaim, path: &str) -> Result<Option<StepState>, FleetError> {
    let recorded = read_step(database, claim, path).await?;
    Ok(recorded.filter(|state| state.status != StepStatus::Open))
}

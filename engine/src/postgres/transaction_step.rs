//! Steps whose work is rows of the same database: both are committed together, or neither is.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::PgConnection;

use super::run_store::{PostgresRunStore, is_of, transact};
use crate::lifecycle::{FleetError, NewStep, Transacted, TransactionWork};
use crate::workflow::{
    Context, StepFuture, StepOptions, TimedOut, TransactionUndo, Undo, check_size, fatal, misfit, to_json,
};

/// Lets the server end a statement of the transaction that takes so many milliseconds; none: as the session has it.
const BOUND_STATEMENTS: &str = include_str!("../../queries/bound_statements.sql");

/// The server has ended a statement that took too long.
const CANCELLED: &str = "57014";

type Work = Box<dyn for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, anyhow::Result<Vec<u8>>> + Send + Sync>;

/// What the engine carries from the workflow's code to the store.
struct TransactionStep {
    work: Work,
    /// How long one try may take.
    timeout: Option<Duration>,
}

impl Context {
    /// Does something in a transaction of the engine's database and records in the same transaction what it returned:
    /// unlike a [`Context::step`] it happens once. The work is dropped with its transaction and done again when it fails,
    /// as often as a step by default; it must not commit by itself, nor rely on more than the connection.
    pub fn transaction<T, F>(&self, name: &str, work: F) -> StepFuture<T>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, anyhow::Result<T>> + Send + Sync + 'static,
    {
        self.transaction_with(name, StepOptions::default(), work)
    }

    /// The same with something to say about it. A try that takes longer than the timeout is taken back whole, also when the
    /// server is at a statement of it; `database.deadline` bounds each try, whatever its timeout.
    pub fn transaction_with<T, F>(&self, name: &str, options: StepOptions, work: F) -> StepFuture<T>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, anyhow::Result<T>> + Send + Sync + 'static,
    {
        self.transact(name, options, erase(work, options.timeout), None)
    }

    /// The same, and says how it is undone, as [`Context::step_with_undo`] does: in another transaction with the same
    /// options, which also happens once, with what the first one returned. What failed or was not committed leaves nothing
    /// to undo.
    pub fn transaction_with_undo<T, F, U>(&self, name: &str, options: StepOptions, work: F, undo: U) -> StepFuture<T>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, anyhow::Result<T>> + Send + Sync + 'static,
        U: for<'c> Fn(&'c mut PgConnection, T) -> BoxFuture<'c, anyhow::Result<()>> + Send + Sync + 'static,
    {
        let undo: TransactionUndo = Box::new(move |result| {
            erase(
                move |connection| match serde_json::from_slice(&result) {
                    Ok(result) => undo(connection, result),
                    Err(error) => {
                        let why = format!("what it returned does not read: {}", misfit(&error));
                        async move { Err(fatal(anyhow::anyhow!(why))) }.boxed()
                    }
                },
                options.timeout,
            )
        });
        let undo = Undo::Transaction(undo, options);
        self.transact(name, options, erase(work, options.timeout), Some(undo))
    }
}

fn erase<T, F>(work: F, timeout: Option<Duration>) -> TransactionWork
where
    T: Serialize + Send + 'static,
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, anyhow::Result<T>> + Send + Sync + 'static,
{
    let work: Work = Box::new(move |connection| {
        let done = work(connection);
        async move { to_json(&done.await?) }.boxed()
    });
    Arc::new(TransactionStep { work, timeout })
}

impl TransactionStep {
    fn of(work: &TransactionWork, path: &str) -> Result<Arc<Self>, FleetError> {
        let refused = || FleetError::Refused(format!("the work of step {path} is not for this store"));
        work.clone().downcast().map_err(|_| refused())
    }

    /// What the work returns, if it may be recorded.
    async fn run(&self, connection: &mut PgConnection, path: &str, max_result: usize) -> anyhow::Result<Vec<u8>> {
        let result = match self.timeout {
            None => self.work(connection).await?,
            Some(timeout) => self.in_time(connection, timeout).await?,
        };
        check_size(path, &result, max_result)?;
        Ok(result)
    }

    async fn work(&self, connection: &mut PgConnection) -> anyhow::Result<Vec<u8>> {
        // The task that holds the connection is not the code's: a panic in it must not look like a lost answer.
        let done = AssertUnwindSafe(async { (self.work)(connection).await }).catch_unwind();
        done.await
            .unwrap_or_else(|_| Err(fatal(anyhow::anyhow!("its work panicked"))))
    }

    /// Work that takes longer is dropped where it is.
    async fn in_time(&self, connection: &mut PgConnection, timeout: Duration) -> anyhow::Result<Vec<u8>> {
        bound_statements(connection, Some(timeout)).await?;
        let begun = Instant::now();
        let done = tokio::time::timeout(timeout, self.work(connection)).await;
        // What comes now is no work of the step's. Of work that was dropped at a statement this waits for the server to end
        // it, which it does by the same bound, and is told how: whoever takes the transaction back would take it for his.
        let unbound = bound_statements(connection, None).await;
        let result = match done {
            // The server may be the first to say so.
            Ok(Err(error)) if begun.elapsed() >= timeout && is_of(&error, CANCELLED) => Err(TimedOut(timeout).into()),
            Ok(done) => done,
            Err(_) => Err(TimedOut(timeout).into()),
        }?;
        unbound.map(|()| result).map_err(Into::into)
    }
}

impl PostgresRunStore {
    pub(super) async fn transact_step(
        &self,
        step: &NewStep,
        work: &TransactionWork,
        max_result: usize,
    ) -> Result<Transacted, FleetError> {
        let work = TransactionStep::of(work, &step.path)?;
        let (claim, path, mut step) = (step.claim, step.path.clone(), step.clone());
        let begun = Instant::now();
        transact(self.transactions(), claim, &path, move |connection| {
            async move {
                step.result = Some(work.run(connection, &step.path, max_result).await?);
                // It was stamped when it began: what ended meanwhile ended before.
                step.finished_at = later(step.finished_at, begun.elapsed());
                Ok(step)
            }
            .boxed()
        })
        .await
    }
}

async fn bound_statements(connection: &mut PgConnection, longest: Option<Duration>) -> Result<(), sqlx::Error> {
    // Zero would be no bound, and the server counts whole milliseconds.
    let longest = longest.map(|longest| i32::try_from(longest.as_millis()).unwrap_or(i32::MAX).max(1));
    let bounded = sqlx::query(BOUND_STATEMENTS).persistent(false).bind(longest);
    bounded.execute(connection).await.map(|_| ())
}

/// So much later, as exact as it is recorded.
fn later(at: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    let later = TimeDelta::from_std(by).ok().and_then(|by| at.checked_add_signed(by));
    later.unwrap_or(at).trunc_subsecs(6)
}

/// How a transaction ended whose record is kept elsewhere.
#[cfg(feature = "testing")]
pub(crate) enum Apart {
    /// It is committed; the step says what it returned.
    Committed(NewStep),
    /// It was rolled back: the claim was lost meanwhile.
    Lost,
    /// It was rolled back: the work failed.
    Failed(anyhow::Error),
}

/// Does a step's work in a transaction of a test's database, whose run is in memory.
///
/// # Errors
/// The database did not answer, or refused.
#[cfg(feature = "testing")]
pub(crate) async fn transact_apart(
    database: &super::database::Database,
    step: &NewStep,
    work: &TransactionWork,
    max_result: usize,
    is_held: impl Fn() -> bool + Send + 'static,
) -> Result<Apart, FleetError> {
    let work = TransactionStep::of(work, &step.path)?;
    let mut step = step.clone();
    let pooler_mode = database.pooler_mode();
    let decided = database.decided_transaction(move |connection| {
        async move {
            let result = match work.run(&mut *connection, &step.path, max_result).await {
                Ok(result) => result,
                Err(error) => return Ok(Err(Apart::Failed(error))),
            };
            // The record would be refused by a transaction of which a statement has failed, where it is kept here.
            if !super::foreign::take_back(connection, pooler_mode).await? {
                return Ok(Err(Apart::Failed(super::run_store::aborted())));
            }
            if !is_held() {
                return Ok(Err(Apart::Lost));
            }
            step.result = Some(result);
            Ok(Ok(Apart::Committed(step)))
        }
        .boxed()
    });
    match decided.await {
        Err(super::database::DatabaseError::TooSlow(deadline)) => {
            Ok(Apart::Failed(super::run_store::too_slow(deadline)))
        }
        Err(error) if error.code() == Some(super::foreign::IDLED) => {
            Ok(Apart::Failed(super::run_store::idled_too_long()))
        }
        Err(error) if error.is_of_the_work() => Ok(Apart::Failed(error.into())),
        decided => Ok(decided?.unwrap_or_else(|undone| undone)),
    }
}

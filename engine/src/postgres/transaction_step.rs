//! Steps whose work is rows of the same database: both are committed together, or neither is.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::PgConnection;

use super::run_store::PostgresRunStore;
use crate::lifecycle::{FleetError, NewStep, Transacted, TransactionWork};
use crate::workflow::{Context, StepFuture, fatal, to_json};

type Work = Box<dyn for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, anyhow::Result<Vec<u8>>> + Send + Sync>;

/// What the engine carries from the workflow's code to the store.
struct TransactionStep(Work);

impl Context {
    /// Does something in a transaction of the engine's database and records in the same transaction what it returned:
    /// unlike a [`Context::step`] it happens once. The work is dropped with its transaction and done again when it fails,
    /// as often as a step by default; it must not commit by itself, nor rely on more than the connection.
    pub fn transaction<T, F>(&self, name: &str, work: F) -> StepFuture<T>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, anyhow::Result<T>> + Send + Sync + 'static,
    {
        let erased: Work = Box::new(move |connection| {
            let done = work(connection);
            async move { to_json(&done.await?) }.boxed()
        });
        self.transact(name, Arc::new(TransactionStep(erased)))
    }
}

/// Why a transaction was taken back.
enum Undone {
    Failed(anyhow::Error),
    TooLarge(usize),
    /// The path has a row.
    Taken,
    Lost,
}

impl PostgresRunStore {
    pub(super) async fn transact_step(
        &self,
        step: &NewStep,
        work: &TransactionWork,
        max_result: usize,
    ) -> Result<Transacted, FleetError> {
        let _ = (step, work, max_result);
        Err(FleetError::Refused("not yet".to_owned()))
    }
}

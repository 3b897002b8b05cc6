//! Steps that can be undone: what is run, last one first, when the run fails or is cancelled.

use std::future::Future;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Context;
use super::step::{StepFuture, StepOptions, erase, from_json};
use crate::lifecycle::TransactionWork;

/// Undoes a step's work, given its result as JSON if that is known.
pub(crate) type UndoAction = Box<dyn FnMut(Option<Vec<u8>>) -> BoxFuture<'static, anyhow::Result<()>> + Send>;
/// Makes the work that undoes a transaction of its result.
pub(crate) type TransactionUndo = Box<dyn FnOnce(Vec<u8>) -> TransactionWork + Send>;

/// How a step is undone.
pub(crate) enum Undo {
    /// By code, at least once.
    Action(UndoAction, StepOptions),
    /// By rows that are committed with its record, once.
    Transaction(TransactionUndo, StepOptions),
}

impl Context {
    /// Does something, as [`Context::step_with`] does, and says how it is undone. When the workflow's code returns an error
    /// or panics, when the run is cancelled or its deadline passes, and when the branch of a [`Context::select`] that it is
    /// in loses, what was begun is undone, last one first, each with the same options.
    ///
    /// `undo` is given what the step returned; `None` when it was begun and nobody knows whether it was done: it failed,
    /// or its replica died. It is done at least once, and that the step has begun is recorded before it does. An undo that
    /// fails for good sets the run aside, with what it failed of; resumed, it is tried again.
    pub fn step_with_undo<T, F, Fut, E, U, UndoFut, UndoError>(
        &self,
        name: &str,
        options: StepOptions,
        action: F,
        mut undo: U,
    ) -> StepFuture<T>
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize + DeserializeOwned + 'static,
        E: Into<anyhow::Error>,
        U: FnMut(Option<T>) -> UndoFut + Send + 'static,
        UndoFut: Future<Output = Result<(), UndoError>> + Send + 'static,
        UndoError: Into<anyhow::Error>,
    {
        self.erased_step(name, options, erase(action), |path| {
            let path = path.to_owned();
            let undo: UndoAction = Box::new(move |result| {
                let result = result.map(|result| from_json(&path, Some(&result))).transpose();
                match result.map(&mut undo) {
                    Ok(undone) => async move { undone.await.map_err(Into::into) }.boxed(),
                    Err(error) => async move { Err(super::fatal(error)) }.boxed(),
                }
            });
            Some(Undo::Action(undo, options))
        })
    }
}

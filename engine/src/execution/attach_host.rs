//! Runs a workflow's code to find out what the batches of a fan-out send: recorded steps answer, and nothing else is done.

use std::future::pending;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use super::history::{Asked, History, Version};
use super::owner_host::done;
use crate::lifecycle::{Kind, TransactionWork, WorkRun};
use crate::workflow::{Action, ContextHost, FanOut, Outcome, Place, StepOptions, WaitFor};

/// Answers what is recorded until the fan-out is reached and hands that over. A step that is not over at this moment
/// stays pending: beside the fan-out others may be on their way, and the run's owner alone carries them out.
pub(super) struct AttachHost {
    history: Mutex<History>,
    path: String,
    found: Mutex<Option<oneshot::Sender<Arc<dyn FanOut>>>>,
}

impl AttachHost {
    pub(super) fn new(run: &WorkRun, path: &str, found: oneshot::Sender<Arc<dyn FanOut>>) -> Self {
        Self {
            history: Mutex::new(History::new(run)),
            path: path.to_owned(),
            found: Mutex::new(Some(found)),
        }
    }

    fn recorded(&self, place: &Place, kind: Kind) -> Outcome {
        let asked = self
            .history
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .ask(place, kind);
        async move {
            match asked {
                Asked::Ended(step) => done(step),
                Asked::Diverged(how) => Err(anyhow::anyhow!(how)),
                Asked::Open(_) | Asked::New => pending().await,
            }
        }
        .boxed()
    }
}

impl ContextHost for AttachHost {
    fn step(self: Arc<Self>, place: Place, _: StepOptions, _: Action) -> Outcome {
        self.recorded(&place, Kind::Step)
    }

    fn transact(self: Arc<Self>, place: Place, _: TransactionWork) -> Outcome {
        self.recorded(&place, Kind::Transaction)
    }

    fn wait(self: Arc<Self>, place: Place, wait: WaitFor) -> Outcome {
        self.recorded(&place, wait.kind())
    }

    fn fan_out(self: Arc<Self>, place: Place, fan_out: Arc<dyn FanOut>) -> Outcome {
        if place.to_string() != self.path {
            return self.recorded(&place, Kind::FanOut);
        }
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(found) = found {
            let _ = found.send(fan_out);
        }
        pending().boxed()
    }

    fn join(self: Arc<Self>, place: Place) -> BoxFuture<'static, anyhow::Result<()>> {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = history.ask_join(&place);
        drop(history);
        async move { differs.map_or(Ok(()), |how| Err(anyhow::anyhow!(how))) }.boxed()
    }

    fn version(
        self: Arc<Self>,
        prefix: String,
        next: u32,
        change: String,
        range: RangeInclusive<u32>,
    ) -> BoxFuture<'static, anyhow::Result<u32>> {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let version = history.version(&prefix, next, &change, &range);
        drop(history);
        async move {
            match version {
                Version::Taken(version) => Ok(version),
                Version::Diverged(how) => Err(anyhow::anyhow!(how)),
                Version::New(_) => pending().await,
            }
        }
        .boxed()
    }
}

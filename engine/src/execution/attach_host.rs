//! Runs a workflow's code to find out what the batches of a fan-out send: recorded steps answer, and nothing else is done.

use std::future::pending;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use super::history::{Asked, History, Selected, Version};
use super::owner_host::recorded_end;
use crate::lifecycle::{Kind, RunId, RunStore, StepState, StepStatus, TransactionWork, WorkRun, derived_id};
use crate::workflow::{
    Action, ContextHost, Done, FanOut, NewRunOfMine, Outcome, Place, Publication, Race, StepOptions, Undo, WaitFor,
};

/// Answers what is recorded until the fan-out is reached and hands that over. A step that is not over at this moment
/// stays pending: beside the fan-out others may be on their way, and the run's owner alone carries them out.
pub(super) struct AttachHost {
    run: RunId,
    history: Mutex<History>,
    path: String,
    found: Mutex<Option<oneshot::Sender<Arc<dyn FanOut>>>>,
}

impl AttachHost {
    pub(super) fn new(
        run: &WorkRun,
        steps: Vec<StepState>,
        path: &str,
        found: oneshot::Sender<Arc<dyn FanOut>>,
    ) -> Self {
        Self {
            run: run.id,
            history: Mutex::new(History::new(run, steps)),
            path: path.to_owned(),
            found: Mutex::new(Some(found)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, place: &Place, kind: Kind) -> Asked {
        self.lock().ask(place, kind)
    }

    fn recorded(&self, place: &Place, kind: Kind) -> Outcome {
        let asked = self.ask(place, kind);
        let (run, is_lost) = (self.run, self.lock().is_lost(&place.to_string()));
        async move {
            match asked {
                Asked::Ended(step) => answer(run, step, is_lost).await,
                Asked::Diverged(how) => Err(anyhow::anyhow!(how)),
                Asked::Open(_) | Asked::New => pending().await,
            }
        }
        .boxed()
    }
}

/// A recorded end. What was dropped in a branch that lost has none.
async fn answer(run: RunId, step: StepState, is_lost: bool) -> anyhow::Result<Done> {
    match step.status {
        StepStatus::Dropped if is_lost => pending().await,
        _ => recorded_end(run, step),
    }
}

impl ContextHost for AttachHost {
    fn step(self: Arc<Self>, place: Place, _: StepOptions, _: Action, undo: Option<Undo>) -> Outcome {
        self.recorded(&place, undo.map_or(Kind::Step, |_| Kind::Undoable))
    }

    fn transact(self: Arc<Self>, place: Place, _: StepOptions, _: TransactionWork, undo: Option<Undo>) -> Outcome {
        self.recorded(&place, undo.map_or(Kind::Transaction, |_| Kind::Undoable))
    }

    /// The owner's code sets it.
    fn set_attribute(&self, _: &str, _: serde_json::Value) -> Result<(), String> {
        Ok(())
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

    fn start_child(self: Arc<Self>, place: Place, _: NewRunOfMine) -> BoxFuture<'static, anyhow::Result<RunId>> {
        let asked = self.ask(&place, Kind::Child);
        let id = derived_id(self.run, &place.to_string());
        async move {
            match asked {
                Asked::Ended(_) | Asked::Open(_) => Ok(id),
                Asked::Diverged(how) => Err(anyhow::anyhow!(how)),
                Asked::New => pending().await,
            }
        }
        .boxed()
    }

    fn child_end(self: Arc<Self>, path: String) -> Outcome {
        let recorded = self.lock().step(&path).cloned();
        let (run, is_lost) = (self.run, self.lock().is_lost(&path));
        async move {
            match recorded.filter(|step| step.status != StepStatus::Open) {
                Some(step) => answer(run, step, is_lost).await,
                None => pending().await,
            }
        }
        .boxed()
    }

    fn publish(self: Arc<Self>, place: Place, _: Publication) -> Outcome {
        self.recorded(&place, Kind::Publish)
    }

    fn show(self: Arc<Self>, place: Place, _: Vec<u8>) -> Outcome {
        self.recorded(&place, Kind::Show)
    }

    fn runs(&self) -> Option<Arc<dyn RunStore>> {
        None
    }

    fn join(self: Arc<Self>, place: Place) -> BoxFuture<'static, anyhow::Result<usize>> {
        let joined = self.lock().ask_join(&place);
        async move { joined.map_err(|how| anyhow::anyhow!(how)) }.boxed()
    }

    fn is_telling(&self, _: &str) -> bool {
        false
    }

    fn select(self: Arc<Self>, place: Place, count: usize) -> BoxFuture<'static, anyhow::Result<Race>> {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let selected = history.ask_select(&place, count);
        drop(history);
        async move {
            let won = match selected {
                Selected::Open => None,
                Selected::Won(winner, step) => Some((winner, step.finished_at.unwrap_or(step.started_at))),
                Selected::Diverged(how) => anyhow::bail!(how),
            };
            // A fan-out that has lost may have batches all the same.
            let holds = |number: &usize| self.path.starts_with(&place.branch(*number));
            let retraced = (0..count).filter(holds).collect();
            Ok(Race { won, retraced })
        }
        .boxed()
    }

    /// Nothing is decided here: the fan-out may be in any branch.
    fn decides(&self) -> bool {
        false
    }

    fn lose(&self, _: &[String]) {}

    fn won(self: Arc<Self>, _: Place, _: usize, _: Vec<String>) -> BoxFuture<'static, anyhow::Result<DateTime<Utc>>> {
        pending().boxed()
    }

    fn is_retraced(&self, _: &[String]) -> bool {
        false
    }

    fn undo_lost(self: Arc<Self>, _: Vec<String>) -> BoxFuture<'static, anyhow::Result<()>> {
        async { Ok(()) }.boxed()
    }

    fn is_cancelled(&self, _: &str, _: u32) -> bool {
        false
    }

    fn version(
        self: Arc<Self>,
        prefix: String,
        next: u32,
        change: String,
        range: RangeInclusive<u32>,
    ) -> BoxFuture<'static, anyhow::Result<u32>> {
        let version = self.lock().version(&prefix, next, &change, &range);
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

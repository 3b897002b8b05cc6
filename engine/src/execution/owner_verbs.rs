//! What the code of a run that is ours may ask for.

use std::future::pending;
use std::ops::RangeInclusive;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::history::{Asked, Version, version_path};
use super::owner_host::{Left, OwnerHost};
use crate::lifecycle::{Kind, RunId, RunStore, TransactionWork};
use crate::workflow::{
    Action, ContextHost, FanOut, LARGEST_SHOWN, NewRunOfMine, Outcome, Place, Publication, Race, StepOptions, Undo,
    WaitFor, to_json,
};

impl OwnerHost {
    /// Asks for a step that may be undone, and learns how.
    fn ask_undoable(&self, place: &Place, kind: Kind, undo: Option<Undo>) -> (Kind, Asked) {
        let Some(undo) = undo else {
            return (kind, self.ask(place, kind));
        };
        let asked = self.ask(place, Kind::Undoable);
        self.lock().undoables.learn(place.to_string(), undo, &asked);
        (Kind::Undoable, asked)
    }
}

impl ContextHost for OwnerHost {
    fn step(self: Arc<Self>, place: Place, options: StepOptions, action: Action, undo: Option<Undo>) -> Outcome {
        let (kind, asked) = self.ask_undoable(&place, Kind::Step, undo);
        self.watch(
            &place,
            self.clone().run_step(place.clone(), options, action, kind, asked),
        )
    }

    fn transact(
        self: Arc<Self>,
        place: Place,
        options: StepOptions,
        work: TransactionWork,
        undo: Option<Undo>,
    ) -> Outcome {
        let (kind, asked) = self.ask_undoable(&place, Kind::Transaction, undo);
        let transacted = self.clone().run_transaction(place.clone(), options, work, kind, asked);
        self.watch(&place, transacted)
    }

    fn wait(self: Arc<Self>, place: Place, wait: WaitFor) -> Outcome {
        let asked = self.ask(&place, wait.kind());
        self.watch(&place, self.clone().run_wait(place.clone(), wait, asked))
    }

    fn fan_out(self: Arc<Self>, place: Place, fan_out: Arc<dyn FanOut>) -> Outcome {
        let asked = self.ask(&place, Kind::FanOut);
        self.watch(&place, self.clone().run_fan_out(place.clone(), fan_out, asked))
    }

    fn start_child(self: Arc<Self>, place: Place, child: NewRunOfMine) -> BoxFuture<'static, anyhow::Result<RunId>> {
        let asked = self.ask(&place, Kind::Child);
        let started = self.clone().run_start_child(place.clone(), child, asked);
        self.watch_by(&place, started, |_| false)
    }

    fn child_end(self: Arc<Self>, path: String) -> Outcome {
        self.watch(&path, self.clone().run_child_end(path.clone()))
    }

    fn publish(self: Arc<Self>, place: Place, publication: Publication) -> Outcome {
        let asked = self.ask(&place, Kind::Publish);
        self.watch(&place, self.clone().run_publish(place.clone(), publication, asked))
    }

    fn show(self: Arc<Self>, place: Place, value: Vec<u8>) -> Outcome {
        let asked = self.ask(&place, Kind::Show);
        let options = StepOptions::default().max_result(LARGEST_SHOWN);
        let action: Action = Box::new(move || {
            let value = value.clone();
            async move { Ok(value) }.boxed()
        });
        let shown = self.clone().run_step(place.clone(), options, action, Kind::Show, asked);
        self.watch(&place, shown)
    }

    fn runs(&self) -> Option<Arc<dyn RunStore>> {
        Some(self.shared.runs.clone())
    }

    fn set_attribute(&self, name: &str, value: serde_json::Value) -> Result<(), String> {
        self.held.set_attribute(name, value)
    }

    fn join(self: Arc<Self>, place: Place) -> BoxFuture<'static, anyhow::Result<usize>> {
        let joined = self.lock().history.ask_join(&place);
        async move {
            match joined {
                Err(how) => self.leave(Left::Diverged(how)).await,
                Ok(recorded) => Ok(recorded),
            }
        }
        .boxed()
    }

    fn is_telling(&self, prefix: &str) -> bool {
        self.lock().under_way.is_telling(prefix)
    }

    fn select(self: Arc<Self>, place: Place, count: usize) -> BoxFuture<'static, anyhow::Result<Race>> {
        let selected = self.lock().history.ask_select(&place, count);
        self.run_select(place, count, selected).boxed()
    }

    fn decides(&self) -> bool {
        !self.unwinds()
    }

    fn lose(&self, lost: &[String]) {
        let under_way = &mut self.lock().under_way;
        under_way.lose(lost);
        // What its branches awaited of the code around them is dropped with them: the select's row decides that.
        under_way.failed = true;
    }

    fn won(
        self: Arc<Self>,
        place: Place,
        winner: usize,
        lost: Vec<String>,
    ) -> BoxFuture<'static, anyhow::Result<DateTime<Utc>>> {
        self.settle_select(place, winner, lost).boxed()
    }

    fn is_retraced(&self, lost: &[String]) -> bool {
        let state = self.lock();
        let missing = state.undoables.missing(&state.history);
        !missing
            .iter()
            .any(|path| lost.iter().any(|prefix| path.starts_with(prefix)))
    }

    fn undo_lost(self: Arc<Self>, lost: Vec<String>) -> BoxFuture<'static, anyhow::Result<()>> {
        async move {
            self.undo_branches(lost).await;
            Ok(())
        }
        .boxed()
    }

    fn is_cancelled(&self, prefix: &str, next: u32) -> bool {
        let state = self.lock();
        state.unwinding.is_begun() && !state.history.goes_on(prefix, next)
    }

    fn version(
        self: Arc<Self>,
        prefix: String,
        next: u32,
        change: String,
        range: RangeInclusive<u32>,
    ) -> BoxFuture<'static, anyhow::Result<u32>> {
        let version = self.lock().history.version(&prefix, next, &change, &range);
        async move {
            let path = version_path(&prefix, &change);
            let new = match version {
                Version::Taken(version) => return Ok(version),
                Version::Diverged(how) => return self.leave(Left::Diverged(how)).await,
                Version::New(_) if self.lock().under_way.is_lost(&path) => return pending().await,
                Version::New(_) if self.unwinds() => return self.refused(&path).await,
                Version::New(version) => version,
            };
            let _operation = self.begin();
            let mut step = self.new_step(path, Kind::Version);
            step.result = Some(to_json(&new)?);
            let recorded = self.save(step).await?.result.unwrap_or_default();
            Ok(serde_json::from_slice(&recorded)?)
        }
        .boxed()
    }
}

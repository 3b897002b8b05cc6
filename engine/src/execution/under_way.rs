//! Steps that the code has begun to await: dropped before its end, one could go another way in a replay.

use std::collections::BTreeSet;
use std::future::pending;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::history::Asked;
use super::owner_host::{Left, OwnerHost, recorded_end};
use crate::lifecycle::{StepState, StepStatus};
use crate::workflow::{Done, Outcome};

/// What is under way of a run, and what of it was dropped.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    steps: BTreeSet<String>,
    /// The first that was dropped though the code goes on.
    dropped: Option<String>,
    /// What the paths of branches begin with that lost a select.
    lost: Vec<String>,
    /// Steps whose recorded failure is about to be told.
    telling: BTreeSet<String>,
    /// Since the code was last polled it was told of a failure: it may drop what it awaited beside.
    pub(super) failed: bool,
    /// The code itself is dropped: it is run again, or never.
    left: bool,
}

impl UnderWay {
    pub(super) fn is_lost(&self, path: &str) -> bool {
        self.lost.iter().any(|prefix| path.starts_with(prefix))
    }

    pub(super) fn lose(&mut self, lost: &[String]) {
        self.lost.extend_from_slice(lost);
    }

    pub(super) fn is_telling(&self, prefix: &str) -> bool {
        let from = self
            .telling
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.take(1).any(|path| path.starts_with(prefix))
    }
}

impl OwnerHost {
    /// A step as the code awaits it: that it is dropped before its end is seen.
    pub(super) fn watch(
        self: &Arc<Self>,
        place: &impl ToString,
        step: impl Future<Output = anyhow::Result<Done>> + Send + 'static,
    ) -> Outcome {
        self.watch_by(place, step, |done| done.failed.is_some())
    }

    /// The same of one that answers something else, of which this says whether it has failed.
    pub(super) fn watch_by<T: Send + 'static>(
        self: &Arc<Self>,
        place: &impl ToString,
        step: impl Future<Output = anyhow::Result<T>> + Send + 'static,
        has_failed: fn(&T) -> bool,
    ) -> BoxFuture<'static, anyhow::Result<T>> {
        let (host, path) = (self.clone(), place.to_string());
        async move {
            host.lock().under_way.steps.insert(path.clone());
            let mut watched = Watched { host, path: Some(path) };
            let outcome = step.await;
            watched.over(outcome.as_ref().map_or(true, has_failed));
            outcome
        }
        .boxed()
    }

    /// The record of a step that the code awaits: the row it goes on from, if it has one, or how it ended.
    pub(super) async fn comes_to(
        self: &Arc<Self>,
        path: &str,
        asked: Asked,
    ) -> ControlFlow<anyhow::Result<Done>, Option<StepState>> {
        let open = match asked {
            Asked::Ended(step) => return ControlFlow::Break(self.answer(step).await),
            Asked::Diverged(how) => return self.leave(Left::Diverged(how)).await,
            Asked::Open(step) => Some(step),
            Asked::New => None,
        };
        let is_over = {
            let under_way = &self.lock().under_way;
            under_way.is_lost(path) || under_way.dropped.is_some()
        };
        if is_over {
            return pending().await;
        }
        match self.unwinds() {
            true => ControlFlow::Break(self.refused(path).await),
            false => ControlFlow::Continue(open),
        }
    }

    /// A recorded end. A failure is told after what else is recorded: branches beside it are then as far as they were.
    async fn answer(self: &Arc<Self>, step: StepState) -> anyhow::Result<Done> {
        let is_dropped = step.status == StepStatus::Dropped;
        if is_dropped && self.lock().under_way.is_lost(&step.path) {
            return pending().await;
        }
        if is_dropped || step.status == StepStatus::Failed {
            let _telling = Telling::begin(self, &step.path);
            match self.unwinds() {
                true => self.quiet().await,
                false => {
                    // Under way until it is told: beside a branch that waits the run would be let go of before.
                    let _operation = self.begin();
                    tokio::task::yield_now().await;
                }
            }
        }
        recorded_end(self.run.id, step)
    }

    /// The code is about to be dropped where it is.
    pub(super) fn close(&self) {
        self.lock().under_way.left = true;
    }

    /// The code failed: what it dropped on its way out decides nothing.
    pub(super) fn forgive(&self) {
        self.lock().under_way.dropped = None;
    }

    /// What the code has dropped that a replay may not: it is to be written otherwise.
    pub(super) fn dropped(&self) -> Option<String> {
        let state = self.lock();
        let path = state.under_way.dropped.as_deref()?;
        Some(format!(
            "the code of workflow {} dropped step {path} before it ended, as tokio::select! and timeouts do: which of several \
             things came first is not recorded so, and a replay might go another way; use ctx.select, deploy, then resume",
            state.history.workflow(),
        ))
    }

    /// Why code that has returned cannot be taken at its word.
    pub(super) fn unfinished(&self) -> Option<String> {
        if let Some(dropped) = self.dropped() {
            return Some(dropped);
        }
        let state = self.lock();
        let first = state.under_way.steps.first().map(|path| {
            format!(
                "the code of workflow {} ended while step {path} was under way: whether that is recorded, chance decides; \
                 await every step that is begun, deploy, then resume",
                state.history.workflow(),
            )
        });
        first.or_else(|| state.history.never_asked(false))
    }
}

/// A recorded failure that is told after what else is recorded.
struct Telling<'a>(&'a OwnerHost, String);

impl<'a> Telling<'a> {
    fn begin(host: &'a OwnerHost, path: &str) -> Self {
        host.lock().under_way.telling.insert(path.to_owned());
        Self(host, path.to_owned())
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.0.lock().under_way.telling.remove(&self.1);
    }
}

/// A step that is awaited.
struct Watched {
    host: Arc<OwnerHost>,
    path: Option<String>,
}

impl Watched {
    fn over(&mut self, has_failed: bool) {
        let Some(path) = self.path.take() else { return };
        let under_way = &mut self.host.lock().under_way;
        under_way.steps.remove(&path);
        under_way.failed |= has_failed;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let Some(path) = self.path.take() else { return };
        let mut state = self.host.lock();
        state.under_way.steps.remove(&path);
        let unwinds = state.unwinding.is_begun();
        let may = state.under_way.left || state.under_way.failed || unwinds || state.under_way.is_lost(&path);
        if !may {
            state.under_way.dropped.get_or_insert(path);
            drop(state);
            self.host.poller.wake();
        }
    }
}

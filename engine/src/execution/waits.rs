//! Waits of a run that is ours: what its code is at that something outside ends.

use std::ops::ControlFlow;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::history::Asked;
use super::owner_host::OwnerHost;
use crate::lifecycle::{Kind, OpenWait, Signal};
use crate::workflow::{Done, Place, WaitFor, is_undo};

/// What a run that does nothing waits for.
#[derive(Debug, PartialEq)]
pub(super) struct Stalled {
    /// Wake-ups seen.
    pub(super) seen: i64,
    /// When the first of its timers ends.
    pub(super) due_at: Option<DateTime<Utc>>,
    /// Fan-outs are among what it waits for.
    pub(super) batches: bool,
    /// All that have no row of their own yet.
    pub(super) waits: Vec<OpenWait>,
}

/// Whether what is waited for has had an open row from its beginning.
fn has_row(kind: Kind) -> bool {
    matches!(kind, Kind::FanOut | Kind::Child)
}

impl OwnerHost {
    /// What the code waits for, when it does nothing else.
    pub(super) fn stalled(&self) -> Option<Stalled> {
        let state = self.lock();
        if state.operations > 0 || state.waits.is_empty() {
            return None;
        }
        let waits = state.waits.values();
        Some(Stalled {
            seen: state.seen,
            due_at: waits.clone().filter_map(|wait| wait.due_at).min(),
            batches: waits.clone().any(|wait| wait.kind == Kind::FanOut)
                // Also of those that nothing waits for: what was begun of them is sent to its end.
                || state.has_batches && state.history.sends(),
            waits: waits.filter(|wait| !has_row(wait.kind)).cloned().collect(),
        })
    }

    /// When the first timer of those the code waits for ends.
    pub(super) fn next_due(&self) -> Option<DateTime<Utc>> {
        self.lock().waits.values().filter_map(|wait| wait.due_at).min()
    }

    /// Waits until `over` says so, or the code is brought to its end; the run may be let go of meanwhile, and then this
    /// never ends.
    pub(super) async fn wait_until<T>(
        self: &Arc<Self>,
        wait: OpenWait,
        over: impl Fn(&Self) -> Option<T>,
    ) -> anyhow::Result<T> {
        let path = wait.path.clone();
        self.lock().waits.insert(path.clone(), wait);
        // The wait may be awaited in a task of the code's own.
        self.poller.wake();
        let waiting = Waiting(self.clone(), path.clone());
        loop {
            let mut came = std::pin::pin!(self.came.notified());
            came.as_mut().enable();
            if let Some(over) = over(self) {
                return Ok(over);
            }
            if self.unwinds() && !is_undo(&path) {
                drop(waiting);
                return self.refused(&path).await;
            }
            came.await;
        }
    }

    pub(super) fn is_past(&self, due_at: Option<DateTime<Utc>>) -> bool {
        due_at.is_some_and(|due| due <= self.time())
    }

    /// Takes the first signal that has a place's name.
    pub(super) fn take_signal(&self, place: &Place) -> Option<Signal> {
        let mut state = self.lock();
        let at = state.signals.iter().position(|signal| signal.name == place.name)?;
        let signal = state.signals.remove(at)?;
        state.taken.insert(signal.seq, place.to_string());
        Some(signal)
    }

    /// Waits for an instant or a signal, unless its end is recorded.
    pub(super) async fn run_wait(self: Arc<Self>, place: Place, wait: WaitFor, asked: Asked) -> anyhow::Result<Done> {
        let (kind, path) = (wait.kind(), place.to_string());
        let (open, due_at, since) = match self.comes_to(&path, asked).await {
            ControlFlow::Break(ended) => return ended,
            // What it said when it began to wait counts.
            ControlFlow::Continue(Some(step)) => (true, step.due_at, Some(step.started_at)),
            ControlFlow::Continue(None) => (false, wait.due_at(), None),
        };
        let mut step = self.new_step(place.to_string(), kind);
        let since = since.unwrap_or(step.started_at);
        step.ends_open = open;
        let wait = OpenWait {
            path: step.path.clone(),
            kind,
            due_at,
            attempts: 0,
        };
        let over = |host: &Self| {
            let signal = (kind == Kind::Signal).then(|| host.take_signal(&place)).flatten();
            (signal.is_some() || host.is_past(due_at)).then_some(signal)
        };
        let signal = self.wait_until(wait, over).await?;
        let _operation = self.begin();
        self.told
            .waited(&place.name, &path, kind, since..self.time(), self.time());
        step.finished_at = match (&signal, due_at) {
            (None, Some(due)) => due,
            _ => self.stamp(),
        };
        step.signal_seq = signal.as_ref().map(|signal| signal.seq);
        step.result = signal.map(|signal| signal.payload);
        if step.signal_seq.is_none() {
            return self.save(step).await;
        }
        fail::fail_point!("step.before_save");
        let (host, told) = (self.clone(), step.clone().into_state());
        let saved = self.surely(
            &path,
            async move { host.shared.checkpoints.save(&host.held, step).await },
        );
        let saved = saved.await;
        self.saved(told, saved).await
    }
}

/// A wait that the code is at.
struct Waiting(Arc<OwnerHost>, String);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.lock().waits.remove(&self.1);
    }
}

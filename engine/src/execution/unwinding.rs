//! How the code of a run is brought to its end: nothing new of it begins and nothing is waited for.

use std::sync::Arc;

use super::owner_host::OwnerHost;
use crate::lifecycle::{StepState, WorkRun};
use crate::workflow::{StepError, UNDO};

/// Whether the code is brought to its end, and why.
#[derive(Debug, Default)]
pub(super) struct Unwinding {
    is_begun: bool,
    /// The run is to stop; else it failed before, as is recorded.
    stops: bool,
    /// It was so from the first, and the code was told everything recorded before it was refused anything.
    from_first: bool,
    /// Steps that are to be refused once nothing else of the code goes on, and have not been told so.
    refusals: u32,
    /// How often any were told.
    tellings: u64,
    /// Why it fails whatever its code makes of it: a replay may not be told so.
    doom: Option<String>,
}

impl Unwinding {
    pub(super) fn of(run: &WorkRun, steps: &[StepState]) -> Self {
        let failed = steps.iter().any(|step| step.path == UNDO);
        Self {
            is_begun: run.undoing || failed,
            stops: run.undoing,
            from_first: run.undoing || failed,
            refusals: 0,
            tellings: 0,
            doom: None,
        }
    }

    pub(super) fn is_begun(&self) -> bool {
        self.is_begun
    }
}

impl OwnerHost {
    pub(super) fn unwinds(&self) -> bool {
        self.lock().unwinding.is_begun()
    }

    /// The run is to stop.
    pub(super) fn is_to_stop(&self) -> bool {
        self.lock().unwinding.stops
    }

    /// The code was never told anything but what is recorded.
    pub(super) fn was_retraced(&self) -> bool {
        self.lock().unwinding.from_first
    }

    /// Brings the code to its end: because the run is to stop, or because it failed.
    pub(super) fn unwind(&self, stops: bool) {
        let mut state = self.lock();
        state.unwinding.is_begun = true;
        state.unwinding.stops |= stops;
        drop(state);
        self.ring();
        self.poller.wake();
    }

    /// Something that no record says cannot be done. The code is told, but cannot go on: a replay, in which it can, would not
    /// go the same way.
    pub(super) fn doom<T>(&self, error: anyhow::Error) -> anyhow::Result<T> {
        self.lock().unwinding.doom.get_or_insert_with(|| format!("{error:#}"));
        self.unwind(false);
        Err(error)
    }

    /// Why the run fails, whose code failed of this or returned.
    pub(super) fn failure(&self, of_code: String) -> String {
        let state = self.lock();
        let doom = state.unwinding.doom.as_ref().filter(|doom| !of_code.contains(*doom));
        doom.cloned().unwrap_or(of_code)
    }

    /// Ends once the code is being brought to its end.
    pub(super) async fn unwinding(&self) {
        loop {
            let mut came = std::pin::pin!(self.came.notified());
            came.as_mut().enable();
            if self.unwinds() {
                return;
            }
            came.await;
        }
    }

    /// Ends when the code has taken too long to come to its end.
    pub(super) async fn past_grace(&self) {
        self.unwinding().await;
        self.shared.clock.sleep(self.shared.settings.cancel_grace).await;
    }

    /// Refuses a step, or a wait that has begun.
    pub(super) async fn refused<T>(self: &Arc<Self>, path: &str) -> anyhow::Result<T> {
        self.quiet().await;
        let path = path.to_owned();
        Err(StepError::Cancelled { path }.into())
    }

    /// Waits until the code does nothing else: what goes on beside comes as far as it is recorded, and what is under way
    /// ends, before an error is told that makes the code drop it.
    pub(super) async fn quiet(self: &Arc<Self>) {
        let mut told = std::pin::pin!(self.refusals_told.notified());
        told.as_mut().enable();
        let _refusal = Refusal::new(self.clone());
        self.poller.wake();
        told.await;
    }

    /// Tells what is refused when the code does nothing else; answers whether it is to be polled again.
    pub(super) fn tell_refusals(&self) -> bool {
        let mut state = self.lock();
        if state.operations > 0 || state.unwinding.refusals == 0 {
            return false;
        }
        // Once: the code may not look at what it was told for long.
        state.unwinding.refusals = 0;
        state.unwinding.tellings += 1;
        drop(state);
        self.refusals_told.notify_waiters();
        true
    }
}

/// A refusal, and how often any had been told before it.
struct Refusal(Arc<OwnerHost>, u64);

impl Refusal {
    fn new(host: Arc<OwnerHost>) -> Self {
        let mut state = host.lock();
        state.unwinding.refusals += 1;
        let before = state.unwinding.tellings;
        drop(state);
        Self(host, before)
    }
}

impl Drop for Refusal {
    fn drop(&mut self) {
        let unwinding = &mut self.0.lock().unwinding;
        if unwinding.tellings == self.1 {
            unwinding.refusals -= 1;
        }
    }
}

//! Which runs have batches to claim, shared by all workers and dealt out in turn.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::lifecycle::RunId;

/// Runs with work, each once.
#[derive(Debug, Default)]
pub(crate) struct WorkList {
    runs: Mutex<VecDeque<RunId>>,
    added: Notify,
}

impl WorkList {
    /// What the database said: replaces what was believed.
    pub(crate) fn replace(&self, found: &[RunId]) {
        let mut runs = self.lock();
        runs.retain(|run| found.contains(run));
        for run in found {
            if !runs.contains(run) {
                runs.push_back(*run);
            }
        }
        let any = !runs.is_empty();
        drop(runs);
        if any {
            self.added.notify_waiters();
        }
    }

    /// A run has new batches.
    pub(crate) fn offer(&self, run: RunId) {
        let mut runs = self.lock();
        if !runs.contains(&run) {
            runs.push_back(run);
        }
        drop(runs);
        self.added.notify_waiters();
    }

    /// Nothing more to claim of it for now.
    pub(crate) fn exhausted(&self, run: RunId) {
        self.lock().retain(|other| *other != run);
    }

    /// The next run whose turn it is and that may go.
    pub(crate) fn next(&self, may_go: impl Fn(RunId) -> bool) -> Option<RunId> {
        let mut runs = self.lock();
        let at = runs.iter().position(|run| may_go(*run))?;
        let run = runs.remove(at)?;
        runs.push_back(run);
        Some(run)
    }

    /// Completes when a run is added after this was called.
    pub(crate) fn added(&self) -> tokio::sync::futures::Notified<'_> {
        self.added.notified()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<RunId>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

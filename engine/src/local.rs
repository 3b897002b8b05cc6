//! What the clients and the replicas of one process know of each other: who can begin a run at once, and who waits for its
//! end. None of it is needed: without it runs are found by polls.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::client::EndedRun;
use crate::lifecycle::{NewRun, RunId};

/// A place for a run in a replica that can begin it at once.
#[derive(Debug)]
pub(crate) struct Seat {
    _slot: OwnedSemaphorePermit,
    _stays: TaskTrackerToken,
}

impl Seat {
    /// One of its slots, and what keeps it from ending before the run does.
    pub(crate) fn new(slot: OwnedSemaphorePermit, stays: TaskTrackerToken) -> Self {
        Self {
            _slot: slot,
            _stays: stays,
        }
    }
}

/// A replica in this process, as its clients see it.
#[async_trait]
pub(crate) trait Beside: Send + Sync {
    /// A place for this run, when nothing stands before it.
    fn admits(&self, run: &NewRun) -> Option<Seat>;
    /// Starts it and begins it at once; false: whether it is started is not known, and it is not begun here.
    async fn begin(&self, run: NewRun, seat: Seat) -> bool;
    /// Whether it will take all of these by itself, once they are started and it is told.
    fn takes(&self, runs: &[NewRun]) -> bool;
    /// Tells it that runs were started.
    fn ring(&self);
}

/// Shared by all of them.
#[derive(Default)]
pub(crate) struct Local {
    replicas: RwLock<Vec<Arc<dyn Beside>>>,
    awaited: Mutex<HashMap<RunId, Vec<oneshot::Sender<EndedRun>>>>,
    /// Runs whose code runs here, or is about to.
    here: Mutex<HashSet<RunId>>,
}

/// While it lives, the run's end is told here if it comes to one.
#[derive(Debug)]
pub(crate) struct Here {
    local: Arc<Local>,
    run: RunId,
}

impl Drop for Here {
    fn drop(&mut self) {
        self.local.here_now().remove(&self.run);
    }
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

impl Local {
    /// A replica works in this process from now on.
    pub(crate) fn join(&self, replica: Arc<dyn Beside>) {
        self.replicas
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(replica);
    }

    /// It works no more.
    pub(crate) fn leave(&self, replica: &Arc<dyn Beside>) {
        let mut replicas = self.replicas.write().unwrap_or_else(PoisonError::into_inner);
        replicas.retain(|other| !Arc::ptr_eq(other, replica));
    }

    fn replicas(&self) -> Vec<Arc<dyn Beside>> {
        self.replicas.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The code of this run runs here from now on.
    pub(crate) fn begins(self: &Arc<Self>, run: RunId) -> Here {
        self.here_now().insert(run);
        Here {
            local: self.clone(),
            run,
        }
    }

    /// Whether whoever waits from now on for its end is told it, unless it is let go of before.
    pub(crate) fn is_here(&self, run: RunId) -> bool {
        self.here_now().contains(&run)
    }

    fn here_now(&self) -> MutexGuard<'_, HashSet<RunId>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A replica that can begin this run at once.
    pub(crate) fn admits(&self, run: &NewRun) -> Option<(Arc<dyn Beside>, Seat)> {
        let replicas = self.replicas.read().unwrap_or_else(PoisonError::into_inner);
        let admitting = |replica: &Arc<dyn Beside>| Some((replica.clone(), replica.admits(run)?));
        replicas.iter().find_map(admitting)
    }

    /// Whether a replica here will take all of these runs.
    pub(crate) fn takes(&self, runs: &[NewRun]) -> bool {
        self.replicas().iter().any(|replica| replica.takes(runs))
    }

    /// Tells the replicas that runs were started.
    pub(crate) fn ring(&self) {
        self.replicas().iter().for_each(|replica| replica.ring());
    }

    /// Whoever waits for the end of this run is told it.
    pub(crate) fn wait(&self, run: RunId, waiter: oneshot::Sender<EndedRun>) {
        self.awaited().entry(run).or_default().push(waiter);
    }

    /// Whether somebody still waits for it.
    pub(crate) fn is_awaited(&self, run: RunId) -> bool {
        let mut awaited = self.awaited();
        let Some(waiters) = awaited.get_mut(&run) else {
            return false;
        };
        waiters.retain(|waiter| !waiter.is_closed());
        if waiters.is_empty() {
            awaited.remove(&run);
            return false;
        }
        true
    }

    /// Whoever waits for these ends is sent away, to ask anew.
    pub(crate) fn forget<'a>(&self, runs: impl Iterator<Item = &'a RunId>) {
        let mut awaited = self.awaited();
        runs.for_each(|run| drop(awaited.remove(run)));
    }

    /// How many wait for it.
    #[cfg(test)]
    pub(crate) fn awaiting(&self, run: RunId) -> usize {
        self.awaited().get(&run).map_or(0, Vec::len)
    }

    /// Tells the ends of runs to whoever waits for them.
    pub(crate) fn tell(&self, ends: impl Iterator<Item = (RunId, EndedRun)>) {
        ends.for_each(|(run, end)| self.tell_one(run, || end));
    }

    /// The same for one end, which is made only when somebody waits for it.
    pub(crate) fn tell_one(&self, run: RunId, end: impl FnOnce() -> EndedRun) {
        let Some(waiters) = self.awaited().remove(&run) else {
            return;
        };
        let end = end();
        for waiter in waiters {
            // Whoever waited may have gone.
            let _ = waiter.send(end.clone());
        }
    }

    fn awaited(&self) -> MutexGuard<'_, HashMap<RunId, Vec<oneshot::Sender<EndedRun>>>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

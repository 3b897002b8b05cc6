//! Rings the replicas of other processes, not more often than is of use.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;

use super::database::Database;

const RING: &str = include_str!("../../queries/ring.sql");

/// Between two notifications: whoever was rung looks for all there is.
const PAUSE: Duration = Duration::from_millis(5);

/// One bell, however many ring it: the first notification goes at once, those after it together.
#[derive(Clone)]
pub(crate) struct Notifier(Arc<Inner>);

struct Inner {
    database: Database,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Somebody rings.
    busy: bool,
    /// It was rung meanwhile.
    rung: bool,
}

impl Notifier {
    pub(crate) fn new(database: Database) -> Self {
        Self(Arc::new(Inner {
            database,
            state: Mutex::default(),
        }))
    }

    /// Rings soon; whoever is not reached looks by itself before long.
    pub(crate) fn ring(&self) {
        let mut state = self.0.lock();
        state.rung = true;
        if !std::mem::replace(&mut state.busy, true) {
            tokio::spawn(Ringer(self.0.clone()).ring(Duration::ZERO));
        }
    }

    /// Whether the caller's own statement may ring now, which saves a question; others ring a little later then.
    pub(crate) fn lends(&self) -> bool {
        let mut state = self.0.lock();
        let lends = !std::mem::replace(&mut state.busy, true);
        if lends {
            tokio::spawn(Ringer(self.0.clone()).ring(PAUSE));
        }
        lends
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether to ring; no: nobody does from now on.
    fn takes_ring(&self) -> bool {
        let mut state = self.lock();
        state.busy = std::mem::take(&mut state.rung);
        state.busy
    }
}

/// Whoever rings; with its runtime's end another may.
struct Ringer(Arc<Inner>);

impl Ringer {
    async fn ring(self, first: Duration) {
        if !first.is_zero() {
            tokio::time::sleep(first).await;
        }
        while self.0.takes_ring() {
            let query = self.0.database.statement(RING);
            let rung = self.0.database.run(move |connection| query.execute(connection).boxed());
            if let Err(error) = rung.await {
                tracing::debug!(%error, "could not tell other replicas of a run");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Drop for Ringer {
    fn drop(&mut self) {
        self.0.lock().busy = false;
    }
}

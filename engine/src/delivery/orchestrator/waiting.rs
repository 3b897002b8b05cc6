//! Those who wait for the fate of what they handed over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::command::InvalidCommand;
use super::super::in_flight::InFlight;

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Placed {
    Delivered { partition: i32, offset: i64 },
    Stored,
    Refused,
    Invalid(InvalidCommand),
}

/// Commands that were handed over together.
#[derive(Debug)]
pub(super) struct Waiting {
    placed: Mutex<Vec<Option<Placed>>>,
    in_flight: InFlight,
}

impl Waiting {
    pub(super) fn for_commands(count: usize) -> Arc<Self> {
        Arc::new(Self {
            placed: Mutex::new(vec![None; count]),
            in_flight: InFlight::default(),
        })
    }

    /// The right to tell the fate of one of them.
    pub(super) fn waiter(self: &Arc<Self>, index: usize) -> Waiter {
        self.in_flight.offered();
        Waiter {
            waiting: self.clone(),
            index,
        }
    }

    /// What is known once all are told or the time is over.
    pub(super) async fn placed(&self, within: Duration) -> Vec<Option<Placed>> {
        // Out of time: what is not known by then is given up.
        let _ = tokio::time::timeout(within, self.in_flight.all_settled()).await;
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Placed>>> {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the fate of one command; dropped untold, nothing is known of it.
#[derive(Debug)]
pub(super) struct Waiter {
    waiting: Arc<Waiting>,
    index: usize,
}

impl Waiter {
    pub(super) fn tell(self, placed: Placed) {
        if let Some(place) = self.waiting.lock().get_mut(self.index) {
            *place = Some(placed);
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.waiting.in_flight.settled();
    }
}

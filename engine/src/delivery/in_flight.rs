//! How many messages of a batch or page are offered and not settled, and the wait for the last of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts messages between their offer and their outcome.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    open: AtomicUsize,
    landed: Notify,
}

impl InFlight {
    /// A message is about to be offered.
    pub(crate) fn offered(&self) {
        self.open.fetch_add(1, Ordering::AcqRel);
    }

    /// It was not accepted: its ticket will not be settled.
    pub(crate) fn not_accepted(&self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }

    /// Its outcome is known. Called last of all that settling does, so that whoever waited sees it whole.
    pub(crate) fn settled(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.landed.notify_one();
        }
    }

    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Waits until nothing offered is open.
    pub(crate) async fn all_settled(&self) {
        loop {
            let landed = self.landed.notified();
            if self.open() == 0 {
                return;
            }
            landed.await;
        }
    }
}

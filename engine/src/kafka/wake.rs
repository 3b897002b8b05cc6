//! Wakes those who wait for messages to be settled, at almost no price while nobody waits.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// A notification that the reporting thread raises only when somebody has asked for it.
#[derive(Default)]
pub(super) struct Wake {
    wanted: AtomicBool,
    notify: Notify,
}

impl Wake {
    /// Tells the waiting, if any, that a message was settled.
    pub(super) fn settled(&self) {
        if self.wanted.load(Ordering::Relaxed) && self.wanted.swap(false, Ordering::AcqRel) {
            self.notify.notify_waiters();
        }
    }

    /// Waits until the condition holds, looking at it again after settlements; false when the time is over.
    pub(super) async fn until(&self, deadline: Instant, condition: impl Fn() -> bool) -> bool {
        loop {
            let notified = self.notify.notified();
            tokio::pin!(notified);
            // Subscribe and raise the flag before looking: a settlement in between must not be missed.
            // The condition takes the locks under which tickets are settled, which orders the two threads.
            notified.as_mut().enable();
            self.wanted.store(true, Ordering::Release);
            if condition() {
                return true;
            }
            if timeout_at(deadline, notified).await.is_err() {
                return condition();
            }
        }
    }

    /// Waits for the next settlement or the deadline.
    pub(super) async fn next(&self, deadline: Instant) {
        let notified = self.notify.notified();
        self.wanted.store(true, Ordering::Release);
        // Out of time is as good as woken: the caller looks for itself.
        let _ = timeout_at(deadline, notified).await;
    }
}

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn a_settlement_wakes_all_who_wait() {
        let wake = Arc::new(Wake::default());
        let waiters = (0..3).map(|_| {
            let wake = Arc::clone(&wake);
            async move { wake.next(Instant::now() + LONG).await }
        });
        let waking = async {
            // The waiters were polled first and have subscribed.
            wake.settled();
        };
        let (woken, ()) = tokio::join!(futures::future::join_all(waiters), waking);
        assert_eq!(woken.len(), 3);
    }

    #[tokio::test]
    async fn waiting_ends_when_the_condition_holds_or_the_time_is_over() {
        let wake = Arc::new(Wake::default());
        let left = Arc::new(std::sync::Mutex::new(1000_usize));
        let (settling, counting) = (Arc::clone(&wake), Arc::clone(&left));
        let thread = std::thread::spawn(move || {
            for _ in 0..1000 {
                *counting.lock().unwrap() -= 1;
                settling.settled();
            }
        });
        assert!(wake.until(Instant::now() + LONG, || *left.lock().unwrap() == 0).await);
        thread.join().unwrap();
        let looks = AtomicUsize::new(0);
        let never = || {
            looks.fetch_add(1, Ordering::Relaxed);
            false
        };
        assert!(!wake.until(Instant::now() + Duration::from_millis(20), never).await);
        assert_eq!(looks.load(Ordering::Relaxed), 2, "once before waiting and once after");
    }
}

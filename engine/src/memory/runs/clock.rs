//! A clock that stands still until it is moved, and then jumps.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::lifecycle::Clock;

/// A clock for tests. It knows who waits for what, so that it can jump to the next instant that anybody waits for.
#[derive(Debug)]
pub struct VirtualClock {
    /// Sent again, unchanged, to whoever only pauses.
    now: watch::Sender<DateTime<Utc>>,
    waiting: Mutex<Waiting>,
}

/// Instants that are waited for, each with a number of its own.
#[derive(Debug, Default)]
struct Waiting {
    instants: BTreeSet<(DateTime<Utc>, u64)>,
    last: u64,
}

impl VirtualClock {
    /// A clock that shows this instant.
    #[must_use]
    pub fn new(now: DateTime<Utc>) -> Self {
        Self {
            now: watch::Sender::new(now),
            waiting: Mutex::default(),
        }
    }

    /// Moves it on.
    pub fn advance(&self, by: Duration) {
        self.now.send_modify(|now| *now += by);
    }

    /// Moves it on to an instant; one that has passed changes nothing.
    pub fn jump_to(&self, at: DateTime<Utc>) {
        self.now.send_if_modified(|now| {
            let later = at > *now;
            *now = at.max(*now);
            later
        });
    }

    /// Ends every pause between two looks for work; nobody sleeps shorter for it.
    pub fn nudge(&self) {
        self.now.send_modify(|_| {});
    }

    /// The first instant that somebody sleeps until.
    #[must_use]
    pub fn next_waited(&self) -> Option<DateTime<Utc>> {
        self.waiting().instants.first().map(|(at, _)| *at)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, at: DateTime<Utc>) -> Sleeper<'_> {
        let mut waiting = self.waiting();
        waiting.last += 1;
        let key = (at, waiting.last);
        waiting.instants.insert(key);
        Sleeper { clock: self, key }
    }
}

/// Somebody who waits, until they are dropped.
struct Sleeper<'a> {
    clock: &'a VirtualClock,
    key: (DateTime<Utc>, u64),
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        self.clock.waiting().instants.remove(&self.key);
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.now.borrow()
    }

    async fn sleep_until(&self, at: DateTime<Utc>) {
        let mut shown = self.now.subscribe();
        let _sleeper = self.wait(at);
        // The clock lives as long as this borrows it, so the only answer is that the instant has come.
        let _ = shown.wait_for(|now| *now >= at).await;
    }

    /// Until it is moved or nudged: time passes only when somebody says so.
    async fn pause(&self, _longest: Duration) {
        let _ = self.now.subscribe().changed().await;
    }

    fn store_time(&self, _told: DateTime<Utc>, _then: Instant) -> DateTime<Utc> {
        self.now()
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn it_jumps_to_what_is_waited_for_and_wakes_who_waits() {
        let clock = VirtualClock::new(DateTime::UNIX_EPOCH);
        let (soon, late) = (
            clock.now() + Duration::from_secs(1),
            clock.now() + Duration::from_secs(60),
        );
        let mut first = pin!(clock.sleep_until(soon));
        {
            let mut second = pin!(clock.sleep_until(late));
            futures::future::poll_fn(|context| {
                assert!(first.as_mut().poll(context).is_pending() && second.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
            assert_eq!(clock.next_waited(), Some(soon));
        }
        clock.jump_to(soon);
        first.await;
        assert_eq!(
            (clock.now(), clock.next_waited()),
            (soon, None),
            "who gave up waits no more"
        );
        clock.jump_to(soon - Duration::from_secs(1));
        assert_eq!(clock.now(), soon, "it never goes back");
    }
}

//! What time it is, and waiting for it: by the system's clock, or by one that a test moves.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

/// The clock of whoever runs the code of workflows. It decides nothing in a store, which has its own.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// What time it is.
    fn now(&self) -> DateTime<Utc>;
    /// Returns when it is that late.
    async fn sleep_until(&self, at: DateTime<Utc>);

    /// Returns after so long.
    async fn sleep(&self, time: Duration) {
        self.sleep_until(self.now() + time).await;
    }

    /// Between two looks for work: returns after so long at the latest.
    async fn pause(&self, longest: Duration) {
        self.sleep(longest).await;
    }

    /// What time it is in a store that told it then, by this process's monotonic clock.
    fn store_time(&self, told: DateTime<Utc>, then: Instant) -> DateTime<Utc> {
        told + TimeDelta::from_std(then.elapsed()).unwrap_or_default()
    }
}

/// The clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    async fn sleep_until(&self, at: DateTime<Utc>) {
        // Looked at again after waking: the clock may have been set meanwhile.
        while let Some(left) = until(self.now(), at) {
            tokio::time::sleep(left).await;
        }
    }

    /// By the monotonic clock, whatever becomes of the other.
    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// How long from one instant to a later one; none: it has come.
fn until(now: DateTime<Utc>, at: DateTime<Utc>) -> Option<Duration> {
    (at - now).to_std().ok().filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_systems_clock_waits_until_the_instant_and_not_for_one_that_has_passed() {
        let clock = SystemClock;
        let at = clock.now() + Duration::from_millis(20);
        clock.sleep_until(at).await;
        assert!(clock.now() >= at);
        clock.sleep_until(at - Duration::from_secs(3_600)).await;
    }
}

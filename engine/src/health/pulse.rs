//! Loops that show that they turn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::leader::LeaderStore;
use crate::lifecycle::FleetError;

/// What all pulses are measured from.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Beaten by a loop at each turn; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Another turn is done.
    pub fn beat(&self) {
        self.0.store(now_ms(), Ordering::Relaxed);
    }

    /// For how long there was no turn.
    #[must_use]
    pub fn still(&self) -> Duration {
        Duration::from_millis(now_ms().saturating_sub(self.0.load(Ordering::Relaxed)))
    }
}

/// Both ends of a time in the same whole ms: a rest of one end would make it longer than it was.
fn now_ms() -> u64 {
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A leader's store that shows each time that it was asked and has answered, whatever the answer is.
pub(crate) struct Watched {
    pub(crate) store: Arc<dyn LeaderStore>,
    pub(crate) pulse: Pulse,
}

#[async_trait]
impl LeaderStore for Watched {
    async fn elect_leader(&self, lease: Duration) -> Result<Option<i64>, FleetError> {
        let answer = self.store.elect_leader(lease).await;
        self.pulse.beat();
        answer
    }

    async fn renew_leader(&self, term: i64, lease: Duration) -> Result<bool, FleetError> {
        let answer = self.store.renew_leader(term, lease).await;
        self.pulse.beat();
        answer
    }

    async fn resign_leader(&self, term: i64) -> Result<bool, FleetError> {
        self.store.resign_leader(term).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pulse_is_still_for_no_longer_than_it_was() {
        let pulse = Pulse::default();
        for _ in 0..5 {
            tokio::time::advance(Duration::from_micros(300)).await;
            pulse.beat();
            tokio::time::advance(Duration::from_secs(10)).await;
            assert_eq!(pulse.still(), Duration::from_secs(10));
        }
    }
}

//! Holds a lease for as long as what it is of is sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::lifecycle::FleetError;
use crate::telemetry::closed::{Closed, LeaseKind};
use crate::telemetry::meters;

/// Pause after the store failed, so that a dead one is not asked in a loop.
pub(super) const STORE_PAUSE: Duration = Duration::from_millis(500);

/// A lease that this process holds.
pub(super) struct Lease {
    pub(super) kind: LeaseKind,
    /// How many end with it.
    pub(super) count: usize,
    /// Of which lane, where it is one of the outbox.
    pub(super) lane: Option<i16>,
    /// Of which topic, where it is of undelivered messages.
    pub(super) topic: Option<Arc<str>>,
    /// How long it holds without renewal.
    pub(super) length: Duration,
    /// From before it was asked for.
    pub(super) asked: Instant,
}

impl Lease {
    /// Renews it for as long as this is polled; ends when it is lost or can no longer be trusted, and says so.
    pub(super) async fn keep<F>(mut self, renew: impl Fn(Duration) -> F)
    where
        F: Future<Output = Result<bool, FleetError>>,
    {
        // A holder trusts its lease a little shorter than the database does, from before it asked.
        let trusted = self.length - self.length / 6;
        loop {
            tokio::time::sleep_until((self.asked + self.length / 3).into()).await;
            let renewed = tokio::time::timeout_at((self.asked + trusted).into(), self.renewed(&renew)).await;
            let Ok(Some(asked)) = renewed else {
                break;
            };
            meters().leases_renewed(self.kind, self.count);
            self.asked = asked;
        }
        let (kind, topic) = (self.kind.text(), self.topic.as_deref());
        meters().leases_lost(self.kind, self.count);
        tracing::warn!(name: "lease_lost", kind, lane = self.lane, topic, "a lease was lost");
    }

    /// When the renewal was asked for that was granted, however often the store fails before; none: the lease is lost.
    async fn renewed<F>(&self, renew: &impl Fn(Duration) -> F) -> Option<Instant>
    where
        F: Future<Output = Result<bool, FleetError>>,
    {
        let (kind, topic) = (self.kind.text(), self.topic.as_deref());
        loop {
            let asked = Instant::now();
            match renew(self.length).await {
                Ok(held) => return held.then_some(asked),
                Err(error) => {
                    tracing::warn!(name: "lease_not_renewed", kind, lane = self.lane, topic, %error, "a lease could not be renewed; it is tried again");
                }
            }
            tokio::time::sleep(STORE_PAUSE).await;
        }
    }
}

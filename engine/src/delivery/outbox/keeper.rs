//! Holds the lease of a lane for as long as it is sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::store::{LaneClaim, OutboxStore};
use crate::telemetry::closed::LeaseKind;
use crate::telemetry::meters;

/// Pause after the store failed, so that a dead one is not asked in a loop.
const STORE_PAUSE: Duration = Duration::from_millis(500);

/// Renews a lane until the lease is lost or can no longer be trusted, and says so; never ends before.
pub(super) async fn keep(
    store: Arc<dyn OutboxStore>,
    claim: LaneClaim,
    lease: Duration,
    mut asked: Instant,
    lost: CancellationToken,
) {
    // A holder trusts its lease a little shorter than the database does, from before it asked.
    let trusted = lease - lease / 6;
    loop {
        tokio::time::sleep_until((asked + lease / 3).into()).await;
        tokio::select! {
            renewed = renew(&store, &claim, lease) => match renewed {
                Some(at) => {
                    meters().leases_renewed(LeaseKind::Lane, 1);
                    asked = at;
                }
                None => break,
            },
            () = tokio::time::sleep_until((asked + trusted).into()) => break,
        }
    }
    meters().leases_lost(LeaseKind::Lane, 1);
    tracing::warn!(name: "lease_lost", kind = "lane", lane = claim.lane, "a lease was lost");
    lost.cancel();
}

/// When the renewal was asked for that was granted, however often the store fails before; none: the lane is lost.
async fn renew(store: &Arc<dyn OutboxStore>, claim: &LaneClaim, lease: Duration) -> Option<Instant> {
    loop {
        let asked = Instant::now();
        match store.renew_lane(claim, lease).await {
            Ok(held) => return held.then_some(asked),
            Err(error) => {
                tracing::warn!(name: "lease_not_renewed", kind = "lane", lane = claim.lane, %error, "a lease could not be renewed; it is tried again");
            }
        }
        tokio::time::sleep(STORE_PAUSE).await;
    }
}

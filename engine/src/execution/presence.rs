//! The row of a replica that executes nothing: it leads, or waits to lead, and is to be seen doing so.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::lifecycle::{Fleet, Heartbeat};

/// Keeps the row of a replica without a worker's side until told to stop, then marks it as left.
pub(crate) async fn be_present(fleet: Arc<dyn Fleet>, beat: Heartbeat, every: Duration, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        if let Err(error) = fleet.heartbeat(&beat).await {
            tracing::warn!(replica = %beat.replica, %error, "no heartbeat");
        }
    }
    if let Err(error) = fleet.leave(beat.replica).await {
        tracing::warn!(replica = %beat.replica, %error, "could not say that this replica left");
    }
}

//! The row by which a replica is seen: its heartbeats, and its leave.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::keeper::every;
use crate::lifecycle::{Fleet, Heartbeat};

/// Keeps the row of a replica without a worker's side, which leads or waits to lead, until told to stop.
pub(crate) async fn be_present(fleet: Arc<dyn Fleet>, own: Heartbeat, period: Duration, stop: CancellationToken) {
    let mut beats = every(period);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = beats.tick() => beat(&*fleet, &own).await,
        }
    }
    leave(&*fleet, own.replica).await;
}

/// Says that a replica still lives.
pub(super) async fn beat(fleet: &dyn Fleet, beat: &Heartbeat) {
    if let Err(error) = fleet.heartbeat(beat).await {
        tracing::warn!(replica = %beat.replica, %error, "no heartbeat");
    }
}

/// Says that a replica left in good order.
pub(super) async fn leave(fleet: &dyn Fleet, replica: Uuid) {
    if let Err(error) = fleet.leave(replica).await {
        tracing::warn!(%replica, %error, "could not say that this replica left");
    }
}

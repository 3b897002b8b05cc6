//! The row by which a replica is seen: its heartbeats with what it has counted, and its leave.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::keeper::every;
use crate::lifecycle::{Counts, Fleet, Heartbeat};
use crate::telemetry::catalogue::{
    BATCHES_DONE, DIRECT_COMMANDS, DIRECT_STORED, ITEMS_DONE, LEASES_LOST, OUTBOX_MESSAGES, REDELIVERED, RUNS_ENDED,
    STEPS_DONE,
};
use crate::telemetry::meters;

/// Keeps the row of a replica without a worker's side, which leads, waits to lead or serves, until told to stop.
pub(crate) async fn be_present(
    fleet: Arc<dyn Fleet>,
    own: impl Fn() -> Heartbeat,
    period: Duration,
    stop: CancellationToken,
) {
    let mut presence = Presence::default();
    let mut beats = every(period);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = beats.tick() => {
                presence.beat(&*fleet, own()).await;
            }
        }
    }
    presence.leave(&*fleet, own()).await;
}

/// How a replica shows that it lives.
#[derive(Default)]
pub(super) struct Presence {
    /// The database's clock less this process's at the last heartbeat, in seconds.
    clock_offset: Option<f64>,
}

impl Presence {
    /// Says that a replica still lives, and what it has counted; answers whether that was heard.
    pub(super) async fn beat(&mut self, fleet: &dyn Fleet, own: Heartbeat) -> bool {
        let beat = Heartbeat {
            counts: counted(),
            clock_offset: self.clock_offset,
            ..own
        };
        let before = Utc::now();
        match fleet.heartbeat(&beat).await {
            Ok(clock) => {
                let offset = offset(before, clock, Utc::now());
                meters().clock_offset(offset);
                self.clock_offset = Some(offset);
            }
            Err(error) => {
                tracing::warn!(name: "beat_failed", replica = %beat.replica, %error, "a heartbeat was not written");
                return false;
            }
        }
        true
    }

    /// Says what was counted since the last heartbeat, and that a replica left in good order.
    pub(super) async fn leave(&mut self, fleet: &dyn Fleet, own: Heartbeat) {
        let replica = own.replica;
        // Nobody waits a second time for a store that does not answer.
        if !self.beat(fleet, own).await {
            return;
        }
        if let Err(error) = fleet.leave(replica).await {
            tracing::warn!(name: "leave_failed", %replica, %error, "that this replica left was not written");
        }
    }
}

/// What this process has counted since it began.
fn counted() -> Counts {
    let total = |def, value| i64::try_from(meters().total(def, Some(value))).unwrap_or(i64::MAX);
    let all = |def| i64::try_from(meters().total(def, None)).unwrap_or(i64::MAX);
    let failed = ["failed", "cancelled", "quarantined"];
    Counts {
        items_delivered: total(&ITEMS_DONE, "delivered"),
        items_refused: total(&ITEMS_DONE, "refused"),
        items_unknown: total(&ITEMS_DONE, "unknown"),
        items_passed_over: total(&ITEMS_DONE, "skipped") + total(&ITEMS_DONE, "vanished"),
        batches: total(&BATCHES_DONE, "finished"),
        runs_completed: total(&RUNS_ENDED, "completed"),
        runs_failed: failed.map(|end| total(&RUNS_ENDED, end)).iter().sum(),
        steps: all(&STEPS_DONE),
        commands_delivered: total(&DIRECT_COMMANDS, "delivered"),
        // What is to wait for a time of its own was not meant to be sent.
        commands_stored: (all(&DIRECT_STORED) - total(&DIRECT_STORED, "not_before")).max(0),
        outbox_delivered: total(&OUTBOX_MESSAGES, "delivered"),
        redelivered: total(&REDELIVERED, "delivered"),
        dead: total(&REDELIVERED, "dead"),
        leases_lost: all(&LEASES_LOST),
    }
}

/// The store read its clock somewhere between question and answer: half way is off by half the time at most.
fn offset(asked: DateTime<Utc>, clock: DateTime<Utc>, answered: DateTime<Utc>) -> f64 {
    let half = (answered - asked) / 2;
    (clock - (asked + half)).as_seconds_f64()
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn clocks_are_compared_half_way() {
        let asked = DateTime::UNIX_EPOCH;
        let answered = asked + TimeDelta::seconds(2);
        assert_eq!(offset(asked, asked + TimeDelta::seconds(1), answered), 0.0);
        assert_eq!(offset(asked, asked + TimeDelta::milliseconds(3500), answered), 2.5);
        assert_eq!(offset(asked, asked - TimeDelta::seconds(4), answered), -5.0);
    }
}

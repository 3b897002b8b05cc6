//! What `lockgate bench outbox` found.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::bench::report::median;

/// The medians, and the pairs they were made of.
#[derive(Debug, Serialize)]
pub struct OutboxReport {
    /// Enqueueing in pages by a bare multi-row insert of the same rows.
    pub enqueue_ratio: f64,
    /// Draining the outbox into Kafka by a bare claim-and-delete loop without Kafka.
    pub outbox_drain_ratio: f64,
    /// Redelivery into Kafka by a bare claim-and-update loop without Kafka.
    pub redelivery_ratio: f64,
    /// Commands of each side.
    pub commands: i64,
    /// Every pair of enqueueing.
    pub enqueue: Vec<OutboxPair>,
    /// Every pair of draining.
    pub drain: Vec<OutboxPair>,
    /// Every pair of redelivery.
    pub redelivery: Vec<OutboxPair>,
}

/// Engine and hand-written loop, one after the other.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct OutboxPair {
    /// The engine.
    pub engine_per_s: f64,
    /// The loop.
    pub baseline_per_s: f64,
    /// Engine by loop.
    pub ratio: f64,
}

impl OutboxPair {
    pub(super) fn of(commands: i64, engine: Duration, hand: Duration) -> Self {
        let per_s = |took: Duration| commands as f64 / took.as_secs_f64();
        Self {
            engine_per_s: per_s(engine),
            baseline_per_s: per_s(hand),
            ratio: per_s(engine) / per_s(hand),
        }
    }
}

impl OutboxReport {
    pub(super) fn of(
        commands: i64,
        enqueue: Vec<OutboxPair>,
        drain: Vec<OutboxPair>,
        redelivery: Vec<OutboxPair>,
    ) -> Self {
        let middle = |pairs: &[OutboxPair]| median(pairs.iter().map(|pair| pair.ratio).collect());
        Self {
            enqueue_ratio: middle(&enqueue),
            outbox_drain_ratio: middle(&drain),
            redelivery_ratio: middle(&redelivery),
            commands,
            enqueue,
            drain,
            redelivery,
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{} commands a side\n", self.commands);
        for (name, ratio, pairs) in [
            ("enqueue / multi-row insert", self.enqueue_ratio, &self.enqueue),
            ("drain / claim and delete", self.outbox_drain_ratio, &self.drain),
            ("redelivery / claim and update", self.redelivery_ratio, &self.redelivery),
        ] {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}: {ratio:.2}");
            for pair in pairs {
                let _ = writeln!(
                    text,
                    "  engine {:>9.0}/s, loop {:>9.0}/s, ratio {:.2}",
                    pair.engine_per_s, pair.baseline_per_s, pair.ratio
                );
            }
        }
        text
    }
}

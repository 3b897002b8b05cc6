//! What `lockgate bench outbox` found.

use std::fmt::Write as _;

use serde::Serialize;

use crate::bench::Cpu;
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
    pub engine: OutboxSample,
    /// The loop.
    pub baseline: OutboxSample,
    /// Engine by loop.
    pub ratio: f64,
}

/// How fast, and at what cost.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct OutboxSample {
    /// Commands a second.
    pub per_s: f64,
    /// Processor time a command.
    pub cpu_us: Cpu,
}

impl OutboxPair {
    /// The loop first, then the engine.
    pub(super) fn of(samples: [Option<OutboxSample>; 2]) -> anyhow::Result<Self> {
        let [Some(baseline), Some(engine)] = samples else {
            anyhow::bail!("a side was not measured");
        };
        Ok(Self {
            engine,
            baseline,
            ratio: engine.per_s / baseline.per_s,
        })
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
                let _ = write_sample(&mut text, "engine", &pair.engine);
                let _ = write_sample(&mut text, "loop", &pair.baseline);
            }
        }
        text
    }
}

fn write_sample(text: &mut String, name: &str, sample: &OutboxSample) -> std::fmt::Result {
    let or_dash = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    let cpu = sample.cpu_us;
    writeln!(
        text,
        "  {name:<7}{:>9.0}/s, cpu us {:>5.1}: client {:.1}, postgres {}, kafka {}",
        sample.per_s,
        cpu.sum(),
        cpu.client,
        or_dash(cpu.postgres),
        or_dash(cpu.kafka)
    )
}

//! What the benchmark of commands found, as JSON for machines and as a table for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::Outage;
use crate::bench::report::median;
use crate::bench::{HttpReport, OutboxReport};

/// The whole of it.
#[derive(Debug, Serialize)]
pub struct CommandsReport {
    /// The middle one of the calls, in the worst stretch.
    pub submit_p50_us: Option<f64>,
    /// All but one in a hundred, in the worst stretch.
    pub submit_p99_us: Option<f64>,
    /// Orchestrator by producer alone, the median of the pairs.
    pub submit_ratio: Option<f64>,
    /// Accepted commands that are neither in the topic nor in the table, over all stretches and the outage.
    pub missing: u64,
    /// Enqueueing in pages by a bare multi-row insert of the same rows.
    pub outbox_enqueue_ratio: Option<f64>,
    /// Draining the outbox into Kafka by a bare claim-and-delete loop without Kafka.
    pub outbox_drain_ratio: Option<f64>,
    /// Redelivery into Kafka by a bare claim-and-update loop without Kafka.
    pub redelivery_ratio: Option<f64>,
    /// Commands a second over HTTP that were acknowledged or stored.
    pub http_per_s: Option<f64>,
    /// What the figures were made of.
    pub parts: CommandsParts,
}

/// What the figures were made of.
#[derive(Debug, Default, Serialize)]
pub struct CommandsParts {
    /// Processors of the machine.
    pub processors: usize,
    /// Every stretch.
    pub stretches: Vec<Stretch>,
    /// Every pair.
    pub sustained: Vec<SubmitPair>,
    /// A long outage.
    pub outage: Option<Outage>,
    /// Outbox and redelivery.
    pub outbox: Option<OutboxReport>,
    /// Commands over HTTP.
    pub http: Option<HttpReport>,
}

/// Submits at one pace in one weather, by one caller.
#[derive(Debug, Clone, Serialize)]
pub struct Stretch {
    /// What the brokers did: `up`, `down` from the start, `frozen` under way.
    pub weather: String,
    /// The pace.
    pub per_s: u64,
    /// Submits.
    pub commands: u64,
    /// What a call of `submit` took.
    pub p50_us: f64,
    /// The same.
    pub p99_us: f64,
    /// The same.
    pub p999_us: f64,
    /// The same.
    pub max_us: f64,
    /// The same with `Direct::new` before it, which makes the message's id and takes the trace's.
    pub with_id_p50_us: f64,
    /// The same.
    pub with_id_p99_us: f64,
    /// Given back to the caller.
    pub not_accepted: u64,
    /// In the topic only.
    pub delivered: u64,
    /// In the table only.
    pub stored: u64,
    /// In both.
    pub both: u64,
    /// Accepted, and in neither.
    pub missing: u64,
    /// Records too many in the topic.
    pub extra_records: u64,
    /// From a stored command's submit to its row.
    pub stored_after_p50_s: Option<f64>,
    /// The same.
    pub stored_after_p99_s: Option<f64>,
    /// The same.
    pub stored_after_max_s: Option<f64>,
    /// Rows by the code of their reason, those of the warm-up among them.
    pub stored_by_reason: BTreeMap<String, u64>,
    /// Rows settled because their acknowledgement came after all.
    pub confirmed: u64,
    /// What stopping took.
    pub stop_s: f64,
}

/// Orchestrator and producer alone, one after the other.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct SubmitPair {
    /// Commands a second through the orchestrator.
    pub submit_per_s: f64,
    /// The same messages a second from a loop of the producer's own.
    pub raw_producer_per_s: f64,
    /// The one by the other.
    pub ratio: f64,
}

impl CommandsReport {
    /// The worst stretch and the median pair.
    pub(super) fn of(parts: CommandsParts) -> Self {
        let worst = |value: fn(&Stretch) -> f64| parts.stretches.iter().map(value).reduce(f64::max);
        let ratios: Vec<f64> = parts.sustained.iter().map(|pair| pair.ratio).collect();
        Self {
            submit_p50_us: worst(|stretch| stretch.p50_us),
            submit_p99_us: worst(|stretch| stretch.p99_us),
            submit_ratio: (!ratios.is_empty()).then(|| median(ratios)),
            missing: parts.stretches.iter().map(|stretch| stretch.missing).sum::<u64>()
                + parts.outage.as_ref().map_or(0, |outage| outage.missing),
            outbox_enqueue_ratio: parts.outbox.as_ref().map(|outbox| outbox.enqueue_ratio),
            outbox_drain_ratio: parts.outbox.as_ref().map(|outbox| outbox.outbox_drain_ratio),
            redelivery_ratio: parts.outbox.as_ref().map(|outbox| outbox.redelivery_ratio),
            http_per_s: parts.http.as_ref().map(|http| http.http_per_s),
            parts,
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for stretch in &self.parts.stretches {
            text.push_str(&stretch.line());
            text.push('\n');
        }
        for pair in &self.parts.sustained {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "sustained: {:.0}/s, producer alone {:.0}/s, ratio {:.2}",
                pair.submit_per_s, pair.raw_producer_per_s, pair.ratio
            );
        }
        if let Some(outage) = &self.parts.outage {
            text.push_str(&outage.line());
            text.push('\n');
        }
        text.extend(self.parts.outbox.as_ref().map(OutboxReport::text));
        text.extend(self.parts.http.as_ref().map(HttpReport::text));
        text
    }
}

impl Stretch {
    /// One line for people.
    pub(super) fn line(&self) -> String {
        let after = |seconds: Option<f64>| seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.2}"));
        format!(
            "{:<7}{:>7}/s p50 {:.2} p99 {:.1} p99.9 {:.0} max {:.0} us (with id {:.2}, {:.1}) | kafka {} table {} both {} missing {} given back {} \
             | stored after {} / {} / {} s",
            self.weather,
            self.per_s,
            self.p50_us,
            self.p99_us,
            self.p999_us,
            self.max_us,
            self.with_id_p50_us,
            self.with_id_p99_us,
            self.delivered,
            self.stored,
            self.both,
            self.missing,
            self.not_accepted,
            after(self.stored_after_p50_s),
            after(self.stored_after_p99_s),
            after(self.stored_after_max_s)
        )
    }
}

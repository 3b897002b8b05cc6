//! What `lockgate bench workflows` found.

use std::fmt::Write as _;

use serde::Serialize;

use super::LimitsCost;
use crate::bench::Cpu;

/// The figures, and what they were made of.
#[derive(Debug, Serialize)]
pub struct WorkflowsReport {
    /// Runs of three steps a second, by 50 clients that wait for each.
    pub steps3_c50_per_s: Option<f64>,
    /// The same by 1,000 clients.
    pub steps3_c1000_per_s: Option<f64>,
    /// Runs without steps worked off a second.
    pub nostep_per_s: Option<f64>,
    /// Runs started a second, in pages.
    pub enqueue_per_s: Option<f64>,
    /// From start to result of one run of three steps on an idle system.
    pub single_p50_ms: Option<f64>,
    /// The same.
    pub single_p99_ms: Option<f64>,
    /// From start to claim.
    pub pickup_p50_ms: Option<f64>,
    /// The same.
    pub pickup_p99_ms: Option<f64>,
    /// Of a run without steps, from its start to its completion, with audit and without full-page images.
    pub wal_bytes_per_run: Option<f64>,
    /// Of a run of three steps.
    pub wal_bytes_per_3step_run: Option<f64>,
    /// What the figures were made of.
    pub parts: WorkflowsParts,
}

/// What the figures were made of.
#[derive(Debug, Default, Serialize)]
pub struct WorkflowsParts {
    /// How they were taken.
    pub how: Vec<String>,
    /// Processors of the machine.
    pub processors: usize,
    /// Runs without steps.
    pub no_step: Option<Backlog>,
    /// Runs of three steps.
    pub three_steps: Option<Backlog>,
    /// Start to result.
    pub single: Option<LatencyMs>,
    /// Start to claim.
    pub pick_up: Option<LatencyMs>,
    /// Clients, and runs a second.
    pub closed_loops: Vec<(usize, f64)>,
    /// What limits cost that do not bind.
    pub limits: Vec<LimitsCost>,
}

/// Runs that were started before a replica was there.
#[derive(Debug, Clone, Serialize)]
pub struct Backlog {
    /// Started a second.
    pub enqueued_per_s: f64,
    /// Worked off a second, the start of the replica included.
    pub processed_per_s: f64,
    /// Start to completion.
    pub wal_bytes_per_run: f64,
    /// Full-page images.
    pub wal_fpi_bytes_per_run: f64,
    /// Processor time, start to completion.
    pub cpu_us_per_run: Cpu,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct LatencyMs {
    /// Runs that were timed.
    pub runs: usize,
    /// The middle one.
    pub p50: f64,
    /// All but one in a hundred.
    pub p99: f64,
}

impl LatencyMs {
    pub(super) fn of(mut times: Vec<f64>) -> Option<Self> {
        times.sort_by(f64::total_cmp);
        Some(Self {
            runs: times.len(),
            p50: *times.get(times.len() / 2)?,
            p99: *times.get(times.len() * 99 / 100)?,
        })
    }
}

impl WorkflowsReport {
    pub(super) fn of(parts: WorkflowsParts) -> Self {
        let at = |clients: usize| {
            let found = parts.closed_loops.iter().find(|(of, _)| *of == clients);
            found.map(|(_, per_s)| *per_s)
        };
        let backlog = |of: fn(&Backlog) -> f64| parts.no_step.as_ref().map(of);
        Self {
            steps3_c50_per_s: at(50),
            steps3_c1000_per_s: at(1000),
            nostep_per_s: backlog(|backlog| backlog.processed_per_s),
            enqueue_per_s: backlog(|backlog| backlog.enqueued_per_s),
            single_p50_ms: parts.single.map(|single| single.p50),
            single_p99_ms: parts.single.map(|single| single.p99),
            pickup_p50_ms: parts.pick_up.map(|pick_up| pick_up.p50),
            pickup_p99_ms: parts.pick_up.map(|pick_up| pick_up.p99),
            wal_bytes_per_run: backlog(|backlog| backlog.wal_bytes_per_run),
            wal_bytes_per_3step_run: parts.three_steps.as_ref().map(|three| three.wal_bytes_per_run),
            parts,
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, backlog) in [
            ("without steps", &self.parts.no_step),
            ("of three steps", &self.parts.three_steps),
        ] {
            if let Some(backlog) = backlog {
                // Writing to a string cannot fail.
                let _ = writeln!(
                    text,
                    "backlog {name}: started {:.0}/s, worked off {:.0}/s, WAL {:.0} B a run, CPU {:.1} us a run",
                    backlog.enqueued_per_s,
                    backlog.processed_per_s,
                    backlog.wal_bytes_per_run,
                    backlog.cpu_us_per_run.sum()
                );
            }
        }
        for (name, latency) in [
            ("start to result", self.parts.single),
            ("start to claim", self.parts.pick_up),
        ] {
            if let Some(latency) = latency {
                let _ = writeln!(text, "{name}: p50 {:.2} ms, p99 {:.2} ms", latency.p50, latency.p99);
            }
        }
        for (clients, per_s) in &self.parts.closed_loops {
            let _ = writeln!(text, "{clients} clients: {per_s:.0} runs of three steps a second");
        }
        for cost in &self.parts.limits {
            let _ = writeln!(text, "{}", of_limits(cost));
        }
        text
    }
}

fn of_limits(cost: &LimitsCost) -> String {
    let middle = |backlogs: &[Backlog], of: fn(&Backlog) -> f64| {
        let mut all: Vec<f64> = backlogs.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    let cpu: fn(&Backlog) -> f64 = |backlog| backlog.cpu_us_per_run.sum();
    let server: fn(&Backlog) -> f64 = |backlog| backlog.cpu_us_per_run.postgres.unwrap_or_default();
    let wal: fn(&Backlog) -> f64 = |backlog| backlog.wal_bytes_per_run;
    format!(
        "{}, {}: CPU {:.1} -> {:.1} us a run (Postgres {:.1} -> {:.1}), {:+.1} %; WAL {:.0} -> {:.0} B",
        cost.workflow,
        cost.limits,
        middle(&cost.without, cpu),
        middle(&cost.with, cpu),
        middle(&cost.without, server),
        middle(&cost.with, server),
        (cost.ratio().unwrap_or(1.0) - 1.0) * 100.0,
        middle(&cost.without, wal),
        middle(&cost.with, wal)
    )
}

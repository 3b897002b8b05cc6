//! What `lockgate bench workflows` found.

use std::fmt::Write as _;

use serde::Serialize;

use super::big::BigReport;
use super::{LimitsCost, SeldomReport};
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
    /// From start to claim where nobody is rung; the poll is 200 ms.
    pub pickup_polled_p99_ms: Option<f64>,
    /// Runs of ten steps of 500 bytes worked off a second.
    pub steps10_500_per_s: Option<f64>,
    /// What a step of 500 bytes costs in a run of a hundred, compared with one of ten.
    pub step_growth: Option<f64>,
    /// Runs of three steps a second, by 200 clients, each commit 2 ms late.
    pub steps3_c200_slow_commits_per_s: Option<f64>,
    /// A claim in large tables, compared with empty ones.
    pub claim_big_p99_ratio: Option<f64>,
    /// Of ten thousand runs due at once.
    pub due_at_once_p99_ms: Option<f64>,
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
    /// The same, started by a client that has no replica in its process.
    pub single_apart: Option<LatencyMs>,
    /// Start to claim.
    pub pick_up: Option<LatencyMs>,
    /// Start to claim by polls.
    pub pick_up_polled: Option<LatencyMs>,
    /// Clients, runs a second, and processor time of each.
    pub closed_loops: Vec<(usize, f64, Cpu)>,
    /// Steps of a run, and such runs.
    pub large_steps: Vec<(u32, Backlog)>,
    /// Runs a second while commits are slow.
    pub slow_commits_per_s: Option<f64>,
    /// Claims in large tables.
    pub big: Option<BigReport>,
    /// What limits cost that do not bind.
    pub limits: Vec<LimitsCost>,
    /// Retention, and a parent with many children.
    pub seldom: Option<SeldomReport>,
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
        if times.is_empty() {
            return None;
        }
        times.sort_by(f64::total_cmp);
        Some(Self {
            runs: times.len(),
            p50: *times.get(times.len() / 2)?,
            // The smallest that 99 of a hundred do not exceed.
            p99: *times.get((times.len() * 99).div_ceil(100) - 1)?,
        })
    }
}

impl WorkflowsReport {
    pub(super) fn of(parts: WorkflowsParts) -> Self {
        let at = |clients: usize| {
            let found = parts.closed_loops.iter().find(|(of, ..)| *of == clients);
            found.map(|(_, per_s, _)| *per_s)
        };
        let large = |steps: u32| {
            let found = parts.large_steps.iter().find(|(of, _)| *of == steps);
            found.map(|(_, backlog)| backlog)
        };
        // By processor time, which does not depend on who else works.
        let step_us = |steps: u32| Some(large(steps)?.cpu_us_per_run.sum() / f64::from(steps));
        let p99 = |latency: Option<LatencyMs>| latency.map(|latency| latency.p99);
        let big = |of: fn(&BigReport) -> Option<LatencyMs>| p99(parts.big.as_ref().and_then(of));
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
            pickup_polled_p99_ms: p99(parts.pick_up_polled),
            steps10_500_per_s: large(10).map(|backlog| backlog.processed_per_s),
            step_growth: step_us(100).zip(step_us(10)).map(|(hundred, ten)| hundred / ten),
            steps3_c200_slow_commits_per_s: parts.slow_commits_per_s,
            claim_big_p99_ratio: big(|big| big.claim_big)
                .zip(big(|big| big.claim_empty))
                .map(|(large, empty)| large / empty),
            due_at_once_p99_ms: big(|big| big.due_at_once),
            wal_bytes_per_3step_run: parts.three_steps.as_ref().map(|three| three.wal_bytes_per_run),
            parts,
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let large = self.parts.large_steps.iter();
        let large = large.map(|(steps, backlog)| (format!("of {steps} steps of 500 bytes"), Some(backlog)));
        for (name, backlog) in [
            ("without steps".to_owned(), self.parts.no_step.as_ref()),
            ("of three steps".to_owned(), self.parts.three_steps.as_ref()),
        ]
        .into_iter()
        .chain(large)
        {
            if let Some(backlog) = backlog {
                // Writing to a string cannot fail.
                let _ = writeln!(
                    text,
                    "backlog {name}: started {:.0}/s, worked off {:.0}/s, WAL {:.0} B a run, {}",
                    backlog.enqueued_per_s,
                    backlog.processed_per_s,
                    backlog.wal_bytes_per_run,
                    of_cpu(&backlog.cpu_us_per_run)
                );
            }
        }
        for (name, latency) in [
            ("start to result", self.parts.single),
            ("start to result, from elsewhere", self.parts.single_apart),
            ("start to claim", self.parts.pick_up),
            ("start to claim, polled each 200 ms", self.parts.pick_up_polled),
            (
                "a claim in empty tables",
                self.parts.big.as_ref().and_then(|big| big.claim_empty),
            ),
            (
                "a claim in large tables",
                self.parts.big.as_ref().and_then(|big| big.claim_big),
            ),
            (
                "ten thousand due at once",
                self.parts.big.as_ref().and_then(|big| big.due_at_once),
            ),
        ] {
            if let Some(latency) = latency {
                let _ = writeln!(text, "{name}: p50 {:.2} ms, p99 {:.2} ms", latency.p50, latency.p99);
            }
        }
        for (clients, per_s, cpu) in &self.parts.closed_loops {
            let _ = writeln!(
                text,
                "{clients} clients: {per_s:.0} runs of three steps a second, {}",
                of_cpu(cpu)
            );
        }
        if let Some(per_s) = self.parts.slow_commits_per_s {
            let _ = writeln!(
                text,
                "200 clients, commits 2 ms late: {per_s:.0} runs of three steps a second"
            );
        }
        for cost in &self.parts.limits {
            let _ = writeln!(text, "{}", of_limits(cost));
        }
        if let Some(seldom) = &self.parts.seldom {
            text.push_str(&seldom.text());
        }
        text
    }
}

fn of_cpu(cpu: &Cpu) -> String {
    let (all, server) = (cpu.sum(), cpu.postgres.unwrap_or_default());
    format!("CPU {all:.1} us a run (Postgres {server:.1})")
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn one_of_a_hundred_does_not_make_the_99th() {
        let latency = LatencyMs::of((1..=100).rev().map(f64::from).collect()).unwrap();
        assert_eq!((latency.p50, latency.p99), (51.0, 99.0));
        assert_eq!(LatencyMs::of(vec![7.0]).unwrap().p99, 7.0);
        assert!(LatencyMs::of(Vec::new()).is_none());
    }
}

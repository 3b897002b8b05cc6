//! What is seldom done, and much of it at once: retention, and a parent with many children.

use std::time::Instant;

use serde::Serialize;
use sqlx::Executor;

use super::Bench;
use super::load::Fleet;
use super::report::LatencyMs;
use super::shapes::Parent;
use crate::bench::Cpu;

/// Runs written by one statement.
const PAGE: i64 = 100_000;
/// Rows that retention takes at once, as it does by default.
const PRUNED_AT_ONCE: i32 = 1_000;
/// Children of one parent.
const CHILDREN: usize = 1_000;
/// Parents, one after the other.
const PARENTS: usize = 10;

/// What it found.
#[derive(Debug, Clone, Serialize)]
pub struct SeldomReport {
    /// Rows that retention deletes a second, of runs of three steps.
    pub pruned_rows_per_s: f64,
    /// Runs.
    pub pruned_runs_per_s: f64,
    /// Processor time of each of these runs.
    pub prune_cpu_us_per_run: Cpu,
    /// WAL of each, without full-page images.
    pub prune_wal_bytes_per_run: f64,
    /// From the start of a parent of a thousand children to its end.
    pub thousand_children: Option<LatencyMs>,
    /// Processor time of each child, its start and its part of the parent included.
    pub child_cpu_us: Cpu,
    /// WAL of each, without full-page images.
    pub child_wal_bytes: f64,
}

/// Runs of three steps as they are left, a month ago.
const OLD_RUNS: &str = "with made as ( \
        insert into lockgate.task_runs (id, workflow, status, params, origin_id, claim_token, output, created_at, started_at, finished_at) \
        select r.id, 'bench-three-steps', 'completed', 'null', r.id, 1, 'null', r.at, r.at, r.at \
          from generate_series($1 + 1, $1 + $2) n \
         cross join lateral (select (lpad(to_hex((extract(epoch from clock_timestamp() - interval '31 days') * 1000)::bigint), 12, '0') \
                                    || '70008000' || lpad(to_hex(n), 12, '0'))::uuid as id, clock_timestamp() - interval '31 days' as at) r \
        returning id, finished_at as at \
    ), steps as ( \
        insert into lockgate.run_steps (run_id, path, kind, status, result, started_at, finished_at, claim_token, consistent, \
            planned_items, planned_batches) \
        select m.id, s.path, 'step', 'completed', convert_to(to_json(repeat('x', 33))::text, 'UTF8'), m.at, m.at, 1, null, null, null \
          from made m cross join (values ('0:first'), ('1:second'), ('2:third')) s (path)) \
    insert into lockgate.transitions (entity, run_id, from_status, to_status, token, replica, since, at) \
    select 'run', m.id, 'running', 'completed', 1, m.id, m.at, m.at from made m";

pub(super) async fn measure(bench: &Bench<'_>) -> anyhow::Result<SeldomReport> {
    let (pool, runs) = (&bench.place.pool, bench.settings.runs as i64);
    (bench.progress)(&format!("{runs} runs of three steps, a month old"));
    for from in (0..runs).step_by(PAGE as usize) {
        let page = sqlx::query(OLD_RUNS).bind(from).bind(PAGE.min(runs - from));
        page.execute(pool).await?;
    }
    pool.execute("vacuum analyze lockgate.task_runs, lockgate.run_steps, lockgate.transitions")
        .await?;
    (bench.progress)("retention");
    let (before, begun) = (bench.meters.start().await?, Instant::now());
    let prune = "select pruned, more from lockgate.prune_runs(interval '30 days', $1)";
    let (mut rows, mut more) = (0, true);
    while more {
        let page = sqlx::query_as::<_, (i64, bool)>(prune).bind(PRUNED_AT_ONCE);
        let (pruned, goes_on) = page.fetch_one(pool).await?;
        (rows, more) = (rows + pruned, goes_on);
    }
    let pruned_s = begun.elapsed().as_secs_f64();
    let pruned = bench.used_since(&before).await?;
    anyhow::ensure!(rows == runs * 5, "{rows} rows were deleted of {runs} runs");

    let fleet = Fleet::start(bench.place, bench.topic, |_| {}).await?;
    let mut times = Vec::new();
    let before = bench.meters.start().await?;
    for parent in 1..=PARENTS {
        (bench.progress)(&format!("{CHILDREN} children, parent {parent} of {PARENTS}"));
        let begun = Instant::now();
        let run = fleet.client.start::<Parent>(&CHILDREN).send().await?;
        let told = run.result().await?;
        anyhow::ensure!(told == CHILDREN, "{told} children ended");
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let families = bench.used_since(&before).await?;
    fleet.stop().await?;
    let (runs, children) = (runs as f64, (CHILDREN * PARENTS) as f64);
    Ok(SeldomReport {
        pruned_rows_per_s: rows as f64 / pruned_s,
        pruned_runs_per_s: runs / pruned_s,
        prune_cpu_us_per_run: pruned.cpu.map(|seconds| seconds * 1e6 / runs),
        prune_wal_bytes_per_run: pruned.wal_bytes / runs,
        thousand_children: LatencyMs::of(times),
        child_cpu_us: families.cpu.map(|seconds| seconds * 1e6 / children),
        child_wal_bytes: families.wal_bytes / children,
    })
}

impl SeldomReport {
    /// For people.
    pub(super) fn text(&self) -> String {
        let family = self.thousand_children.map_or_else(String::new, |family| {
            format!(
                "a parent of {CHILDREN} children: p50 {:.0} ms, CPU {:.1} us a child (Postgres {:.1}), WAL {:.0} B\n",
                family.p50,
                self.child_cpu_us.sum(),
                self.child_cpu_us.postgres.unwrap_or_default(),
                self.child_wal_bytes
            )
        });
        format!(
            "retention: {:.0} rows/s, {:.0} runs/s, CPU {:.1} us a run of three steps, WAL {:.0} B\n{family}",
            self.pruned_rows_per_s,
            self.pruned_runs_per_s,
            self.prune_cpu_us_per_run.sum(),
            self.prune_wal_bytes_per_run
        )
    }
}

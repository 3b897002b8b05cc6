//! `lockgate bench workflows`: runs of step workflows, from their start to their end, on a replica in this process.

mod big;
mod limits;
mod load;
mod report;
mod seldom;
mod shapes;

use std::time::{Duration, Instant};

use lockgate::client::Client;
use lockgate::config::{Config, Secret};
use lockgate::postgres::{Database, DatabaseSettings};
use sqlx::Executor;

pub use big::{BigReport, BigSettings};
pub use limits::LimitsCost;
pub use report::{Backlog, LatencyMs, WorkflowsParts, WorkflowsReport};
pub use seldom::SeldomReport;

use self::load::Fleet;
use self::shapes::LargeSteps;
pub(super) use self::shapes::{Nothing, ThreeSteps};
use super::meters::{Cpu, Meters, Reading, Used, processors};
use super::place::Place;

/// What to measure.
#[derive(Debug, Clone)]
pub struct WorkflowsSettings {
    /// A server on which the benchmark may make a database.
    pub database_url: String,
    /// The brokers; nothing is sent, but a replica wants them.
    pub brokers: String,
    /// Runs of each backlog.
    pub runs: usize,
    /// How long each closed loop runs.
    pub seconds: u64,
    /// Only one part of it.
    pub part: Option<Part>,
    /// Measures instead what limits cost that do not bind, over so many pairs of backlogs each.
    pub limits: Option<usize>,
    /// Claims in large tables, instead of all else.
    pub big: Option<BigSettings>,
    /// Retention, and a parent with many children, instead of all else.
    pub seldom: bool,
}

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Runs that were started while no replica was about.
    Backlogs,
    /// Runs that are started one after the other.
    Latencies,
    /// Clients that each start a run, wait for its end, and start the next.
    Loops,
}

/// Runs started one after the other.
const SINGLES: usize = 300;
/// The same where each waits for a poll.
const POLLED: usize = 100;
/// The poll then.
const POLL: Duration = Duration::from_millis(200);
/// Clients whose commits are slow.
const SLOW_CLIENTS: usize = 200;

/// Measures it, telling `progress` where it is.
///
/// # Errors
/// A server cannot be used, or a run did not complete.
pub async fn workflows(
    settings: &WorkflowsSettings,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<WorkflowsReport> {
    let work = async |place: &Place| measure(place, settings, progress).await;
    Place::lent(&settings.database_url, &settings.brokers, work).await
}

async fn measure(
    place: &Place,
    settings: &WorkflowsSettings,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<WorkflowsReport> {
    let topic = place.make_topic().await?;
    let meters = Meters::find(&place.pool).await?;
    let bench = Bench {
        place,
        topic: &topic,
        meters: &meters,
        settings,
        client: Client::new(Database::new(&DatabaseSettings::new(&place.url))?),
        progress,
    };
    let mut parts = WorkflowsParts {
        how: meters.how(),
        processors: processors(),
        ..WorkflowsParts::default()
    };
    if settings.seldom {
        parts.seldom = Some(seldom::measure(&bench).await?);
        place.remove_topic(&topic).await?;
        return Ok(WorkflowsReport::of(parts));
    }
    if let Some(pairs) = settings.limits {
        parts.limits = limits::costs(&bench, pairs, progress).await?;
        place.remove_topic(&topic).await?;
        return Ok(WorkflowsReport::of(parts));
    }
    match settings.big {
        Some(big) => parts.big = Some(big::measure(place, &topic, big, progress).await?),
        None => {
            if settings.part.is_none_or(|part| part == Part::Backlogs) {
                bench.backlogs(&mut parts).await?;
            }
            if settings.part.is_none_or(|part| part == Part::Latencies) {
                bench.latencies(&mut parts).await?;
            }
            if settings.part.is_none_or(|part| part == Part::Loops) {
                bench.closed_loops(&mut parts).await?;
            }
        }
    }
    place.remove_topic(&topic).await?;
    Ok(WorkflowsReport::of(parts))
}

struct Bench<'a> {
    place: &'a Place,
    topic: &'a str,
    meters: &'a Meters,
    settings: &'a WorkflowsSettings,
    /// In no replica's process.
    client: Client,
    progress: &'a (dyn Fn(&str) + Send + Sync),
}

impl Bench<'_> {
    async fn backlogs(&self, parts: &mut WorkflowsParts) -> anyhow::Result<()> {
        let runs = self.settings.runs;
        (self.progress)(&format!("a backlog of {runs} runs without steps"));
        let start = async || Ok(self.client.start_all::<Nothing>(vec![(); runs]).await?.len());
        parts.no_step = Some(self.backlog(start).await?);
        (self.progress)(&format!("a backlog of {runs} runs of three steps"));
        let start = async || Ok(self.client.start_all::<ThreeSteps>(vec![(); runs]).await?.len());
        parts.three_steps = Some(self.backlog(start).await?);
        for (steps, share) in [(10, 10), (100, 100)] {
            let runs = (runs / share).max(1);
            (self.progress)(&format!("a backlog of {runs} runs of {steps} steps of 500 bytes"));
            let start = async || Ok(self.client.start_all::<LargeSteps>(vec![steps; runs]).await?.len());
            parts.large_steps.push((steps, self.backlog(start).await?));
        }
        Ok(())
    }

    async fn latencies(&self, parts: &mut WorkflowsParts) -> anyhow::Result<()> {
        let fleet = Fleet::start(self.place, self.topic, |_| {}).await?;
        (self.progress)("one run after the other");
        (parts.single, _) = load::one_by_one(self.place, &fleet.client, SINGLES).await?;
        (self.progress)("one run after the other, started by another process");
        (parts.single_apart, parts.pick_up) = load::one_by_one(self.place, &self.client, SINGLES).await?;
        fleet.stop().await?;
        (self.progress)("the same, found by polls alone");
        // Where nobody listens.
        let deaf = |config: &mut Config| {
            config.worker.poll = POLL;
            config.database.url_direct = Some(Secret::new("postgres://nobody@127.0.0.1:1/nowhere"));
        };
        let fleet = Fleet::start(self.place, self.topic, deaf).await?;
        (_, parts.pick_up_polled) = load::one_by_one(self.place, &self.client, POLLED).await?;
        fleet.stop().await
    }

    async fn closed_loops(&self, parts: &mut WorkflowsParts) -> anyhow::Result<()> {
        let time = Duration::from_secs(self.settings.seconds);
        let fleet = Fleet::start(self.place, self.topic, |_| {}).await?;
        for clients in [50, 1000] {
            (self.progress)(&format!("{clients} clients, three steps"));
            let (per_s, cpu) = self.closed_loop(&fleet, clients, time).await?;
            parts.closed_loops.push((clients, per_s, cpu));
        }
        fleet.stop().await?;
        (self.progress)(&format!("{SLOW_CLIENTS} clients, three steps, each commit 2 ms late"));
        let slow = "alter database lockgate_bench set commit_delay = 2000; \
                    alter database lockgate_bench set commit_siblings = 0";
        self.place.pool.execute(sqlx::raw_sql(slow)).await?;
        let fleet = Fleet::start(self.place, self.topic, |_| {}).await?;
        parts.slow_commits_per_s = Some(self.closed_loop(&fleet, SLOW_CLIENTS, time).await?.0);
        fleet.stop().await?;
        let quick = "alter database lockgate_bench reset commit_delay; \
                     alter database lockgate_bench reset commit_siblings";
        self.place.pool.execute(sqlx::raw_sql(quick)).await?;
        Ok(())
    }

    /// Runs a second, and processor time of each.
    async fn closed_loop(&self, fleet: &Fleet, clients: usize, time: Duration) -> anyhow::Result<(f64, Cpu)> {
        let (done, before) = (load::completed(self.place).await?, self.meters.start().await?);
        let per_s = load::closed_loop(&fleet.client, clients, time).await?;
        let used = self.meters.stop(&before).await?;
        let runs = (load::completed(self.place).await? - done).max(1) as f64;
        (self.progress)(&format!("{per_s:.0} runs/s"));
        Ok((per_s, used.cpu.map(|seconds| seconds * 1e6 / runs)))
    }

    async fn used_since(&self, before: &Reading) -> anyhow::Result<Used> {
        // A commit that is waited for: WAL that is not on disk yet cannot be looked into.
        self.place
            .pool
            .execute("comment on schema bench is 'what a benchmark works on'")
            .await?;
        self.meters.stop(before).await
    }

    /// Starts all of them while no replica is about, then has one work them off.
    async fn backlog(&self, start: impl AsyncFnOnce() -> anyhow::Result<usize>) -> anyhow::Result<Backlog> {
        self.place
            .pool
            .execute("vacuum analyze lockgate.task_runs, lockgate.run_steps")
            .await?;
        let before = self.meters.start().await?;
        let begun = Instant::now();
        let runs = start().await?;
        let enqueued = begun.elapsed();
        let fleet = Fleet::start(self.place, self.topic, |_| {}).await?;
        let begun = Instant::now();
        fleet.idle().await?;
        let processed = begun.elapsed();
        let used = self.used_since(&before).await?;
        fleet.stop().await?;
        let runs = runs as f64;
        let left = load::unfinished(self.place).await?;
        anyhow::ensure!(left == 0, "{left} runs are not completed");
        Ok(Backlog {
            enqueued_per_s: runs / enqueued.as_secs_f64(),
            processed_per_s: runs / processed.as_secs_f64(),
            wal_bytes_per_run: used.wal_bytes / runs,
            wal_fpi_bytes_per_run: used.wal_fpi_bytes / runs,
            cpu_us_per_run: used.cpu.map(|seconds| seconds * 1e6 / runs),
        })
    }
}

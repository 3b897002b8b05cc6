//! `lockgate bench replicas`: the same work by one replica and by many, each a process of its own.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use lockgate::client::Client;
use lockgate::postgres::{Database, DatabaseSettings};
use lockgate::workflow::Workflow;
use serde::Serialize;
use sqlx::Executor;

use super::meters::{Cpu, Meters, Used, processors};
use super::place::Place;
use super::processes::{Processes, Seen, Watch};
use super::replica::fan_out;
use super::workflows::ThreeSteps;
use super::workload::Density;

/// What to measure.
#[derive(Debug, Clone)]
pub struct ReplicasSettings {
    /// A server on which the benchmark may make a database.
    pub database_url: String,
    /// The brokers.
    pub brokers: String,
    /// Items of each fan-out.
    pub items: i64,
    /// Runs of three steps.
    pub runs: usize,
    /// How many replicas, one after the other.
    pub counts: Vec<usize>,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct ReplicasReport {
    /// How each figure was taken.
    pub how: Vec<String>,
    /// Processors of the machine.
    pub processors: usize,
    /// One for each number of replicas.
    pub rounds: Vec<Round>,
}

/// So many replicas.
#[derive(Debug, Serialize)]
pub struct Round {
    /// How many.
    pub replicas: usize,
    /// A fan-out, planning included.
    pub items: Work,
    /// A backlog of runs of three steps, their starts included.
    pub runs: Work,
    /// Most connections at once, of all replicas together.
    pub connections: i64,
    /// Most memory that one of them had.
    pub peak_rss_mib: f64,
}

/// Some work.
#[derive(Debug, Serialize)]
pub struct Work {
    /// How many were done in a second.
    pub per_s: f64,
    /// Processor time of one.
    pub cpu_us: Cpu,
    /// Which share of the machine's processors was used.
    pub machine_used: f64,
    /// Without full-page images.
    pub wal_bytes: f64,
    /// Transactions that wrote, for one.
    pub commits: f64,
    /// Sessions of Postgres on average by what they did or waited for, the most first.
    pub sessions: Vec<(String, f64)>,
}

/// How long it may take until nothing is left to do.
const LOOK: Duration = Duration::from_millis(20);
/// What is told of sessions.
const TOLD: usize = 5;

/// Measures it, telling `progress` where it is.
///
/// # Errors
/// A server cannot be used, or something was not done.
pub async fn replicas(
    settings: &ReplicasSettings,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<ReplicasReport> {
    let work = async |place: &Place| measure(place, settings, progress).await;
    Place::lent(&settings.database_url, &settings.brokers, work).await
}

async fn measure(
    place: &Place,
    settings: &ReplicasSettings,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<ReplicasReport> {
    place.seed(settings.items, progress).await?;
    let meters = Meters::find(&place.pool).await?;
    let mut report = ReplicasReport {
        how: meters.how(),
        processors: processors(),
        rounds: Vec::new(),
    };
    let mut bench = Bench {
        place,
        meters,
        processors: report.processors as f64,
    };
    for count in &settings.counts {
        let round = bench.round(*count, settings).await?;
        progress(&format!(
            "{count} replicas: {:.0} items/s, {:.0} runs/s",
            round.items.per_s, round.runs.per_s
        ));
        report.rounds.push(round);
    }
    Ok(report)
}

/// Work that is measured while replicas do it.
pub(super) struct Bench<'a> {
    pub(super) place: &'a Place,
    pub(super) meters: Meters,
    pub(super) processors: f64,
}

impl Bench<'_> {
    async fn round(&mut self, count: usize, settings: &ReplicasSettings) -> anyhow::Result<Round> {
        let topic = self.place.make_topic().await?;
        let processes = Processes::start(self.place, &topic, count).await?;
        self.meters.with_replicas(processes.pids());
        // Whoever is first would pay for what a broker compiles while it works.
        fan_out(&self.place.pool, (Density::Dense, 1, 1), || true).await?;
        let items = self.items(settings.items).await?;
        let runs = self.runs::<ThreeSteps>(settings.runs).await?;
        let round = Round {
            replicas: count,
            connections: items.1.max(runs.1),
            items: items.0,
            runs: runs.0,
            peak_rss_mib: processes.peak_rss_mib(),
        };
        processes.stop().await?;
        self.meters.with_replicas(Vec::new());
        self.place.remove_topic(&topic).await?;
        Ok(round)
    }

    /// A fan-out of so many items; answers how many connections there were, too.
    pub(super) async fn items(&self, items: i64) -> anyhow::Result<(Work, i64)> {
        let (before, watch) = (self.meters.start().await?, Watch::start(&self.place.pool));
        let ended = fan_out(&self.place.pool, (Density::Dense, items, items), || true).await?;
        let (used, seen) = (self.meters.stop(&before).await?, watch.stop().await?);
        Ok((self.work(items as f64, ended.took, &used, &seen), seen.connections))
    }

    /// A backlog of so many runs.
    pub(super) async fn runs<W: Workflow<Input = ()>>(&self, runs: usize) -> anyhow::Result<(Work, i64)> {
        let client = Client::new(Database::new(&DatabaseSettings::new(&self.place.url))?);
        let (before, watch) = (self.meters.start().await?, Watch::start(&self.place.pool));
        let begun = Instant::now();
        client.start_all::<W>(vec![(); runs]).await?;
        let open = "select exists (select from lockgate.task_runs where wake_at is not null)
                        or exists (select from lockgate.task_runs where claim_id is not null)";
        while sqlx::query_scalar::<_, bool>(open).fetch_one(&self.place.pool).await? {
            tokio::time::sleep(LOOK).await;
        }
        let took = begun.elapsed();
        // A commit that is waited for: WAL that is not on disk yet cannot be looked into.
        let waited_for = "comment on schema bench is 'what a benchmark works on'";
        self.place.pool.execute(waited_for).await?;
        let (used, seen) = (self.meters.stop(&before).await?, watch.stop().await?);
        let left = "select count(*) from lockgate.task_runs where status <> 'completed'";
        let left: i64 = sqlx::query_scalar(left).fetch_one(&self.place.pool).await?;
        anyhow::ensure!(left == 0, "{left} runs are not completed");
        Ok((self.work(runs as f64, took, &used, &seen), seen.connections))
    }

    fn work(&self, done: f64, took: Duration, used: &Used, seen: &Seen) -> Work {
        let took = took.as_secs_f64();
        Work {
            per_s: done / took,
            cpu_us: used.cpu.map(|seconds| seconds * 1e6 / done),
            machine_used: used.cpu.sum() / took / self.processors,
            wal_bytes: used.wal_bytes / done,
            commits: used.commits as f64 / done,
            sessions: seen.averages().into_iter().take(TOLD).collect(),
        }
    }
}

impl ReplicasReport {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!("{} processors\n", self.processors);
        for round in &self.rounds {
            let _ = writeln!(
                out,
                "{} replicas: {} connections, {:.0} MiB the largest",
                round.replicas, round.connections, round.peak_rss_mib
            );
            for (what, work) in [("items", &round.items), ("runs", &round.runs)] {
                let sessions: Vec<String> = work
                    .sessions
                    .iter()
                    .map(|(what, average)| format!("{what} {average:.1}"))
                    .collect();
                let _ = writeln!(
                    out,
                    "  {:.0} {what}/s, {:.1} µs of processors each, {:.0} % of the machine; sessions: {}",
                    work.per_s,
                    work.cpu_us.sum(),
                    work.machine_used * 100.0,
                    sessions.join(", ")
                );
            }
        }
        out
    }
}

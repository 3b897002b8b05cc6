//! `lockgate bench workflows`: runs of step workflows, from their start to their end, on a replica in this process.

mod limits;
mod load;
mod report;
mod shapes;

use std::time::{Duration, Instant};

use lockgate::client::Client;
use lockgate::postgres::{Database, DatabaseSettings};
use sqlx::Executor;

pub use limits::LimitsCost;
pub use report::{Backlog, LatencyMs, WorkflowsParts, WorkflowsReport};

use self::load::Fleet;
use self::shapes::{Nothing, ThreeSteps};
use super::meters::Meters;
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
    /// Measures instead what limits cost that do not bind, over so many pairs of backlogs each.
    pub limits: Option<usize>,
}

/// Measures it, telling `progress` where it is.
///
/// # Errors
/// A server cannot be used, or a run did not complete.
pub async fn workflows(
    settings: &WorkflowsSettings,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<WorkflowsReport> {
    let place = Place::make(&settings.database_url, &settings.brokers).await?;
    let result = measure(&place, settings, progress).await;
    place.remove().await?;
    result
}

async fn measure(
    place: &Place,
    settings: &WorkflowsSettings,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<WorkflowsReport> {
    let topic = place.make_topic().await?;
    let client = Client::new(Database::new(&DatabaseSettings::new(&place.url))?);
    let meters = Meters::find(&place.pool).await?;
    let bench = Bench {
        place,
        topic: &topic,
        meters: &meters,
        settings,
    };
    let mut parts = WorkflowsParts {
        how: meters.how(),
        processors: std::thread::available_parallelism().map_or(0, usize::from),
        ..WorkflowsParts::default()
    };
    if let Some(pairs) = settings.limits {
        parts.limits = limits::costs(&bench, pairs, progress).await?;
        place.remove_topic(&topic).await?;
        return Ok(WorkflowsReport::of(parts));
    }
    progress(&format!("a backlog of {} runs without steps", settings.runs));
    let nothing = vec![(); settings.runs];
    parts.no_step = Some(
        bench
            .backlog(async || Ok(client.start_all::<Nothing>(nothing).await?.len()))
            .await?,
    );
    progress(&format!("a backlog of {} runs of three steps", settings.runs));
    let three = vec![(); settings.runs];
    parts.three_steps = Some(
        bench
            .backlog(async || Ok(client.start_all::<ThreeSteps>(three).await?.len()))
            .await?,
    );
    let fleet = Fleet::start(place, &topic).await?;
    progress("one run after the other");
    (parts.single, parts.pick_up) = load::one_by_one(place, &client).await?;
    for clients in [50, 1000] {
        progress(&format!("{clients} clients, three steps"));
        let per_s = load::closed_loop(&client, clients, Duration::from_secs(settings.seconds)).await?;
        progress(&format!("{per_s:.0} runs/s"));
        parts.closed_loops.push((clients, per_s));
    }
    fleet.stop().await?;
    place.remove_topic(&topic).await?;
    Ok(WorkflowsReport::of(parts))
}

struct Bench<'a> {
    place: &'a Place,
    topic: &'a str,
    meters: &'a Meters,
    settings: &'a WorkflowsSettings,
}

impl Bench<'_> {
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
        let fleet = Fleet::start(self.place, self.topic).await?;
        let begun = Instant::now();
        fleet.idle().await?;
        let processed = begun.elapsed();
        // A commit that is waited for: WAL that is not on disk yet cannot be looked into.
        self.place
            .pool
            .execute("comment on schema bench is 'what a benchmark works on'")
            .await?;
        let used = self.meters.stop(&before).await?;
        fleet.stop().await?;
        let runs = runs as f64;
        anyhow::ensure!(
            load::completed(self.place).await? >= self.settings.runs as i64,
            "not all runs are completed"
        );
        Ok(Backlog {
            enqueued_per_s: runs / enqueued.as_secs_f64(),
            processed_per_s: runs / processed.as_secs_f64(),
            wal_bytes_per_run: used.wal_bytes / runs,
            wal_fpi_bytes_per_run: used.wal_fpi_bytes / runs,
            cpu_us_per_run: used.cpu.map(|seconds| seconds * 1e6 / runs),
        })
    }
}

//! `lockgate bench capacity`: what an item costs by the size of its batch, and what a replica costs that does nothing.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use sqlx::PgPool;

use super::meters::{Cpu, Meters, processors};
use super::place::Place;
use super::processes::{Processes, Watch};
use super::replica::Replica;
use super::workload::Density;

/// What to measure.
#[derive(Debug, Clone)]
pub struct CapacitySettings {
    /// A server on which the benchmark may make a database.
    pub database_url: String,
    /// The brokers.
    pub brokers: String,
    /// Items of each fan-out.
    pub items: i64,
    /// How long idle replicas are looked at.
    pub idle: Duration,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct CapacityReport {
    /// How each figure was taken.
    pub how: Vec<String>,
    /// Processors of the machine.
    pub processors: usize,
    /// Items by the size of their batches and how dense their ids are.
    pub batches: Vec<Batches>,
    /// Replicas that have nothing to do.
    pub idle: Vec<Idle>,
}

/// Items in batches of one size.
#[derive(Debug, Serialize)]
pub struct Batches {
    /// Items of a batch.
    pub size: u32,
    /// Which items.
    pub density: Density,
    /// How many were sent in a second.
    pub items_per_s: f64,
    /// Processor time of an item.
    pub cpu_us: Cpu,
    /// Without full-page images, of an item.
    pub wal_bytes: f64,
    /// Transactions that wrote, of a thousand items.
    pub commits_per_1000: f64,
    /// Of the process.
    pub peak_rss_mib: f64,
}

/// Replicas that have nothing to do.
#[derive(Debug, Serialize)]
pub struct Idle {
    /// How many.
    pub replicas: usize,
    /// Which share of a processor one of them uses.
    pub cores_each: f64,
    /// Which share of a processor Postgres uses for all of them.
    pub postgres_cores: Option<f64>,
    /// Transactions a second, of all of them.
    pub transactions_per_s: f64,
    /// Bytes of WAL an hour, of all of them.
    pub wal_bytes_per_hour: f64,
    /// Connections of one of them.
    pub connections_each: f64,
    /// Most memory that one of them had.
    pub peak_rss_mib: f64,
}

const SIZES: [u32; 3] = [100, 1_000, 5_000];
const REPLICAS: [usize; 2] = [1, 8];
/// Until a replica that was started has done all that it does once.
const SETTLED: Duration = Duration::from_secs(10);

/// Measures it, telling `progress` where it is.
///
/// # Errors
/// A server cannot be used, or an item was not delivered.
pub async fn capacity(
    settings: &CapacitySettings,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<CapacityReport> {
    let work = async |place: &Place| measure(place, settings, progress).await;
    Place::lent(&settings.database_url, &settings.brokers, work).await
}

async fn measure(
    place: &Place,
    settings: &CapacitySettings,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<CapacityReport> {
    let mut meters = Meters::find(&place.pool).await?;
    let mut report = CapacityReport {
        how: meters.how(),
        processors: processors(),
        batches: Vec::new(),
        idle: Vec::new(),
    };
    for count in REPLICAS {
        progress(&format!("{count} idle replicas for {} s", settings.idle.as_secs()));
        report.idle.push(idle(place, &mut meters, count, settings.idle).await?);
    }
    let users = settings.items * 10 / 3;
    place.seed(users, progress).await?;
    let sparse = place.picked_up_to(users).await?;
    for size in SIZES {
        for work in [
            (Density::Dense, settings.items, settings.items),
            (Density::Sparse, users, sparse),
        ] {
            let batches = in_batches(place, &meters, size, work).await?;
            progress(&format!(
                "batches of {size}, {:?}: {:.0} items/s",
                work.0, batches.items_per_s
            ));
            report.batches.push(batches);
        }
    }
    Ok(report)
}

async fn in_batches(
    place: &Place,
    meters: &Meters,
    size: u32,
    (density, last_id, items): (Density, i64, i64),
) -> anyhow::Result<Batches> {
    let topic = place.make_topic().await?;
    let mut config = place.config(&topic);
    config.worker.batch_size = size;
    let replica = Replica::start_with(config, place).await?;
    let before = meters.start().await?;
    let ended = replica.run(density, last_id, items).await?;
    let used = meters.stop(&before).await?;
    replica.stop().await?;
    place.remove_topic(&topic).await?;
    let items = items as f64;
    Ok(Batches {
        size,
        density,
        items_per_s: items / ended.took.as_secs_f64(),
        cpu_us: used.cpu.map(|seconds| seconds * 1e6 / items),
        wal_bytes: used.wal_bytes / items,
        commits_per_1000: used.commits as f64 * 1e3 / items,
        peak_rss_mib: used.peak_rss_mib,
    })
}

async fn idle(place: &Place, meters: &mut Meters, count: usize, time: Duration) -> anyhow::Result<Idle> {
    let topic = place.make_topic().await?;
    let processes = Processes::start(place, &topic, count).await?;
    tokio::time::sleep(SETTLED).await;
    meters.with_replicas(processes.pids());
    let before = meters.start().await?;
    // Nobody looks meanwhile: a look is a transaction too.
    let (done, replicas_s) = (transactions(&place.pool).await?, meters.replicas_s());
    tokio::time::sleep(time).await;
    // Without this process, which waits for them.
    let replicas_s = meters.replicas_s() - replicas_s;
    let done = transactions(&place.pool).await? - done;
    let used = meters.stop(&before).await?;
    let watch = Watch::start(&place.pool);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let seen = watch.stop().await?;
    let (seconds, each) = (time.as_secs_f64(), count as f64);
    let idle = Idle {
        replicas: count,
        cores_each: replicas_s / seconds / each,
        postgres_cores: used.cpu.postgres.map(|used| used / seconds),
        transactions_per_s: done as f64 / seconds,
        wal_bytes_per_hour: used.wal_bytes / seconds * 3_600.0,
        connections_each: seen.connections as f64 / each,
        peak_rss_mib: processes.peak_rss_mib(),
    };
    processes.stop().await?;
    meters.with_replicas(Vec::new());
    place.remove_topic(&topic).await?;
    Ok(idle)
}

/// Transactions of the database so far, as its sessions have told.
async fn transactions(pool: &PgPool) -> anyhow::Result<i64> {
    let done = "select xact_commit + xact_rollback from pg_catalog.pg_stat_database where datname = current_database()";
    Ok(sqlx::query_scalar(done).fetch_one(pool).await?)
}

impl CapacityReport {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for idle in &self.idle {
            let _ = writeln!(
                out,
                "{} idle: {:.2} % of a processor and {:.0} connections each, {:.1} transactions/s, {:.1} MB of WAL an hour",
                idle.replicas,
                idle.cores_each * 100.0,
                idle.connections_each,
                idle.transactions_per_s,
                idle.wal_bytes_per_hour / 1e6
            );
        }
        for batches in &self.batches {
            let _ = writeln!(
                out,
                "batches of {}, {:?}: {:.0} items/s, {:.2} µs of processors, {:.2} bytes of WAL an item",
                batches.size,
                batches.density,
                batches.items_per_s,
                batches.cpu_us.sum(),
                batches.wal_bytes
            );
        }
        out
    }
}

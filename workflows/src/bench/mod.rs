//! `lockgate bench`: the engine against a loop written by hand, on the same tables, bytes and brokers.

mod baseline;
mod capacity;
mod cli;
mod commands;
mod http;
mod meters;
mod outbox;
mod place;
mod processes;
mod producer;
mod replica;
mod replicas;
mod report;
mod sender;
mod telemetry;
mod telemetry_sink;
mod workflows;
mod workload;

use std::time::Duration;

pub use capacity::{Batches, CapacityReport, CapacitySettings, Idle, capacity};
pub use cli::bench;
pub use commands::{CommandsParts, CommandsReport, CommandsSettings, Outage, Stretch, SubmitPair, commands};
pub use http::{HttpReport, HttpSample, HttpSettings, http};
pub use meters::Cpu;
pub use outbox::{OutboxPair, OutboxReport, OutboxSample, OutboxSettings, outbox};
pub use replicas::{ReplicasReport, ReplicasSettings, Round, Work as ReplicasWork, replicas};
pub use report::{Case, FanoutReport, Latency, Memory, Pair, Parts, Sample};
pub use sender::{SenderReport, SenderRun, SenderSettings, sender};
pub use telemetry::{TelemetryReport, TelemetryRound, TelemetrySettings, telemetry};
pub use workflows::{
    Backlog, BigReport, BigSettings, LatencyMs, LimitsCost, Part, SeldomReport, WorkflowsParts, WorkflowsReport,
    WorkflowsSettings, workflows,
};
pub use workload::Density;

use self::meters::{Meters, Used, processors};
use self::place::Place;
use self::producer::HandProducer;
use self::replica::Replica;

/// A baseline below this share of the raw producer says more of the machine than of the engine: it is not quoted.
const LEAST_BASELINE: f64 = 0.55;
/// How often a pair is repeated for such a baseline.
const REPEATS: u32 = 5;
/// Runs of one item whose latency is taken.
const LATENCY_RUNS: usize = 100;
/// Items of the small run whose memory is compared with that of the large ones.
const FEW_ITEMS: i64 = 100_000;
/// Items of a batch, for what is told by batch.
const BATCH: i64 = 1000;

/// What to measure.
#[derive(Debug, Clone)]
pub struct FanoutSettings {
    /// A server on which the benchmark may make a database.
    pub database_url: String,
    /// The brokers.
    pub brokers: String,
    /// Items of the dense case.
    pub items: i64,
    /// Users in the table; the sparse case sends 30 in 100 of them.
    pub users: i64,
    /// Pairs of each case.
    pub pairs: usize,
    /// Only this case.
    pub only: Option<Density>,
    /// Also run the engine over all users, for its memory.
    pub long: bool,
    /// Leave latency and memory out.
    pub brief: bool,
}

/// Measures the engine against the hand-written loop, telling `progress` where it is.
///
/// # Errors
/// A server cannot be used, an item was not delivered, or the baseline stayed too slow to be quoted.
pub async fn fanout(
    settings: &FanoutSettings,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<FanoutReport> {
    let work = async |place: &Place| measure_all(place, settings, progress).await;
    Place::lent(&settings.database_url, &settings.brokers, work).await
}

async fn measure_all(
    place: &Place,
    settings: &FanoutSettings,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<FanoutReport> {
    place.seed(settings.users, progress).await?;
    let bench = Fanout {
        place,
        meters: Meters::find(&place.pool).await?,
        progress,
    };
    let mut parts = Parts {
        how: bench.meters.how(),
        processors: processors(),
        dead_tuples: vec![bench.dead_tuples().await?],
        ..Parts::default()
    };
    if !settings.brief {
        // First, so that nothing else has made the process bigger.
        bench.note_memory(FEW_ITEMS.min(settings.users), &mut parts).await?;
        parts.first_ack = Some(bench.first_ack().await?);
    }
    // A broker that has just started compiles its own code while it works: whoever goes first would pay for it.
    progress("warming the broker up");
    bench.raw(settings.items).await?;
    let wanted = |density| settings.only.is_none_or(|only| only == density);
    let sparse_items = place.picked_up_to(settings.users).await?;
    let dense = if wanted(Density::Dense) {
        let case = (Density::Dense, settings.items, settings.items);
        parts.dense = bench.pairs(case, settings.pairs, &mut parts.dead_tuples).await?;
        parts.memory.extend(parts.dense.first().map(|pair| Memory {
            items: settings.items,
            peak_rss_mib: pair.engine.peak_rss_mib,
        }));
        Case::of(settings.items, &parts.dense)
    } else {
        None
    };
    let sparse = if wanted(Density::Sparse) {
        let case = (Density::Sparse, settings.users, sparse_items);
        parts.sparse = bench.pairs(case, settings.pairs, &mut parts.dead_tuples).await?;
        Case::of(sparse_items, &parts.sparse)
    } else {
        None
    };
    if settings.long {
        bench.note_memory(settings.users, &mut parts).await?;
    }
    Ok(FanoutReport { dense, sparse, parts })
}

/// Which items, up to which id, and how many that makes.
type Work = (Density, i64, i64);

struct Fanout<'a> {
    place: &'a Place,
    meters: Meters,
    progress: &'a (dyn Fn(&str) + Send + Sync),
}

impl Fanout<'_> {
    async fn pairs(&self, work: Work, pairs: usize, dead_tuples: &mut Vec<i64>) -> anyhow::Result<Vec<Pair>> {
        let mut done = Vec::with_capacity(pairs);
        for number in 0..pairs {
            let pair = self.good_pair(work, number, pairs).await?;
            (self.progress)(&format!(
                "{:?} {} of {pairs}: ratio {:.2}",
                work.0,
                number + 1,
                pair.ratio
            ));
            done.push(pair);
            dead_tuples.push(self.dead_tuples().await?);
        }
        Ok(done)
    }

    /// A pair whose baseline can be quoted. Who goes first alternates.
    async fn good_pair(&self, work: Work, number: usize, pairs: usize) -> anyhow::Result<Pair> {
        for repeated in 0..=REPEATS {
            let tell = |side: &str| {
                (self.progress)(&format!("{:?} pair {} of {pairs}: {side}", work.0, number + 1));
            };
            let engine_first = (number + repeated as usize).is_multiple_of(2);
            let mut engine = None;
            if engine_first {
                tell("engine");
                engine = Some(self.engine(work).await?);
            }
            tell("baseline");
            let baseline = self.baseline(work).await?;
            let engine = match engine {
                Some(engine) => engine,
                None => {
                    tell("engine");
                    self.engine(work).await?
                }
            };
            tell("raw producer");
            let raw = self.raw(work.2).await?;
            if baseline.items_per_s >= LEAST_BASELINE * raw {
                return Ok(Pair {
                    engine,
                    baseline,
                    raw_producer_items_per_s: raw,
                    ratio: engine.items_per_s / baseline.items_per_s,
                    repeated,
                });
            }
            (self.progress)(&format!(
                "the baseline reached {:.2} of the raw producer, less than {LEAST_BASELINE}: the pair is repeated",
                baseline.items_per_s / raw
            ));
        }
        anyhow::bail!("the baseline stayed below {LEAST_BASELINE} of the raw producer: the machine is too busy")
    }

    async fn engine(&self, (density, last_id, items): Work) -> anyhow::Result<Sample> {
        let topic = self.place.make_topic().await?;
        let replica = Replica::start(self.place, &topic).await?;
        let before = self.meters.start().await?;
        let ended = replica.run(density, last_id, items).await?;
        let used = self.meters.stop(&before).await?;
        replica.stop().await?;
        self.place.remove_topic(&topic).await?;
        Ok(sample(items, ended.batches, ended.took, &used))
    }

    async fn baseline(&self, (density, last_id, items): Work) -> anyhow::Result<Sample> {
        let topic = self.place.make_topic().await?;
        let producer = HandProducer::start(&self.place.kafka, &topic).await?;
        let pool = self.place.loop_pool().await?;
        let before = self.meters.start().await?;
        let (sent, took) = baseline::run(pool.clone(), producer, density, last_id).await?;
        let used = self.meters.stop(&before).await?;
        anyhow::ensure!(sent == items, "the baseline sent {sent} of {items} items");
        pool.close().await;
        self.place.remove_topic(&topic).await?;
        Ok(sample(items, items / BATCH + 1, took, &used))
    }

    async fn raw(&self, items: i64) -> anyhow::Result<f64> {
        let topic = self.place.make_topic().await?;
        let producer = HandProducer::start(&self.place.kafka, &topic).await?;
        let took = baseline::raw(&self.place.pool, producer, items).await?;
        self.place.remove_topic(&topic).await?;
        Ok(items as f64 / took.as_secs_f64())
    }

    async fn note_memory(&self, items: i64, parts: &mut Parts) -> anyhow::Result<()> {
        (self.progress)(&format!("memory at {items} items"));
        let engine = self.engine((Density::Dense, items, items)).await?;
        parts.memory.push(Memory {
            items,
            peak_rss_mib: engine.peak_rss_mib,
        });
        Ok(())
    }

    /// One run of one item after the other, each on a system that has gone idle again.
    async fn first_ack(&self) -> anyhow::Result<Latency> {
        (self.progress)("latency of runs on an idle system");
        let topic = self.place.make_topic().await?;
        let replica = Replica::start(self.place, &topic).await?;
        let mut times = Vec::with_capacity(LATENCY_RUNS);
        for number in 0..LATENCY_RUNS {
            // Out of step with every poll of the engine.
            tokio::time::sleep(Duration::from_millis(30 + (number as u64 * 37) % 200)).await;
            times.push(replica.run(Density::Dense, 1, 1).await?.first_batch.as_secs_f64() * 1e3);
        }
        replica.stop().await?;
        self.place.remove_topic(&topic).await?;
        times.sort_by(f64::total_cmp);
        Ok(Latency {
            runs: LATENCY_RUNS,
            p50_ms: times[LATENCY_RUNS / 2],
            p99_ms: times[LATENCY_RUNS * 99 / 100],
        })
    }

    async fn dead_tuples(&self) -> anyhow::Result<i64> {
        let dead = sqlx::query_scalar(
            "select coalesce(sum(n_dead_tup), 0)::bigint from pg_stat_user_tables where schemaname = 'lockgate'",
        )
        .fetch_one(&self.place.pool)
        .await?;
        Ok(dead)
    }
}

fn sample(items: i64, batches: i64, took: Duration, used: &Used) -> Sample {
    let items = items as f64;
    Sample {
        items_per_s: items / took.as_secs_f64(),
        cpu_us_per_item: used.cpu.map(|seconds| seconds * 1e6 / items),
        wal_bytes_per_item: used.wal_bytes / items,
        wal_fpi_bytes_per_item: used.wal_fpi_bytes / items,
        commits_per_batch: used.commits as f64 / batches as f64,
        peak_rss_mib: used.peak_rss_mib,
    }
}

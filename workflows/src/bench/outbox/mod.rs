//! `lockgate bench outbox`: the outbox and redelivery against loops written by hand on the same tables and rows. The loops
//! know no lanes, leases or order, send nothing to a broker and keep no audit.

mod counted;
mod engine;
pub(super) mod hand;
mod report;

use std::time::Duration;

use sqlx::Executor;

pub use report::{OutboxPair, OutboxReport, OutboxSample};

pub(super) use self::engine::Engine;
use super::meters::{Cpu, Meters};
use super::place::Place;

/// What to measure.
#[derive(Debug, Clone)]
pub struct OutboxSettings {
    /// A server on which the benchmark may make a database.
    pub database_url: String,
    /// The brokers.
    pub brokers: String,
    /// Commands of each side.
    pub commands: i64,
    /// Pairs of each figure.
    pub pairs: usize,
}

/// Measures the outbox and redelivery against loops written by hand, telling `progress` where it is.
///
/// # Errors
/// A server cannot be used, or a command was not delivered.
pub async fn outbox(
    settings: &OutboxSettings,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<OutboxReport> {
    let work = async |place: &Place| measure(place, settings, progress).await;
    Place::lent(&settings.database_url, &settings.brokers, work).await
}

async fn measure(
    place: &Place,
    settings: &OutboxSettings,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<OutboxReport> {
    let topic = place.make_topic().await?;
    let engine = Engine::start(place, &topic).await?;
    let bench = Bench {
        place,
        engine: &engine,
        meters: Meters::find(&place.pool).await?,
        commands: settings.commands,
    };
    // A broker that has just started compiles its own code while it works: the first pair would pay for it.
    progress("warming the broker up");
    engine.enqueue(place, settings.commands).await?;
    engine.drain(settings.commands).await?;
    let (mut enqueue, mut drain, mut redelivery) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..settings.pairs {
        // Who goes first alternates.
        let engine_first = number % 2 == 0;
        let (enqueued, drained) = bench.outbox(engine_first).await?;
        let redelivered = bench.redelivery(&topic, engine_first).await?;
        progress(&format!(
            "pair {} of {}: enqueue {:.2}, drain {:.2}, redelivery {:.2}",
            number + 1,
            settings.pairs,
            enqueued.ratio,
            drained.ratio,
            redelivered.ratio
        ));
        enqueue.push(enqueued);
        drain.push(drained);
        redelivery.push(redelivered);
    }
    engine.stop().await;
    place.remove_topic(&topic).await?;
    Ok(OutboxReport::of(settings.commands, enqueue, drain, redelivery))
}

struct Bench<'a> {
    place: &'a Place,
    engine: &'a Engine,
    meters: Meters,
    commands: i64,
}

impl Bench<'_> {
    /// Enqueueing and draining; each side drains what the other has written.
    async fn outbox(&self, engine_first: bool) -> anyhow::Result<(OutboxPair, OutboxPair)> {
        let (place, commands) = (self.place, self.commands);
        let (mut written, mut drained) = ([None; 2], [None; 2]);
        for engines in [engine_first, !engine_first] {
            place.pool.execute("truncate lockgate.outbox").await?;
            let before = self.start().await?;
            let took = match engines {
                true => self.engine.enqueue(place, commands).await?,
                false => hand::insert(place, commands).await?,
            };
            written[usize::from(engines)] = Some(self.sample(before, took));
            let before = self.start().await?;
            let took = match engines {
                true => hand::claim_and_delete(place, commands).await?,
                false => self.engine.drain(commands).await?,
            };
            drained[usize::from(!engines)] = Some(self.sample(before, took));
        }
        Ok((OutboxPair::of(written)?, OutboxPair::of(drained)?))
    }

    async fn redelivery(&self, topic: &str, engine_first: bool) -> anyhow::Result<OutboxPair> {
        let mut redelivered = [None; 2];
        for engines in [engine_first, !engine_first] {
            hand::store(self.place, topic, self.commands).await?;
            let before = self.start().await?;
            let took = match engines {
                true => self.engine.redeliver(self.commands).await?,
                false => hand::claim_and_update(self.place, self.commands).await?,
            };
            redelivered[usize::from(engines)] = Some(self.sample(before, took));
        }
        OutboxPair::of(redelivered)
    }

    /// From a fresh checkpoint.
    async fn start(&self) -> anyhow::Result<Cpu> {
        self.place.pool.execute("checkpoint").await?;
        Ok(self.meters.cpu())
    }

    fn sample(&self, before: Cpu, took: Duration) -> OutboxSample {
        let commands = self.commands as f64;
        OutboxSample {
            per_s: commands / took.as_secs_f64(),
            cpu_us: self.meters.cpu().since(before).map(|seconds| seconds * 1e6 / commands),
        }
    }
}

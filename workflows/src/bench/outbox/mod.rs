//! `lockgate bench outbox`: the outbox and redelivery against loops written by hand on the same tables and rows. The loops
//! know no lanes, leases or order, send nothing to a broker and keep no audit.

mod counted;
mod engine;
mod hand;
mod report;

use std::time::Duration;

use sqlx::Executor;

pub use report::{OutboxPair, OutboxReport};

use self::engine::Engine;
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
    let place = Place::make(&settings.database_url, &settings.brokers).await?;
    let result = measure(&place, settings, progress).await;
    place.remove().await?;
    result
}

async fn measure(
    place: &Place,
    settings: &OutboxSettings,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<OutboxReport> {
    let topic = place.make_topic().await?;
    let engine = Engine::start(place, &topic).await?;
    let commands = settings.commands;
    let (mut enqueue, mut drain, mut redelivery) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..settings.pairs {
        // Who goes first alternates; each drains what it did not write.
        let engine_first = number % 2 == 0;
        let (mut times, mut drains) = ([Duration::ZERO; 2], [Duration::ZERO; 2]);
        for engines in [engine_first, !engine_first] {
            place.pool.execute("truncate lockgate.outbox").await?;
            place.pool.execute("checkpoint").await?;
            times[usize::from(engines)] = match engines {
                true => engine.enqueue(place, commands).await?,
                false => hand::insert(place, commands).await?,
            };
            place.pool.execute("checkpoint").await?;
            drains[usize::from(!engines)] = match engines {
                true => hand::claim_and_delete(place, commands).await?,
                false => engine.drain(place, commands).await?,
            };
        }
        let mut redeliveries = [Duration::ZERO; 2];
        for engines in [engine_first, !engine_first] {
            hand::store(place, &topic, commands).await?;
            place.pool.execute("checkpoint").await?;
            redeliveries[usize::from(engines)] = match engines {
                true => engine.redeliver(place, commands).await?,
                false => hand::claim_and_update(place, commands).await?,
            };
        }
        let pair = |[hand, engine]: [Duration; 2]| OutboxPair::of(commands, engine, hand);
        enqueue.push(pair(times));
        drain.push(pair(drains));
        redelivery.push(pair(redeliveries));
        let ratios = [&enqueue, &drain, &redelivery].map(|pairs| pairs.last().map_or(0.0, |pair| pair.ratio));
        progress(&format!(
            "pair {} of {}: enqueue {:.2}, drain {:.2}, redelivery {:.2}",
            number + 1,
            settings.pairs,
            ratios[0],
            ratios[1],
            ratios[2]
        ));
    }
    engine.stop().await;
    place.remove_topic(&topic).await?;
    Ok(OutboxReport::of(commands, enqueue, drain, redelivery))
}

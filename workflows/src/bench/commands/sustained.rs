//! How many commands a second go through the orchestrator, beside a loop that makes the same messages and hands them to
//! the producer itself, with as many in flight: the orchestrator's window is the loop's. Before the window the caller may
//! be ahead by as much again in the queue, as callers are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockgate::delivery::{Direct, DirectSettings, Handover, KeyHash, Topics};

use super::super::place::Place;
use super::super::producer::{HandProducer, Unconfirmed, headers};
use super::report::SubmitPair;
use super::{STOP_WITHIN, welcome};

/// How often a loop looks whether there is room, in commands.
const LOOK_EVERY: u64 = 64;
/// Rest of a loop that found no room.
const REST: Duration = Duration::from_micros(200);

/// One pair; who goes first alternates.
pub(super) async fn pair(place: &Place, commands: u64, number: usize) -> anyhow::Result<SubmitPair> {
    let (ours, raw) = if number.is_multiple_of(2) {
        let ours = orchestrator(place, commands).await?;
        (ours, producer(place, commands).await?)
    } else {
        let raw = producer(place, commands).await?;
        (orchestrator(place, commands).await?, raw)
    };
    Ok(SubmitPair {
        submit_per_s: ours,
        raw_producer_per_s: raw,
        ratio: ours / raw,
    })
}

fn window() -> u64 {
    DirectSettings::default().window as u64
}

async fn orchestrator(place: &Place, commands: u64) -> anyhow::Result<f64> {
    let topic = place.make_topic().await?;
    let orchestrator = lockgate::orchestrator(&place.config(&topic), None)?;
    let looping = orchestrator.clone();
    let took = tokio::task::spawn_blocking(move || {
        let open = |submitted: u64| submitted - looping.stats().delivered;
        // Warm: connected, and the topic is known.
        drop(looping.submit(Direct::new(welcome(0))));
        while open(1) > 0 {
            std::thread::sleep(REST);
        }
        let begun = Instant::now();
        for number in 1..=commands {
            while number % LOOK_EVERY == 0 && open(number) + LOOK_EVERY > 2 * window() {
                std::thread::sleep(REST);
            }
            let handover = looping.submit(Direct::new(welcome(number)));
            anyhow::ensure!(matches!(handover, Handover::Accepted), "a command was not accepted");
        }
        while open(commands + 1) > 0 {
            let stored = looping.stats().stored;
            anyhow::ensure!(stored.is_empty(), "commands were stored: {stored:?}");
            std::thread::sleep(REST);
        }
        Ok(begun.elapsed())
    });
    let took = took.await??;
    orchestrator.stop(STOP_WITHIN).await;
    place.remove_topic(&topic).await?;
    Ok(commands as f64 / took.as_secs_f64())
}

async fn producer(place: &Place, commands: u64) -> anyhow::Result<f64> {
    let topic = place.make_topic().await?;
    let producer = HandProducer::start(&place.kafka, &topic).await?;
    let topics = Topics::new(&BTreeMap::from([("email".to_owned(), topic.clone())]));
    let took = tokio::task::spawn_blocking(move || {
        let (hash, unconfirmed) = (KeyHash::none(), Arc::new(Unconfirmed::default()));
        let begun = Instant::now();
        for number in 1..=commands {
            while number % LOOK_EVERY == 0 && unconfirmed.open() as u64 + LOOK_EVERY > window() {
                std::thread::sleep(REST);
            }
            let ready = Direct::new(welcome(number)).into_ready(&topics, &hash)?;
            let pairs: Vec<(&str, &[u8])> = ready.message.headers.iter().collect();
            let key = ready.message.key.as_deref().unwrap_or_default();
            producer.send_now(key, &ready.message.payload, headers(&pairs), &unconfirmed)?;
        }
        while unconfirmed.open() > 0 {
            std::thread::sleep(REST);
        }
        anyhow::Ok(begun.elapsed())
    });
    let took = took.await??;
    place.remove_topic(&topic).await?;
    Ok(commands as f64 / took.as_secs_f64())
}

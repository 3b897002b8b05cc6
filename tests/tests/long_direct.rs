//! Direct commands through long trouble: a broker frozen for as long as the one was that made a predecessor lose most of
//! what it was given, and a burst into it. Long, because the trouble is.
#![allow(clippy::unwrap_used, clippy::panic)]

mod delivery_support;
mod direct_support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use delivery_support::Running;
use direct_support::*;
use lockgate::delivery::{Direct, Handover, NotificationOrchestrator, RedeliverySettings};
use lockgate::kafka::{KafkaConfig, KafkaPublisher};
use lockgate::postgres::{Database, DatabaseSettings};
use lockgate_tests::own_servers::OwnServers;
use lockgate_tests::wait_until;
use uuid::Uuid;

const LONG: Duration = Duration::from_secs(180);
/// Commands a second.
const RATE: usize = 5_000;
const FROZEN_S: usize = 20;
const BURST: usize = 60_000;

/// Submits so many at a rate; none may be given back.
fn submit_at(orchestrator: &NotificationOrchestrator, per_s: usize, count: usize) -> BTreeSet<Uuid> {
    let begun = Instant::now();
    let submit = |number: usize| {
        let due = Duration::from_secs_f64(number as f64 / per_s as f64);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        let command = Direct::new(email(number));
        let id = command.message_id;
        let handover = orchestrator.submit(command);
        assert!(matches!(handover, Handover::Accepted), "command {number}");
        id
    };
    (0..count).map(submit).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_frozen_seconds_and_a_burst_lose_nothing_and_all_of_it_arrives() {
    let servers = OwnServers::up(&["kafka"]);
    let cluster = servers.cluster().await;
    let (brokers, topic) = (cluster.topic.brokers(), cluster.topic.name());
    let orchestrator = lockgate::orchestrator(&config(cluster.url(), brokers, topic), None).unwrap();
    let mut ids = submit_all(&orchestrator, 100);
    wait_until(LONG, "the way is open", async || orchestrator.stats().delivered == 100).await;
    servers.act("freeze", "kafka");
    let caller = orchestrator.clone();
    let submitting = tokio::task::spawn_blocking(move || {
        let mut ids = submit_at(&caller, RATE, RATE * FROZEN_S);
        ids.extend(submit_at(&caller, BURST / 2, BURST));
        ids
    });
    ids.extend(submitting.await.unwrap());
    wait_until(LONG, "all are placed", async || {
        placed(&orchestrator) == ids.len() as u64
    })
    .await;
    servers.act("thaw", "kafka");
    assert_eq!(orchestrator.stop(LONG).await.unplaced, 0);
    assert_eq!(rows(&cluster.pool, None).await.len(), RATE * FROZEN_S + BURST);

    let now = "update lockgate.undelivered_messages set next_attempt_at = clock_timestamp() where status = 'due'";
    sqlx::query(now).execute(&cluster.pool).await.unwrap();
    let breakers = breakers();
    let publisher = KafkaPublisher::start(KafkaConfig::new(brokers), breakers.clone()).unwrap();
    let database = Database::new(&DatabaseSettings::new(cluster.url())).unwrap();
    let running = Running::start(database, Arc::new(publisher), &breakers, RedeliverySettings::default());
    wait_until(LONG, "all rows are delivered", async || {
        rows(&cluster.pool, Some("delivered")).await.len() == RATE * FROZEN_S + BURST
    })
    .await;
    assert!(running.stop().await);
    let sent = records(brokers, topic).await;
    assert_eq!(sent.keys().copied().collect::<BTreeSet<_>>(), ids);
    let twice = sent.values().filter(|copies| copies.len() > 1).count();
    println!("{} commands, {twice} of them twice", ids.len());
    // Only those that had been sent when the broker froze, and a trial now and then.
    assert!(twice <= 8_192 + FROZEN_S, "{twice}");
}

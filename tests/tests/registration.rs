//! A business service that sends e-mails goes on with its life whatever Kafka does (R36.1, R36.6).
#![allow(clippy::unwrap_used, clippy::panic)]

mod delivery_support;
mod direct_support;

use std::time::{Duration, Instant};

use direct_support::*;
use lockgate::delivery::NotificationOrchestrator;
use lockgate_tests::own_servers::OwnServers;
use lockgate_tests::wait_until;
use lockgate_workflows::registration::{NewUser, Registration};
use lockgate_workflows::tracker;

const USERS: usize = 100;
const SOON: Duration = Duration::from_secs(60);

/// Registers users one after the other and answers how long all of them took.
async fn register(registration: &Registration, weather: &str) -> Duration {
    let begun = Instant::now();
    for number in 0..USERS {
        let new = NewUser {
            email: format!("{weather}{number}@example.org"),
            name: "Ada".to_owned(),
            locale: "en".to_owned(),
        };
        registration.register(new).await.unwrap();
    }
    begun.elapsed()
}

fn started(cluster: &lockgate_tests::cluster::Cluster) -> NotificationOrchestrator {
    lockgate::orchestrator(
        &config(cluster.url(), cluster.topic.brokers(), cluster.topic.name()),
        None,
    )
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_registered_and_welcomed_with_kafka_up_frozen_and_down() {
    let servers = OwnServers::up(&["kafka"]);
    let cluster = servers.cluster().await;
    tracker::create(&cluster.pool).await.unwrap();
    let orchestrator = started(&cluster);
    let registration = Registration::new(cluster.pool.clone(), orchestrator.clone());

    let up = register(&registration, "up").await;
    wait_until(SOON, "all have a place", async || placed(&orchestrator) == USERS as u64).await;
    servers.act("freeze", "kafka");
    let frozen = register(&registration, "frozen").await;
    wait_until(SOON, "all have a place", async || {
        placed(&orchestrator) == 2 * USERS as u64
    })
    .await;
    servers.act("thaw", "kafka");
    assert_eq!(orchestrator.stop(SOON).await.unplaced, 0);

    servers.act("stop", "kafka");
    let orchestrator = started(&cluster);
    let registration = Registration::new(cluster.pool.clone(), orchestrator.clone());
    let down = register(&registration, "down").await;
    assert_eq!(orchestrator.stop(SOON).await.unplaced, 0);
    servers.act("start", "kafka");
    println!("{USERS} registrations: up {up:?}, frozen {frozen:?}, down {down:?}");
    // They do not wait for Kafka, whose shortest patience is two seconds: all of them would take twice as long.
    assert!(
        frozen.max(down) < Duration::from_secs(USERS as u64),
        "up {up:?}, frozen {frozen:?}, down {down:?}"
    );

    let users: i64 = sqlx::query_scalar("select count(*) from tracker.users")
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    assert_eq!(users, 3 * USERS as i64);
    // Replicas send what was stored.
    let now = "update lockgate.undelivered_messages set next_attempt_at = clock_timestamp() where status = 'due'";
    sqlx::query(now).execute(&cluster.pool).await.unwrap();
    let _replica = cluster.replica();
    wait_until(SOON, "every welcome is in Kafka", async || {
        let left = "select count(*) from lockgate.undelivered_messages where status <> 'delivered'";
        sqlx::query_scalar::<_, i64>(left)
            .fetch_one(&cluster.pool)
            .await
            .unwrap()
            == 0
    })
    .await;
    let sent = records(cluster.topic.brokers(), cluster.topic.name()).await;
    assert_eq!(sent.len(), 3 * USERS, "one message-id a user");
}

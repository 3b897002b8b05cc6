//! K and D1: deaths and troubles between worker and broker (R40.6).

use std::time::Duration;

use lockgate_tests::cluster::{Cluster, WINDOW};
use lockgate_tests::mock_kafka::MockKafka;
use lockgate_tests::topic::Topic;
use lockgate_tests::{kafka_brokers, wait_until};
use serde_json::json;

use crate::dies_at;

pub async fn mid_batch() {
    let (_, found) = dies_at("publish.mid:700").await;
    assert!(found.recovered >= 1 && found.duplicates <= WINDOW, "{found}");
}

pub async fn full_queue() {
    let cluster = Cluster::new().await.patient();
    let run = cluster.start("chaos-items", json!({"items": 3_000})).await;
    let queue = "kafka.properties.queue.buffering.max.messages=20";
    let _replica = cluster.replica_called(&["run", "--set", queue], &[]);
    let found = cluster.completes(run).await;
    assert_eq!(
        (found.fates["delivered"], found.duplicates, found.recovered),
        (3_000, 0, 0),
        "{found}"
    );
}

pub async fn no_message() {
    let cluster = Cluster::new().await.patient();
    let broken = json!({"items": 1_500, "unserialisable": [1, 750], "panics": [751, 1_500], "skipped": [2]});
    let run = cluster.start("chaos-items", broken).await;
    let _replica = cluster.replica();
    let found = cluster.completes(run).await;
    assert_eq!(
        (found.fates["refused"], found.fates["skipped"], found.fates["delivered"]),
        (4, 1, 1_495),
        "{found}"
    );
    let codes = "select reason_code, item_id from lockgate.undelivered_messages where run_id = $1 and status = 'refused' order by item_id";
    let rows: Vec<(String, i64)> = sqlx::query_as(codes).bind(run).fetch_all(&cluster.pool).await.unwrap();
    let expected = [
        ("not_serialisable", 1),
        ("not_serialisable", 750),
        ("panicked", 751),
        ("panicked", 1_500),
    ];
    assert_eq!(rows, expected.map(|(code, item)| (code.to_owned(), item)));
}

pub async fn oversize() {
    // More than the topic takes and less than the client does, so that the broker refuses the whole request.
    let topic = Topic::new(kafka_brokers(), &[("max.message.bytes", "20000")]).await;
    // Each message of a refused request goes alone, which takes a busy broker longer than the tests' message timeout.
    let cluster = Cluster::on_topic(topic).await.patient();
    let bad = json!({"items": 1_000, "oversize": [10, 11, 600], "oversize_bytes": 60_000});
    let run = cluster.start("chaos-items", bad).await;
    // And one that the client itself refuses.
    let worse = cluster
        .start(
            "chaos-items",
            json!({"items": 100, "oversize": [7], "oversize_bytes": 3_000_000}),
        )
        .await;
    let _replica = cluster.replica();
    let found = cluster.completes(run).await;
    assert_eq!(
        (found.fates["refused"], found.fates["delivered"], found.duplicates),
        (3, 997, 0),
        "{found}"
    );
    let found = cluster.completes(worse).await;
    assert_eq!((found.fates["refused"], found.fates["delivered"]), (1, 99), "{found}");
}

pub async fn broker_stands_still() {
    let broker = MockKafka::start();
    let cluster = Cluster::on_topic(broker.topic()).await;
    let run = cluster
        .start_paced("chaos-items", json!({"items": 4_000}), Some(500))
        .await;
    let replica = cluster.replica_with(&[]);
    wait_until(lockgate_tests::replica::PATIENCE, "a batch is done", async || {
        cluster.batches_done(run).await > 0
    })
    .await;
    broker.answer_after(Duration::from_secs(5));
    let opened = "select count(*) from lockgate.replicas, lockgate.task_runs r where r.id = $1 and breakers <> '[]'";
    wait_until(lockgate_tests::replica::PATIENCE, "the breaker opens", async || {
        cluster.count(opened, run).await > 0
    })
    .await;
    broker.answer_after(Duration::ZERO);
    let found = cluster.completes(run).await;
    println!("{found}");
    let stored = found.fates.get("unknown").copied().unwrap_or_default();
    assert!(stored <= WINDOW, "{stored} stored: {found}");
    drop(replica);
}

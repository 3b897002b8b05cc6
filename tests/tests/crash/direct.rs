//! G: deaths of a process that holds direct commands.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lockgate::delivery::TopicReader;
use lockgate::kafka::{KafkaConfig, KafkaTopicReader};
use lockgate_tests::cluster::Cluster;
use lockgate_tests::mock_kafka::MockKafka;
use lockgate_tests::replica::{PATIENCE, Replica};
use lockgate_tests::topic::Topic;
use lockgate_tests::wait_until;
use rdkafka::consumer::{BaseConsumer, Consumer};
use uuid::Uuid;

/// A few pages.
const COMMANDS: usize = 2_000;

fn submitting(cluster: &Cluster, arguments: &[&str], point: &str) -> Replica {
    let count = COMMANDS.to_string();
    let all = [&["submit-direct", count.as_str()], arguments].concat();
    cluster.replica_called(&all, &[("LOCKGATE_CRASH_AT", point)])
}

fn accepted(process: &Replica) -> Vec<Uuid> {
    let log = process.log();
    log.lines()
        .filter_map(|line| line.strip_prefix("accepted ")?.parse().ok())
        .collect()
}

/// How often each message is in the topic.
async fn copies(topic: &Topic) -> BTreeMap<Uuid, usize> {
    let reader = KafkaTopicReader::new(KafkaConfig::new(topic.brokers()));
    let name = topic.name().to_owned();
    tokio::task::spawn_blocking(move || {
        let mut copies = BTreeMap::new();
        reader
            .read_since(&name, DateTime::<Utc>::UNIX_EPOCH, &mut |record| {
                let id = record.headers.iter().find(|(name, _)| name == "message-id").unwrap();
                let id: Uuid = std::str::from_utf8(&id.1)?.parse()?;
                *copies.entry(id).or_default() += 1;
                Ok(())
            })
            .unwrap();
        copies
    })
    .await
    .unwrap()
}

async fn rows(cluster: &Cluster, status: &str) -> i64 {
    sqlx::query_scalar("select count(*) from lockgate.undelivered_messages where run_id is null and status = $1")
        .bind(status)
        .fetch_one(&cluster.pool)
        .await
        .unwrap()
}

pub async fn after_publish() {
    let cluster = Cluster::new().await.patient();
    let mut process = submitting(&cluster, &[], "direct.after_publish:500");
    process.crashes().await;
    let accepted = accepted(&process);
    let copies = copies(&cluster.topic).await;
    println!("{} accepted, {} of them in the topic", accepted.len(), copies.len());
    assert!(
        copies.len() <= 500 && copies.values().all(|count| *count == 1),
        "{copies:?}"
    );
    assert_eq!(rows(&cluster, "due").await, 0);
}

pub async fn before_store() {
    let cluster = Cluster::new().await.patient();
    // There are two writers: the third page is begun by one that has stored its first.
    let mut process = submitting(&cluster, &["--in-seconds", "1"], "direct.before_store:3");
    process.crashes().await;
    cluster.settles().await;
    let stored = rows(&cluster, "due").await;
    let accepted = accepted(&process).len() as i64;
    // What the last page would have held was accepted, though its process may have died before it said so.
    assert!(
        stored > 0 && stored <= accepted,
        "the first pages of {accepted} are stored: {stored}"
    );
    let _replica = cluster.replica();
    wait_until(PATIENCE, "what was stored is delivered", async || {
        rows(&cluster, "delivered").await == stored
    })
    .await;
    let copies = copies(&cluster.topic).await;
    assert!(copies.len() as i64 == stored && copies.values().all(|count| *count == 1));
}

pub async fn after_store() {
    let cluster = Cluster::new().await.patient();
    let mut process = submitting(&cluster, &["--in-seconds", "1"], "direct.after_store");
    process.crashes().await;
    cluster.settles().await;
    let stored = rows(&cluster, "due").await;
    assert!(stored > 0);
    let _replica = cluster.replica();
    wait_until(PATIENCE, "what was stored is delivered", async || {
        rows(&cluster, "delivered").await == stored
    })
    .await;
    let copies = copies(&cluster.topic).await;
    assert!(copies.len() as i64 == stored && copies.values().all(|count| *count == 1));
}

pub async fn before_confirm() {
    let kafka = MockKafka::start();
    // Connecting takes some slow answers too, and must not use up the time of the messages.
    let cluster = Cluster::on_topic(kafka.topic()).await.patient();
    let cluster = cluster.with("LOCKGATE_DIRECT_PATIENCE", "200ms");
    kafka.answer_after(Duration::from_millis(600));
    let mut process = submitting(&cluster, &[], "direct.before_confirm");
    process.crashes().await;
    cluster.settles().await;
    let stored = rows(&cluster, "due").await;
    assert!(stored > 0);
    kafka.answer_after(Duration::from_millis(1));
    let sent = records(&cluster.topic).await;
    let _replica = cluster.replica();
    wait_until(PATIENCE, "what was stored is delivered", async || {
        rows(&cluster, "delivered").await == stored
    })
    .await;
    assert!(sent > 0);
    assert_eq!(records(&cluster.topic).await, sent + stored);
}

/// How many records there are, for a broker that cannot look for one by its time.
async fn records(topic: &Topic) -> i64 {
    let mut client = rdkafka::ClientConfig::new();
    let consumer: BaseConsumer = client.set("bootstrap.servers", topic.brokers()).create().unwrap();
    let name = topic.name().to_owned();
    let counting = tokio::task::spawn_blocking(move || {
        let end = |partition| consumer.fetch_watermarks(&name, partition, PATIENCE).unwrap().1;
        (0..4).map(end).sum()
    });
    counting.await.unwrap()
}

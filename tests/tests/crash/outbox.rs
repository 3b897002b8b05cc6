//! O: deaths and troubles while the outbox is sent (R36.10).

use std::collections::BTreeSet;
use std::time::Duration;

use lockgate::delivery::{Direct, KeyHash, Topics};
use lockgate::postgres::Outbox;
use lockgate_tests::cluster::Cluster;
use lockgate_tests::mock_kafka::MockKafka;
use lockgate_tests::notes::{self, Note};
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::topic::Topic;
use lockgate_tests::{kafka_brokers, wait_until};
use sqlx::PgPool;
use uuid::Uuid;

/// Rows read and sent at once here: what a death sends twice of one lane.
const PAGE: usize = 50;
const LANES: usize = 8;

async fn number(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap_or(-1)
}

async fn is_empty(cluster: &Cluster) {
    wait_until(PATIENCE, "the outbox is empty", async || {
        number(&cluster.pool, "select count(*) from lockgate.outbox").await == 0
    })
    .await;
}

async fn enqueue(cluster: &Cluster) -> Vec<Uuid> {
    notes::enqueue(&cluster.pool, notes::to_everybody(cluster.topic.name(), 40, 100)).await
}

/// A replica dies at the point, two others send what is left; answers how much was sent twice.
async fn dies_at(point: &str) -> usize {
    let cluster = Cluster::new().await.patient().with("LOCKGATE_OUTBOX_PAGE", "50");
    let ids = enqueue(&cluster).await;
    cluster.dies_at(point).await;
    let left = number(&cluster.pool, "select count(*) from lockgate.outbox").await;
    let _replicas = [cluster.replica(), cluster.replica()];
    is_empty(&cluster).await;
    let twice = notes::hold(&cluster.topic.sent().await, &ids);
    println!("{point}: {left} of {} left, {twice} sent twice", ids.len());
    twice
}

pub async fn after_claim() {
    assert_eq!(dies_at("outbox.after_claim").await, 0);
}

pub async fn mid_page() {
    assert!(dies_at("outbox.mid_page:700").await <= LANES * PAGE);
}

pub async fn after_publish() {
    // Later than the first, so that something was deleted before.
    let twice = dies_at("outbox.after_publish:3").await;
    assert!((1..=LANES * PAGE).contains(&twice), "{twice}");
}

pub async fn after_delete() {
    assert!(dies_at("outbox.after_delete:2").await <= LANES * PAGE);
}

pub async fn after_refuse() {
    let topic = Topic::new(kafka_brokers(), &[("max.message.bytes", "20000")]).await;
    let cluster = Cluster::on_topic(topic).await.patient();
    let note = |n: u32| Note::new(cluster.topic.name(), Some("a"), n);
    let notes = (1..=200).map(|n| if n == 70 { note(n).filled(60_000) } else { note(n) });
    let mut ids = notes::enqueue(&cluster.pool, notes).await;
    cluster.dies_at("outbox.after_refuse").await;
    assert_eq!(number(&cluster.pool, "select count(*) from lockgate.outbox").await, 199);
    let _replica = cluster.replica();
    is_empty(&cluster).await;
    let refused: Vec<(Uuid, String)> = sqlx::query_as("select message_id, status from lockgate.undelivered_messages")
        .fetch_all(&cluster.pool)
        .await
        .unwrap();
    assert_eq!(refused, [(ids.remove(69), "refused".to_owned())]);
    let audited = "select count(*) from lockgate.transitions where to_status = 'refused'";
    assert_eq!(number(&cluster.pool, audited).await, 1);
    assert!(notes::hold(&cluster.topic.sent().await, &ids) <= 199);
}

/// Every message of these is there, and no other.
async fn all_are_there(cluster: &Cluster, ids: impl IntoIterator<Item = Uuid>) {
    let sent = cluster.topic.sent().await;
    let there: BTreeSet<Uuid> = sent.iter().map(|record| record.message_id).collect();
    assert_eq!(there, ids.into_iter().collect(), "lost or invented");
    let stored = "select count(*) from lockgate.undelivered_messages";
    assert_eq!(
        number(&cluster.pool, stored).await,
        0,
        "the rows are durable where they are"
    );
}

pub async fn frozen() {
    let broker = MockKafka::start();
    let cluster = Cluster::on_topic(broker.topic())
        .await
        .with("LOCKGATE_LEASE_DURATION", "15s")
        .with("LOCKGATE_KAFKA_MESSAGE_TIMEOUT", "11s");
    let mut replicas = [cluster.replica(), cluster.replica()];
    let mut names = Vec::new();
    for replica in &mut replicas {
        names.push(replica.runs().await);
    }
    // Its page is on its way when it stops, and acknowledged when it wakes.
    broker.answer_after(Duration::from_secs(9));
    let ids = notes::enqueue(&cluster.pool, notes::to_everybody(cluster.topic.name(), 1, 200)).await;
    let mut holder = None;
    wait_until(PATIENCE, "the lane is held", async || {
        let held = "select claimed_by from lockgate.outbox_lanes where claim_id is not null";
        holder = sqlx::query_scalar(held).fetch_optional(&cluster.pool).await.unwrap();
        holder.is_some()
    })
    .await;
    let at = names.iter().position(|name| Some(*name) == holder).unwrap();
    let zombie = &mut replicas[at];
    zombie.freeze();
    let taken = "select count(*) from lockgate.outbox_lanes where claim_token >= 2";
    wait_until(PATIENCE, "the lane is taken over", async || {
        number(&cluster.pool, taken).await == 1
    })
    .await;
    broker.answer_after(Duration::ZERO);
    let more = (201..=1_200).map(|n| Note::new(cluster.topic.name(), Some("person 0"), n));
    let more = notes::enqueue(&cluster.pool, more).await;
    zombie.thaw();
    wait_until(PATIENCE, "it notices", async || {
        zombie.log().contains("a lease was lost")
    })
    .await;
    is_empty(&cluster).await;
    all_are_there(&cluster, ids.into_iter().chain(more)).await;
    assert!(zombie.is_alive(), "it lives on");
}

pub async fn caller_rolls_back() {
    let cluster = Cluster::new().await.patient();
    let _replica = cluster.replica();
    let outbox = Outbox::new(Topics::default(), KeyHash::none());
    let mut never = cluster.pool.begin().await.unwrap();
    let notes = |n: std::ops::Range<u32>| n.map(|n| Direct::new(Note::new(cluster.topic.name(), Some("a"), n)));
    outbox.enqueue_all_in(&mut never, notes(1..300)).await.unwrap();
    // The next ones are committed while the first are not, then those are not at all.
    let mut sound = cluster.pool.begin().await.unwrap();
    let ids = outbox.enqueue_all_in(&mut sound, notes(300..400)).await.unwrap();
    sound.commit().await.unwrap();
    is_empty(&cluster).await;
    never.rollback().await.unwrap();
    let last = notes::enqueue(
        &cluster.pool,
        [Note::new(cluster.topic.name(), Some("a"), 400)].into_iter(),
    )
    .await;
    is_empty(&cluster).await;
    let all: Vec<Uuid> = ids.into_iter().chain(last).collect();
    assert_eq!(notes::hold(&cluster.topic.sent().await, &all), 0);
}

pub async fn broker_stands_still() {
    let broker = MockKafka::start();
    let cluster = Cluster::on_topic(broker.topic()).await;
    let mut replicas = [cluster.replica(), cluster.replica()];
    for replica in &mut replicas {
        replica.runs().await;
    }
    broker.answer_after(Duration::from_secs(5));
    let ids = notes::enqueue(&cluster.pool, notes::to_everybody(cluster.topic.name(), 40, 30)).await;
    let opened = "select count(*) from lockgate.replicas where breakers <> '[]'";
    wait_until(PATIENCE, "a breaker opens", async || {
        number(&cluster.pool, opened).await > 0
    })
    .await;
    assert!(number(&cluster.pool, "select count(*) from lockgate.outbox").await > 0);
    broker.answer_after(Duration::ZERO);
    is_empty(&cluster).await;
    all_are_there(&cluster, ids).await;
}

pub async fn drain() {
    let cluster = Cluster::new().await.patient();
    let ids = enqueue(&cluster).await;
    let mut first = cluster.replica();
    wait_until(PATIENCE, "some of it is sent", async || {
        number(&cluster.pool, "select count(*) from lockgate.outbox").await < ids.len() as i64
    })
    .await;
    first.terminate();
    let status = first.ends().await;
    assert_eq!(status.code(), Some(0), "{status}");
    let held = "select count(*) from lockgate.outbox_lanes where claim_id is not null";
    assert_eq!(number(&cluster.pool, held).await, 0, "its lanes are free at once");
    let _second = cluster.replica();
    is_empty(&cluster).await;
    assert_eq!(notes::hold(&cluster.topic.sent().await, &ids), 0);
}

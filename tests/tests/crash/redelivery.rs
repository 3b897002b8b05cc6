//! F: deaths while undelivered messages are sent again.

use lockgate_tests::cluster::Cluster;
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::topic::Topic;
use lockgate_tests::{kafka_brokers, wait_until};
use serde_json::json;
use uuid::Uuid;

const DELIVERED: &str = "select count(*) from lockgate.undelivered_messages where run_id = $1 and status = 'delivered'";
const REFUSED: &str =
    "select count(*) from lockgate.undelivered_messages where run_id = $1 and status = 'refused' and attempts = 0";
const OVERSIZE: &[i64] = &[10, 11, 12];

/// A run whose oversize messages were refused by a topic that takes them from now on.
async fn with_refused_messages() -> (Cluster, Uuid) {
    let topic = Topic::new(kafka_brokers(), &[("max.message.bytes", "20000")]).await;
    // Each message of a refused request goes alone, which takes a busy broker longer than the tests' message timeout.
    let cluster = Cluster::on_topic(topic).await.patient();
    let items = json!({"items": 20, "oversize": OVERSIZE, "oversize_bytes": 60_000});
    let run = cluster.start("chaos-items", items).await;
    let replica = cluster.replica();
    let found = cluster.completes(run).await;
    assert_eq!((found.fates["refused"], found.records), (OVERSIZE.len(), 17), "{found}");
    drop(replica);
    cluster.topic.set("max.message.bytes", "1000000").await;
    (cluster, run)
}

async fn redeliver(cluster: &Cluster, run: Uuid) {
    let act =
        "select changed::bigint from lockgate.redeliver_undelivered(run => $1, why => 'the topic takes them now')";
    assert_eq!(cluster.count(act, run).await, OVERSIZE.len() as i64);
}

pub async fn dies() {
    for (point, copies) in [
        ("redelivery.after_claim", 1),
        ("redelivery.after_publish", 2),
        ("redelivery.after_commit", 1),
    ] {
        let (cluster, run) = with_refused_messages().await;
        redeliver(&cluster, run).await;
        cluster.dies_at(point).await;
        let _replica = cluster.replica();
        wait_until(PATIENCE, "all is delivered", async || {
            cluster.count(DELIVERED, run).await == 3
        })
        .await;
        let found = cluster.completes(run).await;
        println!("{point}: {found}");
        assert_eq!(found.records, 17 + copies * OVERSIZE.len(), "{point}: {found}");
        let sum = "select count(*) from lockgate.v_run_proof where run_id = $1 and adds_up and delivered = 20 and undelivered = 0";
        assert_eq!(cluster.count(sum, run).await, 1);
    }
}

pub async fn only_by_hand() {
    let (cluster, run) = with_refused_messages().await;
    // Another run's message is due: when that was sent again, redelivery has looked at all there is.
    let other = cluster
        .start(
            "chaos-items",
            json!({"items": 1, "oversize": [1], "oversize_bytes": 3_000_000}),
        )
        .await;
    let _replica = cluster.replica();
    cluster.completes(other).await;
    let due = "update lockgate.undelivered_messages set status = 'due', payload = 'small', next_attempt_at = clock_timestamp() where run_id <> $1";
    sqlx::query(due).bind(run).execute(&cluster.pool).await.unwrap();
    wait_until(PATIENCE, "what is due is delivered", async || {
        cluster.count(DELIVERED, other).await == 1
    })
    .await;
    assert_eq!(cluster.count(REFUSED, run).await, 3);
    redeliver(&cluster, run).await;
    wait_until(PATIENCE, "they are delivered", async || {
        cluster.count(DELIVERED, run).await == 3
    })
    .await;
    assert_eq!(cluster.holds(run).await.duplicates, 0);
}

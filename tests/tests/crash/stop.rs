//! R and D5: replicas that are asked to stop, and one that was frozen.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use lockgate_tests::cluster::Cluster;
use lockgate_tests::mock_kafka::MockKafka;
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::wait_until;
use serde_json::json;
use uuid::Uuid;

const SAVED: &str =
    "select count(*) from lockgate.run_batches where run_id = $1 and status = 'claimed' and delivered_bits is not null";
const NEWEST: &str = "select coalesce(max(id), 0) from lockgate.transitions where run_id = $1";

pub async fn zombie() {
    let cluster = Cluster::new().await;
    let run = cluster
        .start_paced("chaos-items", json!({"items": 10_000}), Some(250))
        .await;
    let mut zombie = cluster.replica();
    let id = zombie.runs().await;
    wait_until(PATIENCE, "some progress is saved", async || {
        cluster.count(SAVED, run).await > 0
    })
    .await;
    zombie.freeze();
    unpaced(&cluster, run).await;
    let _other = cluster.replica();
    cluster.reaches(run, "completed").await;
    let newest = cluster.count(NEWEST, run).await;
    zombie.thaw();
    wait_until(PATIENCE, "it notices", async || {
        let log = zombie.log();
        log.contains("lease lost, nothing is written") || log.contains("taken over before it was finished")
    })
    .await;
    let found = cluster.completes(run).await;
    println!("zombie: {found}");
    assert!(found.recovered >= 1, "{found}");
    assert_eq!(
        cluster.count(NEWEST, run).await,
        newest,
        "the zombie wrote about the run"
    );
    let writes: i64 = sqlx::query_scalar("select count(*) from lockgate.transitions where replica = $1 and id > $2")
        .bind(id)
        .bind(newest)
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    assert_eq!(writes, 0);
    assert!(zombie.is_alive(), "it lives on and takes new work");
}

/// Has the rest of a run go as fast as it can.
async fn unpaced(cluster: &Cluster, run: Uuid) {
    let unpaced = "update lockgate.task_runs set pace_per_s = null where id = $1";
    sqlx::query(unpaced).bind(run).execute(&cluster.pool).await.unwrap();
}

pub async fn drain() {
    // What is promised of a drain is strict; of a machine that stands still for most of a lease, or for a message's whole
    // time, it is not.
    let cluster = Cluster::new().await.patient();
    // A batch takes more than a minute, far more than half the deadline: it is handed back with its progress.
    let slow = cluster.start_paced("chaos-items", json!({"items": 400}), Some(5)).await;
    let quick = cluster.start("chaos-items", json!({"items": 60_000})).await;
    let mut first = cluster.replica();
    wait_until(PATIENCE, "both runs are under way", async || {
        cluster.count(SAVED, slow).await > 0 && cluster.batches_done(quick).await > 3
    })
    .await;
    let second = cluster.replica();
    let asked = Instant::now();
    first.terminate();
    let status = first.ends().await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(
        asked.elapsed() < Duration::from_secs(30),
        "it took {:?}",
        asked.elapsed()
    );
    unpaced(&cluster, slow).await;
    for run in [quick, slow] {
        let found = cluster.completes(run).await;
        assert_eq!((found.duplicates, found.recovered), (0, 0), "{found}");
    }
    let back =
        "select count(*) from lockgate.transitions where run_id = $1 and to_status = 'free' and reason = 'draining'";
    assert!(
        cluster.count(back, slow).await >= 1,
        "the slow batch was not handed back"
    );
    drop(second);
}

pub async fn deadline_passes() {
    let broker = MockKafka::start();
    let cluster = Cluster::on_topic(broker.topic()).await.patient();
    let run = cluster
        .start_paced("chaos-items", json!({"items": 3_000}), Some(500))
        .await;
    let mut replica = cluster.replica_with(&[("LOCKGATE_DRAIN_DEADLINE", "500ms")]);
    wait_until(PATIENCE, "a batch is done", async || {
        cluster.batches_done(run).await > 0
    })
    .await;
    // Longer than a message may take, so that nothing of it is settled while the replica drains.
    broker.answer_after(Duration::from_secs(60));
    let since: DateTime<Utc> = sqlx::query_scalar("select clock_timestamp() + interval '1 second'")
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    wait_until(PATIENCE, "messages are in flight", async || {
        let sent = "select count(*) from lockgate.replicas where seen_at > $1 and window_used > 0";
        let sent: i64 = sqlx::query_scalar(sent)
            .bind(since)
            .fetch_one(&cluster.pool)
            .await
            .unwrap();
        sent > 0
    })
    .await;
    let asked = Instant::now();
    replica.terminate();
    let status = replica.ends().await;
    assert_eq!(status.code(), Some(1), "{status}");
    assert!(
        asked.elapsed() < Duration::from_secs(25),
        "it took {:?}",
        asked.elapsed()
    );
    replica.says("the drain deadline passed").await;
    broker.answer_after(Duration::ZERO);
    cluster.end_leases().await;
    let _other = cluster.replica();
    let found = cluster.completes(run).await;
    // Its batches went back, or were taken, or ended with what was of unknown fate in them stored: as that of a few items
    // opens no breaker. Whichever it was, what it had sent may be there twice.
    let fate = |name: &str| found.fates.get(name).copied().unwrap_or_default();
    assert!(
        found.bound > 0 && fate("delivered") + fate("unknown") == 3_000,
        "{found}"
    );
}

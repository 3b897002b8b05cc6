//! Leases outlive a database that is slow to answer, and what is known of a batch outlives a lease that is in doubt.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use lockgate_tests::cluster::Cluster;
use lockgate_tests::invariants::Comparison;
use lockgate_tests::proxy::Proxy;
use serde_json::json;
use uuid::Uuid;

/// A batch takes ten seconds, which is longer than any lease here.
const PACE: i32 = 50;
const ITEMS: i32 = 500;

/// A run on a replica to which these statements are slow once it runs, so many times.
async fn run_with_slow(cluster: &Cluster, statements: &[&str], time: Duration, times: usize) -> (Uuid, Comparison) {
    let proxy = Proxy::before(cluster.url()).await;
    let mut replica = cluster.replica_with(&[("DATABASE_URL", proxy.url()), ("DATABASE_URL_DIRECT", cluster.url())]);
    replica.runs().await;
    for statement in statements {
        proxy.slow_down(statement, time, times);
    }
    let run = cluster
        .start_paced("chaos-items", json!({"items": ITEMS}), Some(PACE))
        .await;
    let found = cluster.completes(run).await;
    println!("{statements:?} take {time:?}: {found}");
    (run, found)
}

/// Times of a batch's lease; messages have most of it, so that a busy broker's answers are not missed.
async fn with_lease(lease: &str, message_timeout: &str) -> Cluster {
    Cluster::new()
        .await
        .with("LOCKGATE_LEASE_DURATION", lease)
        .with("LOCKGATE_KAFKA_MESSAGE_TIMEOUT", message_timeout)
        .with("LOCKGATE_DATABASE_DEADLINE", "20s")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_kept_while_heartbeats_and_looks_for_stops_are_slow() {
    let cluster = with_lease("6s", "4s").await;
    let slow = ["Registers a replica", "Which of these runs"];
    let (_, found) = run_with_slow(&cluster, &slow, Duration::from_secs(7), usize::MAX).await;
    assert_eq!((found.duplicates, found.recovered, found.bound), (0, 0, 0), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_lease_is_in_doubt_goes_back_with_what_is_known_of_it() {
    // A sixth of the lease lies between the doubt and the end: time enough on a busy machine.
    let cluster = with_lease("9s", "6s").await;
    let (run, found) = run_with_slow(&cluster, &["All leases of a process"], Duration::from_secs(11), 1).await;
    let sql = "select count(*) from lockgate.transitions where run_id = $1 and to_status = 'free' and reason = 'lease in doubt'";
    assert_eq!(cluster.count(sql, run).await, 1, "{found}");
    assert_eq!((found.duplicates, found.recovered), (0, 0), "{found}");
}

//! Leases outlive a database that is slow to answer, and what is known of a batch outlives a lease that is in doubt.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use lockgate_tests::cluster::Cluster;
use lockgate_tests::invariants::Comparison;
use lockgate_tests::proxy::Proxy;
use serde_json::json;
use uuid::Uuid;

/// A batch takes twenty seconds, which is longer than any lease here.
const PACE: i32 = 25;
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
    println!(
        "{statements:?} take {time:?}: {found}\n{}",
        cluster.diagnosis(run).await
    );
    (run, found)
}

const IN_DOUBT: &str =
    "select count(*) from lockgate.transitions where run_id = $1 and to_status = 'free' and reason = 'lease in doubt'";

/// Messages have less time than the lease, but more than a busy broker takes.
async fn with_lease(lease: &str, message_timeout: &str) -> Cluster {
    Cluster::new()
        .await
        .with("LOCKGATE_LEASE_DURATION", lease)
        .with("LOCKGATE_KAFKA_MESSAGE_TIMEOUT", message_timeout)
        .with("LOCKGATE_DATABASE_DEADLINE", "30s")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_kept_while_heartbeats_and_looks_for_stops_are_slow() {
    let cluster = with_lease("18s", "6s").await;
    let slow = ["Registers a replica", "Which of these runs"];
    let (run, found) = run_with_slow(&cluster, &slow, Duration::from_secs(20), usize::MAX).await;
    assert_eq!(cluster.count(IN_DOUBT, run).await, 0, "{found}");
    assert_eq!((found.duplicates, found.recovered), (0, 0), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_lease_is_in_doubt_goes_back_with_what_is_known_of_it() {
    // A sixth of the lease lies between the doubt and the end: time enough for a busy machine to hand it back.
    let cluster = with_lease("18s", "6s").await;
    let (run, found) = run_with_slow(&cluster, &["All leases of a process"], Duration::from_secs(20), 1).await;
    assert_eq!(cluster.count(IN_DOUBT, run).await, 1, "{found}");
    assert_eq!((found.duplicates, found.recovered), (0, 0), "{found}");
}

/// Each costs a third of the lease when the next one is awaited.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_that_fail_at_once_are_soon_asked_for_again() {
    let cluster = with_lease("18s", "6s").await.with("LOCKGATE_LEASE_RENEW", "6s");
    let proxy = Proxy::before(cluster.url()).await;
    proxy.lose_request("All leases of a process", 2);
    let run = cluster
        .start_paced("chaos-items", json!({"items": ITEMS}), Some(PACE))
        .await;
    let _replica = cluster.replica_with(&[("DATABASE_URL", proxy.url()), ("DATABASE_URL_DIRECT", cluster.url())]);
    let found = cluster.completes(run).await;
    assert_eq!(proxy.cut(), 2, "{found}");
    assert_eq!(cluster.count(IN_DOUBT, run).await, 0, "{found}");
    assert_eq!((found.duplicates, found.recovered), (0, 0), "{found}");
}

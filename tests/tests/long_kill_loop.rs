//! Replicas die and freeze again and again while they work: nothing is lost, nothing is written by the dead (R40.1).
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use lockgate_tests::cluster::Cluster;
use lockgate_tests::nemesis::Nemesis;

const PATIENCE: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_over_twenty_four_kills() {
    let cluster = Cluster::new().await;
    let mut nemesis = Nemesis::new(&cluster, 40_000).await;
    nemesis.kill(24).await;
    let figures = nemesis.ends(PATIENCE).await;
    assert!(figures.kills >= 20, "{figures}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_leaders_and_workers_write_nothing_when_they_wake() {
    let cluster = Cluster::new().await;
    let mut nemesis = Nemesis::new(&cluster, 40_000).await;
    for the_leader in [true, false, true, false] {
        nemesis.freeze(the_leader).await;
    }
    let terms: i64 = sqlx::query_scalar("select term from lockgate.leader_lease")
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    assert!(terms >= 3, "a frozen leader was not followed: term {terms}");
    let figures = nemesis.ends(PATIENCE).await;
    assert_eq!(figures.freezes, 4);
}

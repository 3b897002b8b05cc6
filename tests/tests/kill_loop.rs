//! Replicas die again and again while they work, and nothing is lost: the short form of `long_kill_loop` (RC.5).
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use lockgate_tests::cluster::Cluster;
use lockgate_tests::nemesis::Nemesis;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_replicas_are_killed() {
    let cluster = Cluster::new().await;
    let mut nemesis = Nemesis::new(&cluster, 20_000).await;
    nemesis.kill(5).await;
    let figures = nemesis.ends(Duration::from_secs(90)).await;
    assert_eq!(figures.kills, 5);
}

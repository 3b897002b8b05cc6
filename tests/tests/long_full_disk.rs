//! The database's disk runs full in the middle of a run, and is freed again.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use lockgate_tests::own_servers::OwnServers;
use lockgate_tests::replica::{PATIENCE, Replica};
use lockgate_tests::{skipped, wait_until};
use serde_json::json;

const ITEMS: i64 = 60_000;
/// Messages a second at most, so that it is not over before the disk is full.
const PACE: i32 = 3_000;
/// The server's catalogue and log of changes take some 120 of it.
const DISK_MIB: u32 = 256;
/// Little log, so that it does not take the disk itself.
const LITTLE_LOG: (&str, &str) = ("PG_OPTS", "-c min_wal_size=32MB -c max_wal_size=64MB");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_waits_while_the_disk_is_full_and_goes_on_when_there_is_room() {
    let Some(servers) = OwnServers::up_on_small_disk(&["postgres"], DISK_MIB, &[LITTLE_LOG]) else {
        skipped("only root can mount a small disk, and not everywhere");
        return;
    };
    let cluster = servers
        .cluster()
        .await
        .with("LOCKGATE_LEASE_DURATION", "20s")
        .with("LOCKGATE_KAFKA_MESSAGE_TIMEOUT", "12s");
    let mut replicas = [cluster.replica(), cluster.replica()];
    for replica in &mut replicas {
        replica.runs().await;
    }
    let run = cluster
        .start_paced("chaos-items", json!({"items": ITEMS}), Some(PACE))
        .await;
    wait_until(PATIENCE, "some batches are done", async || {
        cluster.batches_done(run).await >= 5
    })
    .await;
    servers.fill_disk();
    wait_until(PATIENCE, "a replica says that the disk is full", async || {
        replicas
            .iter()
            .any(|replica| replica.log().contains("No space left on device"))
    })
    .await;
    // Longer than a lease: what is held now cannot be renewed, and is not to be taken for finished.
    tokio::time::sleep(Duration::from_secs(22)).await;
    assert_ne!(
        cluster.status(run).await,
        "completed",
        "over on a full disk: use more items"
    );
    servers.free_disk();
    // A server that could not write its log of changes has ended.
    servers.act("start", "postgres");
    let found = cluster.completes(run).await;
    println!("full disk: {found}");
    assert_eq!(found.fates["delivered"], ITEMS as usize, "{found}");
    assert_eq!(found.fates.len(), 1, "{found}");
    assert!(replicas.iter_mut().all(Replica::is_alive));
}

//! Postgres and the broker die, freeze and come back in the middle of a run.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use lockgate_tests::cluster::{Cluster, WINDOW};
use lockgate_tests::nemesis::Figures;
use lockgate_tests::own_servers::OwnServers;
use lockgate_tests::replica::{PATIENCE, Replica};
use lockgate_tests::{skipped, wait_until};
use serde_json::json;
use uuid::Uuid;

const TROUBLE: &str = "select count(*) from lockgate.replicas where breakers <> '[]' and $1::uuid is not null";
const STORED: &str = "select coalesce(sum(unknown), 0)::bigint from lockgate.run_batches where run_id = $1";
const OPEN: &str =
    "select count(*) from lockgate.undelivered_messages where run_id = $1 and status in ('due', 'claimed')";

/// Messages a second at most, so that a run is not over before the trouble has come.
const PACE: i32 = 3_000;

/// A run under way on two replicas.
async fn under_way(cluster: &Cluster, items: i64) -> (Uuid, [Replica; 2]) {
    let mut replicas = [cluster.replica(), cluster.replica()];
    for replica in &mut replicas {
        replica.runs().await;
    }
    let params = json!({"items": items, "unserialisable": [items / 2]});
    let run = cluster.start_paced("chaos-items", params, Some(PACE)).await;
    progress(cluster, run).await;
    (run, replicas)
}

/// Waits until another batch is done; gives how long that took.
async fn progress(cluster: &Cluster, run: Uuid) -> Duration {
    let (done, since) = (cluster.batches_done(run).await.max(0), Instant::now());
    wait_until(PATIENCE, "another batch is done", async || {
        cluster.batches_done(run).await > done
    })
    .await;
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_outlives_postgres_being_cut_off_three_times() {
    let servers = OwnServers::up(&["postgres"]);
    let cluster = servers.cluster().await;
    let (run, mut replicas) = under_way(&cluster, 60_000).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        assert_ne!(
            cluster.status(run).await,
            "completed",
            "over before the next restart: use more items"
        );
        servers.act("kill", "postgres");
        servers.act("start", "postgres");
        slowest = slowest.max(progress(&cluster, run).await);
    }
    let found = cluster.completes(run).await;
    println!(
        "3 immediate restarts, slowest recovery {:.1} s: {found}",
        slowest.as_secs_f64()
    );
    assert_eq!(
        (found.fates["delivered"], found.fates["refused"]),
        (59_999, 1),
        "{found}"
    );
    assert!(replicas.iter_mut().all(Replica::is_alive));
}

/// The broker is gone for a while: the breaker opens, what is stored stays within the windows, all is delivered.
async fn outlives(servers: &OwnServers, down: &str, up: &str, gone: Duration) {
    // A lease and a message that no busy machine makes end.
    let cluster = servers
        .cluster()
        .await
        .with("LOCKGATE_LEASE_DURATION", "30s")
        .with("LOCKGATE_KAFKA_MESSAGE_TIMEOUT", "10s");
    let (run, mut replicas) = under_way(&cluster, 80_000).await;
    servers.act(down, "kafka");
    let since = Instant::now();
    wait_until(PATIENCE, "a breaker opens", async || {
        cluster.count(TROUBLE, run).await > 0
    })
    .await;
    let opened = since.elapsed();
    tokio::time::sleep(gone.saturating_sub(since.elapsed())).await;
    assert_ne!(
        cluster.status(run).await,
        "completed",
        "over before the broker was back: use more items"
    );
    servers.act(up, "kafka");
    let recovery = progress(&cluster, run).await;
    cluster.reaches(run, "completed").await;
    wait_until(PATIENCE, "redelivery has nothing left", async || {
        cluster.count(OPEN, run).await == 0
    })
    .await;
    let found = cluster.completes(run).await;
    let stored = cluster.count(STORED, run).await;
    println!(
        "{down} of the broker for {:.0} s: breaker after {:.1} s, batches again after {:.1} s, stored {stored} of at most {}: {found}",
        gone.as_secs_f64(),
        opened.as_secs_f64(),
        recovery.as_secs_f64(),
        2 * WINDOW
    );
    assert!(stored <= 2 * WINDOW as i64, "{stored} rows of fallback: {found}");
    let sum = "select delivered from lockgate.v_run_proof where run_id = $1 and adds_up";
    assert_eq!(cluster.count(sum, run).await, 79_999);
    assert!(replicas.iter_mut().all(Replica::is_alive));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_outlives_the_broker_being_killed_and_frozen() {
    let servers = OwnServers::up(&["kafka"]);
    outlives(&servers, "freeze", "thaw", Duration::from_secs(15)).await;
    outlives(&servers, "kill", "start", Duration::from_secs(3)).await;
}

/// What sixteen thousand messages on their way may take on a busy machine.
const DRAIN: (&str, Duration) = ("60s", Duration::from_secs(60));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_restarted_one_by_one_sends_nothing_twice() {
    const ITEMS: i64 = 300_000;
    let cluster = as_in_production().await.with("LOCKGATE_DRAIN_DEADLINE", DRAIN.0);
    let mut replicas = vec![cluster.replica(), cluster.replica(), cluster.replica()];
    for replica in &mut replicas {
        replica.runs().await;
    }
    let start = async || cluster.start("chaos-items", json!({"items": ITEMS})).await;
    let mut runs = vec![start().await];
    let (mut restarts, mut slowest) = (0, Duration::ZERO);
    loop {
        let run = runs[runs.len() - 1];
        let status = cluster.status(run).await;
        assert!(
            !["failed", "cancelled"].contains(&status.as_str()),
            "run {run} {status}"
        );
        if status == "completed" {
            if restarts >= 3 {
                break;
            }
            // A quick machine: the next restart happens in the midst of another run.
            runs.push(start().await);
            continue;
        }
        progress_or_end(&cluster, run).await;
        let mut leaving = replicas.remove(0);
        let asked = Instant::now();
        leaving.terminate();
        let status = leaving.ends().await;
        assert_eq!(status.code(), Some(0), "{status}");
        slowest = slowest.max(asked.elapsed());
        restarts += 1;
        let mut replacement = cluster.replica();
        replacement.runs().await;
        replicas.push(replacement);
    }
    println!(
        "{restarts} rolling restarts, slowest exit {:.1} s",
        slowest.as_secs_f64()
    );
    assert!(slowest < DRAIN.1 + lockgate::cli::GRACE, "an exit took {slowest:?}");
    for run in runs {
        let found = cluster.completes(run).await;
        println!("{found}");
        assert_eq!(
            (found.duplicates, found.recovered, found.fates["delivered"]),
            (0, 0, ITEMS as usize),
            "{found}"
        );
    }
}

/// Windows, batches and times as in production: a large run does not take long, and sixteen thousand messages of three
/// replicas have more than the two seconds that the tests' lease would leave them on a busy machine.
async fn as_in_production() -> Cluster {
    Cluster::new()
        .await
        .patient()
        .with("LOCKGATE_KAFKA_WINDOW", "16000")
        .with("LOCKGATE_WORKER_BATCH_SIZE", "1000")
        .with("LOCKGATE_LEASE_DURATION", "60s")
        .with("LOCKGATE_LEASE_RENEW", "20s")
        .with("LOCKGATE_KAFKA_MESSAGE_TIMEOUT", "30s")
}

async fn progress_or_end(cluster: &Cluster, run: Uuid) {
    let done = cluster.batches_done(run).await;
    wait_until(PATIENCE, "some batches are done", async || {
        cluster.batches_done(run).await > done + 10 || cluster.status(run).await == "completed"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_major_release_of_postgres_holds_as_well() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../ops/dev/postgres-binaries.sh");
    let output = std::process::Command::new(script).arg("17").output().unwrap();
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        skipped(&format!("Postgres 17 cannot be had here: {why}"));
        return;
    }
    let bin = String::from_utf8(output.stdout).unwrap();
    let servers = OwnServers::up_with(&["postgres"], &[("PG_BIN", bin.trim())]);
    let cluster = servers.cluster().await;
    let version: i32 = sqlx::query_scalar("select current_setting('server_version_num')::integer")
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    assert_eq!(version / 10_000, 17);
    let mut nemesis = lockgate_tests::nemesis::Nemesis::new(&cluster, 20_000).await;
    nemesis.kill(6).await;
    let figures: Figures = nemesis.ends(PATIENCE * 2).await;
    assert_eq!(figures.kills, 6);
}

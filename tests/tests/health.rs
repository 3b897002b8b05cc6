//! What a platform's probes are told by replicas of every role, while their servers go away and come back.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use lockgate_tests::cluster::Cluster;
use lockgate_tests::mailroom::Mailroom;
use lockgate_tests::own_servers::OwnServers;
use lockgate_tests::probes::{LISTEN, Probes};
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::wait_until;
use serde_json::{Value, json};

/// Looks follow each other quickly, so that a test need not wait for them.
const EVERY: (&str, &str) = ("LOCKGATE_HEALTH_EVERY", "200ms");

fn reason<'a>(report: &'a Value, name: &str) -> &'a str {
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|check| check["name"] == name).unwrap();
    found["reason"].as_str().unwrap()
}

fn names(report: &Value) -> Vec<&str> {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().map(|check| check["name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_tells_of_what_it_depends_on() {
    let cluster = Cluster::new().await.with(LISTEN.0, LISTEN.1).with(EVERY.0, EVERY.1);
    let api = ("LOCKGATE_API_LISTEN", "127.0.0.1:0");
    let servers = ["replica", "postgres", "schema", "kafka"];
    for (roles, loops, kafka) in [
        ("worker", &["leases"][..], "answers"),
        ("leader", &["leadership"], "not used by these roles"),
        ("api", &[], "answers"),
        ("leader,worker,api", &["leases", "leadership"], "answers"),
    ] {
        let mut replica = cluster.replica_called(&["run", "--roles", roles], &[api]);
        let probes = Probes::of(&mut replica).await;
        let report = probes.until_amiss(&[]).await;
        let mut found = names(&report);
        found[servers.len()..].sort_unstable();
        let mut expected = [&servers, loops].concat();
        expected[servers.len()..].sort_unstable();
        assert_eq!(found, expected, "{roles}");
        assert_eq!(reason(&report, "kafka"), kafka, "{roles}");
        assert_eq!(reason(&report, "replica"), "running");
        let (status, live) = probes.get("/health/live").await;
        assert_eq!((status, &live["status"]), (200, &json!("live")));
        assert_eq!(names(&live).len(), loops.len());
        assert_eq!(probes.get("/health").await.0, 404);
        replica.terminate();
        assert!(replica.ends().await.success());
        assert_eq!(probes.get("/health/live").await.0, 0);
    }
}

/// Longer than any of its loops may take a turn with the times of the test: twice the leader's lease and the deadline.
const HANGS: Duration = Duration::from_secs(2 * (3 + 2) + 4);

/// Begins a run so slow that what is in flight is not over before somebody says so, and waits until something is.
async fn hold_a_batch(cluster: &Cluster) {
    let run = cluster
        .start_paced("chaos-items", json!({"items": 5_000}), Some(20))
        .await;
    wait_until(PATIENCE, "something is in flight", async || {
        let sql = "select count(*) from lockgate.run_batches where run_id = $1 and status = 'claimed'";
        cluster.count(sql, run).await > 0
    })
    .await;
}

async fn lives_for(probes: &Probes, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        let (status, report) = probes.get("/health/live").await;
        assert_eq!(status, 200, "{report}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_not_ready_while_a_server_is_away_and_lives_all_the_while() {
    let servers = OwnServers::up(&["postgres", "kafka"]);
    let cluster = servers.cluster().await.with(LISTEN.0, LISTEN.1).with(EVERY.0, EVERY.1);
    let cluster = cluster.with("LOCKGATE_DATABASE_DEADLINE", "2s");
    let mut replica = cluster.replica();
    let probes = Probes::of(&mut replica).await;
    probes.until_amiss(&[]).await;
    // Frozen first: a broker that was started again is shut out when it stands still for long, and is not only slow then.
    for (away, back) in [("freeze", "thaw"), ("kill", "start")] {
        for server in ["postgres", "kafka"] {
            let hangs = (away, server) == ("freeze", "postgres");
            if hangs {
                hold_a_batch(&cluster).await;
            }
            servers.act(away, server);
            let report = probes.until_amiss(&[server]).await;
            let why = reason(&report, server);
            assert!(!why.is_empty() && !why.contains("answers"), "{report}");
            println!("{away} of {server}: {why}");
            if hangs {
                lives_for(&probes, HANGS).await;
            }
            servers.act(back, server);
            let report = probes.until_amiss(&[]).await;
            assert_eq!(reason(&report, server), "answers");
        }
    }
    let log = replica.log();
    assert!(log.contains("not ready") && log.contains("well again"), "{log}");
    replica.terminate();
    assert!(replica.ends().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_waits_for_its_servers_says_what_for() {
    let servers = OwnServers::up(&["postgres"]);
    let cluster = servers.cluster().await.with(LISTEN.0, LISTEN.1).with(EVERY.0, EVERY.1);
    servers.act("kill", "postgres");
    let mut replica = cluster.replica();
    let probes = Probes::of(&mut replica).await;
    wait_until(PATIENCE, "it says what it waits for", async || {
        let (status, report) = probes.get("/health/ready").await;
        status == 503 && reason(&report, "replica").contains("waiting for Postgres")
    })
    .await;
    assert!(probes.is_live().await);
    servers.act("start", "postgres");
    probes.until_amiss(&[]).await;
    replica.terminate();
    assert!(replica.ends().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_replica_is_live_and_not_ready() {
    let cluster = Cluster::new().await.with(LISTEN.0, LISTEN.1).with(EVERY.0, EVERY.1);
    // Long enough to be asked about meanwhile.
    let cluster = cluster.with("LOCKGATE_DRAIN_DEADLINE", "40s");
    let mut replica = cluster.replica();
    let probes = Probes::of(&mut replica).await;
    probes.until_amiss(&[]).await;
    hold_a_batch(&cluster).await;
    replica.terminate();
    let report = probes.until_amiss(&["replica"]).await;
    assert_eq!(reason(&report, "replica"), "draining");
    assert!(replica.ends().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let cluster = Cluster::new().await;
    let mut replica = cluster.replica_with(&[("LOCKGATE_HEALTH_LISTEN", address.as_str())]);
    assert_eq!(replica.ends().await.code(), Some(1));
    let log = replica.log();
    assert!(log.contains(&format!("health cannot be told at {address}")), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_email_sender_tells_too() {
    let room = Mailroom::new().await.with(LISTEN.0, LISTEN.1).with(EVERY.0, EVERY.1);
    let mut sender = room.sender();
    let probes = Probes::of(&mut sender).await;
    let report = probes.until_amiss(&[]).await;
    assert_eq!(names(&report), ["replica", "postgres", "schema", "kafka"]);
    sender.terminate();
    assert!(sender.ends().await.success());
}

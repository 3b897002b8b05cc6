//! E: deaths around the end of a run, and a run in which everything is lost once.

use lockgate_tests::cluster::Cluster;
use lockgate_tests::proxy::Proxy;
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::wait_until;
use serde_json::json;

use crate::dies_at;

/// What a replica says to Postgres in a run, by the first words of each statement's file.
/// How often each is lost: pages of runs are claimed by two loops, of which one finds none.
const STATEMENTS: &[(&str, usize)] = &[
    ("Registers a replica", 1),
    ("Claims a page under one", 2),
    ("Opens a fan-out under", 1),
    ("Batches and cursor together", 1),
    ("Claims the next batch", 1),
    ("Finishes a batch of which", 1),
    ("Finishes a batch with", 1),
    ("Completes a fan-out", 1),
    ("Lets go of many runs", 2),
    ("All leases of a process", 1),
];

pub async fn before() {
    let (cluster, found) = dies_at("run.before_end").await;
    assert_eq!((found.duplicates, found.recovered), (0, 0), "{found}");
    let sql = "select concat_ws(' ', at, from_status, to_status, token, replica, reason) from lockgate.transitions
                where entity in ('run', 'leader') order by id";
    let audit: Vec<String> = sqlx::query_scalar(sql).fetch_all(&cluster.pool).await.unwrap();
    let recovered = audit.iter().filter(|line| line.ends_with("lease ended")).count();
    assert_eq!(recovered, 1, "{}", audit.join("\n"));
}

pub async fn after() {
    let (_, found) = dies_at("run.after_end").await;
    assert_eq!((found.duplicates, found.recovered), (0, 0), "{found}");
}

pub async fn let_go() {
    dies_at("run.after_let_go").await;
}

pub async fn every_request_lost() {
    lost(Proxy::lose_request).await;
}

pub async fn every_answer_lost() {
    lost(Proxy::lose_reply).await;
}

async fn lost(lose: impl Fn(&Proxy, &str, usize)) {
    let cluster = Cluster::new().await.patient();
    let proxy = Proxy::before(cluster.url()).await;
    for (statement, times) in STATEMENTS {
        lose(&proxy, statement, *times);
    }
    let run = cluster
        .start("chaos-items", json!({"items": 12_000, "unserialisable": [9_000]}))
        .await;
    let _replica = cluster.replica_with(&[("DATABASE_URL", proxy.url()), ("DATABASE_URL_DIRECT", cluster.url())]);
    let found = cluster.completes(run).await;
    println!("{found}");
    // Leases are renewed only where work takes longer than a quick machine needs for that.
    let slow = cluster
        .start_paced("chaos-items", json!({"items": 1_000}), Some(400))
        .await;
    assert_eq!(cluster.completes(slow).await.duplicates, 0);
    let lost: usize = STATEMENTS.iter().map(|(_, times)| times).sum();
    assert_eq!(proxy.cut(), lost, "some statement was never made");
    assert_eq!((found.duplicates, found.recovered), (0, 0), "{found}");
    assert_eq!(
        (found.fates["refused"], found.fates["delivered"]),
        (1, 11_999),
        "{found}"
    );
}

pub async fn silence() {
    let cluster = Cluster::new().await.patient();
    // What a silent connection had begun is soon over.
    let cluster = cluster.with("LOCKGATE_DATABASE_IDLE_IN_TRANSACTION", "2s");
    let proxy = Proxy::before(cluster.url()).await;
    let run = cluster
        .start_paced("chaos-items", json!({"items": 3_000}), Some(400))
        .await;
    let _replica = cluster.replica_with(&[
        ("DATABASE_URL", proxy.url()),
        ("DATABASE_URL_DIRECT", proxy.url()),
        ("LOCKGATE_DATABASE_DEADLINE", "3s"),
    ]);
    wait_until(PATIENCE, "some of it is done", async || {
        cluster.batches_done(run).await > 0
    })
    .await;
    proxy.silence();
    let found = cluster.completes(run).await;
    println!("{found}");
    assert_eq!(found.fates["delivered"], 3_000, "{found}");
}

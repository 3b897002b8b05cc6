//! Everything through a PgBouncer that does not track prepared statements, in transaction mode, with pooler mode on.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use lockgate::lifecycle::{NewRun, Started};
use lockgate::postgres::{Database, DatabaseSettings, Inspector, Operator};
use lockgate_tests::PgBouncer;
use lockgate_tests::cluster::Cluster;
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::wait_until;
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

const SETTINGS: &str = "pool_mode = transaction\ndefault_pool_size = 8";
const CLIENTS: usize = 40;
const ROUNDS: usize = 15;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_run_with_a_kill_goes_through_it() {
    // A message has time on a busy machine, and what the dead one held is soon another's.
    let cluster = Cluster::new()
        .await
        .patient()
        .with("LOCKGATE_LEASE_DURATION", "25s")
        .with("LOCKGATE_KAFKA_MESSAGE_TIMEOUT", "15s");
    let bouncer = PgBouncer::before(cluster.url(), SETTINGS).await;
    let (pooled, direct) = (bouncer.url(cluster.url()), cluster.url().to_owned());
    cluster.seed_users(20_000).await;
    let env = [
        ("DATABASE_URL", pooled.as_str()),
        ("DATABASE_URL_DIRECT", direct.as_str()),
        ("LOCKGATE_DATABASE_POOLER_MODE", "true"),
    ];
    let mut replicas = [cluster.replica_with(&env), cluster.replica_with(&env)];
    let run = cluster.start("daily-task-reports", json!({})).await;
    let broken = cluster
        .start(
            "chaos-items",
            json!({"items": 3_000, "unserialisable": [9], "skipped": [10]}),
        )
        .await;
    wait_until(PATIENCE, "some batches are done", async || {
        cluster.batches_done(run).await >= 4
    })
    .await;
    replicas[0].kill();
    let found = cluster.completes(run).await;
    println!("through pgbouncer: {found}");
    assert_eq!(found.fates["delivered"], 18_000, "{found}");
    let found = cluster.completes(broken).await;
    assert_eq!((found.fates["refused"], found.fates["skipped"]), (1, 1), "{found}");
    let clients = "select count(*) from pg_stat_activity
                    where datname = current_database() and backend_type = 'client backend'";
    let pooled: i64 = sqlx::query_scalar(clients).fetch_one(&cluster.pool).await.unwrap();
    // Two replicas without it would hold up to 24, besides the listeners and ours.
    assert!(
        pooled <= 8 + 2 + 3,
        "{pooled} connections: they did not go through the pooler"
    );
}

/// Asks many different things at once; every answer must be the one to its question.
async fn ask(database: Database, client: usize) {
    let (operator, inspector) = (Operator::new(database.clone(), None), Inspector::new(database));
    for round in 0..ROUNDS {
        let start = NewRun {
            idempotency_key: Some(format!("{client}-{round}")),
            ..NewRun::new(format!("nobody-has-this-{client}-{round}"))
        };
        let run = start.id;
        assert_eq!(operator.start_by_hand(&start).await.unwrap(), Started::New(run));
        let other = NewRun {
            id: Uuid::now_v7(),
            ..start.clone()
        };
        assert_eq!(operator.start_by_hand(&other).await.unwrap(), Started::Found(run));
        let shown = serde_json::to_value(inspector.show_run(run, true).await.unwrap().unwrap()).unwrap();
        assert!(shown.to_string().contains(&*start.workflow), "{shown}");
        let progress = inspector.progress_of_run(run).await.unwrap().unwrap();
        assert_eq!(progress.planned, 0);
        assert!(inspector.proof(run).await.unwrap().is_some());
        assert_eq!(operator.cancel_run(run, Some("enough")).await.unwrap(), "cancelled");
        assert_eq!(
            inspector.progress_of_run(run).await.unwrap().unwrap().status,
            "cancelled"
        );
        assert!(
            inspector
                .list_old_snapshots(Duration::from_secs(600))
                .await
                .unwrap()
                .is_empty()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_with_different_statements_get_their_own_answers() {
    let cluster = Cluster::new().await;
    let bouncer = PgBouncer::before(cluster.url(), SETTINGS).await;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let settings = DatabaseSettings {
            pooler_mode: true,
            max_connections: 2,
            ..DatabaseSettings::new(bouncer.url(cluster.url()))
        };
        clients.spawn(ask(Database::new(&settings).unwrap(), client));
    }
    let mut finished = 0;
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
        finished += 1;
    }
    let cancelled: i64 = sqlx::query_scalar("select count(*) from lockgate.task_runs where status = 'cancelled'")
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    println!(
        "{finished} clients, {cancelled} runs, {} answers",
        finished * ROUNDS * 8
    );
    assert_eq!((finished, cancelled), (CLIENTS, (CLIENTS * ROUNDS) as i64));
    assert_eq!(
        lockgate_tests::invariants::safety_violations(&cluster.pool).await,
        [""; 0]
    );
}

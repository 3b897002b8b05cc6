//! Runs that holders died on go apart, and none of them keeps the others waiting for long.

use lockgate_tests::chaos_steps::create_effects;
use lockgate_tests::cluster::Cluster;
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::wait_until;
use serde_json::json;

async fn count(cluster: &Cluster, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&cluster.pool).await.unwrap()
}

/// As after two power cuts in a row while runs were in the middle of a step of minutes.
#[tokio::test(flavor = "multi_thread")]
async fn who_lives_with_a_suspect_for_a_lease_tries_the_next() {
    let cluster = Cluster::new()
        .await
        .with("LOCKGATE_LEASE_DURATION", "10s")
        .with("LOCKGATE_KAFKA_MESSAGE_TIMEOUT", "7s");
    create_effects(&cluster.pool).await;
    let url = cluster.url().to_owned();
    let cluster = cluster.with("LOCKGATE_CHAOS_EFFECTS", &url);
    for _ in 0..3 {
        cluster
            .start("chaos-steps", json!({"steps": 1, "step_ms": 300_000}))
            .await;
    }
    sqlx::query("update lockgate.task_runs set attempts = 2")
        .execute(&cluster.pool)
        .await
        .unwrap();
    let _replica = cluster.replica();
    let alone = "select count(*) from lockgate.task_runs where alone";
    wait_until(PATIENCE, "all are at work", async || {
        assert!(count(&cluster, alone).await <= 1, "two are on trial at once");
        count(&cluster, "select count(distinct run_id) from effects").await == 3
    })
    .await;
    let acquitted = "select count(*) from lockgate.task_runs where claim_id is not null and alone is null";
    wait_until(PATIENCE, "nobody is suspected any more", async || {
        count(&cluster, acquitted).await == 3 && count(&cluster, alone).await == 0
    })
    .await;
}

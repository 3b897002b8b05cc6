//! A run whose code ends the process that runs it is set aside in the end, and takes no other with it.

use std::time::{Duration, Instant};

use lockgate_tests::chaos_steps::effects;
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::steps_story::Story;
use serde_json::json;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_kills_its_holders_is_set_aside_and_those_beside_it_complete() {
    let story = Story::begin(json!({"steps": 4, "step_ms": 200})).await;
    let cluster = &story.cluster;
    let killer = cluster.start("chaos-steps", json!({"kills": true})).await;
    let mut beside: Vec<Uuid> = vec![story.run];
    for _ in 0..9 {
        beside.push(cluster.start("chaos-steps", json!({"steps": 4, "step_ms": 200})).await);
    }
    let (mut replica, mut deaths) = (cluster.replica(), 0);
    let patience = Instant::now() + PATIENCE * 2;
    while cluster.status(killer).await != "quarantined" {
        assert!(Instant::now() < patience, "not set aside after {deaths} deaths");
        if !replica.is_alive() {
            assert!(replica.log().contains(&format!("run {killer} kills its holder")));
            deaths += 1;
            // A death more than there were would be counted if a lease ended that somebody is only slow to renew.
            cluster.end_leases().await;
            replica = cluster.replica();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let reason: String = sqlx::query_scalar("select reason from lockgate.task_runs where id = $1")
        .bind(killer)
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    assert_eq!(reason, format!("its code killed {deaths} replicas in a row"));
    for run in beside {
        cluster.completes(run).await;
        assert_eq!(effects(&cluster.pool, run).await.len(), 5, "{run}");
    }
    assert!(replica.is_alive(), "it was not claimed again");
}

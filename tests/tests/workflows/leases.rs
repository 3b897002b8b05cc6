//! A page of runs shares one claim id, and each of them its own lease.

use lockgate_tests::chaos_steps::effects;
use lockgate_tests::cluster::Cluster;
use lockgate_tests::steps_story::{Story, assert_once_but};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_run_of_a_page_is_held_for_as_long_as_its_step_takes() {
    let cluster = Cluster::new().await.with("LOCKGATE_LEASE_DURATION", "10s");
    // More than two leases.
    let plan = json!({"steps": 1, "step_ms": 21_000});
    let story = Story::begin_on(cluster, plan.clone()).await;
    let mut runs = vec![story.run];
    for _ in 0..20 {
        runs.push(story.cluster.start("chaos-steps", plan.clone()).await);
    }
    let _replica = story.cluster.replica();
    for run in runs {
        story.cluster.completes(run).await;
        assert_once_but(&effects(&story.cluster.pool, run).await, &[]);
    }
    let ended = "select count(*) from lockgate.transitions where reason = 'lease ended' and $1 is not null";
    assert_eq!(story.count(ended).await, 0);
}

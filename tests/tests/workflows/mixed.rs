//! Steps and fan-outs in one run.

use std::time::{Duration, Instant};

use lockgate_tests::cluster::Cluster;
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::steps_story::{Story, assert_once_but};
use lockgate_tests::wait_until;
use serde_json::json;

/// While it naps beside its fan-out the run stays running: its batches are to be claimed. The other replicas run its code
/// to find out what is sent, and do none of its steps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_sent_while_the_run_naps_and_steps_stay_with_its_holder() {
    let plan = json!({"steps": 2, "transactions": 1, "items": 1_500, "beside_ms": 15_000});
    let story = Story::begin(plan).await;
    let _replicas = [
        story.cluster.replica(),
        story.cluster.replica(),
        story.cluster.replica(),
    ];
    let done = "select count(*) from lockgate.run_steps f join lockgate.run_steps s using (run_id)
                 where run_id = $1 and f.kind = 'fan_out' and s.kind = 'sleep' and f.finished_at < s.finished_at";
    let (_, effects) = story.ends().await;
    assert_once_but(&effects, &[]);
    assert_eq!(story.count(done).await, 1, "the batches waited for the nap");
    assert_eq!(story.cluster.batches_done(story.run).await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fan_out_that_takes_longer_than_the_nap_is_waited_for() {
    let story = Story::begin(json!({"steps": 1, "items": 5_000, "beside_ms": 1})).await;
    let _replica = story.cluster.replica();
    let (_, effects) = story.ends().await;
    assert_once_but(&effects, &[]);
}

/// Whoever finishes the last batch of one fan-out most likely goes on with a batch of the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fan_out_is_over_when_its_own_batches_are_whatever_is_sent_beside_it() {
    let cluster = Cluster::new()
        .await
        .patient()
        .with("LOCKGATE_WORKER_BATCH_SIZE", "5")
        .with("LOCKGATE_WORKER_BATCHES", "2");
    // The many are planned behind the few: what is planned later comes after what was planned before.
    let run = cluster
        .start("chaos-pair", json!({"few": 9, "many": 200, "many_ms": 200}))
        .await;
    let _replica = cluster.replica();
    cluster.completes(run).await;
    let before = "select count(*) from lockgate.run_steps tell join lockgate.run_steps many using (run_id)
                   where run_id = $1 and tell.path like '%:tell' and many.path like '%:many'
                     and tell.finished_at < many.finished_at - interval '1 second'";
    assert_eq!(
        cluster.count(before, run).await,
        1,
        "what follows the few waited for the many"
    );
}

/// Of a run whose batches wait for their pace no more is planned than so many ahead: whoever plans has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_is_left_when_its_run_is_paused_or_its_replica_stops() {
    let cluster = Cluster::new()
        .await
        .patient()
        .with("LOCKGATE_WORKER_BATCH_SIZE", "5")
        .with("LOCKGATE_WORKER_PLAN_AHEAD", "4")
        .with("LOCKGATE_DRAIN_DEADLINE", "40s");
    let run = cluster
        .start_paced("chaos-pair", json!({"few": 5_000, "many": 0, "many_ms": 0}), Some(5))
        .await;
    let mut replica = cluster.replica();
    let planned = "select count(*) from lockgate.run_batches where run_id = $1";
    let is_planned = async || cluster.count(planned, run).await >= 8;
    wait_until(PATIENCE, "it is planned ahead", is_planned).await;
    let done = async |sql| sqlx::query(sql).bind(run).execute(&cluster.pool).await.unwrap();
    done("select lockgate.pause_run($1, 'wait')").await;
    let let_go = "select count(*) from lockgate.task_runs where id = $1 and status = 'paused' and claim_id is null";
    wait_until(PATIENCE, "it is let go of", async || {
        cluster.count(let_go, run).await == 1
    })
    .await;
    done("select lockgate.resume_run($1)").await;
    let held = "select count(*) from lockgate.task_runs where id = $1 and claim_id is not null";
    wait_until(PATIENCE, "it is planned on", async || {
        cluster.count(held, run).await == 1
    })
    .await;
    replica.terminate();
    let asked = Instant::now();
    assert!(replica.ends().await.success());
    assert!(
        asked.elapsed() < Duration::from_secs(25),
        "it took {:?} to stop",
        asked.elapsed()
    );
    assert_eq!(cluster.count(held, run).await, 0);
}

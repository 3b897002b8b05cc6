//! Code that panics and a step that never returns end their own run, and nothing else of the replica.

use lockgate_tests::chaos_steps::effects;
use lockgate_tests::replica::{PATIENCE, Replica};
use lockgate_tests::steps_story::{Story, assert_once_but};
use lockgate_tests::wait_until;
use serde_json::{Value, json};
use uuid::Uuid;

/// A replica at work, and a run of this plan that fails beside what it does.
async fn fails_beside(plan: Value) -> (Story, Replica, Uuid) {
    let story = Story::begin(json!({"steps": 5, "step_ms": 400})).await;
    let mut replica = story.cluster.replica();
    replica.runs().await;
    wait_until(PATIENCE, "its neighbour is under way", async || {
        !effects(&story.cluster.pool, story.run).await.is_empty()
    })
    .await;
    let run = story.cluster.start("chaos-steps", plan).await;
    story.cluster.reaches(run, "failed").await;
    (story, replica, run)
}

async fn reason(story: &Story, run: Uuid) -> String {
    sqlx::query_scalar("select reason from lockgate.task_runs where id = $1")
        .bind(run)
        .fetch_one(&story.cluster.pool)
        .await
        .unwrap()
}

/// The neighbour ends as if nothing had been, another run begins, and one process did it all.
async fn assert_nothing_else_ended(story: &Story, replica: &mut Replica) {
    let (_, done) = story.ends().await;
    assert_eq!(done.len(), 6, "{done:?}");
    assert_once_but(&done, &[]);
    let next = story.cluster.start("chaos-steps", json!({"steps": 1})).await;
    story.cluster.completes(next).await;
    assert!(replica.is_alive());
    let replicas = "select count(*) from lockgate.replicas where $1 is not null";
    assert_eq!((story.count(replicas).await, story.recovered().await), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_code_panics_fails_with_what_it_said_and_its_replica_goes_on() {
    let (story, mut replica, run) = fails_beside(json!({"undoables": 1, "panics": true})).await;
    assert_eq!(
        reason(&story, run).await,
        "the workflow's code panicked: it was to panic"
    );
    // As by any other failure, what it did is undone.
    let done = effects(&story.cluster.pool, run).await;
    assert_eq!(done.get("undo 0"), Some(&1), "{done:?}");
    assert_once_but(&done, &[]);
    assert_nothing_else_ended(&story, &mut replica).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_never_returns_is_dropped_when_its_time_is_up() {
    let (story, mut replica, run) = fails_beside(json!({"hangs_ms": 1_000})).await;
    let reason = reason(&story, run).await;
    assert!(reason.ends_with(":hang took longer than 1s in attempt 1"), "{reason}");
    let failed =
        "select count(*) from lockgate.run_steps where run_id = $1 and path like '%:hang' and status = 'failed'";
    assert_eq!(story.cluster.count(failed, run).await, 1);
    assert_nothing_else_ended(&story, &mut replica).await;
}

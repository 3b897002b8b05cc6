//! What operators do to runs that wait, and code that is not the one that ran.

use lockgate_tests::replica::PATIENCE;
use lockgate_tests::steps_story::{Story, assert_once_but};
use lockgate_tests::wait_until;
use serde_json::json;

/// The text that a statement about the run answers.
async fn ask(story: &Story, sql: &'static str) -> String {
    sqlx::query_scalar(sql)
        .bind(story.run)
        .fetch_one(&story.cluster.pool)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_run_is_cancelled_at_once() {
    let story = Story::begin(json!({"steps": 1, "signal_ms": 3_600_000})).await;
    let _replica = story.cluster.replica();
    story.cluster.reaches(story.run, "suspended").await;
    ask(&story, "select lockgate.cancel_run($1, 'enough')").await;
    story.cluster.reaches(story.run, "cancelled").await;
    assert_eq!(story.signal(json!(1)).await, "cancelled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_working_run_is_cancelled_between_its_steps() {
    let story = Story::begin(json!({"steps": 100, "step_ms": 300})).await;
    let _replica = story.cluster.replica();
    wait_until(PATIENCE, "a step is recorded", async || !story.steps().await.is_empty()).await;
    ask(&story, "select lockgate.cancel_run($1, 'enough')").await;
    story.cluster.reaches(story.run, "cancelled").await;
    assert!(story.steps().await.len() < 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_working_run_is_paused_between_its_steps() {
    let story = Story::begin(json!({"steps": 40, "step_ms": 300})).await;
    let _replica = story.cluster.replica();
    wait_until(PATIENCE, "a step is recorded", async || !story.steps().await.is_empty()).await;
    ask(&story, "select lockgate.pause_run($1, 'wait')").await;
    let let_go = "select count(*) from lockgate.task_runs where id = $1 and status = 'paused' and claim_id is null";
    wait_until(PATIENCE, "it is let go of", async || story.count(let_go).await == 1).await;
    assert!(story.steps().await.len() < 40);
    ask(&story, "select lockgate.resume_run($1)").await;
    let (_, effects) = story.ends().await;
    assert_once_but(&effects, &[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_run_sleeps_through_its_signal_until_it_is_resumed() {
    let story = Story::begin(json!({"steps": 1, "signal_ms": 3_600_000})).await;
    let _replica = story.cluster.replica();
    story.cluster.reaches(story.run, "suspended").await;
    assert_eq!(ask(&story, "select lockgate.pause_run($1, 'wait')").await, "paused");
    assert_eq!(story.signal(json!("meanwhile")).await, "sent");
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(story.cluster.status(story.run).await, "paused");
    ask(&story, "select lockgate.resume_run($1)").await;
    let (told, _) = story.ends().await;
    assert_eq!(told.signal, Some(json!("meanwhile")));
}

/// Other code never fails a run that the old code can still end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_code_sets_a_run_aside_and_the_old_code_ends_it() {
    let story = Story::begin(json!({"steps": 2, "signal_ms": 3_600_000})).await;
    let mut old = story.cluster.replica();
    story.cluster.reaches(story.run, "suspended").await;
    old.terminate();
    old.ends().await;
    let mut other = story.cluster.replica_with(&[("LOCKGATE_CHAOS_STEP", "toil")]);
    assert_eq!(story.signal(json!(1)).await, "sent");
    story.cluster.reaches(story.run, "quarantined").await;
    let reason = ask(&story, "select reason from lockgate.task_runs where id = $1").await;
    assert!(
        reason.contains("at place 1 it now does \"toil\" (step), run")
            && reason.contains("recorded \"work\" (step) there"),
        "{reason}"
    );
    other.terminate();
    other.ends().await;
    ask(&story, "select lockgate.resume_run($1)").await;
    let _old = story.cluster.replica();
    let (_, effects) = story.ends().await;
    assert_once_but(&effects, &[]);
}

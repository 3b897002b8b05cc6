//! Runs that wait hold nothing, and go on when what they wait for has come.

use lockgate_tests::steps_story::{Story, assert_once_but};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_goes_on_after_its_nap_where_it_was() {
    let story = Story::begin(json!({"steps": 2, "transactions": 1, "nap_ms": 6_000})).await;
    let _replica = story.cluster.replica();
    let (told, effects) = story.ends().await;
    assert_once_but(&effects, &[]);
    assert!(
        told.to - told.from >= chrono::TimeDelta::milliseconds(6_000),
        "{told:?}"
    );
    assert_eq!(
        story.steps().await,
        [
            "1:work completed",
            "2:work completed",
            "3:book completed",
            "4:sleep completed",
            "5:last completed"
        ]
    );
    // One claim until it napped, one after; nothing of it was held between.
    assert_eq!(
        story
            .count("select claim_token from lockgate.task_runs where id = $1")
            .await,
        2
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_run_is_free_and_a_signal_wakes_it() {
    let story = Story::begin(json!({"steps": 1, "signal_ms": 3_600_000})).await;
    let _replica = story.cluster.replica();
    story.cluster.reaches(story.run, "suspended").await;
    let waits = "select count(*) from lockgate.run_steps s join lockgate.task_runs r on r.id = s.run_id
                  where s.run_id = $1 and s.kind = 'signal' and s.status = 'open' and r.claim_id is null
                    and r.wake_at = s.due_at and s.due_at > clock_timestamp() + interval '59 minutes'";
    assert_eq!(story.count(waits).await, 1);
    assert_eq!(story.signal(json!({"yes": true})).await, "sent");
    let (told, effects) = story.ends().await;
    assert_eq!(told.signal, Some(json!({"yes": true})));
    assert_once_but(&effects, &[]);
    assert_eq!(story.signal(json!(1)).await, "completed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_that_does_not_come_in_time_is_told_so() {
    let story = Story::begin(json!({"signal_ms": 1_200})).await;
    let _replica = story.cluster.replica();
    let (told, _) = story.ends().await;
    assert_eq!(told.signal, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_that_came_first_waits_for_the_run() {
    let story = Story::begin(json!({"steps": 1, "signal_ms": 60_000})).await;
    assert_eq!(story.signal(json!("early")).await, "sent");
    assert_eq!(story.signal(json!("late")).await, "sent");
    let _replica = story.cluster.replica();
    let (told, _) = story.ends().await;
    assert_eq!(told.signal, Some(json!("early")));
    let left = "select count(*) from lockgate.signals where run_id = $1 and consumed_by is null";
    assert_eq!(story.count(left).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nap_outlives_the_replicas() {
    let story = Story::begin(json!({"steps": 1, "nap_ms": 3_600_000})).await;
    let mut first = story.cluster.replica();
    story.cluster.reaches(story.run, "suspended").await;
    first.terminate();
    assert!(first.ends().await.success());
    story.cluster.an_hour_passes().await;
    let _second = story.cluster.replica();
    let (_, effects) = story.ends().await;
    assert_once_but(&effects, &[]);
    assert_eq!(story.recovered().await, 0);
}

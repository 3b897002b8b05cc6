//! Requests and answers that are lost on their way change nothing: what was done is recognised, the rest is done once.

use lockgate_tests::proxy::Proxy;
use lockgate_tests::steps_story::{Story, assert_once_but};
use serde_json::json;

/// What is said to Postgres for a durable workflow, by the first words of each statement's file, and how often it is lost.
const STATEMENTS: &[(&str, usize)] = &[
    ("Claims a page under one", 2),
    ("Checkpoints of many runs", 2),
    ("A checkpoint in the transaction", 1),
    ("Lets go of many runs", 2),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_requests_are_made_again() {
    lost(Proxy::lose_request).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_are_found_again() {
    lost(Proxy::lose_reply).await;
}

async fn lost(lose: impl Fn(&Proxy, &str, usize)) {
    let story = Story::begin(json!({"steps": 2, "transactions": 2, "nap_ms": 1_500, "signal_ms": 60_000})).await;
    let proxy = Proxy::before(story.cluster.url()).await;
    for (statement, times) in STATEMENTS {
        lose(&proxy, statement, *times);
    }
    let _replica = story.cluster.replica_with(&[
        ("DATABASE_URL", proxy.url()),
        ("DATABASE_URL_DIRECT", story.cluster.url()),
    ]);
    assert_eq!(story.signal(json!("go")).await, "sent");
    let (told, effects) = story.ends().await;
    assert_eq!(told.signal, Some(json!("go")));
    // No step's code ran twice: its checkpoint was asked for again, not the step.
    assert_once_but(&effects, &[]);
    assert_eq!(effects.len(), 5);
    assert_eq!(story.recovered().await, 0);
    let times: usize = STATEMENTS.iter().map(|(_, times)| times).sum();
    assert_eq!(proxy.cut(), times, "some statement was never made");
}

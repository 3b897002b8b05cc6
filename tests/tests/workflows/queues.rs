//! Queues with limits on real servers: what is found, what is kept back, and what `runs why` says.

use std::time::Duration;

use lockgate::inspect::{Cause, FlowCause, causes};
use lockgate::postgres::{Database, DatabaseSettings, Inspector};
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::report_queue;
use lockgate_tests::steps_story::{Story, assert_once_but};
use lockgate_tests::wait_until;
use serde_json::{Value, json};
use uuid::Uuid;

async fn ask<T>(story: &Story, sql: &'static str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    sqlx::query_scalar(sql).fetch_one(&story.cluster.pool).await.unwrap()
}

async fn start_in(story: &Story, queue: &str, key: &str, plan: Value) -> Uuid {
    sqlx::query_scalar(
        "select s.run_id from lockgate.start_by_hand(lockgate.new_id(), 'chaos-steps', convert_to($1::text, 'UTF8'),
            p_queue => $2, p_limit_key => $3) s",
    )
    .bind(plan)
    .bind(queue)
    .bind(key)
    .fetch_one(&story.cluster.pool)
    .await
    .unwrap()
}

/// What `runs why` says of its queue.
async fn why(story: &Story, run: Uuid) -> Vec<FlowCause> {
    let database = Database::new(&DatabaseSettings::new(story.cluster.url())).unwrap();
    let facts = Inspector::new(database)
        .why(run, Duration::from_secs(60))
        .await
        .unwrap();
    let causes = causes(&facts).into_iter();
    let of_queue = causes.filter_map(|cause| match cause {
        Cause::Queue(cause) => Some(cause),
        _ => None,
    });
    of_queue.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_any_name_is_found_and_its_limit_holds_from_end_to_end() {
    let story = Story::begin(json!({"steps": 1})).await;
    let _replica = story.cluster.replica();
    story.ends().await;
    // The replica is idle, and has never heard of this queue.
    let run = start_in(&story, "a name of its own", "k", json!({"steps": 1})).await;
    story.cluster.completes(run).await;
    let set: String = ask(&story, "select lockgate.set_queue('narrow', max_running => 2)").await;
    assert_eq!(set, "new");
    let mut runs = Vec::new();
    for _ in 0..8 {
        runs.push(start_in(&story, "narrow", "k", json!({"steps": 1, "step_ms": 300})).await);
    }
    for run in &runs {
        story.cluster.completes(*run).await;
    }
    // Never more than two at once: of any three, the third began when one was over.
    let overlaps: i64 = ask(
        &story,
        "select max((select count(*) from lockgate.task_runs o where o.queue = 'narrow' and o.started_at <= r.started_at
                       and o.finished_at > r.started_at))
           from lockgate.task_runs r where r.queue = 'narrow'",
    )
    .await;
    assert_eq!(overlaps, 2);
}

#[tokio::test]
async fn the_example_of_the_document_is_code_that_runs() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let document = std::fs::read_to_string(format!("{root}/docs/queues.md")).unwrap();
    let code = std::fs::read_to_string(format!("{root}/tests/src/report_queue.rs")).unwrap();
    let (_, shown) = code.split_once("// The document from here.\n").unwrap();
    let (shown, _) = shown.split_once("// To here.\n").unwrap();
    assert!(document.contains(shown.trim_end()), "docs/queues.md shows other code");
    // Two wishes of one customer are one report.
    let database = lockgate_tests::TestDatabase::new().await;
    let client = lockgate::client::Client::new(database.database());
    let wishes = [
        report_queue::wish(&client, "acme").await.unwrap().id(),
        report_queue::wish(&client, "acme").await.unwrap().id(),
        report_queue::wish(&client, "other").await.unwrap().id(),
    ];
    assert!(wishes[0] == wishes[1] && wishes[1] != wishes[2], "{wishes:?}");
    let urgent = client
        .start::<report_queue::MakeReport>(&"acme".to_owned())
        .priority(21);
    let refused = urgent.send().await.unwrap_err().to_string();
    assert_eq!(refused, "priority 21 is above 20; nothing was started");
    drop(report_queue::engine());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_names_the_limit_and_who_holds_it() {
    let story = Story::begin(json!({"steps": 1})).await;
    let _: String = ask(
        &story,
        "select lockgate.set_queue('narrow', max_running => 5, max_per_key => 1, holds => 'run')",
    )
    .await;
    let _replica = story.cluster.replica();
    let holder = start_in(&story, "narrow", "k", json!({"signal_ms": 3_600_000})).await;
    story.cluster.reaches(holder, "suspended").await;
    let kept = start_in(&story, "narrow", "k", json!({"steps": 1})).await;
    let found = why(&story, kept).await;
    assert!(
        matches!(
            &found[..],
            [FlowCause::MaxPerKey { key, holding: 1, holders, .. }]
                // It waits in its place.
                if key == "k" && holders[0].run_id == holder && holders[0].replica.is_none()
        ),
        "{found:?}"
    );
    let _: String = ask(
        &story,
        "select lockgate.pause_queue('narrow', 'the mail server is down', 'mia')",
    )
    .await;
    let found = why(&story, kept).await;
    assert!(
        found[0].to_string().contains("for mia: the mail server is down"),
        "{}",
        found[0]
    );
    let _: String = ask(&story, "select lockgate.resume_queue('narrow')").await;
    let _: Option<String> = sqlx::query_scalar("select lockgate.signal_run($1, 'go', '1')")
        .bind(holder)
        .fetch_one(&story.cluster.pool)
        .await
        .unwrap();
    story.cluster.completes(kept).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_queue_keeps_back_what_is_started_until_it_is_resumed() {
    let story = Story::begin(json!({"steps": 1})).await;
    let _replica = story.cluster.replica();
    story.ends().await;
    let _: String = ask(&story, "select lockgate.pause_queue('chaos-steps')").await;
    let starts = async || story.cluster.start("chaos-steps", json!({"steps": 1})).await;
    let is_kept = async |run| {
        tokio::time::sleep(Duration::from_secs(2)).await;
        story.cluster.status(run).await == "queued"
    };
    // The replica hears of it at once, or when it reads its queues again, each five seconds; from then on nothing begins.
    wait_until(PATIENCE, "the replica has heard of it", async || {
        is_kept(starts().await).await
    })
    .await;
    let run = starts().await;
    assert!(is_kept(run).await);
    let _: String = ask(&story, "select lockgate.resume_queue('chaos-steps')").await;
    story.cluster.completes(run).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_that_runs_too_long_is_dropped_and_set_aside_after_five_times() {
    let story = Story::begin(json!({"steps": 1, "step_ms": 3_600_000})).await;
    let _: String = ask(
        &story,
        "select lockgate.set_queue('chaos-steps', max_attempt => '1 second')",
    )
    .await;
    let _replica = story.cluster.replica();
    story
        .cluster
        .reaches_within(story.run, "quarantined", PATIENCE * 2)
        .await;
    let reason: String = ask(
        &story,
        "select reason from lockgate.task_runs where workflow = 'chaos-steps'",
    )
    .await;
    assert!(
        reason.contains("longer than max_attempt") && reason.contains("five times"),
        "{reason}"
    );
    // What is quick enough is not touched, and what is slow but gets on neither.
    let _: String = ask(
        &story,
        "select lockgate.set_queue('chaos-steps', max_attempt => '10 seconds')",
    )
    .await;
    // One that is done although it takes longer than was allowed before shows that the replica has heard of it.
    let heard = start_in(&story, "chaos-steps", "k", json!({"steps": 1, "step_ms": 2_000})).await;
    story.cluster.completes(heard).await;
    let quick = start_in(&story, "chaos-steps", "k", json!({"steps": 4, "step_ms": 3_000})).await;
    story.cluster.completes(quick).await;
    let effects = lockgate_tests::chaos_steps::effects(&story.cluster.pool, quick).await;
    assert!(effects.values().all(|count| *count <= 2), "{effects:?}");
    let _: String = ask(&story, "select lockgate.remove_queue('chaos-steps')").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_share_one_limit() {
    let story = Story::begin(json!({"steps": 1})).await;
    let _: String = ask(&story, "select lockgate.set_queue('chaos-steps', max_running => 3)").await;
    let _replicas = [story.cluster.replica(), story.cluster.replica()];
    for _ in 0..30 {
        story
            .cluster
            .start("chaos-steps", json!({"steps": 1, "step_ms": 100}))
            .await;
    }
    let over = "select count(*) from lockgate.task_runs where finished_at is null and $1 is not null";
    wait_until(PATIENCE, "all are over", async || story.count(over).await == 0).await;
    // Claims, which the audit has with both their instants, never overlapped more than thrice.
    let overlaps: i64 = ask(
        &story,
        "with claims as (select since, at from lockgate.transitions where since is not null)
         select max((select count(*) from claims o where o.since <= c.since and o.at > c.since)) from claims c",
    )
    .await;
    assert_eq!(overlaps, 3);
    let (_, effects) = story.ends().await;
    assert_once_but(&effects, &[]);
}

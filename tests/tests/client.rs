//! Runs started from Rust: typed input and output, keys, the caller's own transaction, and what becomes of them.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use lockgate::client::{Client, RunError, RunHandle, RunStatus, StartError};
use lockgate::postgres::{Database, DatabaseSettings};
use lockgate::workflow::{Context, Workflow};
use lockgate_tests::TestDatabase;
use lockgate_tests::cluster::Cluster;
use lockgate_workflows::{DailyTaskReports, ReportInput};
use uuid::Uuid;

/// One that no replica runs.
struct Letter;

impl Workflow for Letter {
    const NAME: &'static str = "letter";
    type Input = String;
    type Output = u32;

    async fn run(&self, _ctx: Context, input: String) -> anyhow::Result<u32> {
        Ok(u32::try_from(input.len())?)
    }
}

async fn set(database: &TestDatabase, run: &RunHandle<u32>, sql: &'static str) {
    let done = sqlx::query(sql).bind(run.id()).execute(database.pool()).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_workflow_returned_is_its_result() {
    let cluster = Cluster::new().await.patient();
    cluster.seed_users(100).await;
    let _replica = cluster.replica();
    let client = Client::new(Database::new(&DatabaseSettings::new(cluster.url())).unwrap());
    let start = || client.start::<DailyTaskReports>(&ReportInput::default()).key("today");
    let run = start().send().await.unwrap();
    let summary = tokio::time::timeout(Duration::from_secs(60), run.result()).await;
    let summary = summary.expect("it did not end").unwrap();
    assert_eq!((summary.sent.items, summary.sent.delivered), (90, 90));
    assert_eq!(run.status().await.unwrap(), Some(RunStatus::Completed));
    let again = start().send().await.unwrap();
    assert_eq!(again.id(), run.id(), "the same key finds the same run");
    assert_eq!(again.result().await.unwrap(), summary);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_singleton_key_lets_one_in_until_it_is_over() {
    let database = TestDatabase::new().await;
    let client = Client::new(database.database()).acting_for("the tests");
    let later = Utc::now() + TimeDelta::days(1);
    let start = || client.start::<Letter>(&"dear".to_owned()).singleton("one").at(later);
    let first = start().send().await.unwrap();
    assert!(matches!(start().send().await, Err(StartError::Held(key)) if key == "one"));
    let waits = tokio::spawn({
        let first = first.clone();
        async move { first.result().await }
    });
    assert_eq!(first.cancel("no more").await.unwrap(), Some(RunStatus::Cancelled));
    match waits.await.unwrap() {
        Err(RunError::Cancelled { run, reason }) => assert_eq!((run, reason.as_str()), (first.id(), "no more")),
        other => panic!("{other:?}"),
    }
    let second = start().send().await.unwrap();
    assert_ne!(second.id(), first.id());
    let actor = "select count(*) from lockgate.task_runs where actor like '% for the tests'";
    let started: i64 = sqlx::query_scalar(actor).fetch_one(database.pool()).await.unwrap();
    assert_eq!(started, 2);
}

/// Waiting would not bring it back.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_told_that_the_schema_is_gone() {
    let database = TestDatabase::new().await;
    let client = Client::new(database.database());
    let later = Utc::now() + TimeDelta::days(1);
    let run = client
        .start::<Letter>(&"dear".to_owned())
        .at(later)
        .send()
        .await
        .unwrap();
    let gone = "alter schema lockgate rename to elsewhere";
    sqlx::query(gone).execute(database.pool()).await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(60), run.result()).await;
    match told.expect("it waits on") {
        Err(RunError::Store(error)) => assert_eq!(error.code(), Some("42P01"), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_started_in_a_transaction_is_there_when_that_is_committed() {
    let database = TestDatabase::new().await;
    let client = Client::new(database.database());
    let start = || client.start::<Letter>(&"dear".to_owned());
    let mut never = database.pool().begin().await.unwrap();
    let lost = start().send_in(&mut never).await.unwrap();
    never.rollback().await.unwrap();
    assert!(matches!(lost.result().await, Err(RunError::Unknown(run)) if run == lost.id()));
    assert_eq!(lost.status().await.unwrap(), None);
    let mut sound = database.pool().begin().await.unwrap();
    let run = start().send_in(&mut sound).await.unwrap();
    assert_eq!(run.status().await.unwrap(), None, "nobody sees it yet");
    sound.commit().await.unwrap();
    assert_eq!(run.status().await.unwrap(), Some(RunStatus::Queued));
    // Found again by whoever has only its id.
    let found: RunHandle<u32> = client.run(run.id());
    assert_eq!(found.status().await.unwrap(), Some(RunStatus::Queued));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_without_a_result_says_why() {
    let database = TestDatabase::new().await;
    let client = Client::new(database.database());
    let start = async || client.start::<Letter>(&"dear".to_owned()).send().await.unwrap();
    let [failed, aside, odd] = [start().await, start().await, start().await];
    let fails = "update lockgate.task_runs set status = 'failed', reason = 'no paper', finished_at = clock_timestamp(), \
                 wake_at = null where id = $1";
    set(&database, &failed, fails).await;
    let set_aside =
        "update lockgate.task_runs set status = 'quarantined', reason = 'no ink', wake_at = null where id = $1";
    set(&database, &aside, set_aside).await;
    let returns = "update lockgate.task_runs set status = 'completed', output = '\"much\"', \
                   finished_at = clock_timestamp(), wake_at = null where id = $1";
    set(&database, &odd, returns).await;
    let (failed, aside, odd) = tokio::join!(failed.result(), aside.result(), odd.result());
    assert!(
        matches!(&failed, Err(RunError::Failed { reason, .. }) if reason == "no paper"),
        "{failed:?}"
    );
    assert!(
        matches!(&aside, Err(RunError::Quarantined { reason, .. }) if reason == "no ink"),
        "{aside:?}"
    );
    assert!(matches!(&odd, Err(RunError::Misfit { .. })), "{odd:?}");
    let nobody: RunHandle<u32> = client.run(Uuid::now_v7());
    assert!(matches!(nobody.result().await, Err(RunError::Unknown(_))));
}

/// By force it is over at once and its reason says what stands; otherwise its code is to undo that first.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_cancelled_by_force_is_not_undone() {
    let database = TestDatabase::new().await;
    let client = Client::new(database.database());
    let start = async || client.start::<Letter>(&"dear".to_owned()).send().await.unwrap();
    let [asked, forced] = [start().await, start().await];
    for run in [&asked, &forced] {
        let waits = "update lockgate.task_runs set status = 'suspended', started_at = now(), wake_at = null \
                     where id = $1";
        set(&database, run, waits).await;
        let did = "insert into lockgate.run_steps (run_id, path, kind, status, result, started_at, finished_at, \
                     consistent, planned_items, planned_batches) \
                   values ($1, '0:seal', 'undoable', 'completed', '1', now(), now(), null, null, null)";
        set(&database, run, did).await;
    }
    assert_eq!(asked.cancel("enough").await.unwrap(), Some(RunStatus::Suspended));
    let cancelled = Some(RunStatus::Cancelled);
    assert_eq!(forced.force_cancel("at once").await.unwrap(), cancelled);
    assert_eq!(asked.force_cancel("at once").await.unwrap(), cancelled);
    for run in [&asked, &forced] {
        match run.result().await {
            Err(RunError::Cancelled { reason, .. }) => assert_eq!(reason, "at once; by force, not undone: 0:seal"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_be_right_starts_nothing() {
    let database = TestDatabase::new().await;
    let client = Client::new(database.database());
    let dear = || client.start::<Letter>(&"dear".to_owned());
    let wrong = [
        (dear().key(""), "a key is empty"),
        (dear().pace(0), "a pace of 0"),
        (client.start::<Letter>(&"x".repeat(1 << 20)), "more than 1048576"),
    ];
    for (start, says) in wrong {
        match start.send().await {
            Err(StartError::Invalid(why)) => assert!(why.contains(says), "{why}"),
            other => panic!("{says}: {other:?}"),
        }
    }
    let runs = "select count(*) from lockgate.task_runs";
    let runs: i64 = sqlx::query_scalar(runs).fetch_one(database.pool()).await.unwrap();
    assert_eq!(runs, 0);
}

/// More than a page of them, of which none has a key.
#[tokio::test(flavor = "multi_thread")]
async fn runs_are_started_in_pages_and_an_error_says_which() {
    let database = TestDatabase::new().await;
    let client = Client::new(database.database());
    let count = "select count(*) from lockgate.task_runs where status = 'queued' and id = any ($1)";
    let queued = async |ids: &[Uuid]| -> i64 {
        let found = sqlx::query_scalar(count).bind(ids);
        found.fetch_one(database.pool()).await.unwrap()
    };
    let dear = || "dear".to_owned();
    let ids = client.start_all::<Letter>(vec![dear(); 2_500]).await.unwrap();
    assert_eq!((ids.len(), queued(&ids).await), (2_500, 2_500));
    let mut inputs = vec![dear(); 1_500];
    inputs[1_200] = "x".repeat(1 << 20);
    let error = client.start_all::<Letter>(inputs).await.unwrap_err();
    assert!(matches!(error.why, StartError::Invalid(_)), "{error}");
    assert_eq!((error.started.len(), queued(&error.started).await), (1_000, 1_000));
    let runs: i64 = sqlx::query_scalar("select count(*) from lockgate.task_runs")
        .fetch_one(database.pool())
        .await
        .unwrap();
    assert_eq!(runs, 3_500);
    // A page whose answer was lost is asked for again: those that are there stay as they are.
    let again = "select lockgate.start_runs($1, array_fill('letter'::text, array[cardinality($1)]),
                     array_fill('1'::bytea, array[cardinality($1)]), true)";
    let mut asked = ids[..3].to_vec();
    asked.push(Uuid::now_v7());
    let started: i64 = sqlx::query_scalar(again)
        .bind(&asked)
        .fetch_one(database.pool())
        .await
        .unwrap();
    assert_eq!((started, queued(&asked).await), (1, 4));
}

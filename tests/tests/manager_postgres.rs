//! What only the manager on Postgres can be asked: lost answers, contention, operators, leases by the server's clock.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use lockgate::lifecycle::{ManagerError, RunId, RunRequest, TaskRunManager};
use lockgate::postgres::{Database, DatabaseSettings, PostgresTaskRunManager};
use lockgate_tests::{LossyConnection, TestDatabase};
use sqlx::{Connection, Executor, PgConnection};

const LEASE: Duration = Duration::from_secs(3_600);

fn manager(database: Database) -> PostgresTaskRunManager {
    PostgresTaskRunManager::new(database, LEASE)
}

async fn start(manager: &PostgresTaskRunManager) -> RunId {
    manager
        .try_start_new_run(RunRequest::new("reports"))
        .await
        .unwrap()
        .unwrap()
}

/// What happened to a run, as `batch:from>to` in order.
async fn history(test_database: &TestDatabase, run: RunId) -> Vec<String> {
    let history = "select coalesce(batch_seq || ':', '') || coalesce(from_status, '') || '>' || to_status
        from lockgate.transitions where run_id = $1 order by id";
    sqlx::query_scalar(history)
        .bind(run)
        .fetch_all(test_database.pool())
        .await
        .unwrap()
}

/// Drives a run of two batches through the verbs, losing this many answers at every verb.
async fn drive_losing(test_database: &TestDatabase, answers: usize, pooler_mode: bool) -> (RunId, usize) {
    let connection = LossyConnection::to(test_database.url()).await;
    let settings = DatabaseSettings {
        pooler_mode,
        ..DatabaseSettings::new(connection.url())
    };
    let manager = manager(Database::new(&settings).unwrap());
    macro_rules! insist {
        ($ask:expr) => {{
            connection.lose_answers(answers);
            loop {
                match $ask.await {
                    Err(ManagerError::Store(_)) if answers > 1 => {}
                    answer => break answer.unwrap(),
                }
            }
        }};
    }
    let request = RunRequest::new("reports");
    let run = insist!(manager.try_start_new_run(request.clone())).unwrap();
    assert_eq!(run, request.id);
    insist!(manager.claim_batch(run, 1, &[1, 2]));
    insist!(manager.release_batch(run, 1));
    insist!(manager.claim_batch(run, 2, &[3]));
    sqlx::query("update lockgate.run_batches set lease_until = clock_timestamp() where status = 'claimed'")
        .execute(test_database.pool())
        .await
        .unwrap();
    assert_eq!(insist!(manager.recover_stale_ids(run)), vec![3]);
    insist!(manager.claim_batch(run, 3, &[3]));
    insist!(manager.release_batch(run, 3));
    insist!(manager.complete_run(run));
    let failing = insist!(manager.try_start_new_run(RunRequest {
        id: uuid::Uuid::now_v7(),
        ..request.clone()
    }))
    .unwrap();
    insist!(manager.fail_run(failing, "no database"));
    assert_eq!(history(test_database, failing).await, [">running", "running>failed"]);
    (run, connection.lost())
}

#[tokio::test]
async fn a_lost_answer_is_found_again() {
    let test_database = TestDatabase::new().await;
    // One: the verb asks again by itself. Two or three: its caller does. Each thing happens once all the same.
    for (answers, pooler_mode) in [(0, false), (1, false), (2, false), (3, false), (1, true), (2, true)] {
        let (run, lost) = drive_losing(&test_database, answers, pooler_mode).await;
        assert_eq!(lost, answers * 10, "not every answer was lost that should be");
        let expected = [
            ">running",
            "1:>claimed",
            "1:claimed>done",
            "2:>claimed",
            "2:claimed>recoverable",
            "2:recoverable>split",
            "3:>claimed",
            "3:claimed>done",
            "running>completed",
        ];
        assert_eq!(
            history(&test_database, run).await,
            expected,
            "with {answers} answers lost"
        );
    }
}

#[tokio::test]
async fn an_unanswered_claim_is_ours_when_it_is_released() {
    let test_database = TestDatabase::new().await;
    let connection = LossyConnection::to(test_database.url()).await;
    let manager = manager(Database::new(&DatabaseSettings::new(connection.url())).unwrap());
    let run = start(&manager).await;
    connection.lose_answers(2);
    let answer = manager.claim_batch(run, 1, &[1]).await;
    assert!(matches!(answer, Err(ManagerError::Store(_))), "{answer:?}");
    manager.release_batch(run, 1).await.unwrap();
    assert_eq!(
        history(&test_database, run).await,
        [">running", "1:>claimed", "1:claimed>done"]
    );
}

#[tokio::test]
async fn a_contended_start_is_busy_and_leaves_no_lock_behind() {
    let test_database = TestDatabase::new().await;
    let manager = manager(test_database.database());
    let mut rival = PgConnection::connect(test_database.url()).await.unwrap();
    rival
        .execute("begin; select pg_advisory_xact_lock(hashtextextended('nightly', 0))")
        .await
        .unwrap();
    let answer = manager
        .try_start_new_run(RunRequest::new("reports").singleton("nightly"))
        .await;
    assert!(matches!(answer, Err(ManagerError::Busy)), "{answer:?}");
    // A start without that key has nothing to do with it.
    start(&manager).await;
    rival.execute("rollback").await.unwrap();
    let run = manager
        .try_start_new_run(RunRequest::new("reports").singleton("nightly"))
        .await
        .unwrap();
    assert!(run.is_some());
    let locks = "select count(*) from pg_locks l join pg_database d on d.oid = l.database
        where l.locktype = 'advisory' and d.datname = current_database()";
    let locks: i64 = sqlx::query_scalar(locks).fetch_one(test_database.pool()).await.unwrap();
    assert_eq!(locks, 0);
}

#[tokio::test]
async fn leases_are_counted_by_the_servers_clock() {
    let test_database = TestDatabase::new().await;
    let manager = manager(test_database.database());
    let run = start(&manager).await;
    manager.claim_batch(run, 1, &[1]).await.unwrap();
    let left = "select extract(epoch from lease_until - clock_timestamp())::float8 from lockgate.run_batches";
    let left: f64 = sqlx::query_scalar(left).fetch_one(test_database.pool()).await.unwrap();
    assert!((3_540.0..=3_600.0).contains(&left), "{left} s");
}

async fn ask(test_database: &TestDatabase, sql: &'static str, run: RunId) -> String {
    sqlx::query_scalar(sql)
        .bind(run)
        .fetch_one(test_database.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_run_that_is_being_cancelled_takes_no_more_claims() {
    let test_database = TestDatabase::new().await;
    let manager = manager(test_database.database());
    let run = start(&manager).await;
    manager.claim_batch(run, 1, &[1]).await.unwrap();
    manager.claim_batch(run, 2, &[2]).await.unwrap();
    assert_eq!(
        ask(&test_database, "select lockgate.cancel_run($1)", run).await,
        "stopping"
    );
    let stopping = |answer: Result<(), ManagerError>| match answer {
        Err(ManagerError::NotActive { state, .. }) => assert_eq!(state, "stopping"),
        other => panic!("{other:?}"),
    };
    stopping(manager.claim_batch(run, 3, &[3]).await);
    stopping(manager.complete_run(run).await);
    stopping(manager.fail_run(run, "no database").await);
    // What is in flight may still be finished; the rest is taken from its holder, and with it the run is over.
    manager.release_batch(run, 1).await.unwrap();
    assert_eq!(manager.recover_stale_ids(run).await.unwrap(), Vec::<i64>::new());
    sqlx::query("update lockgate.run_batches set lease_until = clock_timestamp() where status = 'claimed'")
        .execute(test_database.pool())
        .await
        .unwrap();
    match manager.recover_stale_ids(run).await {
        Err(ManagerError::NotActive { state, .. }) => assert_eq!(state, "cancelled"),
        other => panic!("{other:?}"),
    }
    let expected = [
        ">running",
        "1:>claimed",
        "2:>claimed",
        "running>stopping",
        "1:claimed>done",
        "2:claimed>recoverable",
        "running>cancelled",
    ];
    assert_eq!(history(&test_database, run).await, expected);
}

#[tokio::test]
async fn a_paused_run_takes_no_claims_until_it_is_resumed() {
    let test_database = TestDatabase::new().await;
    let manager = manager(test_database.database());
    let run = start(&manager).await;
    manager.claim_batch(run, 1, &[1]).await.unwrap();
    assert_eq!(
        ask(&test_database, "select lockgate.pause_run($1)", run).await,
        "paused"
    );
    let answer = manager.claim_batch(run, 2, &[2]).await;
    assert!(matches!(answer, Err(ManagerError::NotClaimable { .. })), "{answer:?}");
    manager.claim_batch(run, 1, &[1]).await.unwrap();
    manager.release_batch(run, 1).await.unwrap();
    assert_eq!(
        ask(&test_database, "select lockgate.resume_run($1)", run).await,
        "running"
    );
    manager.claim_batch(run, 2, &[2]).await.unwrap();
}

#[tokio::test]
async fn a_store_without_the_schema_says_so() {
    let test_database = TestDatabase::empty().await;
    let manager = manager(test_database.database());
    let Err(ManagerError::Store(error)) = manager.complete_run(uuid::Uuid::new_v4()).await else {
        panic!("nothing there to complete a run");
    };
    assert!(format!("{error:#}").contains("lockgate.task_runs"), "{error:#}");
}

//! Callers that give up at random instants lose nothing: no connection is left in a transaction, and what is answered
//! later is really committed.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use lockgate::client::Client;
use lockgate::lifecycle::{ManagerError, RunId, RunRequest, TaskRunManager};
use lockgate::postgres::{Database, DatabaseSettings, PostgresTaskRunManager};
use lockgate_tests::{TestDatabase, wait_until};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const TASKS: u64 = 8;
const BATCHES: i32 = 5;

/// Asks until it is answered, dropping the question at random instants before.
struct Impatient {
    manager: PostgresTaskRunManager,
    random: StdRng,
    dropped: Arc<AtomicUsize>,
}

impl Impatient {
    async fn insist<T>(&mut self, ask: impl AsyncFn(&PostgresTaskRunManager) -> Result<T, ManagerError>) -> T {
        // Patience grows, so that a slow machine gets its answer in the end.
        let mut try_number = 0;
        loop {
            try_number += 1;
            let patience = Duration::from_micros(self.random.random_range(0..2_000 * try_number));
            match tokio::time::timeout(patience, ask(&self.manager)).await {
                Ok(Ok(value)) => return value,
                Ok(Err(ManagerError::Busy)) => {}
                Ok(Err(error)) => panic!("{error:?}"),
                Err(_) => drop(self.dropped.fetch_add(1, Ordering::Relaxed)),
            }
        }
    }

    async fn drive_a_run(&mut self, task: u64) -> RunId {
        let request = RunRequest::new("reports").idempotency(format!("task-{task}"));
        let run = self
            .insist(async |manager| manager.try_start_new_run(request.clone()).await)
            .await
            .unwrap();
        for batch in 0..BATCHES {
            let ids = [i64::from(batch) * 2, i64::from(batch) * 2 + 1];
            self.insist(async |manager| manager.claim_batch(run, batch, &ids).await)
                .await;
            self.insist(async |manager| manager.release_batch(run, batch).await)
                .await;
            let stale = self.insist(async |manager| manager.recover_stale_ids(run).await).await;
            assert!(stale.is_empty(), "{stale:?}");
        }
        self.insist(async |manager| manager.complete_run(run).await).await;
        run
    }
}

async fn check(test_database: &TestDatabase, database: Database) {
    let seed = lockgate_tests::seed();
    let dropped = Arc::new(AtomicUsize::new(0));
    let tasks = (0..TASKS).map(|task| {
        let manager = PostgresTaskRunManager::new(database.clone(), Duration::from_secs(60));
        let random = StdRng::seed_from_u64(seed.wrapping_add(task));
        let mut caller = Impatient {
            manager,
            random,
            dropped: Arc::clone(&dropped),
        };
        async move { caller.drive_a_run(task).await }
    });
    let runs: Vec<RunId> = join_all(tasks).await;
    let dropped = dropped.load(Ordering::Relaxed);
    assert!(
        dropped >= 50,
        "only {dropped} questions were dropped: this proves nothing"
    );

    for run in &runs {
        let ended =
            "select status = 'completed' and (select count(*) filter (where status = 'done') from lockgate.run_batches
                where run_id = $1) = $2 from lockgate.task_runs where id = $1";
        let ended: bool = sqlx::query_scalar(ended)
            .bind(run)
            .bind(i64::from(BATCHES))
            .fetch_one(test_database.pool())
            .await
            .unwrap();
        assert!(ended, "run {run} is not what its caller was told");
        let twice = "select count(*) from (select from lockgate.transitions where run_id = $1
            group by batch_seq, to_status having count(*) > 1) x";
        let twice: i64 = sqlx::query_scalar(twice)
            .bind(run)
            .fetch_one(test_database.pool())
            .await
            .unwrap();
        assert_eq!(twice, 0, "something of run {run} happened twice");
    }
    let idle = "select not exists (select from pg_stat_activity
        where datname = current_database() and state like 'idle in transaction%')";
    wait_until(
        Duration::from_secs(60),
        "no session is idle in a transaction",
        async || {
            sqlx::query_scalar::<_, bool>(idle)
                .fetch_one(test_database.pool())
                .await
                .unwrap()
        },
    )
    .await;
    check_later_writes(test_database, database).await;
}

/// More writes than the pool has connections, several at once: each is seen by others as soon as it is answered.
async fn check_later_writes(test_database: &TestDatabase, database: Database) {
    let writes = (0..60).map(|_| {
        let manager = PostgresTaskRunManager::new(database.clone(), Duration::from_secs(60));
        async move {
            let run = manager
                .try_start_new_run(RunRequest::new("later"))
                .await
                .unwrap()
                .unwrap();
            manager.claim_batch(run, 1, &[1]).await.unwrap();
            let committed = "select count(*) from lockgate.run_batches where run_id = $1 and status = 'claimed'";
            sqlx::query_scalar::<_, i64>(committed)
                .bind(run)
                .fetch_one(test_database.pool())
                .await
                .unwrap()
        }
    });
    assert_eq!(join_all(writes).await, vec![1; 60]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dropped_questions_lose_nothing() {
    let test_database = TestDatabase::new().await;
    check(&test_database, test_database.database()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dropped_questions_lose_nothing_in_pooler_mode() {
    let test_database = TestDatabase::new().await;
    check(&test_database, test_database.database_in_pooler_mode()).await;
}

/// A pooler hides the session's setting, so each transaction asks for it.
#[tokio::test]
async fn in_pooler_mode_too_the_server_ends_transactions_that_idle() {
    let test_database = TestDatabase::new().await;
    for pooler_mode in [false, true] {
        let settings = DatabaseSettings {
            pooler_mode,
            idle_in_transaction: Duration::from_millis(1_234),
            ..DatabaseSettings::new(test_database.url())
        };
        let facts = Database::new(&settings).unwrap().server_facts().await.unwrap();
        assert_eq!(facts.idle_in_transaction_ms, 1_234, "pooler mode {pooler_mode}");
    }
}

/// The connections that engines and clients have open.
const OPEN: &str =
    "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'lockgate'";

async fn ask(client: &Client) {
    assert_eq!(client.run::<()>(RunId::nil()).status().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_one_after_the_other_are_one_connection() {
    let test_database = TestDatabase::new().await;
    let database = Database::new(&DatabaseSettings::new(test_database.url())).unwrap();
    let client = Client::new(database.clone());
    for _ in 0..100 {
        ask(&client).await;
    }
    let open: i64 = sqlx::query_scalar(OPEN).fetch_one(test_database.pool()).await.unwrap();
    assert_eq!(open, 1);
    // What is kept is not waited for.
    tokio::time::timeout(Duration::from_secs(30), database.close())
        .await
        .unwrap();
    assert!(client.run::<()>(RunId::nil()).status().await.is_err());
}

#[tokio::test]
async fn a_connection_that_the_server_has_ended_is_not_lent_again() {
    let test_database = TestDatabase::new().await;
    let client = Client::new(Database::new(&DatabaseSettings::new(test_database.url())).unwrap());
    join_all((0..5).map(|_| ask(&client))).await;
    let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                where datname = current_database() and application_name = 'lockgate'";
    let ended: i64 = sqlx::query_scalar(end).fetch_one(test_database.pool()).await.unwrap();
    assert!(ended > 0);
    // One that was used in the last six seconds is believed to be well.
    tokio::time::sleep(Duration::from_millis(6_500)).await;
    ask(&client).await;
}

#[test]
fn what_is_kept_may_be_dropped_after_its_runtime() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let (stays, ends) = (runtime(), runtime());
    let test_database = stays.block_on(TestDatabase::new());
    let client = ends.block_on(async {
        let client = Client::new(Database::new(&DatabaseSettings::new(test_database.url())).unwrap());
        ask(&client).await;
        client
    });
    drop(ends);
    drop(client);
    stays.block_on(async { drop(test_database) });
}

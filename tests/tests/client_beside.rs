//! Starts that go together, and clients in the process of a replica: their runs begin at once and their ends are told.
#![allow(clippy::unwrap_used)]

use std::pin::pin;
use std::time::Duration;

use lockgate::client::{Client, RunStatus};
use lockgate::lifecycle::RunId;
use lockgate::workflow::{Context, Workflow};
use lockgate::{Engine, EngineBuilder};
use lockgate_tests::beside::{InProcess, database};
use lockgate_tests::{TestDatabase, wait_until};
use sqlx::PgPool;
use tokio::sync::Semaphore;

/// Says what it is told.
struct Echo;

impl Workflow for Echo {
    const NAME: &'static str = "echo";
    type Input = u32;
    type Output = u32;

    async fn run(&self, ctx: Context, input: u32) -> anyhow::Result<u32> {
        ctx.step("say", move || async move {
            if input == SLOW {
                let _open = GATE.acquire().await?;
            }
            anyhow::Ok(input)
        })
        .await
    }
}

/// Said once the gate is open.
const SLOW: u32 = 5;
static GATE: Semaphore = Semaphore::const_new(0);
const PATIENCE: Duration = Duration::from_secs(30);
/// Of whom nobody is to be found by it.
const NO_POLL: Duration = Duration::from_secs(600);

fn engine() -> EngineBuilder {
    Engine::builder().workflow(Echo)
}

async fn number(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

async fn result(client: &Client, run: RunId) -> u32 {
    let run = client.run::<u32>(run);
    tokio::time::timeout(PATIENCE, run.result()).await.unwrap().unwrap()
}

/// A replica that has looked into its queue.
async fn replica(engine: &EngineBuilder, place: &TestDatabase, client: &Client) -> InProcess {
    let replica = InProcess::start(engine, place.url(), |config| config.worker.poll = NO_POLL);
    let run = client.start::<Echo>(&0).send().await.unwrap();
    assert_eq!(result(client, run.id()).await, 0);
    assert!(replica.is_alive());
    replica
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_started_at_the_same_time_is_one_statement() {
    let place = TestDatabase::new().await;
    let client = Client::new(place.database());
    let starts = (0..1_000).map(|number| {
        let start = client.start::<Echo>(&number);
        tokio::spawn(start.send())
    });
    let starts: Vec<_> = starts.collect();
    for start in starts {
        start.await.unwrap().unwrap();
    }
    assert_eq!(
        number(
            place.pool(),
            "select count(*) from lockgate.task_runs where status = 'queued'"
        )
        .await,
        1_000
    );
    let inputs = "select count(distinct params) from lockgate.task_runs";
    assert_eq!(number(place.pool(), inputs).await, 1_000, "each its own");
    let transactions = number(
        place.pool(),
        "select count(distinct xmin::text) from lockgate.task_runs",
    )
    .await;
    assert!(transactions < 50, "{transactions} statements");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_cannot_be_stored_does_not_hold_the_others_up() {
    let place = TestDatabase::new().await;
    let client = Client::new(place.database());
    let starts = (0..50).map(|number| {
        let start = client.start::<Echo>(&number);
        let start = if number == 7 {
            start.traceparent("zero\0")
        } else {
            start
        };
        tokio::spawn(start.send())
    });
    let starts: Vec<_> = starts.collect();
    let mut refused = Vec::new();
    for (number, start) in starts.into_iter().enumerate() {
        if start.await.unwrap().is_err() {
            refused.push(number);
        }
    }
    assert_eq!(refused, [7]);
    assert_eq!(
        number(place.pool(), "select count(*) from lockgate.task_runs").await,
        49
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_wakes_the_replica_of_another_process() {
    let place = TestDatabase::new().await;
    let apart = Client::new(database(place.url()));
    let engine = engine();
    let _replica = replica(&engine, &place, &apart).await;
    for keyed in [false, true] {
        let start = apart.start::<Echo>(&7);
        let start = if keyed { start.key("seven") } else { start };
        let run = start.send().await.unwrap();
        assert_eq!(result(&apart, run.id()).await, 7);
    }
    let ids = apart.start_all::<Echo>(1..=3).await.unwrap();
    for (run, said) in ids.into_iter().zip(1..) {
        assert_eq!(result(&apart, run).await, said);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_started_beside_a_replica_begins_at_once_and_its_end_is_told() {
    let place = TestDatabase::new().await;
    let engine = engine();
    let own = database(place.url());
    let client = engine.client(own.clone());
    let replica = replica(&engine, &place, &client).await;
    let run = client.start::<Echo>(&SLOW).send().await.unwrap();
    // Nobody can be asked any more, and it is not over.
    own.close().await;
    let mut end = pin!(result(&client, run.id()));
    assert!(futures::poll!(&mut end).is_pending());
    GATE.add_permits(1);
    assert_eq!(end.await, SLOW);
    let born = "select count(*) from lockgate.task_runs
                 where started_at = created_at and claimed_at = created_at and claim_token = 1 and status = 'completed'";
    assert_eq!(number(place.pool(), born).await, 1);
    let audited = "select count(*) from lockgate.transitions t join lockgate.task_runs r on r.id = t.run_id
                    where t.since = r.created_at and t.token = 1 and t.to_status = 'completed'";
    assert_eq!(number(place.pool(), audited).await, 1);
    assert!(replica.is_alive());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_something_holds_back_does_not_begin_at_once() {
    let place = TestDatabase::new().await;
    let engine = engine();
    let client = engine.client(database(place.url()));
    let _replica = replica(&engine, &place, &client).await;
    let later = chrono::Utc::now() + chrono::TimeDelta::days(1);
    let run = client.start::<Echo>(&1).at(later).send().await.unwrap();
    assert_eq!(run.status().await.unwrap(), Some(RunStatus::Queued));
    let keyed = client.start::<Echo>(&2).singleton("two").send().await.unwrap();
    assert_eq!(result(&client, keyed.id()).await, 2);
    let begun_later = "select count(*) from lockgate.task_runs where started_at > created_at and singleton_key = 'two'";
    assert_eq!(number(place.pool(), begun_later).await, 1);
}

/// The end of a run that another process runs is found by asking.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_elsewhere_is_found_beside_a_replica_too() {
    let place = TestDatabase::new().await;
    let engine = engine();
    let client = engine.client(database(place.url()));
    let _replica = replica(&engine, &place, &client).await;
    let later = chrono::Utc::now() + chrono::TimeDelta::days(1);
    let run = client.start::<Echo>(&1).at(later).send().await.unwrap();
    let waits = tokio::spawn({
        let (client, run) = (client.clone(), run.id());
        async move { result(&client, run).await }
    });
    let ends = "update lockgate.task_runs set status = 'completed', output = '9', finished_at = clock_timestamp(), wake_at = null";
    let ends = format!("{ends} where id = '{}'", run.id());
    sqlx::query(sqlx::AssertSqlSafe(ends))
        .execute(place.pool())
        .await
        .unwrap();
    assert_eq!(waits.await.unwrap(), 9);
    wait_until(PATIENCE, "nothing is left", async || {
        number(
            place.pool(),
            "select count(*) from lockgate.task_runs where finished_at is null",
        )
        .await
            == 0
    })
    .await;
}

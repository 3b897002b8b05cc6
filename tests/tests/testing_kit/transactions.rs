//! Transactions on a test's own database.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use lockgate::testing::{TestEngine, every_crash, postgres};
use lockgate::workflow::{Context, Workflow};
use lockgate_tests::bounded::{Bounded, TABLE, Wrong, expected};

/// Books an amount, and once more.
struct Booking;

impl Workflow for Booking {
    const NAME: &'static str = "booking";
    type Input = i64;
    type Output = i64;

    async fn run(&self, ctx: Context, amount: i64) -> anyhow::Result<i64> {
        let booked = ctx.transaction("book", move |tx| {
            Box::pin(async move {
                let total = "insert into bookings (amount) values ($1) returning (select count(*) from bookings)";
                Ok(sqlx::query_scalar(total).bind(amount).fetch_one(tx).await?)
            })
        });
        let before: i64 = booked.await?;
        ctx.sleep(std::time::Duration::from_secs(3_600)).await?;
        Ok(before)
    }
}

#[tokio::test]
async fn a_transaction_is_done_once_whatever_crashes() {
    let database = postgres().await;
    database.execute("create table bookings (amount bigint not null)").await;
    let crashed = every_crash(async |engine| {
        database.execute("truncate bookings").await;
        let engine = engine.workflow(Booking).database(&database);
        let run = engine.start::<Booking>(&17).await;
        run.assert_completed_with(&0).await;
        assert_eq!(
            database.count("select count(*) from bookings where amount = 17").await,
            1
        );
    })
    .await;
    assert!(crashed >= 8, "{crashed}");
}

/// Tells somebody of what it books before that is committed.
struct Hasty(Arc<AtomicU32>);

impl Workflow for Hasty {
    const NAME: &'static str = "hasty";
    type Input = ();
    type Output = ();

    async fn run(&self, ctx: Context, (): ()) -> anyhow::Result<()> {
        let told = self.0.clone();
        let booked = ctx.transaction("book", move |tx| {
            let told = told.clone();
            Box::pin(async move {
                sqlx::query("insert into bookings values (1)").execute(tx).await?;
                told.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
        });
        booked.await
    }
}

#[tokio::test]
async fn what_a_transaction_does_beside_its_rows_is_done_again_after_a_crash_before_its_commit() {
    let database = postgres().await;
    database.execute("create table bookings (amount bigint not null)").await;
    for (engine, times) in [
        (TestEngine::new().crash_before("0:book"), 2),
        (TestEngine::new().crash_after("0:book"), 1),
    ] {
        database.execute("truncate bookings").await;
        let told = Arc::new(AtomicU32::new(0));
        let engine = engine.workflow(Hasty(told.clone())).database(&database);
        engine.start::<Hasty>(&()).await.assert_completed_with(&()).await;
        assert_eq!(told.load(Ordering::Relaxed), times);
        assert_eq!(database.count("select count(*) from bookings").await, 1);
    }
}

#[tokio::test]
#[should_panic(
    expected = "this workflow uses ctx.transaction: give the test a database with lockgate::testing::postgres()"
)]
async fn a_transaction_without_a_database_fails_its_test() {
    let engine = TestEngine::new().workflow(Booking);
    let _ = engine.start::<Booking>(&17).await.result().await;
}

/// Makes nothing of a statement that fails.
struct Careless;

impl Workflow for Careless {
    const NAME: &'static str = "careless";
    type Input = ();
    type Output = ();

    async fn run(&self, ctx: Context, (): ()) -> anyhow::Result<()> {
        let booked = ctx.transaction("book", |tx| {
            Box::pin(async move {
                let _ = sqlx::query("insert into nowhere values (1)").execute(tx).await;
                Ok(())
            })
        });
        booked.await
    }
}

/// As it does on a server that holds its record: nothing of it can be committed.
#[tokio::test]
async fn a_transaction_that_goes_on_after_a_statement_has_failed_fails_here_too() {
    let database = postgres().await;
    let engine = TestEngine::new().workflow(Careless).database(&database);
    let run = engine.start::<Careless>(&()).await;
    let error = run.result().await.unwrap_err().to_string();
    assert!(error.contains("nothing of it can be committed"), "{error}");
}

/// As on a server that holds the run.
#[tokio::test]
async fn a_transaction_keeps_to_its_options_here_too() {
    let database = postgres().await;
    database.execute(TABLE).await;
    database.execute("create sequence tries").await;
    for wrong in [
        Wrong::Fails,
        Wrong::AtAStatement,
        Wrong::BetweenStatements,
        Wrong::TooLarge,
        Wrong::Once,
    ] {
        database.execute("select setval('tries', 1, false)").await;
        let engine = TestEngine::new().workflow(Bounded).database(&database);
        let ended = engine.start::<Bounded>(&wrong).await.result().await.unwrap();
        let tries = database.count("select last_value from tries").await;
        let (words, times) = expected(wrong);
        assert_eq!(
            (ended.map(|error| error.to_string()).as_deref(), tries),
            (words, times),
            "{wrong:?}"
        );
    }
    assert_eq!(database.count("select count(*) from tried").await, 1);
}

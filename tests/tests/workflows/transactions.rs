//! Transactions beside other steps, and with options.
#![allow(clippy::panic)]

use std::time::Duration;

use futures::FutureExt;
use lockgate::workflow::{Context, StepOptions, Workflow};
use lockgate::{Engine, client::Client};
use lockgate_tests::TestDatabase;
use lockgate_tests::beside::InProcess;
use lockgate_tests::bounded::{Bounded, TABLE, Wrong, expected};
use sqlx::PgConnection;
use tokio::sync::Notify;

/// A transaction that begins before a step beside it ends, and ends after it; then it fails.
struct Overlapping;

/// The transaction has begun.
static BEGUN: Notify = Notify::const_new();

async fn book(connection: &mut PgConnection) -> anyhow::Result<()> {
    let is_done =
        "select exists (select from lockgate.run_steps where path like '%:charge' and finished_at is not null)";
    BEGUN.notify_one();
    while !sqlx::query_scalar::<_, bool>(is_done)
        .fetch_one(&mut *connection)
        .await?
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

impl Workflow for Overlapping {
    const NAME: &'static str = "overlapping";
    type Input = ();
    type Output = ();

    async fn run(&self, ctx: Context, (): ()) -> anyhow::Result<()> {
        let branches = ctx.branches(2).await?;
        let slow = branches[0].transaction_with_undo(
            "book",
            StepOptions::default(),
            |connection| book(connection).boxed(),
            |_, ()| async { anyhow::Ok(()) }.boxed(),
        );
        let quick = branches[1].step_with_undo(
            "charge",
            StepOptions::default(),
            || async {
                BEGUN.notified().await;
                anyhow::Ok(())
            },
            |_: Option<()>| async { anyhow::Ok(()) },
        );
        futures::try_join!(slow, quick)?;
        anyhow::bail!("no truck")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_undone_by_when_it_ended() {
    let place = TestDatabase::new().await;
    let engine = Engine::builder().workflow(Overlapping);
    let _replica = InProcess::start(&engine, place.url(), |_| {});
    let run = Client::new(place.database())
        .start::<Overlapping>(&())
        .send()
        .await
        .unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), run.result())
        .await
        .unwrap();
    assert!(ended.unwrap_err().to_string().contains("no truck"));
    let order = "select convert_from(result, 'utf8')::jsonb ->> 'order' from lockgate.run_steps where path = 'undo'";
    let order: String = sqlx::query_scalar(order).fetch_one(place.pool()).await.unwrap();
    assert_eq!(order, r#"["0:join/0/0:book", "0:join/1/0:charge"]"#);
}

/// Retries, the time of a try and the size of a result are those that the step says; a try that is taken back leaves nothing,
/// and the connection it was on serves the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_keeps_to_its_options() {
    let place = TestDatabase::new().await;
    sqlx::query(TABLE).execute(place.pool()).await.unwrap();
    sqlx::query("create sequence tries")
        .execute(place.pool())
        .await
        .unwrap();
    let engine = Engine::builder().workflow(Bounded);
    let _replica = InProcess::start(&engine, place.url(), |_| {});
    let client = Client::new(place.database());
    for wrong in [
        Wrong::Fails,
        Wrong::AtAStatement,
        Wrong::BetweenStatements,
        Wrong::TooLarge,
        Wrong::Once,
    ] {
        let reset = "select setval('tries', 1, false) from (select) x where not exists (select from tried)";
        let reset = sqlx::query(reset).fetch_optional(place.pool()).await.unwrap();
        assert!(reset.is_some(), "{wrong:?}: something is left");
        let run = client.start::<Bounded>(&wrong).send().await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(60), run.result()).await;
        let ended = ended.unwrap_or_else(|_| panic!("{wrong:?} takes too long")).unwrap();
        let tries: i64 = sqlx::query_scalar("select last_value from tries")
            .fetch_one(place.pool())
            .await
            .unwrap();
        let (words, times) = expected(wrong);
        assert_eq!(
            (ended.map(|error| error.to_string()).as_deref(), tries),
            (words, times),
            "{wrong:?}"
        );
    }
    let done: i64 = sqlx::query_scalar("select count(*) from tried")
        .fetch_one(place.pool())
        .await
        .unwrap();
    assert_eq!(done, 1);
}

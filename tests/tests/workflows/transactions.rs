//! Transactions beside other steps.

use std::time::Duration;

use futures::FutureExt;
use lockgate::workflow::{Context, StepOptions, Workflow};
use lockgate::{Engine, client::Client};
use lockgate_tests::TestDatabase;
use lockgate_tests::beside::InProcess;
use sqlx::PgConnection;

/// A transaction that begins before a step beside it and ends after it; then it fails.
struct Overlapping;

async fn book(connection: &mut PgConnection) -> anyhow::Result<()> {
    sqlx::query("select pg_sleep(4)").execute(connection).await?;
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
            |connection| book(connection).boxed(),
            |_, ()| async { anyhow::Ok(()) }.boxed(),
        );
        let quick = branches[1].step_with_undo(
            "charge",
            StepOptions::default(),
            || async {
                tokio::time::sleep(Duration::from_millis(100)).await;
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

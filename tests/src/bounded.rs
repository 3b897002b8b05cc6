//! Workflows whose transactions are bounded, and one that shows how far it is; for real servers and the testing kit alike.

use std::time::Duration;

use futures::FutureExt;
use lockgate::workflow::{Context, RetryPolicy, StepError, StepOptions, Workflow};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

/// The table that [`Bounded`] writes to.
pub const TABLE: &str = "create table tried (what text not null)";

/// How a transaction goes wrong.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Wrong {
    /// It fails each time.
    Fails,
    /// It is at a statement for ten minutes.
    AtAStatement,
    /// It is at no statement for ten minutes.
    BetweenStatements,
    /// It returns more than it may.
    TooLarge,
    /// Its first try takes too long, the second one does not.
    Once,
}

impl Wrong {
    /// What a try may take: short only where it is waited out, for a busy server takes its time for a commit.
    fn timeout(self) -> Duration {
        Duration::from_secs(match self {
            Wrong::AtAStatement | Wrong::BetweenStatements => 2,
            Wrong::Once => 10,
            Wrong::Fails | Wrong::TooLarge => 60,
        })
    }
}

/// A transaction that may be tried twice, for a bounded time, and return eight bytes.
pub struct Bounded;

impl Workflow for Bounded {
    const NAME: &'static str = "bounded";
    type Input = Wrong;
    type Output = Option<StepError>;

    async fn run(&self, ctx: Context, wrong: Wrong) -> anyhow::Result<Option<StepError>> {
        let retry = RetryPolicy {
            attempts: 2,
            first: Duration::from_millis(20),
            ..RetryPolicy::default()
        };
        let options = StepOptions::default()
            .retry(retry)
            .timeout(wrong.timeout())
            .max_result(8);
        let tried = ctx.transaction_with("try", options, move |connection| attempt(connection, wrong).boxed());
        match tried.await {
            Ok::<String, _>(_) => Ok(None),
            Err(error) => error.downcast().map(Some),
        }
    }
}

async fn attempt(connection: &mut PgConnection, wrong: Wrong) -> anyhow::Result<String> {
    sqlx::query("insert into tried values ('x')")
        .execute(&mut *connection)
        .await?;
    // Told apart by what is not taken back with the transaction.
    let number: i64 = sqlx::query_scalar("select nextval('tries')")
        .fetch_one(&mut *connection)
        .await?;
    match wrong {
        Wrong::Fails => anyhow::bail!("no"),
        Wrong::BetweenStatements => tokio::time::sleep(Duration::from_secs(600)).await,
        Wrong::AtAStatement => sleep(connection).await?,
        Wrong::Once if number == 1 => sleep(connection).await?,
        Wrong::TooLarge => return Ok("nine bytes".to_owned()),
        Wrong::Once => {}
    }
    Ok("ok".to_owned())
}

async fn sleep(connection: &mut PgConnection) -> anyhow::Result<()> {
    sqlx::query("select pg_sleep(600)").execute(connection).await?;
    Ok(())
}

/// What each goes wrong with, in words, and how often it is then tried.
#[must_use]
pub fn expected(wrong: Wrong) -> (Option<&'static str>, i64) {
    match wrong {
        Wrong::Fails => (Some("step 0:try failed in attempt 2: no"), 2),
        Wrong::AtAStatement | Wrong::BetweenStatements => (Some("step 0:try took longer than 2s in attempt 2"), 2),
        Wrong::TooLarge => (
            Some("step 0:try returned 12 bytes, more than 8: store it elsewhere and return a reference"),
            1,
        ),
        Wrong::Once => (None, 2),
    }
}

/// How far a [`Loading`] is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Parts that are there.
    pub done: u32,
}

/// Loads three parts, each when it is told to, and shows how far it is; and its last part from two branches.
pub struct Loading;

impl Workflow for Loading {
    const NAME: &'static str = "loading";
    type Input = ();
    type Output = ();

    async fn run(&self, ctx: Context, (): ()) -> anyhow::Result<()> {
        for done in 0..3 {
            ctx.show("progress", &Progress { done }).await?;
            ctx.wait_signal::<()>("next", None).await?;
        }
        let last = |ctx: Context, part: u32| async move { ctx.show(&format!("part {part}"), "loaded").await };
        ctx.join_all(vec![1, 2], 2, last).await?;
        ctx.show("progress", &Progress { done: 3 }).await
    }
}

//! An expense is approved by a person: by the first who is asked, or by the next one when that takes too long.

use std::time::Duration;

use futures::FutureExt;
use lockgate::workflow::{Context, Either, Workflow};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

// The document from here.
/// The workflow `approve-expense`: asks somebody, waits for the signal `decision`, asks somebody else when it does not come
/// in time, and takes no answer for a no. What it waits for costs nothing meanwhile.
pub struct ApproveExpense;

/// An expense.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expense {
    /// Its number.
    pub id: i64,
    /// What it costs.
    pub cents: i64,
    /// Who is asked first.
    pub approver: String,
    /// Who is asked when that one does not answer.
    pub deputy: String,
    /// How long each has, in seconds; two days when not given.
    #[serde(default = "two_days")]
    pub answer_within_s: u64,
}

/// What somebody said: the payload of the signal `decision`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Yes or no.
    pub approved: bool,
    /// Who says so.
    pub by: String,
}

impl Workflow for ApproveExpense {
    const NAME: &'static str = "approve-expense";
    type Input = Expense;
    type Output = Decision;

    async fn run(&self, ctx: Context, expense: Expense) -> anyhow::Result<Decision> {
        let (id, within) = (expense.id, Duration::from_secs(expense.answer_within_s));
        let asked = expense.clone();
        ctx.transaction("ask", move |connection| ask(connection, asked.clone()).boxed())
            .await?;
        // Whoever looks at the run meanwhile sees which of the two is asked; names are for nobody who may only look.
        ctx.show("asked", "approver").await?;
        let first = ctx.select(
            |ctx| async move { ctx.wait_signal::<Decision>("decision", None).await },
            // The other branch may do more than wait: a reminder halfway, say.
            move |ctx| async move { ctx.sleep(within).await },
        );
        let decision = match first.await? {
            Either::First(decision) => decision,
            Either::Second(()) => {
                let deputy = expense.deputy.clone();
                ctx.transaction("escalate", move |connection| {
                    escalate(connection, id, deputy.clone()).boxed()
                })
                .await?;
                ctx.show("asked", "deputy").await?;
                // For a wait of its own a timeout is enough.
                ctx.wait_signal("decision", Some(within)).await?
            }
        };
        let decision = decision.unwrap_or_else(|| Decision {
            approved: false,
            by: "nobody".to_owned(),
        });
        let decided = decision.clone();
        ctx.transaction("decide", move |connection| {
            decide(connection, id, decided.clone()).boxed()
        })
        .await?;
        Ok(decision)
    }
}
// To here.

fn two_days() -> u64 {
    2 * 24 * 3_600
}

async fn ask(connection: &mut PgConnection, expense: Expense) -> anyhow::Result<()> {
    let ask = sqlx::query(include_str!("../sql/shop/ask.sql"));
    let ask = ask.bind(expense.id).bind(expense.cents).bind(expense.approver);
    ask.execute(connection).await?;
    Ok(())
}

async fn escalate(connection: &mut PgConnection, id: i64, deputy: String) -> anyhow::Result<()> {
    let escalate = sqlx::query(include_str!("../sql/shop/escalate.sql"));
    escalate.bind(id).bind(deputy).execute(connection).await?;
    Ok(())
}

async fn decide(connection: &mut PgConnection, id: i64, decision: Decision) -> anyhow::Result<()> {
    let decide = sqlx::query(include_str!("../sql/shop/decide.sql"));
    let decide = decide.bind(id).bind(decision.approved).bind(decision.by);
    decide.execute(connection).await?;
    Ok(())
}

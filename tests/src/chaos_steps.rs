//! The workflow `chaos-steps`: everything a durable workflow can do, with effects that outlive whoever did them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use lockgate::delivery::Command;
use lockgate::lifecycle::RunId;
use lockgate::workflow::{Context, IdPages, Resources, RetryPolicy, Source, StepOptions, Workflow, fatal};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgConnection, PgPool};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// Effects, each written the moment it happens, or with its step's transaction.
const EFFECTS: &str = "create table if not exists effects (run_id uuid not null, name text not null)";
const EFFECT: &str = "insert into effects (run_id, name) values ($1, $2)";

/// What a run of it does, in this order.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// Steps, one after the other.
    pub steps: u32,
    /// How long each takes after its effect.
    pub step_ms: u64,
    /// Steps whose effect is a row of the same transaction.
    pub transactions: u32,
    /// How long it sleeps.
    pub nap_ms: u64,
    /// Items of a fan-out, beside which it naps so long.
    pub items: i64,
    /// See there.
    pub beside_ms: u64,
    /// The step that fails for good until there is an effect `mended`.
    pub breaks: Option<u32>,
    /// It sends no more of them after that.
    pub items_within_ms: u64,
    /// Steps that can be undone.
    pub undoables: u32,
    /// Transactions that can be undone.
    pub undoable_transactions: u32,
    /// In one branch it waits for signal `first`, in the other so long.
    pub race_ms: u64,
    /// It ends the process that runs its code.
    pub kills: bool,
    /// It fails at its end.
    pub fails: bool,
    /// Its code panics there.
    pub panics: bool,
    /// A step that never returns may take so long.
    pub hangs_ms: u64,
    /// It waits for signal `go`, so long at most.
    pub signal_ms: Option<u64>,
}

/// What a run of it returns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// What the signal brought.
    pub signal: Option<Value>,
    /// A drawn id.
    pub uuid: Uuid,
    /// When its code began and ended, as it was told.
    pub from: DateTime<Utc>,
    /// The same at its end.
    pub to: DateTime<Utc>,
}

/// The workflow.
pub struct ChaosSteps;

impl Workflow for ChaosSteps {
    const NAME: &'static str = "chaos-steps";
    type Input = Plan;
    type Output = Told;

    async fn run(&self, ctx: Context, plan: Plan) -> anyhow::Result<Told> {
        let (run, from, uuid) = (ctx.run_id(), ctx.now(), ctx.uuid());
        if plan.kills {
            eprintln!("run {run} kills its holder");
            std::process::abort();
        }
        for number in 0..plan.steps {
            let pause = Duration::from_millis(plan.step_ms);
            // Other code than a run may have begun with, for replicas that have it.
            let name = std::env::var("LOCKGATE_CHAOS_STEP").unwrap_or_else(|_| "work".to_owned());
            let breaks = plan.breaks == Some(number);
            ctx.set_attribute("step", number)?;
            let step = ctx.step(&name, move || async move {
                if breaks {
                    mended().await?;
                }
                work(run, format!("step {number}"), pause).await
            });
            anyhow::ensure!(
                step.await? == number_of(&format!("step {number}")),
                "another step's result"
            );
        }
        for number in 0..plan.transactions {
            let name = format!("transaction {number}");
            let booked = ctx.transaction("book", move |connection| book(connection, run, name.clone()).boxed());
            booked.await?;
        }
        undoable(&ctx, &plan).await?;
        hang(&ctx, &plan).await?;
        if plan.race_ms > 0 {
            race(&ctx, plan.race_ms).await?;
        }
        if plan.nap_ms > 0 {
            ctx.sleep(Duration::from_millis(plan.nap_ms)).await?;
        }
        if plan.items_within_ms > 0 {
            let (items, within) = (plan.items, Duration::from_millis(plan.items_within_ms));
            let sent = ctx.select(
                move |ctx| async move { ctx.fan_out(Numbers(items), number).await },
                move |ctx| async move { ctx.sleep(within).await },
            );
            sent.await?;
        } else if plan.items > 0 {
            let beside = ctx.sleep(Duration::from_millis(plan.beside_ms));
            let (sent, napped) = futures::join!(ctx.fan_out(Numbers(plan.items), number), beside);
            napped?;
            let sent = sent?;
            // What a broker takes too long for is of unknown fate, and delivered all the same.
            let went = sent.delivered + sent.unknown;
            anyhow::ensure!(went == plan.items.unsigned_abs(), "some were not delivered");
        }
        let signal = match plan.signal_ms {
            Some(within) => ctx.wait_signal("go", Some(Duration::from_millis(within))).await?,
            None => None,
        };
        anyhow::ensure!(!plan.fails, "it was to fail");
        assert!(!plan.panics, "it was to panic");
        let _: usize = ctx
            .step("last", move || work(run, "last".to_owned(), Duration::ZERO))
            .await?;
        Ok(Told {
            signal,
            uuid,
            from,
            to: ctx.now(),
        })
    }
}

/// Steps and transactions that can be undone, by effects of their own.
async fn undoable(ctx: &Context, plan: &Plan) -> anyhow::Result<()> {
    let run = ctx.run_id();
    let pause = Duration::from_millis(plan.step_ms);
    for number in 0..plan.undoables {
        let action = move || work(run, format!("do {number}"), pause);
        let undo = move |_: Option<usize>| async move { work(run, format!("undo {number}"), pause).await.map(|_| ()) };
        ctx.step_with_undo("do", StepOptions::default(), action, undo).await?;
    }
    for number in 0..plan.undoable_transactions {
        let booked = ctx.transaction_with_undo(
            "enter",
            StepOptions::default(),
            move |connection| book(connection, run, format!("enter {number}")).boxed(),
            move |connection, ()| book(connection, run, format!("strike {number}")).boxed(),
        );
        booked.await?;
    }
    Ok(())
}

/// A step that never returns is tried once.
async fn hang(ctx: &Context, plan: &Plan) -> anyhow::Result<()> {
    if plan.hangs_ms > 0 {
        let within = Duration::from_millis(plan.hangs_ms);
        let once = StepOptions::default().retry(RetryPolicy::none()).timeout(within);
        ctx.step_with("hang", once, std::future::pending::<anyhow::Result<()>>)
            .await?;
    }
    Ok(())
}

/// Two branches, of which each has an effect when it wins.
async fn race(ctx: &Context, within_ms: u64) -> anyhow::Result<()> {
    let run = ctx.run_id();
    let won = ctx.select(
        move |ctx| async move {
            let signal: Option<Value> = ctx.wait_signal("first", None).await?;
            ctx.step("told", move || work(run, "told".to_owned(), Duration::ZERO))
                .await?;
            Ok(signal)
        },
        move |ctx| async move {
            ctx.sleep(Duration::from_millis(within_ms)).await?;
            ctx.step("late", move || work(run, "late".to_owned(), Duration::ZERO))
                .await
        },
    );
    won.await?;
    Ok(())
}

/// Items 1 to so many.
struct Numbers(i64);

#[async_trait]
impl Source for Numbers {
    type Row = i64;

    fn name(&self) -> &str {
        "numbers"
    }

    async fn ids(&self, _resources: &Resources, after: Option<i64>) -> anyhow::Result<Box<dyn IdPages>> {
        Ok(Box::new(Pages(after.unwrap_or(0)..self.0)))
    }

    async fn rows(&self, _resources: &Resources, ids: &[i64]) -> anyhow::Result<Vec<(i64, i64)>> {
        Ok(ids.iter().map(|id| (*id, *id)).collect())
    }
}

struct Pages(Range<i64>);

#[async_trait]
impl IdPages for Pages {
    async fn next(&mut self, limit: usize) -> anyhow::Result<Vec<i64>> {
        Ok(self.0.by_ref().take(limit).map(|before| before + 1).collect())
    }
}

#[allow(clippy::unnecessary_wraps, reason = "it is what a fan-out wants")]
fn number(item: &i64) -> anyhow::Result<Option<Command>> {
    Ok(Some(Command {
        command_type: "email".into(),
        topic: None,
        key: Some(item.to_string().into_bytes()),
        payload: format!("{{\"item\":{item}}}").into_bytes(),
        correlation_id: None,
    }))
}

fn number_of(name: &str) -> usize {
    name.len()
}

async fn pool() -> anyhow::Result<&'static PgPool> {
    static POOL: OnceCell<PgPool> = OnceCell::const_new();
    let connect = || async {
        // Many replicas share one server.
        PgPoolOptions::new()
            .max_connections(3)
            .connect(&std::env::var("LOCKGATE_CHAOS_EFFECTS")?)
            .await
            .map_err(anyhow::Error::from)
    };
    POOL.get_or_try_init(connect).await
}

async fn mended() -> anyhow::Result<()> {
    let mended = sqlx::query("select from effects where name = 'mended'");
    match mended.fetch_optional(pool().await?).await? {
        Some(_) => Ok(()),
        None => Err(fatal(anyhow::anyhow!("it is broken"))),
    }
}

/// On a connection of its own: what it did is done, whether its step hears so or not.
pub(crate) async fn effect(run: RunId, name: String) -> anyhow::Result<()> {
    sqlx::query(EFFECT).bind(run).bind(name).execute(pool().await?).await?;
    Ok(())
}

pub(crate) async fn work(run: RunId, name: String, pause: Duration) -> anyhow::Result<usize> {
    effect(run, name.clone()).await?;
    tokio::time::sleep(pause).await;
    Ok(number_of(&name))
}

async fn book(connection: &mut PgConnection, run: RunId, name: String) -> anyhow::Result<()> {
    sqlx::query(EFFECT).bind(run).bind(name).execute(connection).await?;
    Ok(())
}

/// Makes the table.
pub async fn create_effects(pool: &PgPool) {
    sqlx::query(EFFECTS).execute(pool).await.unwrap();
}

/// How often each effect of a run happened.
pub async fn effects(pool: &PgPool, run: Uuid) -> BTreeMap<String, i64> {
    let rows: Vec<(String, i64)> = sqlx::query_as("select name, count(*) from effects where run_id = $1 group by name")
        .bind(run)
        .fetch_all(pool)
        .await
        .unwrap();
    rows.into_iter().collect()
}

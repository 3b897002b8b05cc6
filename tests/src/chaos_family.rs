//! The workflow `chaos-family`: runs with children of their own kind, that go on as others, and publish.

use std::time::Duration;

use lockgate::delivery::{Direct, EmailTriggerCommand};
use lockgate::workflow::{ChildOptions, Context, Workflow};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::chaos_steps::work;

/// What a run of it does, in this order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FamilyPlan {
    /// Its name, for its effects.
    pub name: String,
    /// E-mails that it publishes.
    pub publish: u32,
    /// Children, side by side.
    pub children: u32,
    /// So many of them at once.
    pub at_once: usize,
    /// Levels of children below its own.
    pub below: u32,
    /// They outlive it.
    pub detached: bool,
    /// It does not wait for them.
    pub forgets: bool,
    /// It works so long before it waits for each.
    pub works_ms: u64,
    /// It tells each `go`, and then what it waits for.
    pub tells: bool,
    /// It cancels each.
    pub cancels: bool,
    /// What a run without children does: it works so long,
    pub leaf_ms: u64,
    /// and waits to be told `go`.
    pub leaf_waits: bool,
    /// It fails.
    pub fails: bool,
    /// Its children live in a branch that loses when it is told `lose`; then it waits to be told `go`.
    pub loses: bool,
    /// It goes on as another so many times.
    pub rounds: u32,
}

impl Default for FamilyPlan {
    fn default() -> Self {
        Self {
            name: "root".to_owned(),
            publish: 0,
            children: 0,
            at_once: 1_000,
            below: 0,
            detached: false,
            forgets: false,
            works_ms: 0,
            tells: false,
            cancels: false,
            leaf_ms: 0,
            leaf_waits: false,
            fails: false,
            loses: false,
            rounds: 0,
        }
    }
}

/// What a run of it returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyTold {
    /// Leaves below it, or that it is one.
    pub leaves: u32,
    /// Children that failed or were cancelled, why.
    pub lost: Vec<String>,
    /// Messages that it published.
    pub published: Vec<Uuid>,
}

/// The workflow.
pub struct ChaosFamily;

impl Workflow for ChaosFamily {
    const NAME: &'static str = "chaos-family";
    type Input = FamilyPlan;
    type Output = FamilyTold;

    async fn run(&self, ctx: Context, plan: FamilyPlan) -> anyhow::Result<FamilyTold> {
        let mut told = FamilyTold {
            leaves: 0,
            lost: Vec::new(),
            published: Vec::new(),
        };
        for number in 0..plan.publish {
            told.published.push(ctx.publish(Direct::new(email(number))).await?);
        }
        if plan.children == 0 {
            let (run, name, pause) = (ctx.run_id(), plan.name.clone(), Duration::from_millis(plan.leaf_ms));
            let _: usize = ctx.step("leaf", move || work(run, name.clone(), pause)).await?;
            told.leaves = 1;
            if plan.leaf_waits {
                ctx.wait_signal::<()>("go", None).await?;
            }
        }
        let grown = |ctx: Context, number: u32| grow(ctx, &plan, number);
        if plan.loses {
            lose(&ctx, plan.clone()).await?;
            return Ok(told);
        }
        for child in ctx.join_all(0..plan.children, plan.at_once, grown).await? {
            match child {
                Ok(leaves) => told.leaves += leaves,
                Err(why) => told.lost.push(why),
            }
        }
        anyhow::ensure!(!plan.fails, "it fails as planned");
        if plan.rounds > 0 {
            let rounds = plan.rounds - 1;
            return ctx.continue_as_new::<Self>(&FamilyPlan { rounds, ..plan });
        }
        Ok(told)
    }
}

/// Its children are in a branch that loses.
async fn lose(ctx: &Context, plan: FamilyPlan) -> anyhow::Result<()> {
    let family = move |ctx: Context| async move {
        let grown = |ctx: Context, number: u32| grow(ctx, &plan, number);
        ctx.join_all(0..plan.children, plan.at_once, grown).await.map(|_| ())
    };
    let told = |ctx: Context| async move { ctx.wait_signal::<()>("lose", None).await.map(|_| ()) };
    ctx.select(family, told).await?;
    ctx.wait_signal::<()>("go", None).await?;
    Ok(())
}

/// Starts a child, and does with it as planned; how many leaves it had, or why it has none.
async fn grow(ctx: Context, plan: &FamilyPlan, number: u32) -> anyhow::Result<Result<u32, String>> {
    let input = FamilyPlan {
        name: format!("{}.{number}", plan.name),
        children: if plan.below > 0 { plan.children } else { 0 },
        below: plan.below.saturating_sub(1),
        at_once: plan.at_once,
        leaf_ms: plan.leaf_ms,
        leaf_waits: plan.leaf_waits,
        ..FamilyPlan::default()
    };
    let options = ChildOptions::default().named("child");
    let options = if plan.detached { options.detached() } else { options };
    let child = ctx.start_child::<ChaosFamily>(&input, options).await?;
    if plan.tells {
        anyhow::ensure!(child.signal("go", &()).await?, "it is over already");
    }
    if plan.cancels {
        child.cancel("as planned").await?;
    }
    if plan.forgets {
        return Ok(Ok(0));
    }
    if plan.works_ms > 0 {
        let pause = Duration::from_millis(plan.works_ms);
        let work = move || async move {
            tokio::time::sleep(pause).await;
            anyhow::Ok(())
        };
        ctx.step("work", work).await?;
    }
    let ended = child.result().await;
    Ok(ended.map(|told| told.leaves).map_err(|error| error.to_string()))
}

fn email(number: u32) -> EmailTriggerCommand<'static> {
    EmailTriggerCommand {
        recipient_email: format!("user-{number}@example.org").into(),
        template_id: "welcome".into(),
        template_context: serde_json::json!({}),
        locale: "de".into(),
        correlation_id: "family".into(),
        user_id: None,
    }
}

//! The workflows that are measured.

use lockgate::workflow::{Context, Workflow};

/// Returns at once.
pub(in crate::bench) struct Nothing;

impl Workflow for Nothing {
    const NAME: &'static str = "bench-nothing";
    type Input = ();
    type Output = ();

    async fn run(&self, _ctx: Context, (): ()) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Three steps that do nothing and return 35 bytes each.
pub(in crate::bench) struct ThreeSteps;

impl Workflow for ThreeSteps {
    const NAME: &'static str = "bench-three-steps";
    type Input = ();
    type Output = ();

    async fn run(&self, ctx: Context, (): ()) -> anyhow::Result<()> {
        for name in ["first", "second", "third"] {
            let _: String = ctx.step(name, async || anyhow::Ok("x".repeat(33))).await?;
        }
        Ok(())
    }
}

/// As many steps as it is told, that return 500 bytes each.
pub(super) struct LargeSteps;

impl Workflow for LargeSteps {
    const NAME: &'static str = "bench-large-steps";
    type Input = u32;
    type Output = ();

    async fn run(&self, ctx: Context, steps: u32) -> anyhow::Result<()> {
        for _ in 0..steps {
            let _: String = ctx.step("large", async || anyhow::Ok("x".repeat(498))).await?;
        }
        Ok(())
    }
}

/// Starts as many children as it is told, all at once, and answers how many ended.
pub(super) struct Parent;

impl Workflow for Parent {
    const NAME: &'static str = "bench-parent";
    type Input = usize;
    type Output = usize;

    async fn run(&self, ctx: Context, children: usize) -> anyhow::Result<usize> {
        let each = |ctx: Context, _| async move { ctx.run_child::<Nothing>(&()).await };
        Ok(ctx.join_all(0..children, children, each).await?.len())
    }
}

//! The workflows that are measured.

use lockgate::workflow::{Context, Workflow};

/// Returns at once.
pub(super) struct Nothing;

impl Workflow for Nothing {
    const NAME: &'static str = "bench-nothing";
    type Input = ();
    type Output = ();

    async fn run(&self, _ctx: Context, (): ()) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Three steps that do nothing and return 35 bytes each.
pub(super) struct ThreeSteps;

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

/// Ten steps of 500 bytes.
pub(super) struct TenSteps;

impl Workflow for TenSteps {
    const NAME: &'static str = "bench-ten-steps";
    type Input = ();
    type Output = ();

    async fn run(&self, ctx: Context, (): ()) -> anyhow::Result<()> {
        for _ in 0..10 {
            let _: String = ctx.step("large", async || anyhow::Ok("x".repeat(498))).await?;
        }
        Ok(())
    }
}

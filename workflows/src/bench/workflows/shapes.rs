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

//! The workflow `chaos-versions` as two deployments have it: one replica's code knows version 1, the next one's only 2.

use std::time::Duration;

use lockgate::workflow::{Context, Workflow};
use serde::{Deserialize, Serialize};

use crate::chaos_pair::{self, Numbers};
use crate::chaos_steps::effect;

/// What a run of it does.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Nap {
    /// How long it sleeps between its two steps.
    pub nap_ms: u64,
    /// How many messages it sends then, each with the version in it.
    #[serde(default)]
    pub items: i64,
}

/// The old code.
pub struct First;

/// The new code, which cannot replay the old one's runs.
pub struct Second;

impl Workflow for First {
    const NAME: &'static str = "chaos-versions";
    const VERSION: u32 = 1;
    type Input = Nap;
    type Output = u32;

    async fn run(&self, ctx: Context, nap: Nap) -> anyhow::Result<u32> {
        told(&ctx, "charge", "1 before").await?;
        ctx.sleep(Duration::from_millis(nap.nap_ms)).await?;
        if nap.items > 0 {
            ctx.fan_out(Numbers::new("items", nap.items), chaos_pair::told("1"))
                .await?;
        }
        told(&ctx, "charge", "1 after").await?;
        Ok(1)
    }
}

impl Workflow for Second {
    const NAME: &'static str = "chaos-versions";
    const VERSION: u32 = 2;
    type Input = Nap;
    type Output = u32;

    async fn run(&self, ctx: Context, nap: Nap) -> anyhow::Result<u32> {
        told(&ctx, "reserve", "2 before").await?;
        ctx.sleep(Duration::from_millis(nap.nap_ms)).await?;
        // At the same place as the old code's.
        if nap.items > 0 {
            ctx.fan_out(Numbers::new("items", nap.items), chaos_pair::told("2"))
                .await?;
        }
        told(&ctx, "capture", "2 after").await?;
        Ok(2)
    }
}

async fn told(ctx: &Context, name: &str, what: &'static str) -> anyhow::Result<()> {
    let run = ctx.run_id();
    ctx.step(name, move || effect(run, what.to_owned())).await
}

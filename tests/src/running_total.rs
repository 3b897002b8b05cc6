//! The second example of docs/workflows.md, as it is compiled and run; a test holds the two together.

use std::time::Duration;

use lockgate::workflow::{Context, Workflow};
use serde::{Deserialize, Serialize};

// The document from here.
/// Adds up what it is told, for ever, and answers the sum once nothing came for a while.
pub struct RunningTotal;

/// What it has so far.
#[derive(Serialize, Deserialize)]
pub struct Total {
    /// The sum.
    pub sum: i64,
    /// Seconds after which it is done.
    pub patience: u64,
}

impl Workflow for RunningTotal {
    const NAME: &'static str = "running-total";
    type Input = Total;
    type Output = i64;

    async fn run(&self, ctx: Context, mut total: Total) -> anyhow::Result<i64> {
        let patience = Duration::from_secs(total.patience);
        for _ in 0..100 {
            match ctx.wait_signal::<i64>("add", Some(patience)).await? {
                Some(number) => total.sum += number,
                None => return Ok(total.sum),
            }
        }
        // A hundred steps are recorded: the next hundred are another run's.
        ctx.continue_as_new::<Self>(&total)
    }
}
// To here.

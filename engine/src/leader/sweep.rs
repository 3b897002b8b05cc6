//! The leader's sweep.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Job, Reign};
use crate::lifecycle::{Fleet, FleetError, Swept};
use crate::telemetry::closed::Recovered;
use crate::telemetry::meters;

/// Sweeps the fleet. Needs no fence: a sweep is safe anywhere, twice at once.
pub struct Sweeper {
    fleet: Arc<dyn Fleet>,
    every: Duration,
}

impl Sweeper {
    /// A sweep each `every`.
    #[must_use]
    pub fn new(fleet: Arc<dyn Fleet>, every: Duration) -> Self {
        Self { fleet, every }
    }
}

#[async_trait]
impl Job for Sweeper {
    fn name(&self) -> &'static str {
        "sweep"
    }

    fn every(&self) -> Duration {
        self.every
    }

    async fn run_once(&self, _reign: &Reign) -> Result<u64, FleetError> {
        let swept = self.fleet.sweep().await?;
        if swept != Swept::default() {
            tracing::info!(
                name: "swept",
                batches = swept.batches,
                split = swept.split,
                runs = swept.runs,
                fan_outs = swept.fan_outs,
                stopped = swept.stopped,
                parents = swept.parents,
                followers = swept.followers,
                undelivered = swept.undelivered,
                "the leader took over what holders left behind"
            );
        }
        Ok(count(&swept))
    }
}

/// Counts what was taken over, and answers how much that is in all.
fn count(swept: &Swept) -> u64 {
    let counts = [
        (Recovered::Batch, swept.batches),
        (Recovered::Split, swept.split),
        (Recovered::Run, swept.runs),
        (Recovered::FanOut, swept.fan_outs),
        (Recovered::Stop, swept.stopped),
        (Recovered::Parent, swept.parents),
        (Recovered::Follower, swept.followers),
        (Recovered::Undelivered, swept.undelivered),
    ];
    for (what, things) in counts {
        meters().recovered(what, things);
    }
    counts.iter().map(|(_, things)| things).sum()
}

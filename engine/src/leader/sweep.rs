//! The leader's sweep.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Job, Reign};
use crate::lifecycle::{Fleet, FleetError, Swept};

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

    async fn run_once(&self, _reign: &Reign) -> Result<(), FleetError> {
        let swept = self.fleet.sweep().await?;
        if swept != Swept::default() {
            tracing::info!(
                batches = swept.batches,
                split = swept.split,
                runs = swept.runs,
                fan_outs = swept.fan_outs,
                stopped = swept.stopped,
                parents = swept.parents,
                followers = swept.followers,
                undelivered = swept.undelivered,
                "sweep took over what was left behind"
            );
        }
        Ok(())
    }
}

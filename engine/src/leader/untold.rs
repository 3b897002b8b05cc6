//! Telling of what was done in SQL: starts that no process counted, and ends of runs whose code nobody was running.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Job, MeasureStore, Reign, Untold};
use crate::lifecycle::FleetError;
use crate::telemetry::closed::{Closed as _, RunEnd, StartedBy};
use crate::telemetry::{RunOver, RunTrace, meters};

/// Rows taken at once.
const PAGE: usize = 500;

/// Tells of what was done in SQL. Needs no fence: who takes a row tells of it, and nobody else does.
pub struct TellUntold {
    store: Arc<dyn MeasureStore>,
    every: Duration,
}

impl TellUntold {
    /// A look each `every`.
    #[must_use]
    pub fn new(store: Arc<dyn MeasureStore>, every: Duration) -> Self {
        Self { store, every }
    }
}

#[async_trait]
impl Job for TellUntold {
    fn name(&self) -> &'static str {
        "telling"
    }

    fn every(&self) -> Duration {
        self.every
    }

    async fn run_once(&self, reign: &Reign) -> Result<u64, FleetError> {
        let mut told = 0;
        loop {
            let page = self.store.take_untold(PAGE as i64).await?;
            page.iter().for_each(tell);
            told += page.len();
            if page.len() < PAGE || reign.over.is_cancelled() {
                return Ok(told as u64);
            }
        }
    }
}

fn tell(untold: &Untold) {
    let meter = meters().workflow(&untold.workflow);
    if let Some(by) = &untold.started_by {
        if let Some(by) = StartedBy::named(by) {
            meter.runs_started(by, 1);
        }
        return;
    }
    let Some(end) = untold.ended_as.as_deref().and_then(RunEnd::named) else {
        return;
    };
    meter.run_ended(end, untold.took);
    // Resumed or ended otherwise since it was set aside, it has its span from who tells of that.
    if !untold.stands {
        return;
    }
    let over = RunOver {
        id: untold.run,
        workflow: &untold.workflow,
        queue: &untold.queue,
        slot: untold.slot,
        token: untold.token,
        attempts: untold.attempts,
        trace: RunTrace::of(untold.run, untold.traceparent.as_deref()),
        end,
        took: untold.took,
        since: untold.since,
        goes_on_as: None,
    };
    over.tell();
}

//! What the code of a run that is ours may ask for.

use std::ops::RangeInclusive;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::history::{Version, version_path};
use super::owner_host::{Left, OwnerHost};
use crate::lifecycle::{Kind, TransactionWork};
use crate::workflow::{Action, ContextHost, FanOut, Outcome, Place, StepOptions, WaitFor, to_json};

impl ContextHost for OwnerHost {
    fn step(self: Arc<Self>, place: Place, options: StepOptions, action: Action) -> Outcome {
        let asked = self.ask(&place, Kind::Step);
        self.run_step(place, options, action, asked).boxed()
    }

    fn transact(self: Arc<Self>, place: Place, work: TransactionWork) -> Outcome {
        let asked = self.ask(&place, Kind::Transaction);
        self.run_transaction(place, work, asked).boxed()
    }

    fn wait(self: Arc<Self>, place: Place, wait: WaitFor) -> Outcome {
        let asked = self.ask(&place, wait.kind());
        self.run_wait(place, wait, asked).boxed()
    }

    fn fan_out(self: Arc<Self>, place: Place, fan_out: Arc<dyn FanOut>) -> Outcome {
        let asked = self.ask(&place, Kind::FanOut);
        self.run_fan_out(place, fan_out, asked).boxed()
    }

    fn join(self: Arc<Self>, place: Place) -> BoxFuture<'static, anyhow::Result<()>> {
        let differs = self.lock().history.ask_join(&place);
        async move {
            match differs {
                Some(how) => self.leave(Left::Diverged(how)).await,
                None => Ok(()),
            }
        }
        .boxed()
    }

    fn version(
        self: Arc<Self>,
        prefix: String,
        next: u32,
        change: String,
        range: RangeInclusive<u32>,
    ) -> BoxFuture<'static, anyhow::Result<u32>> {
        let version = self.lock().history.version(&prefix, next, &change, &range);
        async move {
            let new = match version {
                Version::Taken(version) => return Ok(version),
                Version::Diverged(how) => return self.leave(Left::Diverged(how)).await,
                Version::New(version) => version,
            };
            let _operation = self.begin();
            let mut step = self.new_step(version_path(&prefix, &change), Kind::Version);
            step.result = Some(to_json(&new)?);
            let recorded = self.save(step).await?.result.unwrap_or_default();
            Ok(serde_json::from_slice(&recorded)?)
        }
        .boxed()
    }
}

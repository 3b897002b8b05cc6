//! Records steps, many in one commit.

use std::sync::Arc;

use async_trait::async_trait;

use super::book::HeldRun;
use super::group::{Group, UnderClaim};
use crate::lifecycle::{FleetError, NewStep, RunClaim, RunStore, Saved};
use crate::telemetry::closed::GroupName;

/// The steps on their way to be recorded.
pub(crate) struct Checkpoints(Group<Store>);

impl Checkpoints {
    pub(crate) fn new(runs: Arc<dyn RunStore>, room: usize) -> Self {
        Self(Group::new(Store(runs), room))
    }

    /// Records a step; answers when it is durable. An error is for good, and says that nothing was written.
    pub(crate) async fn save(&self, held: &Arc<HeldRun>, step: NewStep) -> Result<Saved, FleetError> {
        self.0.write(held.clone(), step).await
    }
}

struct Store(Arc<dyn RunStore>);

#[async_trait]
impl UnderClaim for Store {
    const NAME: GroupName = GroupName::Steps;

    type Write = NewStep;
    type Answer = Saved;

    fn claim(write: &NewStep) -> RunClaim {
        write.claim
    }

    fn bytes(write: &NewStep) -> usize {
        write.path.len() + write.result.as_ref().map_or(0, Vec::len)
    }

    fn lost() -> Saved {
        Saved::Lost
    }

    async fn all(&self, writes: &[NewStep]) -> Result<Vec<Saved>, FleetError> {
        fail::fail_point!("steps.before_commit");
        let saved = self.0.save_steps(writes).await;
        fail::fail_point!("steps.after_commit");
        saved
    }

    async fn one(&self, write: &NewStep) -> Result<Saved, FleetError> {
        self.0.settle_step(write).await
    }
}

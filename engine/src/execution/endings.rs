//! Lets go of runs, many in one commit.

use std::sync::Arc;

use async_trait::async_trait;

use super::book::HeldRun;
use super::group::{Group, Together};
use crate::lifecycle::{Act, Ending, FleetError, LetGo, RunClaim, RunStore};

/// The runs that end, wait or are handed back.
pub(crate) struct Endings(Group<Store>);

impl Endings {
    pub(crate) fn new(runs: Arc<dyn RunStore>, room: usize) -> Self {
        Self(Group::new(Arc::new(Store(runs)), room))
    }

    /// Lets go of a run; an error is for good, and the claim still holds.
    pub(crate) async fn let_go(&self, held: &Arc<HeldRun>, ending: Ending) -> Result<LetGo, FleetError> {
        self.0.write(held, ending).await
    }
}

struct Store(Arc<dyn RunStore>);

#[async_trait]
impl Together for Store {
    type Write = Ending;
    type Answer = LetGo;

    fn claim(write: &Ending) -> RunClaim {
        write.claim
    }

    fn bytes(write: &Ending) -> usize {
        let attributes = write.attributes.iter().flatten().map(|(name, _)| name.len() + 500);
        attributes.sum::<usize>()
            + match &write.act {
                Act::Complete { output } => output.len(),
                Act::Fail { reason } | Act::Quarantine { reason } => reason.len(),
                Act::Wait { waits, .. } => waits.iter().map(|wait| wait.path.len()).sum(),
                Act::HandBack { .. } => 0,
            }
    }

    fn lost() -> LetGo {
        LetGo::Lost
    }

    async fn all(&self, writes: &[Ending]) -> Result<Vec<LetGo>, FleetError> {
        fail::fail_point!("endings.before_commit");
        self.0.let_go_runs(writes).await
    }

    async fn one(&self, write: &Ending) -> Result<LetGo, FleetError> {
        let answers = self.0.let_go_runs(std::slice::from_ref(write)).await?;
        Ok(answers.first().copied().unwrap_or(LetGo::Lost))
    }
}

//! Lets go of runs, many in one commit.

use std::sync::Arc;

use async_trait::async_trait;

use super::book::HeldRun;
use super::group::{Group, UnderClaim};
use crate::client::{EndedRun, RunStatus};
use crate::lifecycle::{Act, Ending, FleetError, LetGo, RunClaim, RunStore, storable_reason};
use crate::local::Local;
use crate::telemetry::closed::GroupName;

/// The runs that end, wait or are handed back.
pub(crate) struct Endings(Group<Store>);

impl Endings {
    pub(crate) fn new(runs: Arc<dyn RunStore>, local: Arc<Local>, room: usize) -> Self {
        Self(Group::new(Store { runs, local }, room))
    }

    /// Lets go of a run; an error is for good, and the claim still holds.
    pub(crate) async fn let_go(&self, held: &Arc<HeldRun>, ending: Ending) -> Result<LetGo, FleetError> {
        self.0.write(held.clone(), ending).await
    }
}

struct Store {
    runs: Arc<dyn RunStore>,
    local: Arc<Local>,
}

impl Store {
    async fn let_go(&self, writes: &[Ending]) -> Result<Vec<LetGo>, FleetError> {
        let answers = self.runs.let_go_runs(writes).await?;
        for (ending, answer) in writes.iter().zip(&answers) {
            if *answer == LetGo::Done {
                self.tell(ending);
            }
        }
        Ok(answers)
    }

    /// Whoever waits for the run in this process need not ask for its end.
    fn tell(&self, ending: &Ending) {
        let run = ending.claim.run;
        match &ending.act {
            Act::Complete { output } => self.local.tell_one(run, || EndedRun {
                status: Some(RunStatus::Completed),
                output: Some(output.clone()),
                ..EndedRun::default()
            }),
            Act::Fail { reason } => self.local.tell_one(run, || EndedRun {
                status: Some(RunStatus::Failed),
                reason: Some(storable_reason(reason)),
                ..EndedRun::default()
            }),
            _ => {}
        }
    }
}

#[async_trait]
impl UnderClaim for Store {
    const NAME: GroupName = GroupName::Endings;

    type Write = Ending;
    type Answer = LetGo;

    fn claim(write: &Ending) -> RunClaim {
        write.claim
    }

    fn bytes(write: &Ending) -> usize {
        let waits: usize = write.act.waits().iter().map(|wait| wait.path.len()).sum();
        let attributes = write.attributes.iter().flatten().map(|(name, _)| name.len() + 500);
        let rest = match &write.act {
            Act::Complete { output } => output.len(),
            Act::Fail { reason } | Act::Quarantine { reason } | Act::Overrun { reason } => reason.len(),
            Act::NotUndone { reason, .. } => reason.len(),
            Act::Wait { .. } | Act::WaitToUndo { .. } | Act::Unwound | Act::HandBack { .. } => 0,
        };
        waits + attributes.sum::<usize>() + rest
    }

    fn lost() -> LetGo {
        LetGo::Lost
    }

    async fn all(&self, writes: &[Ending]) -> Result<Vec<LetGo>, FleetError> {
        fail::fail_point!("endings.before_commit");
        self.let_go(writes).await
    }

    async fn one(&self, write: &Ending) -> Result<LetGo, FleetError> {
        let answers = self.let_go(std::slice::from_ref(write)).await?;
        Ok(answers.first().copied().unwrap_or(LetGo::Lost))
    }
}

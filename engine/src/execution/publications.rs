//! Commands that runs publish, many in one commit, each with the step that records it.

use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;

use super::book::HeldRun;
use super::group::{Group, UnderClaim};
use super::history::Asked;
use super::owner_host::OwnerHost;
use crate::lifecycle::{FleetError, Kind, NewPublication, RunClaim, RunStore, Saved, StepStatus};
use crate::telemetry::closed::GroupName;
use crate::workflow::{Done, Place, Publication, StepError, to_json};

/// The commands on their way into the outbox.
pub(crate) struct Publications(Group<Store>);

impl Publications {
    pub(crate) fn new(runs: Arc<dyn RunStore>, room: usize) -> Self {
        Self(Group::new(Store(runs), room))
    }

    async fn publish(&self, held: &Arc<HeldRun>, publication: NewPublication) -> Result<Saved, FleetError> {
        self.0.write(held.clone(), publication).await
    }
}

struct Store(Arc<dyn RunStore>);

#[async_trait]
impl UnderClaim for Store {
    const NAME: GroupName = GroupName::Publications;

    type Write = NewPublication;
    type Answer = Saved;

    fn claim(write: &NewPublication) -> RunClaim {
        write.step.claim
    }

    fn bytes(write: &NewPublication) -> usize {
        write.step.path.len() + write.command.payload.len()
    }

    fn lost() -> Saved {
        Saved::Lost
    }

    async fn all(&self, writes: &[NewPublication]) -> Result<Vec<Saved>, FleetError> {
        fail::fail_point!("publications.before_commit");
        let published = self.0.publish(writes).await;
        fail::fail_point!("publications.after_commit");
        published
    }
}

impl OwnerHost {
    /// Puts a command into the outbox, unless its step has a row already.
    pub(super) async fn run_publish(
        self: Arc<Self>,
        place: Place,
        publication: Publication,
        asked: Asked,
    ) -> anyhow::Result<Done> {
        let path = place.to_string();
        if let ControlFlow::Break(ended) = self.comes_to(&path, asked).await {
            return ended;
        }
        let _operation = self.begin_new(&path).await?;
        let mut step = self.new_step(path.clone(), Kind::Publish);
        match publication(&self.shared.topics, &self.shared.settings.key_hash) {
            Ok(command) => {
                step.result = Some(to_json(&command.message_id)?);
                let told = step.clone().into_state();
                let new = NewPublication { step, command };
                let host = self.clone();
                // What is on its way is in the outbox, whether the code still waits for it or not.
                let saved = self.surely(
                    &path,
                    async move { host.shared.publications.publish(&host.held, new).await },
                );
                let saved = saved.await;
                self.saved(told, saved).await
            }
            Err(error) => {
                step.status = StepStatus::Failed;
                step.attempts = 1;
                step.result = Some(to_json(&StepError::Failed {
                    path: step.path.clone(),
                    attempts: 1,
                    message: format!("{error:#}"),
                })?);
                self.save(step).await
            }
        }
    }
}

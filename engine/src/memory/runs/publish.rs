//! Commands that runs publish.

use super::Runs;
use super::steps::check_path;
use crate::lifecycle::{FleetError, NewPublication, Saved};

impl Runs {
    /// A path that has a row publishes nothing.
    pub(super) fn publish(&mut self, group: &[NewPublication]) -> Result<Vec<Saved>, FleetError> {
        for publication in group {
            check_path(&publication.step.path)?;
        }
        let mut answers = Vec::with_capacity(group.len());
        for NewPublication { step, command } in group {
            let held = self.held(&step.claim);
            let is_new = held.is_some_and(|run| !run.steps.contains_key(&step.path));
            let saved = self.settle(step)?;
            let waits = |(_, waiting): &(_, crate::lifecycle::QueuedCommand)| waiting.message_id == command.message_id;
            if is_new && saved == Saved::Done && !self.published.iter().any(waits) {
                self.published.push((step.claim.run, command.clone()));
            }
            answers.push(saved);
        }
        Ok(answers)
    }
}

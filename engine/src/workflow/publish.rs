//! Commands that a run publishes through the outbox.

use uuid::Uuid;

use super::context::{Context, refuse};
use super::step::{StepFuture, from_json};
use crate::delivery::{CommandKind, Direct, KeyHash, Topics};
use crate::lifecycle::QueuedCommand;

/// Makes the row of a command.
pub(crate) type Publication = Box<dyn FnOnce(&Topics, &KeyHash) -> anyhow::Result<QueuedCommand> + Send>;

impl Context {
    /// Puts a command into the outbox and records that it did, in one commit, and answers its message id. The id is made of
    /// the run's origin and this place: a replay, and a retry of the run, publishes the same message again or not at all, so
    /// that consumers that remember ids take it once. A command with an idempotency key keeps the id made of that.
    pub fn publish<C: CommandKind + Send + 'static>(&self, command: Direct<C>) -> StepFuture<Uuid> {
        let place = self.place(C::TYPE);
        let path = place.to_string();
        if let Some(wrong) = place.misnamed() {
            return refuse(wrong);
        }
        let mut command = command;
        if command.is_new() {
            command.message_id = Uuid::new_v5(&self.origin_id(), path.as_bytes());
        }
        let make: Publication = Box::new(move |topics, hash| command.into_queued(topics, hash));
        let done = self.host().publish(place, make);
        self.told(done, move |done| from_json(&path, done.result.as_deref()))
    }
}

//! Runs that the code of other runs starts: children, and runs that go on in one's place. And commands that runs publish.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use super::fleet::RunClaim;
use super::manager::RunId;
use super::steps::NewStep;

/// How deep children of children may nest.
pub const DEEPEST: u16 = 64;

/// The id of a run that another one makes: the same for the same name, and beside its maker's in the order of ids, which
/// is that of time.
#[must_use]
pub fn derived_id(of: RunId, name: &str) -> RunId {
    let hash = Sha256::new()
        .chain_update(of.as_bytes())
        .chain_update("/")
        .chain_update(name)
        .finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    bytes[..6].copy_from_slice(&of.as_bytes()[..6]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// A child to start.
#[derive(Debug, Clone, PartialEq)]
pub struct NewChild {
    /// The parent's fence.
    pub claim: RunClaim,
    /// The step of the parent that starts it and waits for it.
    pub path: String,
    /// When that step began, as the parent's holder knows the time.
    pub begun_at: DateTime<Utc>,
    /// Its id.
    pub id: RunId,
    /// Namespace of its message ids.
    pub origin_id: RunId,
    /// Its workflow.
    pub workflow: String,
    /// Its input, exact bytes of a JSON document.
    pub params: Vec<u8>,
    /// What else it is started with.
    pub wishes: ChildWishes,
}

/// What may be said of a child; what is not, it has from its parent or its workflow.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChildWishes {
    /// Queue; none: the one with its workflow's name.
    pub queue: Option<String>,
    /// Priority; none: its parent's.
    pub priority: Option<u8>,
    /// It starts no earlier.
    pub start_at: Option<DateTime<Utc>>,
    /// It fails when not over this long after its start.
    pub deadline: Option<Duration>,
    /// On whose behalf it runs; none: as its parent.
    pub tenant: Option<String>,
    /// Key of the limits of its queue that hold for each key.
    pub limit_key: Option<String>,
    /// By what it is found.
    pub attributes: Option<serde_json::Value>,
    /// W3C trace context to continue; none: its parent's.
    pub traceparent: Option<String>,
    /// It outlives its parent.
    pub detached: bool,
}

/// A child that is over, or not there any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedChild {
    /// The step of the parent that waits for it.
    pub path: String,
    /// The run, the last of those that went on in one another's place; none: it was pruned.
    pub run: Option<RunId>,
    /// How it ended.
    pub end: ChildEnd,
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildEnd {
    /// What it returned, exact bytes of a JSON document.
    Completed(Vec<u8>),
    /// Why it failed.
    Failed(String),
    /// Why it was cancelled.
    Cancelled(String),
    /// Its row was pruned before anybody read its end.
    Gone,
}

/// A run that ends by going on as another one.
#[derive(Debug, Clone, PartialEq)]
pub struct Continuation {
    /// The fence.
    pub claim: RunClaim,
    /// The run that goes on in its place.
    pub next: RunId,
    /// That run's input, exact bytes of a JSON document.
    pub params: Vec<u8>,
    /// Wake-ups seen: a later one refuses it, for its signal is to be taken or to pass on.
    pub seen: i64,
    /// The run has fan-outs: it cannot end while a batch is unfinished.
    pub had_batches: bool,
    /// What its code set of its attributes; null takes one away.
    pub attributes: Option<Map<String, Value>>,
}

/// A command for the outbox, and the step that records it.
#[derive(Debug, Clone, PartialEq)]
pub struct NewPublication {
    /// The checkpoint.
    pub step: NewStep,
    /// The command.
    pub command: QueuedCommand,
}

/// A command as the outbox keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedCommand {
    /// Kind of command.
    pub command_type: String,
    /// Stable id of its message.
    pub message_id: Uuid,
    /// Its topic, or a colon and its kind.
    pub route: String,
    /// Partitioning key.
    pub key: Option<Vec<u8>>,
    /// A JSON array of name and value each.
    pub headers: String,
    /// Exact bytes.
    pub payload: Vec<u8>,
    /// Not sent before then.
    pub not_before: Option<DateTime<Utc>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A parent is replayed by binaries that are built years later: the ids of its children must not have changed.
    #[test]
    fn derived_ids_are_pinned_and_stay_in_the_order_of_time() {
        let parent = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
        let child = derived_id(parent, "0:digest");
        assert_eq!(child.to_string(), "01900000-0000-84d9-bc4e-d5f111a39fff");
        assert_ne!(child, derived_id(parent, "1:digest"));
        assert_eq!(child.as_bytes()[..6], parent.as_bytes()[..6]);
    }
}

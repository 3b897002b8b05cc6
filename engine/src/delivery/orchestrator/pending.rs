//! A command in the queues: a direct command of any kind whose bytes are not made yet, or one that is ready.

use std::any::Any;
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use uuid::Uuid;

use super::super::command::{CommandKind, InvalidCommand};
use super::super::direct::{Direct, ReadyCommand, Topics};
use super::super::headers::Headers;
use super::super::key_hash::KeyHash;
use super::waiting::Waiter;
use super::weight::Weight;

/// Bytes of a command that can never be sent are kept for people up to this size.
const LARGEST_KEPT: usize = 1 << 20;

/// Bytes of an ordinary message's key and headers.
const HEADERS: usize = 256;

/// A command on its way to its bytes.
pub(super) trait Pending: Send {
    /// Makes its bytes.
    fn make(self: Box<Self>, topics: &Topics, hash: &KeyHash) -> Result<Box<ReadyCommand>, Box<Unmade>>;
    /// Stable id of its message.
    fn message_id(&self) -> Uuid;
    /// Bytes it takes in memory, about.
    fn weight(&self) -> usize;
    /// The command itself, to be given back to whoever handed it over.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

/// A command that cannot be made a message: what is known of it.
pub(super) struct Unmade {
    pub(super) command_type: Cow<'static, str>,
    pub(super) message_id: Uuid,
    pub(super) headers: Headers,
    pub(super) payload: Option<Vec<u8>>,
    pub(super) why: InvalidCommand,
}

/// A queued command and whoever waits for its fate.
pub(super) struct Entry {
    pub(super) command: Box<dyn Pending>,
    pub(super) waiter: Option<Waiter>,
    /// What it takes of the memory, while it waits.
    pub(super) weight: Option<Weight>,
}

impl Entry {
    pub(super) fn new(command: Box<dyn Pending>, waiter: Option<Waiter>) -> Self {
        Self {
            command,
            waiter,
            weight: None,
        }
    }
}

impl Pending for ReadyCommand {
    fn make(self: Box<Self>, _topics: &Topics, _hash: &KeyHash) -> Result<Box<ReadyCommand>, Box<Unmade>> {
        Ok(self)
    }

    fn message_id(&self) -> Uuid {
        self.message_id
    }

    fn weight(&self) -> usize {
        size_of::<Self>() + self.message.payload.len() + HEADERS
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl<C: CommandKind + Send + 'static> Pending for Direct<C> {
    fn make(self: Box<Self>, topics: &Topics, hash: &KeyHash) -> Result<Box<ReadyCommand>, Box<Unmade>> {
        // The code of a kind of command is its user's: should it panic, this command suffers and no other.
        match catch_unwind(AssertUnwindSafe(|| self.ready(topics, hash))) {
            Ok(Ok(ready)) => Ok(Box::new(ready)),
            Ok(Err(error)) => Err(unmade(&self, why(&error))),
            Err(_) => Err(unmade(&self, PANICKED)),
        }
    }

    fn message_id(&self) -> Uuid {
        self.message_id
    }

    fn weight(&self) -> usize {
        let fields = catch_unwind(AssertUnwindSafe(|| self.command.weight()));
        size_of::<Self>() + fields.unwrap_or_default()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// What is said of a command whose own code panicked.
pub(super) const PANICKED: InvalidCommand = InvalidCommand {
    field: "command",
    problem: "cannot be made a message: the code of its kind panicked",
};

fn why(error: &anyhow::Error) -> InvalidCommand {
    // Other errors may quote values.
    error
        .downcast_ref::<InvalidCommand>()
        .cloned()
        .unwrap_or(InvalidCommand {
            field: "command",
            problem: "cannot be made a message: it is no JSON, or no topic is configured for its kind",
        })
}

fn unmade<C: CommandKind>(direct: &Direct<C>, why: InvalidCommand) -> Box<Unmade> {
    let mut headers = Headers::with_capacity(1, 64);
    headers.push("message-id", direct.message_id.to_string().as_bytes());
    let json = catch_unwind(AssertUnwindSafe(|| serde_json::to_vec(&direct.command)));
    Box::new(Unmade {
        command_type: Cow::Borrowed(C::TYPE),
        message_id: direct.message_id,
        headers,
        payload: json.ok().and_then(Result::ok).filter(|json| json.len() <= LARGEST_KEPT),
        why,
    })
}

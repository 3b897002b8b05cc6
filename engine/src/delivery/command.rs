//! What a workflow sends: a command, its stable id and its headers.

use std::borrow::Cow;

use serde::Serialize;
use uuid::Uuid;

use super::key_hash::KeyHash;
use crate::lifecycle::RunId;
use crate::telemetry::TraceContext;

/// Most bytes of a message, whichever way it comes.
const LARGEST_PAYLOAD: usize = 16 << 20;

/// A command ready to be published: which kind it is, where it goes, and its exact bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Kind of command, such as `email`; decides the topic by configuration.
    pub command_type: Cow<'static, str>,
    /// The topic, when the command does not go where its kind goes by default.
    pub topic: Option<Cow<'static, str>>,
    /// Partitioning key; never personal data.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub payload: Vec<u8>,
    /// Correlates it with what caused it; the run's id when not given.
    pub correlation_id: Option<String>,
}

/// A kind of command as a type: what a service hands over, and how its message is made. E-mail is the first; a new kind
/// is a struct with this trait, and a topic in the configuration.
pub trait CommandKind: Serialize {
    /// Its name, such as `email`.
    const TYPE: &'static str;

    /// Checks the fields; cheap, called where the command is handed over.
    ///
    /// # Errors
    /// A field is not as it must be.
    fn validate(&self) -> Result<(), InvalidCommand>;

    /// Checks the JSON made of it, as far as its size goes.
    ///
    /// # Errors
    /// It can never be sent.
    fn validate_json(&self, _json: &[u8]) -> Result<(), InvalidCommand> {
        Ok(())
    }

    /// Bytes that its fields take in memory, about: what is handed over and waits there is bounded by their sum
    /// (`DirectSettings::memory`).
    fn weight(&self) -> usize {
        0
    }

    /// Partitioning key; what is personal goes through the hash. Commands of one key keep their order in the outbox.
    fn key(&self, hash: &KeyHash) -> Option<Vec<u8>>;

    /// Correlates it with what caused it.
    fn correlation_id(&self) -> &str;

    /// The topic, when it does not go where its kind goes.
    fn topic(&self) -> Option<Cow<'static, str>> {
        None
    }
}

/// A field that is not as it must be. Names the field, never its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct InvalidCommand {
    /// The field, as the JSON names it.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Command {
    /// Checks a command of this kind and makes its bytes.
    ///
    /// # Errors
    /// A field is not as it must be ([`InvalidCommand`]), or it cannot be written as JSON.
    pub fn of<C: CommandKind>(command: &C, hash: &KeyHash) -> anyhow::Result<Self> {
        command.validate()?;
        let payload = serde_json::to_vec(command)?;
        if payload.len() > LARGEST_PAYLOAD {
            let (field, problem) = ("payload", "is larger than 16 MiB");
            return Err(InvalidCommand { field, problem }.into());
        }
        command.validate_json(&payload)?;
        Ok(Self {
            command_type: Cow::Borrowed(C::TYPE),
            topic: command.topic(),
            key: command.key(hash),
            payload,
            correlation_id: Some(command.correlation_id().to_owned()),
        })
    }
}

/// For commands that come without one: the id of the current trace, else a new id.
#[must_use]
pub fn fresh_correlation_id() -> Cow<'static, str> {
    Cow::Owned(TraceContext::current().map_or_else(|| Uuid::now_v7().to_string(), TraceContext::trace_id))
}

/// Whether a topic can have this name: 1 to 249 of letters, digits, dot, underscore and hyphen, as Kafka has it.
pub(crate) fn is_topic_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=249).contains(&name.len()) && name.bytes().all(legal) && name != "." && name != ".."
}

/// The stable id of an item's message: the same over retries, resends, redeliveries and retries of the run.
#[must_use]
pub fn message_id(origin: RunId, step: &str, item: i64) -> Uuid {
    use std::io::Write as _;
    // Built on the stack: this runs once per message.
    let mut name = [0u8; 256];
    let mut rest = &mut name[..];
    if write!(rest, "{step}/{item}").is_ok() {
        let length = 256 - rest.len();
        return Uuid::new_v5(&origin, &name[..length]);
    }
    Uuid::new_v5(&origin, format!("{step}/{item}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Consumers deduplicate by this id: it must never change.
    #[test]
    fn message_ids_are_pinned() {
        let origin = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
        let long = "0:a-step-with-a-name-that-does-not-fit-on-the-stack".repeat(8);
        assert_eq!(
            message_id(origin, "0:reports", 42),
            Uuid::new_v5(&origin, b"0:reports/42")
        );
        assert_eq!(
            message_id(origin, "0:reports", 42).to_string(),
            "3fdefd49-918a-5ed4-81ae-70c832382a41"
        );
        assert_eq!(
            message_id(origin, &long, -7),
            Uuid::new_v5(&origin, format!("{long}/-7").as_bytes())
        );
    }
}

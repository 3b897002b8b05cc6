//! A command that a service hands over directly, without a run.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid, uuid};

use super::command::{Command, CommandKind, InvalidCommand, is_topic_name};
use super::headers::Headers;
use super::key_hash::KeyHash;
use super::publisher::Message;
use crate::telemetry::TraceContext;

/// Namespace of the ids that are made of idempotency keys; consumers deduplicate by them, so it never changes.
const KEYED: Uuid = uuid!("7f2c4e0a-51a7-5d0c-9a35-6f1d2b0c8e11");

/// A command and what is to be known of its delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct Direct<C> {
    /// The command.
    pub command: C,
    /// Stable id of its message, the same in every copy ever sent.
    pub message_id: Uuid,
    /// Not sent before then.
    pub not_before: Option<DateTime<Utc>>,
    /// The trace it belongs to, as W3C writes it; the current one when it was made.
    pub traceparent: Option<String>,
}

impl<C: CommandKind> Direct<C> {
    /// A command with an id of its own, to be sent at once.
    #[must_use]
    pub fn new(command: C) -> Self {
        Self {
            command,
            message_id: Uuid::now_v7(),
            not_before: None,
            traceparent: TraceContext::current().map(TraceContext::traceparent),
        }
    }

    /// Handed over again under the same key it has the same `message-id`, so that consumers drop the repeat.
    #[must_use]
    pub fn idempotency_key(mut self, key: &str) -> Self {
        self.message_id = keyed_id(C::TYPE, key);
        self
    }

    /// Nobody gave it an id: the one it has is its own.
    pub(crate) fn is_new(&self) -> bool {
        self.message_id.get_version() == Some(uuid::Version::SortRand)
    }

    /// Not to be sent before then. Such a command waits in a table, never in memory.
    #[must_use]
    pub fn not_before(mut self, at: DateTime<Utc>) -> Self {
        self.not_before = Some(at);
        self
    }

    /// Checks it and makes its bytes.
    ///
    /// # Errors
    /// A field is not as it must be ([`InvalidCommand`]), no topic is known for its kind, or it is no JSON.
    pub fn into_ready(self, topics: &Topics, hash: &KeyHash) -> anyhow::Result<ReadyCommand> {
        self.ready(topics, hash)
    }

    /// The same of a command that is still needed should it fail.
    pub(super) fn ready(&self, topics: &Topics, hash: &KeyHash) -> anyhow::Result<ReadyCommand> {
        let made = Command::of(&self.command, hash)?;
        let topic = topics.of(&made)?;
        let mut id_text = Uuid::encode_buffer();
        let mut headers = Headers::with_capacity(4, 192);
        headers.push(
            "message-id",
            self.message_id.hyphenated().encode_lower(&mut id_text).as_bytes(),
        );
        headers.push("correlation-id", self.command.correlation_id().as_bytes());
        if let Some(traceparent) = &self.traceparent {
            headers.push("traceparent", traceparent.as_bytes());
        }
        headers.push("crc32c", format!("{:08x}", crc32c::crc32c(&made.payload)).as_bytes());
        Ok(ReadyCommand {
            command_type: made.command_type.into_owned(),
            message_id: self.message_id,
            not_before: self.not_before,
            message: Message {
                topic,
                key: made.key,
                payload: made.payload,
                headers,
            },
        })
    }
}

/// The id of a command of this kind with this idempotency key: a UUIDv8 of SHA-256, which is the hash that Postgres has
/// too, so that `lockgate.keyed_id` makes the same.
#[must_use]
pub fn keyed_id(command_type: &str, key: &str) -> Uuid {
    let hash = Sha256::new()
        .chain_update(KEYED.as_bytes())
        .chain_update(command_type)
        .chain_update("/")
        .chain_update(key)
        .finalize();
    let mut first = [0; 16];
    first.copy_from_slice(&hash[..16]);
    Builder::from_custom_bytes(first).into_uuid()
}

/// A direct command whose bytes are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyCommand {
    /// Kind of command.
    pub command_type: String,
    /// Stable id of its message.
    pub message_id: Uuid,
    /// Not sent before then.
    pub not_before: Option<DateTime<Utc>>,
    /// Topic, key, value and headers.
    pub message: Message,
}

/// Where each kind of command goes by configuration.
#[derive(Debug, Clone, Default)]
pub struct Topics(BTreeMap<String, Arc<str>>);

impl Topics {
    /// By kind of command, as the configuration has them.
    #[must_use]
    pub fn new(topics: &BTreeMap<String, String>) -> Self {
        let shared = |(kind, topic): (&String, &String)| (kind.clone(), Arc::from(topic.as_str()));
        Self(topics.iter().map(shared).collect())
    }

    /// The topic of a command.
    ///
    /// # Errors
    /// It names one that cannot exist, or none is configured for its kind.
    pub fn of(&self, command: &Command) -> anyhow::Result<Arc<str>> {
        match &command.topic {
            Some(topic) if is_topic_name(topic) => Ok(Arc::from(topic.as_ref())),
            Some(_) => Err(InvalidCommand {
                field: "topic",
                problem: "is not a name that a topic can have",
            }
            .into()),
            None => {
                let kind = command.command_type.as_ref();
                let found = self.of_kind(kind);
                found.ok_or_else(|| anyhow::anyhow!("no topic is configured for commands of type {kind}"))
            }
        }
    }

    /// Checks what can be checked of a command before its bytes are made, its topic included.
    pub(super) fn check<C: CommandKind>(&self, command: &C) -> Result<(), InvalidCommand> {
        command.validate()?;
        let problem = match command.topic() {
            Some(topic) if is_topic_name(&topic) => return Ok(()),
            Some(_) => "is not a name that a topic can have",
            None if self.0.contains_key(C::TYPE) => return Ok(()),
            None => "is not configured for this kind of command",
        };
        Err(InvalidCommand {
            field: "topic",
            problem,
        })
    }

    /// The topic of commands of this kind that name none.
    #[must_use]
    pub fn of_kind(&self, command_type: &str) -> Option<Arc<str>> {
        self.0.get(command_type).cloned()
    }

    /// All of them, each once.
    pub fn all(&self) -> impl Iterator<Item = &Arc<str>> {
        let distinct: std::collections::BTreeSet<&Arc<str>> = self.0.values().collect();
        distinct.into_iter()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::email::EmailTriggerCommand;
    use super::*;

    fn welcome() -> EmailTriggerCommand<'static> {
        EmailTriggerCommand {
            recipient_email: "Ada@example.org".into(),
            template_id: "welcome".into(),
            template_context: serde_json::json!({"name": "Ada"}),
            locale: "de".into(),
            correlation_id: "c-1".into(),
            user_id: None,
        }
    }

    fn topics() -> Topics {
        Topics::new(&BTreeMap::from([("email".to_owned(), "email_commands".to_owned())]))
    }

    /// Consumers deduplicate by this id: it must never change.
    #[test]
    fn ids_of_idempotency_keys_are_pinned() {
        let id = keyed_id("email", "signup-7");
        assert_eq!(id.to_string(), "a6fa9b22-dc53-8ff4-9ab2-c26618b5701d");
        assert_eq!(Direct::new(welcome()).idempotency_key("signup-7").message_id, id);
        assert_ne!(keyed_id("sms", "signup-7"), id);
    }

    #[test]
    fn a_command_becomes_a_message_whose_key_does_not_show_the_address() {
        let hash = KeyHash::with_secret(b"secret");
        let ready = Direct::new(welcome())
            .idempotency_key("k")
            .into_ready(&topics(), &hash)
            .unwrap();
        assert_eq!(&*ready.message.topic, "email_commands");
        let key = String::from_utf8(ready.message.key.unwrap()).unwrap();
        assert!(key.len() == 32 && !key.contains("example"), "{key}");
        let id = ready.message_id.to_string();
        assert_eq!(ready.message.headers.get("message-id"), Some(id.as_bytes()));
        assert_eq!(ready.message.headers.get("correlation-id"), Some(b"c-1".as_slice()));
        let same_person = EmailTriggerCommand {
            recipient_email: "ada@EXAMPLE.org".into(),
            ..welcome()
        };
        let other = Direct::new(same_person).into_ready(&topics(), &hash).unwrap();
        assert_eq!(other.message.key, Some(key.into_bytes()));
    }

    #[test]
    fn a_kind_without_a_topic_and_a_topic_that_cannot_be_are_named() {
        let error = Direct::new(welcome())
            .into_ready(&Topics::default(), &KeyHash::none())
            .unwrap_err();
        assert_eq!(error.to_string(), "no topic is configured for commands of type email");
        let command = Command {
            topic: Some("a b".into()),
            ..welcome().into_command().unwrap()
        };
        assert_eq!(
            topics().of(&command).unwrap_err().to_string(),
            "topic is not a name that a topic can have"
        );
    }
}

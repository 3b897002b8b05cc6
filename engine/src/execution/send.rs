//! Makes the message of an item: topic, key, value, and the headers that consumers and the proof rely on.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::delivery::{Command, Headers, Message, is_topic_name, message_id};
use crate::lifecycle::{Batch, RunId, UndeliveredItem, storable_reason};
use crate::telemetry::TraceContext;

/// Bytes of the names and values that are a message's own, but for the value of its correlation id.
const OWN_HEADERS: usize = "message-id".len() + 36 + "correlation-id".len() + "crc32c".len() + 8;

/// What all messages of a batch have in common.
pub(crate) struct Envelope {
    origin_id: RunId,
    step: String,
    run_id: String,
    /// The headers that are the same in all of them.
    same: Headers,
    topics: BTreeMap<String, Arc<str>>,
}

impl Envelope {
    pub(crate) fn new(
        batch: &Batch,
        origin_id: RunId,
        context: Option<TraceContext>,
        topics: &BTreeMap<String, String>,
    ) -> Self {
        let run_id = batch.claim.run.to_string();
        let mut same: Headers = context
            .map(|context| ("traceparent", context.header()))
            .into_iter()
            .collect();
        same.push("run-id", run_id.as_bytes());
        same.push("batch-seq", batch.claim.seq.to_string().as_bytes());
        same.push("claim-token", batch.claim.token.to_string().as_bytes());
        Self {
            origin_id,
            step: batch.step.clone(),
            run_id,
            same,
            topics: topics
                .iter()
                .map(|(kind, topic)| (kind.clone(), Arc::from(topic.as_str())))
                .collect(),
        }
    }

    /// The message of an item's command.
    pub(crate) fn message(&self, item: i64, command: Command) -> Result<Message, Unfit> {
        fit(&command)?;
        let topic = match &command.topic {
            Some(topic) => Arc::from(topic.as_ref()),
            None => self
                .topics
                .get(command.command_type.as_ref())
                .cloned()
                .ok_or_else(|| Unfit {
                    code: "no_topic",
                    why: format!("no topic is configured for commands of type {}", command.command_type),
                })?,
        };
        let id = message_id(self.origin_id, &self.step, item);
        let mut id_text = Uuid::encode_buffer();
        let correlation = command.correlation_id.as_ref().unwrap_or(&self.run_id);
        let mut headers = Headers::with_capacity(3, OWN_HEADERS + correlation.len() + self.same.size());
        headers.push("message-id", id.hyphenated().encode_lower(&mut id_text).as_bytes());
        headers.push("correlation-id", correlation.as_bytes());
        headers.append(&self.same);
        headers.push("crc32c", &hex(crc32c::crc32c(&command.payload)));
        Ok(Message {
            topic,
            key: command.key,
            payload: command.payload,
            headers,
        })
    }

    /// The row of an item whose message was made but not delivered.
    pub(crate) fn undelivered(
        &self,
        item: i64,
        command_type: &str,
        message: &Message,
        refused: bool,
        code: &str,
        reason: &str,
    ) -> UndeliveredItem {
        UndeliveredItem {
            headers: message
                .headers
                .iter()
                .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned()))
                .collect(),
            key: message.key.clone(),
            payload: Some(message.payload.clone()),
            ..self.without_message(item, command_type, &message.topic, refused, code, reason)
        }
    }

    /// The row of an item of which no message could be made.
    pub(crate) fn without_message(
        &self,
        item: i64,
        command_type: &str,
        topic: &str,
        refused: bool,
        code: &str,
        reason: &str,
    ) -> UndeliveredItem {
        UndeliveredItem {
            item,
            message_id: message_id(self.origin_id, &self.step, item),
            refused,
            code: code.to_owned(),
            reason: cut(reason),
            command_type: command_type.to_owned(),
            topic: topic.to_owned(),
            key: None,
            headers: Vec::new(),
            payload: None,
        }
    }
}

/// A command of which no message can be made.
#[derive(Debug)]
pub(crate) struct Unfit {
    /// From a closed set.
    pub(crate) code: &'static str,
    /// In words, without the item's data.
    pub(crate) why: String,
}

/// Refuses what neither Kafka nor a text of Postgres takes: retrying it would fail the same way for ever.
fn fit(command: &Command) -> Result<(), Unfit> {
    let texts = [
        ("command type", Some(command.command_type.as_ref())),
        ("correlation id", command.correlation_id.as_deref()),
    ];
    let problem = |text: &str| match text {
        "" => Some("is empty"),
        text if text.contains('\0') => Some("contains a zero character"),
        _ => None,
    };
    // A topic that cannot exist would look like one that is missing, and hold up the whole run instead of an item.
    let no_topic = command.topic.as_deref().is_some_and(|topic| !is_topic_name(topic));
    let found = texts
        .iter()
        .find_map(|(name, text)| text.and_then(problem).map(|problem| format!("its {name} {problem}")))
        .or_else(|| no_topic.then(|| "its topic is not a name that a topic can have".to_owned()));
    found.map_or(Ok(()), |why| {
        Err(Unfit {
            code: "invalid_command",
            why,
        })
    })
}

/// A command type as the row of an item of which no message was made can keep it.
pub(crate) fn storable(command_type: &str) -> String {
    match command_type {
        "" => "unknown".to_owned(),
        kind => storable_reason(kind),
    }
}

/// Eight digits, as consumers read the checksum.
fn hex(number: u32) -> [u8; 8] {
    std::array::from_fn(|at| {
        let digit = number >> (28 - 4 * at) & 0xf;
        b"0123456789abcdef"[digit as usize]
    })
}

/// Reasons are for people and go into rows and logs: one line of bounded length, which Postgres takes.
fn cut(reason: &str) -> String {
    reason
        .chars()
        .filter(|character| !character.is_control())
        .take(300)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_could_never_be_stored_is_refused() {
        let command = |kind: &'static str, topic: Option<&'static str>, correlation: Option<&str>| Command {
            command_type: kind.into(),
            topic: topic.map(Into::into),
            key: None,
            payload: Vec::new(),
            correlation_id: correlation.map(str::to_owned),
        };
        assert!(fit(&command("email", None, Some("c"))).is_ok());
        assert!(fit(&command("email", Some("mails"), None)).is_ok());
        for (unfit, why) in [
            (command("", None, None), "its command type is empty"),
            (
                command("email", Some("a\0b"), None),
                "its topic is not a name that a topic can have",
            ),
            (
                command("email", None, Some("\0")),
                "its correlation id contains a zero character",
            ),
        ] {
            let found = fit(&unfit).expect_err(why);
            assert_eq!((found.code, found.why.as_str()), ("invalid_command", why));
        }
        assert_eq!(
            (storable(""), storable("a\0"), storable("sms")),
            ("unknown".into(), "a\u{fffd}".into(), "sms".into())
        );
    }

    #[test]
    fn a_checksum_is_written_as_eight_digits() {
        for number in [0, 1, 0xf, 0x89ab_cdef, 0x0123_4567, u32::MAX] {
            assert_eq!(hex(number).as_slice(), format!("{number:08x}").as_bytes());
        }
    }
}

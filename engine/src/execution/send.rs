//! Makes the message of an item: topic, key, value, and the headers that consumers and the proof rely on.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::delivery::{Command, Message, message_id};
use crate::lifecycle::{Batch, RunId, UndeliveredItem};

/// What all messages of a batch have in common.
pub(crate) struct Envelope {
    origin_id: RunId,
    step: String,
    run_id: Vec<u8>,
    batch_seq: Vec<u8>,
    claim_token: Vec<u8>,
    traceparent: Option<Vec<u8>>,
    topics: BTreeMap<String, Arc<str>>,
}

impl Envelope {
    pub(crate) fn new(
        batch: &Batch,
        origin_id: RunId,
        traceparent: Option<String>,
        topics: &BTreeMap<String, String>,
    ) -> Self {
        Self {
            origin_id,
            step: batch.step.clone(),
            run_id: batch.claim.run.to_string().into_bytes(),
            batch_seq: batch.claim.seq.to_string().into_bytes(),
            claim_token: batch.claim.token.to_string().into_bytes(),
            traceparent: traceparent.map(String::into_bytes),
            topics: topics
                .iter()
                .map(|(kind, topic)| (kind.clone(), Arc::from(topic.as_str())))
                .collect(),
        }
    }

    /// The message of an item's command.
    pub(crate) fn message(&self, item: i64, command: Command) -> Result<Message, String> {
        let topic = match &command.topic {
            Some(topic) => Arc::from(topic.as_ref()),
            None => self
                .topics
                .get(command.command_type.as_ref())
                .cloned()
                .ok_or_else(|| format!("no topic is configured for commands of type {}", command.command_type))?,
        };
        let id = message_id(self.origin_id, &self.step, item);
        let correlation = command
            .correlation_id
            .map_or_else(|| self.run_id.clone(), String::into_bytes);
        let checksum = format!("{:08x}", crc32c::crc32c(&command.payload));
        let mut headers: Vec<(Cow<'static, str>, Vec<u8>)> = Vec::with_capacity(7);
        let mut header = |name: &'static str, value| headers.push((Cow::Borrowed(name), value));
        header("message-id", id.hyphenated().to_string().into_bytes());
        header("correlation-id", correlation);
        if let Some(traceparent) = &self.traceparent {
            header("traceparent", traceparent.clone());
        }
        header("run-id", self.run_id.clone());
        header("batch-seq", self.batch_seq.clone());
        header("claim-token", self.claim_token.clone());
        header("crc32c", checksum.into_bytes());
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
                .map(|(name, value)| (name.clone().into_owned(), String::from_utf8_lossy(value).into_owned()))
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

/// Reasons are for people and go into rows and logs: one line of bounded length, which Postgres takes.
fn cut(reason: &str) -> String {
    reason
        .chars()
        .filter(|character| !character.is_control())
        .take(300)
        .collect()
}

//! A command as the outbox keeps it.

use std::borrow::Cow;

use super::command::CommandKind;
use super::direct::{Direct, ReadyCommand, Topics};
use super::key_hash::KeyHash;
use crate::lifecycle::QueuedCommand;

impl<C: CommandKind> Direct<C> {
    /// Checks it and makes its row.
    pub(crate) fn into_queued(self, topics: &Topics, hash: &KeyHash) -> anyhow::Result<QueuedCommand> {
        let named = self.command.topic();
        let ReadyCommand {
            command_type,
            message_id,
            not_before,
            message,
        } = self.into_ready(topics, hash)?;
        // Where it goes by its kind is for whoever sends it to say: as of those that SQL enqueues, whose order it shares.
        let route = named.map_or_else(|| format!(":{command_type}"), Cow::into_owned);
        let headers: Vec<(&str, &str)> = message
            .headers
            .iter()
            .filter(|(name, _)| *name != "message-id")
            .map(|(name, value)| Ok((name, std::str::from_utf8(value)?)))
            .collect::<Result<_, std::str::Utf8Error>>()?;
        Ok(QueuedCommand {
            headers: serde_json::to_string(&headers)?,
            command_type,
            message_id,
            route,
            key: message.key,
            payload: message.payload,
            not_before,
        })
    }
}

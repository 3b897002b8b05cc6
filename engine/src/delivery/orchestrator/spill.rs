//! What goes to the table, and why.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use uuid::Uuid;

use super::super::direct::ReadyCommand;
use super::super::fallback::{ConfirmedRow, Due, FallbackRow};
use super::super::publisher::Failure;
use super::pending::{Entry, Unmade};
use super::settings::DirectSettings;
use super::waiting::Waiter;

/// Why a command is stored that the broker has not answered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    NotBefore,
    QueueFull,
    BreakerOpen,
    Stalled,
    Unconfirmed,
    Unavailable,
    Stopping,
}

impl Reason {
    /// The code as it is stored and counted, and the same in words.
    pub(super) fn code_and_text(self) -> (&'static str, &'static str) {
        match self {
            Self::NotBefore => ("not_before", "it is not to be sent before a time of its own"),
            Self::QueueFull => ("queue_full", "too many commands waited to be sent"),
            Self::BreakerOpen => ("breaker_open", "its topic cannot take messages"),
            Self::Stalled => ("stalled", "the brokers do not answer"),
            Self::Unconfirmed => ("unconfirmed", "the brokers have not answered for it in time"),
            Self::Unavailable => ("unavailable", "no producer could take it"),
            Self::Stopping => ("stopping", "its process stopped before it was sent"),
        }
    }

    fn delay(self, settings: &DirectSettings) -> Duration {
        match self {
            // The way is open, there were only too many at once.
            Self::NotBefore | Self::QueueFull | Self::Stopping => Duration::ZERO,
            Self::BreakerOpen | Self::Stalled | Self::Unavailable => settings.first_delay,
            // Sent again only when the publisher has certainly given up.
            Self::Unconfirmed => settings.unconfirmed_delay(),
        }
    }
}

/// One piece of work for the writer.
pub(super) enum Spill {
    /// A command that was never sent.
    Entry(Entry, Reason),
    /// A command as a row.
    Row(Box<FallbackRow>, Option<Waiter>),
    /// A row that was stored and is delivered after all.
    Confirm(Box<ConfirmedRow>),
}

impl Spill {
    /// All work on one message, by whatever it is found again.
    pub(super) fn message_id(&self) -> Uuid {
        match self {
            Self::Entry(entry, _) => entry.command.message_id(),
            Self::Row(row, _) => row.message_id,
            Self::Confirm(row) => row.message_id,
        }
    }
}

/// The row of a command that the broker has not answered for.
pub(super) fn row_of(ready: ReadyCommand, reason: Reason, settings: &DirectSettings) -> Box<FallbackRow> {
    let (code, text) = reason.code_and_text();
    let due = match ready.not_before {
        Some(at) if at > Utc::now() => Due::At(at),
        _ => Due::After(reason.delay(settings)),
    };
    row(ready, false, code, Cow::Borrowed(text), due)
}

/// The row of a command that failed.
pub(super) fn failed_row(
    ready: ReadyCommand,
    refused: bool,
    failure: Failure,
    settings: &DirectSettings,
) -> Box<FallbackRow> {
    let due = Due::After(settings.first_delay);
    row(ready, refused, failure.code, Cow::Owned(failure.detail), due)
}

/// The row of a command that can never be a message.
pub(super) fn unmade_row(unmade: Unmade) -> Box<FallbackRow> {
    Box::new(FallbackRow {
        id: Uuid::now_v7(),
        command_type: unmade.command_type,
        message_id: unmade.message_id,
        refused: true,
        code: "invalid",
        reason: Cow::Owned(unmade.why.to_string()),
        topic: Arc::from("unknown"),
        key: None,
        headers: unmade.headers,
        payload: unmade.payload,
        due: Due::After(Duration::ZERO),
    })
}

fn row(
    ready: ReadyCommand,
    refused: bool,
    code: &'static str,
    reason: Cow<'static, str>,
    due: Due,
) -> Box<FallbackRow> {
    Box::new(FallbackRow {
        id: Uuid::now_v7(),
        command_type: Cow::Owned(ready.command_type),
        message_id: ready.message_id,
        refused,
        code,
        reason,
        topic: ready.message.topic,
        key: ready.message.key,
        headers: ready.message.headers,
        payload: Some(ready.message.payload),
        due,
    })
}

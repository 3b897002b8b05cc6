//! The seam to where direct commands are kept that the broker did not take: what the orchestrator needs of the store.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::headers::Headers;

/// When a stored command is sent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// At this instant, as whoever handed it over said.
    At(DateTime<Utc>),
    /// So long after it was stored, by the store's clock.
    After(Duration),
}

/// A direct command as it is stored: all that is needed to send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FallbackRow {
    /// The row, the same in every try to store it.
    pub id: Uuid,
    /// Kind of command.
    pub command_type: Cow<'static, str>,
    /// Stable id of its message; stored once.
    pub message_id: Uuid,
    /// It can never go as it is: not sent by itself.
    pub refused: bool,
    /// Why it is here, from a closed set.
    pub code: &'static str,
    /// The same in words, without personal data.
    pub reason: Cow<'static, str>,
    /// The topic.
    pub topic: Arc<str>,
    /// Partitioning key.
    pub key: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Headers,
    /// Exact bytes; none when none could be made.
    pub payload: Option<Vec<u8>>,
    /// When it is sent.
    pub due: Due,
}

/// A stored command that the broker acknowledged after all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfirmedRow {
    /// Kind of command.
    pub command_type: String,
    /// Stable id of its message.
    pub message_id: Uuid,
    /// The partition it is in.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
}

/// Why rows could not be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FallbackError {
    /// No answer, or the store cannot write now: tried again as it is.
    #[error("the store cannot write now: {0}")]
    NotNow(String),
    /// One of the rows cannot be stored as it is: tried again in parts.
    #[error("the store refused a row: {0}")]
    BadRow(String),
}

/// The verbs of the fallback. Each is one statement in a transaction of its own, and may be repeated.
#[async_trait]
pub trait FallbackStore: Send + Sync + 'static {
    /// Stores commands; those whose message is there already stay as they are. Answers how many are new.
    async fn store_undelivered(&self, rows: &[FallbackRow]) -> Result<u64, FallbackError>;
    /// Settles those as delivered that nobody has claimed since. Answers how many.
    async fn confirm_undelivered(&self, rows: &[ConfirmedRow]) -> Result<u64, FallbackError>;
}

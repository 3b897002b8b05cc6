//! Undelivered messages as people and scripts see them: never their key, headers or payload.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Which undelivered messages; all that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UndeliveredFilter {
    /// One of these rows.
    pub ids: Option<Vec<Uuid>>,
    /// In one of these states.
    pub statuses: Option<Vec<String>>,
    /// Of this run.
    pub run: Option<Uuid>,
    /// Of this kind of command.
    pub command_type: Option<String>,
    /// To this topic.
    pub topic: Option<String>,
    /// Stored for this reason.
    pub reason_code: Option<String>,
}

/// One undelivered message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UndeliveredSummary {
    /// The row.
    pub id: Uuid,
    /// Kind of command.
    pub command_type: String,
    /// Stable id of the message.
    pub message_id: Uuid,
    /// The run it came from.
    pub run_id: Option<Uuid>,
    /// Path of its fan-out.
    pub step: Option<String>,
    /// Its batch.
    pub batch_seq: Option<i32>,
    /// Its item.
    pub item_id: Option<i64>,
    /// `due`, `refused`, `claimed`, `delivered`, `dead` or `discarded`.
    pub status: String,
    /// Why it was stored, from a closed set.
    pub reason_code: String,
    /// The same in words.
    pub reason: String,
    /// Where it goes.
    pub topic: String,
    /// How often redelivery tried.
    pub attempts: i32,
    /// When redelivery tries next.
    pub next_attempt_at: DateTime<Utc>,
    /// Replica that redelivers or settled it.
    pub claimed_by: Option<Uuid>,
    /// When that claim ends.
    pub lease_until: Option<DateTime<Utc>>,
    /// What the last attempt met.
    pub last_error: Option<String>,
    /// Partition of the acknowledged record.
    pub kafka_partition: Option<i32>,
    /// Offset of the acknowledged record.
    pub kafka_offset: Option<i64>,
    /// Who discarded it or sent it again by hand.
    pub actor: Option<String>,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// When it was delivered or discarded.
    pub finished_at: Option<DateTime<Utc>>,
    /// Length of its payload; none: there is no message to send.
    pub payload_bytes: Option<i32>,
}

/// How many there are in one state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndeliveredCount {
    /// The state.
    pub status: String,
    /// How many.
    pub messages: i64,
    /// How many of them cannot be sent, as there is no message.
    pub without_message: i64,
}

/// What a change by hand did with one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndeliveredChange {
    /// Rows looked at.
    pub seen: i64,
    /// Rows changed.
    pub changed: i64,
    /// Where the next page begins.
    pub last_id: Option<Uuid>,
}

/// What a message is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndeliveredMessage {
    /// The row.
    pub id: Uuid,
    /// Partitioning key.
    pub key: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<(String, String)>,
    /// Exact bytes.
    pub payload: Option<Vec<u8>>,
}

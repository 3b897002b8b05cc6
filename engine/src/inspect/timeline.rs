//! How a run went, in order. Field names are a promise.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One thing that happened to a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TimelineRow {
    /// Its place: what comes behind is asked for with it.
    pub cursor: String,
    /// When it began.
    pub at: DateTime<Utc>,
    /// `step`, `claim` (a replica ran its code), `change` (of its state), `signal`, or `fork` (a run was made of it); the first
    /// is `capped` when the run has more than is looked at.
    pub what: String,
    /// Path of a step, name of a signal, workflow of a fork.
    pub name: Option<String>,
    /// Kind of a step.
    pub kind: Option<String>,
    /// Of a step and a fork its state, of a claim how it ended, of a change to what, of a signal `waiting` or `taken`.
    pub status: String,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// When an open step goes on by itself, or until when a claim that is held holds.
    pub due_at: Option<DateTime<Utc>>,
    /// What an open step waits for.
    pub waits_for: Option<String>,
    /// How often the code of a step was run, as far as is recorded.
    pub tries: Option<i32>,
    /// Bytes of what a step returned, or of what a signal told.
    pub size: Option<i32>,
    /// That itself, exact text of a JSON document; only when asked for.
    pub value: Option<String>,
    /// Run that a step started, that was made of this one, or that this one was made of.
    pub other_run: Option<Uuid>,
    /// Token of the claim.
    pub token: Option<i64>,
    /// Replica that held the claim.
    pub replica: Option<Uuid>,
    /// Who asked for it.
    pub actor: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// Whether a text can be the cursor of a row of a timeline.
#[must_use]
pub fn is_cursor(text: &str) -> bool {
    let Some((at, key)) = text.split_once('|') else {
        return false;
    };
    let digits = at.strip_prefix('-').unwrap_or(at);
    (1..=17).contains(&digits.len())
        && digits.bytes().all(|digit| digit.is_ascii_digit())
        && key.chars().count() <= 3_000
        && !key.contains('\0')
}

//! What becomes of what people do to runs. Field names are a promise.

use std::fmt;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What is done to many runs at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunAct {
    /// Those that are not over are cancelled.
    Cancel,
    /// Those that go on are paused.
    Pause,
    /// Those that are paused or quarantined are resumed.
    Resume,
    /// Those that failed or were cancelled, and were not retried, are retried from the step that failed.
    Retry,
    /// Those that are over and not needed are deleted.
    Delete,
}

impl RunAct {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Retry => "retry",
            Self::Delete => "delete",
        }
    }
}

impl fmt::Display for RunAct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was done to many runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActedRuns {
    /// Runs that fit and were in a state in which the act does something.
    pub matched: u64,
    /// Those to which it was done; the others had changed meanwhile, or are needed.
    pub acted: u64,
    /// There may be more: ask again with this as `after`.
    pub next: Option<Uuid>,
    /// The first of them, with their state now.
    pub sample: Vec<ActedRun>,
}

/// Runs that are named of many.
const SAMPLE: usize = 10;

impl ActedRuns {
    /// With what was done to the page behind it.
    pub(crate) fn add(&mut self, page: Self) {
        self.matched += page.matched;
        self.acted += page.acted;
        self.next = page.next;
        let room = SAMPLE.saturating_sub(self.sample.len());
        self.sample.extend(page.sample.into_iter().take(room));
    }
}

/// One of the runs to which something was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActedRun {
    /// The run.
    pub run_id: Uuid,
    /// Its workflow.
    pub workflow: String,
    /// Its state now, or what was done to it.
    pub status: String,
}

/// Why a run was not done again. Nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotRepeated {
    /// It is not there.
    #[error("there is no run {0}")]
    Unknown(Uuid),
    /// Retention is deleting it.
    #[error("run {0} is being deleted")]
    Pruned(Uuid),
    /// It is not over.
    #[error("run {0} is {1}: only a run that is over is done again")]
    NotOver(Uuid, String),
    /// It has no code.
    #[error("run {0} is driven by its caller: it has no code to run again")]
    NoCode(Uuid),
    /// Nothing of it failed.
    #[error("run {0} is completed: name the step to begin again from")]
    Completed(Uuid),
    /// It recorded no such step.
    #[error("run {run} recorded no step {step}")]
    NoStep {
        /// The run.
        run: Uuid,
        /// What was asked for.
        step: String,
    },
    /// Several steps have the name.
    #[error("run {run} has several steps {step}: {paths}")]
    Ambiguous {
        /// The run.
        run: Uuid,
        /// What was asked for.
        step: String,
        /// Their paths.
        paths: String,
    },
    /// The input is larger than 1 MiB.
    #[error("the input is larger than 1 MiB")]
    TooLarge,
    /// Another unfinished run holds its singleton key.
    #[error("another unfinished run holds singleton key {0}")]
    Held(String),
}

/// What became of a slot that was to be made good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackfilledSlot {
    /// The slot.
    pub slot: DateTime<Utc>,
    /// `new`, `found` (it has a run), or `missing` (it has none, and none was to be started).
    pub outcome: String,
    /// Its run.
    pub run_id: Option<Uuid>,
}

//! What became of one item. Field names are a promise.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What became of an item in a fan-out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemFate {
    /// `delivered`, `skipped`, `vanished`; of what was not delivered at once the state of its undelivered message (`due`,
    /// `refused`, `claimed`, `dead`, `discarded`, or `delivered` since); `open`: its batch is not finished; `unknown`: the
    /// run was over before, and whoever held the batch may have sent it; `not_sent`: nobody ever held it; `not_planned`: it
    /// is in no batch yet, or the run was over before; `not_of_this_run`: it is in no plan.
    pub fate: String,
    /// Path of the fan-out.
    pub step: Option<String>,
    /// Its batch.
    pub batch_seq: Option<i32>,
    /// When its batch was finished or its message was settled.
    pub at: Option<DateTime<Utc>>,
    /// Replica that holds or finished its batch or its message.
    pub replica: Option<Uuid>,
    /// Why it was not delivered, or what its batch or its run is.
    pub reason: Option<String>,
}

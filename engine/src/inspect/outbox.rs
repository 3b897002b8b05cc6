//! Commands of the outbox as people and scripts act on them.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Which commands; all that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutboxFilter {
    /// With one of these message ids.
    pub ids: Option<Vec<Uuid>>,
    /// Of this kind.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 100), extend("pattern" = "^[^\\u0000]+$"))]
    pub command_type: Option<String>,
    /// On this route: a topic, or `:` and the type whose topic the configuration names.
    #[schemars(length(min = 1, max = 250), extend("pattern" = "^[^\\u0000]+$"))]
    pub route: Option<String>,
    /// Enqueued before this instant.
    pub before: Option<DateTime<Utc>>,
}

/// What is done to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutboxAct {
    /// They become undelivered messages, as dead ones: from there they are redelivered, exported or discarded.
    Move,
    /// They are given up for good.
    Discard,
}

/// Something that is done to many commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxBulk {
    /// What.
    pub act: OutboxAct,
    /// To which.
    pub filter: OutboxFilter,
    /// Of those that move their topic, instead of that of their route; wanted where the configuration names that.
    pub to_topic: Option<String>,
    /// Why, for the record.
    pub reason: String,
    /// Only count them.
    pub dry_run: bool,
    /// Only those behind this one.
    pub after: Option<i64>,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutboxChange {
    /// Commands that fit.
    pub matched: u64,
    /// Those to which it was done.
    pub changed: u64,
    /// There may be more: ask again with this as `after`.
    pub next: Option<i64>,
}

impl OutboxChange {
    /// With what was done to the page behind it.
    pub(crate) fn add(&mut self, page: Self) {
        self.matched += page.matched;
        self.changed += page.changed;
        self.next = page.next;
    }
}

//! What does not move, and what must never be.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Something that does not move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stuck {
    /// What is wrong, from a closed set.
    pub kind: String,
    /// What does not move.
    pub subject: String,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// Why, and where to look.
    pub why: String,
}

/// A promise that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenInvariant {
    /// Which one.
    pub invariant: String,
    /// By what it is broken.
    pub subject: String,
    /// How.
    pub detail: String,
}

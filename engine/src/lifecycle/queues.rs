//! Queues that something is set for, as whoever claims from them sees them.

use std::time::Duration;

use super::fleet::{RunClaim, WorkRun};

/// Longest name of a queue, tenant, limit key or debounce key, in bytes.
pub const LONGEST_QUEUE_NAME: usize = 200;
/// Highest priority of a run.
pub const HIGHEST_PRIORITY: u8 = 20;

/// What is set for a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRule {
    /// The queue.
    pub name: String,
    /// It has limits, is fair or paused: its runs are claimed by [`claim_limited_runs`](super::RunStore::claim_limited_runs).
    pub limited: bool,
    /// How long code may run from its claim until it waits or ends.
    pub max_attempt: Option<Duration>,
}

/// What a replica is to know of queues.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueNews {
    /// Queues that something is set for.
    pub rules: Vec<QueueRule>,
    /// Queues with a name of their own in which runs of the asked workflows wait.
    pub named: Vec<String>,
}

/// What a claim from a limited queue got.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LimitedClaim {
    /// The runs.
    pub runs: Vec<(RunClaim, WorkRun)>,
    /// When asking again may get more though nothing ends and nothing comes; none: then.
    pub again: Option<Duration>,
}

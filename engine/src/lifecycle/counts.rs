//! What a process has counted since it began, for the rows by which speed is seen.

/// Totals since the process began; they only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Items of fan-outs that Kafka acknowledged.
    pub items_delivered: i64,
    /// Items that can never go as they are.
    pub items_refused: i64,
    /// Items stored because nobody knows whether they went.
    pub items_unknown: i64,
    /// Items that were skipped or had vanished.
    pub items_passed_over: i64,
    /// Batches finished.
    pub batches: i64,
    /// Runs that completed here.
    pub runs_completed: i64,
    /// Runs that failed, were cancelled or set aside here.
    pub runs_failed: i64,
    /// Steps recorded here.
    pub steps: i64,
    /// Direct commands acknowledged.
    pub commands_delivered: i64,
    /// Direct commands stored instead.
    pub commands_stored: i64,
    /// Commands of the outbox acknowledged.
    pub outbox_delivered: i64,
    /// Undelivered messages acknowledged.
    pub redelivered: i64,
    /// Undelivered messages given up.
    pub dead: i64,
    /// Leases of this process that ended under it.
    pub leases_lost: i64,
}

//! What execution needs to know.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use crate::delivery::KeyHash;

/// Room for records that are too large to be read with a page of claims: a hundred of 2.5 MB, beside the short ones of all others.
pub(crate) const LARGE_RECORDS: usize = 256 * 1024 * 1024;

/// Bounds and times of a replica's execution side; see the design for why they are what they are.
#[derive(Debug, Clone)]
pub struct ExecutionSettings {
    /// The replica, made at process start.
    pub replica: Uuid,
    /// What it does, as shown in its row.
    pub roles: Vec<String>,
    /// Batches in flight.
    pub batches: usize,
    /// Items in a batch.
    pub batch_size: usize,
    /// Batches planned ahead of the workers.
    pub plan_ahead: usize,
    /// Runs whose code runs at once.
    pub runs: usize,
    /// Most bytes of a step's result, unless the step says otherwise.
    pub max_result: usize,
    /// Bytes of records in memory that were too large to be read with a page of claims, beside the last of them.
    pub large_records: usize,
    /// How long the code of a run that is to stop may take to come to its end.
    pub cancel_grace: Duration,
    /// How often to look for work when nobody hints at any.
    pub poll: Duration,
    /// How long a claim holds.
    pub lease: Duration,
    /// How often leases are renewed.
    pub renew: Duration,
    /// Deaths of holders in a row after which a batch runs alone.
    pub suspect_after: u16,
    /// Items sent whose outcome is not committed. With none this replica has no brokers: it plans, and claims no batches.
    pub window: usize,
    /// Where each kind of command goes.
    pub topics: BTreeMap<String, String>,
    /// Makes the partitioning keys of what workflows publish.
    pub key_hash: KeyHash,
    /// How long batches in flight may take to end when stopping.
    pub drain: Duration,
}

impl ExecutionSettings {
    /// The defaults for a replica.
    #[must_use]
    pub fn new(replica: Uuid) -> Self {
        Self {
            replica,
            roles: vec!["worker".to_owned()],
            batches: 16,
            batch_size: 1000,
            plan_ahead: 512,
            runs: 1024,
            max_result: 256 * 1024,
            large_records: LARGE_RECORDS,
            cancel_grace: Duration::from_secs(30),
            poll: Duration::from_secs(1),
            lease: Duration::from_secs(60),
            renew: Duration::from_secs(20),
            suspect_after: 2,
            window: 16_000,
            topics: BTreeMap::from([(crate::delivery::EMAIL.to_owned(), "email_commands".to_owned())]),
            key_hash: KeyHash::none(),
            drain: Duration::from_secs(25),
        }
    }

    /// Whether batches are claimed here: not without brokers.
    pub(crate) fn sends(&self) -> bool {
        self.window > 0
    }

    /// A worker trusts its own lease a little shorter than the database does, from before it asked.
    pub(crate) fn trusted(&self) -> Duration {
        self.lease - self.lease / 6
    }
}

//! The seam to the tables: what verification reads of a run, in pages.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::lifecycle::{FleetError, RunId};

/// A run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFacts {
    /// The run.
    pub run: RunId,
    /// Namespace of its message ids.
    pub origin_id: RunId,
    /// Its state.
    pub status: String,
    /// When it was started.
    pub created_at: DateTime<Utc>,
    /// When it was over.
    pub finished_at: Option<DateTime<Utc>>,
    /// Topics of its undelivered rows.
    pub topics: Vec<String>,
}

/// A batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchFacts {
    /// Its number.
    pub seq: i32,
    /// Path of its fan-out; none: it was made by a caller that sends by itself.
    pub step: Option<String>,
    /// Its state.
    pub status: String,
    /// The batch it was split from.
    pub parent_seq: Option<i32>,
    /// Smallest item.
    pub first_id: i64,
    /// Largest item.
    pub last_id: i64,
    /// How many.
    pub n_items: i32,
    /// The items, packed, when they are not contiguous.
    pub ids: Option<Vec<u8>>,
    /// Refused at first, packed.
    pub refused_ids: Option<Vec<u8>>,
    /// Of unknown fate at first, packed.
    pub unknown_ids: Option<Vec<u8>>,
    /// Without a message, packed.
    pub skipped_ids: Option<Vec<u8>>,
    /// Without a row, packed.
    pub vanished_ids: Option<Vec<u8>>,
}

/// An undelivered row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFacts {
    /// The row.
    pub id: Uuid,
    /// Stable id of its message.
    pub message_id: Uuid,
    /// Path of its fan-out.
    pub step: Option<String>,
    /// Its batch.
    pub batch_seq: Option<i32>,
    /// Its item.
    pub item_id: Option<i64>,
    /// Its state.
    pub status: String,
    /// Why it was stored.
    pub reason_code: String,
    /// Where it goes.
    pub topic: String,
    /// How often redelivery claimed it; each time it may have been sent.
    pub claims: i64,
    /// Partition and offset of the acknowledged record.
    pub place: Option<(i32, i64)>,
}

/// Reads a run. Pages ascend; an empty one is the last.
#[async_trait]
pub trait RunTables: Send + Sync {
    /// The run; none: there is no such run.
    async fn read_run(&self, run: RunId) -> Result<Option<RunFacts>, FleetError>;
    /// Batches behind a number.
    async fn read_batches(&self, run: RunId, after: i32) -> Result<Vec<BatchFacts>, FleetError>;
    /// How many claims of each batch ended otherwise than by finishing it.
    async fn read_lost_claims(&self, run: RunId) -> Result<Vec<(i32, i64)>, FleetError>;
    /// Undelivered rows behind an id.
    async fn read_stored(&self, run: RunId, after: Uuid) -> Result<Vec<StoredFacts>, FleetError>;
}

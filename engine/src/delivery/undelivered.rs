//! The seam to where undelivered messages are kept: what redelivery needs of the store.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::publisher::Failure;
use crate::lifecycle::FleetError;

/// A claimed row's place and fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowClaim {
    /// Kind of command; leads the key.
    pub command_type: String,
    /// The row.
    pub id: Uuid,
    /// Grows with every claim of the row.
    pub token: i64,
}

/// A claimed row: all that is needed to send its message again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndeliveredRow {
    /// Its fence.
    pub claim: RowClaim,
    /// Partitioning key.
    pub key: Option<Vec<u8>>,
    /// Headers in order, the message's stable id among them.
    pub headers: Vec<(String, String)>,
    /// Exact bytes; none when no message could be made.
    pub payload: Option<Vec<u8>>,
    /// How often redelivery tried before.
    pub attempts: u32,
}

/// A page of rows that is asked for.
#[derive(Debug, Clone)]
pub struct PageRequest {
    /// Chosen before the request; every later write names it.
    pub claim_id: Uuid,
    /// Rows of this topic.
    pub topic: String,
    /// At most so many.
    pub rows: u32,
    /// No more rows once their payloads reach so much.
    pub bytes: u64,
    /// How long the claim holds.
    pub lease: Duration,
}

/// What becomes of a claimed row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// The broker acknowledged it; key, headers and payload are cleared.
    Delivered {
        /// The partition it is in.
        partition: i32,
        /// Its offset there.
        offset: i64,
    },
    /// It can never go as it is; not tried again by itself.
    Refused(Failure),
    /// Tried again after the delay.
    Retry {
        /// From now.
        delay: Duration,
        /// What this attempt met.
        failure: Failure,
    },
    /// Tried often enough; an operator decides.
    Dead(Failure),
}

/// A row and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledRow {
    /// The row's fence.
    pub claim: RowClaim,
    /// What becomes of it.
    pub settlement: Settlement,
}

/// The verbs of redelivery. Every write names the claim and answers how many rows were still held under it.
#[async_trait]
pub trait UndeliveredStore: Send + Sync + 'static {
    /// Topics with rows whose time has come, the one that has waited longest first.
    async fn due_topics(&self) -> Result<Vec<String>, FleetError>;
    /// Claims due rows of a topic, oldest first; rows that somebody else is claiming are left to them.
    async fn claim_undelivered(&self, request: &PageRequest) -> Result<Vec<UndeliveredRow>, FleetError>;
    /// Holds the rows longer.
    async fn renew_undelivered(&self, claim_id: Uuid, rows: &[RowClaim], lease: Duration) -> Result<u64, FleetError>;
    /// Writes what became of the rows, each counted as an attempt; also counts rows settled earlier by this very claim.
    async fn settle_undelivered(&self, claim_id: Uuid, rows: &[SettledRow]) -> Result<u64, FleetError>;
    /// Gives rows back without costing an attempt; they are due after the delay.
    async fn hand_back_undelivered(
        &self,
        claim_id: Uuid,
        rows: &[RowClaim],
        delay: Duration,
    ) -> Result<u64, FleetError>;
}

//! The seam to where the outbox is kept: what the relay needs of the store.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::delivery::{Failure, Headers};
use crate::lifecycle::FleetError;

/// A lane that has something due on a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRoute {
    /// The lane.
    pub lane: i16,
    /// A topic, or `:` and a type whose topic the configuration names.
    pub route: String,
    /// Nobody holds the lane.
    pub free: bool,
}

/// What is due, as far as was looked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DueRoutes {
    /// The lane that was claimed longest ago first.
    pub routes: Vec<DueRoute>,
    /// The last lane and route that were looked at, when there are more behind them.
    pub more_behind: Option<(i16, String)>,
}

/// The right to send a lane, and its fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneClaim {
    /// The lane.
    pub lane: i16,
    /// Grows with every claim of it.
    pub token: i64,
    /// Chosen before the request.
    pub claim_id: Uuid,
}

/// A place in the order of a lane's route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// Not sent before then; none: at once. Those without come first.
    pub not_before: Option<DateTime<Utc>>,
    /// Order of enqueueing.
    pub seq: i64,
}

/// A command that waits in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Where it stands.
    pub place: Place,
    /// Stable id of its message.
    pub message_id: Uuid,
    /// Partitioning key.
    pub key: Option<Vec<u8>>,
    /// Headers in order, without the message's id; none: they cannot be read, so there is no message to send.
    pub headers: Option<Headers>,
    /// Exact bytes.
    pub payload: Vec<u8>,
}

/// The next page that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageAsk {
    /// Of this route.
    pub route: String,
    /// Behind this place.
    pub after: Place,
    /// At most so many rows.
    pub rows: u32,
    /// No more rows once their payloads reach so much.
    pub bytes: u64,
}

/// A command that can never go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRow {
    /// Its row in the outbox.
    pub seq: i64,
    /// All headers of its message.
    pub headers: Headers,
    /// Why.
    pub failure: Failure,
}

/// What became of a page; rows that are not named stay where they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettledPage {
    /// Rows to be deleted: the broker has acknowledged them.
    pub delivered: Vec<i64>,
    /// Rows to be moved to the undelivered messages.
    pub refused: Vec<RefusedRow>,
}

impl SettledPage {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.delivered.is_empty() && self.refused.is_empty()
    }
}

/// A page that is over, and the next one of the same lane and route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settling {
    /// What became of the last one.
    pub settled: SettledPage,
    /// The topic it went to.
    pub topic: String,
    /// The next one; none: nothing is read.
    pub next: Option<PageAsk>,
}

/// The verbs of the relay. Every write names the claim and tells whether it was still held.
#[async_trait]
pub trait OutboxStore: Send + Sync + 'static {
    /// What is due behind a lane and route, or from the first one on; a bounded look.
    async fn due_routes(&self, behind: Option<&(i16, String)>) -> Result<DueRoutes, FleetError>;
    /// Claims those of these lanes that nobody holds.
    async fn claim_lanes(&self, claim_id: Uuid, lanes: &[i16], lease: Duration) -> Result<Vec<LaneClaim>, FleetError>;
    /// Holds a lane longer; `false`: it is lost.
    async fn renew_lane(&self, claim: &LaneClaim, lease: Duration) -> Result<bool, FleetError>;
    /// Deletes what was delivered, moves what was refused, and reads the next page. None: the lane is lost, and nothing
    /// was written or read. Asked again with the same rows, it finds them gone.
    async fn settle_outbox(&self, claim: &LaneClaim, settling: &Settling)
    -> Result<Option<Vec<OutboxRow>>, FleetError>;
    /// Gives a lane back, with what was met; `false`: it was lost before.
    async fn release_lane(&self, claim: &LaneClaim, last_error: Option<&str>) -> Result<bool, FleetError>;
}

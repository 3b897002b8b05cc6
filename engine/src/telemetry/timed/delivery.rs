//! The stores of messages.

use std::sync::OnceLock;
use std::time::Duration;

use uuid::Uuid;

use super::{Timed, measured, timed};
use crate::delivery::{
    ConfirmedRow, DueRoutes, FallbackError, FallbackRow, FallbackStore, LaneClaim, OutboxRow, OutboxStore, PageRequest,
    RowClaim, SettledRow, Settling, UndeliveredRow, UndeliveredStore,
};
use crate::lifecycle::FleetError;
use crate::telemetry::Timing;

timed! { UndeliveredStore, FleetError {
    due_topics() -> Vec<String>;
    claim_undelivered(request: &PageRequest) -> Vec<UndeliveredRow>;
    renew_undelivered(claim_id: Uuid, rows: &[RowClaim], lease: Duration) -> u64;
    settle_undelivered(claim_id: Uuid, rows: &[SettledRow]) -> u64;
    hand_back_undelivered(claim_id: Uuid, rows: &[RowClaim], delay: Duration) -> u64;
} }

timed! { OutboxStore, FleetError {
    due_routes(behind: Option<&(i16, String)>) -> DueRoutes;
    claim_lanes(claim_id: Uuid, lanes: &[i16], lease: Duration) -> Vec<LaneClaim>;
    renew_lane(claim: &LaneClaim, lease: Duration) -> bool;
    settle_outbox(claim: &LaneClaim, settling: &Settling) -> Option<Vec<OutboxRow>>;
    release_lane(claim: &LaneClaim, last_error: Option<&str>) -> bool;
} }

timed! { FallbackStore, FallbackError {
    store_undelivered(rows: &[FallbackRow]) -> u64;
    confirm_undelivered(rows: &[ConfirmedRow]) -> u64;
} }

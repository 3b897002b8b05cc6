//! Stores that count what is written down as delivered, so that nobody has to ask the tables while they are measured.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lockgate::delivery::{
    DueRoutes, LaneClaim, OutboxRow, OutboxStore, PageRequest, RowClaim, SettledRow, Settlement, Settling,
    UndeliveredRow, UndeliveredStore,
};
use lockgate::lifecycle::FleetError;
use lockgate::postgres::{PostgresOutbox, PostgresUndelivered};
use tokio::sync::Notify;
use uuid::Uuid;

/// How much is still to be delivered.
#[derive(Debug, Default)]
pub(super) struct Left {
    count: AtomicI64,
    changed: Notify,
}

impl Left {
    pub(super) fn set(&self, count: i64) {
        self.count.store(count, Ordering::SeqCst);
    }

    fn less(&self, by: usize) {
        self.count.fetch_sub(by as i64, Ordering::SeqCst);
        self.changed.notify_one();
    }

    pub(super) async fn nothing(&self) {
        while self.count.load(Ordering::SeqCst) > 0 {
            self.changed.notified().await;
        }
    }
}

/// A store, counted.
pub(super) struct Counted<S> {
    pub(super) store: S,
    pub(super) left: std::sync::Arc<Left>,
}

#[async_trait]
impl OutboxStore for Counted<PostgresOutbox> {
    async fn due_routes(&self, behind: Option<&(i16, String)>) -> Result<DueRoutes, FleetError> {
        self.store.due_routes(behind).await
    }

    async fn claim_lanes(&self, claim_id: Uuid, lanes: &[i16], lease: Duration) -> Result<Vec<LaneClaim>, FleetError> {
        self.store.claim_lanes(claim_id, lanes, lease).await
    }

    async fn renew_lane(&self, claim: &LaneClaim, lease: Duration) -> Result<bool, FleetError> {
        self.store.renew_lane(claim, lease).await
    }

    async fn settle_outbox(
        &self,
        claim: &LaneClaim,
        settling: &Settling,
    ) -> Result<Option<Vec<OutboxRow>>, FleetError> {
        let page = self.store.settle_outbox(claim, settling).await?;
        if page.is_some() {
            self.left.less(settling.settled.delivered.len());
        }
        Ok(page)
    }

    async fn release_lane(&self, claim: &LaneClaim, last_error: Option<&str>) -> Result<bool, FleetError> {
        self.store.release_lane(claim, last_error).await
    }
}

#[async_trait]
impl UndeliveredStore for Counted<PostgresUndelivered> {
    async fn due_topics(&self) -> Result<Vec<String>, FleetError> {
        self.store.due_topics().await
    }

    async fn claim_undelivered(&self, request: &PageRequest) -> Result<Vec<UndeliveredRow>, FleetError> {
        self.store.claim_undelivered(request).await
    }

    async fn renew_undelivered(&self, claim_id: Uuid, rows: &[RowClaim], lease: Duration) -> Result<u64, FleetError> {
        self.store.renew_undelivered(claim_id, rows, lease).await
    }

    async fn settle_undelivered(&self, claim_id: Uuid, rows: &[SettledRow]) -> Result<u64, FleetError> {
        let held = self.store.settle_undelivered(claim_id, rows).await?;
        let delivered = |row: &&SettledRow| matches!(row.settlement, Settlement::Delivered { .. });
        if held == rows.len() as u64 {
            self.left.less(rows.iter().filter(delivered).count());
        }
        Ok(held)
    }

    async fn hand_back_undelivered(
        &self,
        claim_id: Uuid,
        rows: &[RowClaim],
        delay: Duration,
    ) -> Result<u64, FleetError> {
        self.store.hand_back_undelivered(claim_id, rows, delay).await
    }
}

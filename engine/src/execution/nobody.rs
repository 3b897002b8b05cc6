//! What an executor has beside the store, for tests that send nothing.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use uuid::Uuid;

use crate::delivery::{Message, Publisher, Rejected, Ticket, TopicError, TopicInfo};
use crate::lifecycle::*;
use crate::memory::MemoryRunStore;

pub(super) struct NoPublisher;

impl Publisher for NoPublisher {
    fn publish(&self, _: &Message, _: Ticket) -> Result<(), Rejected> {
        unreachable!()
    }
    fn capacity(&self) -> BoxFuture<'_, ()> {
        unreachable!()
    }
    fn check_topic<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<TopicInfo, TopicError>> {
        unreachable!()
    }
    fn shutdown(&self, _: Duration) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

pub(super) struct NoFleet(pub(super) MemoryRunStore);

#[async_trait]
impl Fleet for NoFleet {
    async fn heartbeat(&self, _: &Heartbeat) -> Result<DateTime<Utc>, FleetError> {
        unreachable!()
    }
    async fn leave(&self, _: Uuid) -> Result<(), FleetError> {
        unreachable!()
    }
    async fn read_run(&self, _: RunId) -> Result<Option<WorkRun>, FleetError> {
        unreachable!()
    }
    async fn fail_claimed_run(&self, claim: &RunClaim, reason: &str) -> Result<Ended, FleetError> {
        Ok(self.0.fail_claimed_run(claim, reason))
    }
    async fn open_fan_out(&self, _: &RunClaim, _: &str, _: bool) -> Result<Option<StepState>, FleetError> {
        unreachable!()
    }
    async fn note_plan_trouble(&self, _: &RunClaim, _: &str, _: &str) -> Result<(), FleetError> {
        unreachable!()
    }
    async fn plan_chunk(&self, _: &RunClaim, _: &PlanChunk) -> Result<PlanProgress, FleetError> {
        unreachable!()
    }
    async fn waiting_batches(&self, _: RunId, _: i64) -> Result<i64, FleetError> {
        unreachable!()
    }
    async fn complete_fan_out(&self, _: RunId, _: &str) -> Result<bool, FleetError> {
        unreachable!()
    }
    async fn mark_alone(&self, _: &BatchClaim) -> Result<Ended, FleetError> {
        unreachable!()
    }
    async fn claimable_runs(
        &self,
        _: &[Runnable],
        _: &[RunId],
        _: Option<RunId>,
        _: i64,
    ) -> Result<Vec<RunId>, FleetError> {
        unreachable!()
    }
    async fn claim_next_batch(&self, _: RunId, _: Uuid) -> Result<Option<Batch>, FleetError> {
        unreachable!()
    }
    async fn finish_and_claim_batch(
        &self,
        _: &BatchClaim,
        _: RunId,
        _: Uuid,
    ) -> Result<(Ended, Option<Batch>), FleetError> {
        unreachable!()
    }
    async fn finish_batch(&self, _: &BatchClaim, _: &ItemIds, _: &BatchOutcome) -> Result<Ended, FleetError> {
        unreachable!()
    }
    async fn find_batch_claim(&self, _: RunId, _: Uuid) -> Result<Option<Batch>, FleetError> {
        unreachable!()
    }
    async fn renew_leases(&self, _: &[Renewal], _: &[RunClaim]) -> Result<Unrenewed, FleetError> {
        unreachable!()
    }
    async fn hand_back_batches(&self, _: &[HandBack]) -> Result<u64, FleetError> {
        unreachable!()
    }
    async fn request_stop(&self, _: RunId, _: &str) -> Result<(), FleetError> {
        unreachable!()
    }
    async fn settle_stop(&self, run: RunId) -> Result<bool, FleetError> {
        Ok(self.0.settle_stop(run))
    }
    async fn sweep(&self) -> Result<Swept, FleetError> {
        unreachable!()
    }
}

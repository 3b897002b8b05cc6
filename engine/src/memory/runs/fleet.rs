//! The verbs of a replica's execution side on runs in memory.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::MemoryRunStore;
use super::batches::BatchHolder;
use crate::lifecycle::{
    Batch, BatchClaim, BatchOutcome, Ended, Fleet, FleetError, HandBack, Heartbeat, ItemIds, NotRenewed, PlanChunk,
    PlanProgress, Renewal, RunClaim, RunId, Runnable, StepState, Swept, Unrenewed, WorkRun,
};

impl MemoryRunStore {
    fn batch_holder(&self, claim_id: Uuid) -> BatchHolder {
        BatchHolder {
            claim_id,
            lease_until: self.clock.now() + self.lease,
        }
    }

    fn renew_batches(&self, renewals: &[Renewal]) -> Vec<BatchClaim> {
        let mut runs = self.lock();
        let mut gone = Vec::new();
        for renewal in renewals {
            let renewed = self.batch_holder(renewal.claim.claim_id);
            match runs.held_batch(&renewal.claim) {
                Some(batch) => {
                    batch.holder = Some(renewed);
                    if renewal.delivered_bits.is_some() {
                        batch.delivered_bits.clone_from(&renewal.delivered_bits);
                    }
                }
                None => gone.push(renewal.claim),
            }
        }
        gone
    }
}

#[async_trait]
impl Fleet for MemoryRunStore {
    async fn heartbeat(&self, _: &Heartbeat) -> Result<DateTime<Utc>, FleetError> {
        Ok(self.clock.now())
    }

    async fn leave(&self, _: Uuid) -> Result<(), FleetError> {
        Ok(())
    }

    async fn read_run(&self, run: RunId) -> Result<Option<WorkRun>, FleetError> {
        let now = self.clock.now();
        Ok(self.lock().by_id.get(&run).map(|run| run.read(now)))
    }

    async fn fail_claimed_run(&self, claim: &RunClaim, reason: &str) -> Result<Ended, FleetError> {
        Ok(Self::fail_claimed_run(self, claim, reason))
    }

    async fn open_fan_out(
        &self,
        claim: &RunClaim,
        path: &str,
        consistent: bool,
    ) -> Result<Option<StepState>, FleetError> {
        let now = self.clock.now();
        let mut runs = self.lock();
        if consistent {
            runs.plan_anew(claim, path);
        }
        Ok(runs.open_fan_out(claim, path, now))
    }

    async fn note_plan_trouble(&self, _: &RunClaim, _: &str, _: &str) -> Result<(), FleetError> {
        Ok(())
    }

    async fn plan_chunk(&self, claim: &RunClaim, chunk: &PlanChunk) -> Result<PlanProgress, FleetError> {
        let now = self.clock.now();
        Ok(self.lock().plan(claim, chunk, now))
    }

    async fn waiting_batches(&self, run: RunId, at_most: i64) -> Result<i64, FleetError> {
        let waiting = self.lock().by_id.get(&run).map_or(0, |run| run.unfinished().0);
        Ok(i64::from(waiting).min(at_most))
    }

    async fn complete_fan_out(&self, run: RunId, path: &str) -> Result<bool, FleetError> {
        let now = self.clock.now();
        Ok(self.lock().complete_planned(run, path, now))
    }

    async fn mark_alone(&self, claim: &BatchClaim) -> Result<Ended, FleetError> {
        let held = self.lock().held_batch(claim).is_some();
        Ok(if held { Ended::Done } else { Ended::Lost })
    }

    async fn claimable_runs(
        &self,
        runnable: &[Runnable],
        without: &[RunId],
        behind: Option<RunId>,
        at_most: i64,
    ) -> Result<Vec<RunId>, FleetError> {
        let now = self.clock.now();
        let mut runs = self.lock().with_batches(runnable, now);
        runs.retain(|run| !without.contains(run));
        runs.sort_by_key(|run| (behind.is_some_and(|behind| *run <= behind), *run));
        runs.truncate(usize::try_from(at_most).unwrap_or(0));
        Ok(runs)
    }

    async fn claim_next_batch(&self, run: RunId, claim_id: Uuid) -> Result<Option<Batch>, FleetError> {
        let (now, holder) = (self.clock.now(), self.batch_holder(claim_id));
        Ok(self.lock().claim_batch(run, holder, now))
    }

    async fn finish_and_claim_batch(
        &self,
        claim: &BatchClaim,
        next_run: RunId,
        next_claim_id: Uuid,
    ) -> Result<(Ended, Option<Batch>), FleetError> {
        let (now, holder) = (self.clock.now(), self.batch_holder(next_claim_id));
        let mut runs = self.lock();
        Ok(match runs.finish_delivered(claim) {
            Ended::Done => (Ended::Done, runs.claim_batch(next_run, holder, now)),
            Ended::Lost => (Ended::Lost, None),
        })
    }

    async fn finish_batch(&self, claim: &BatchClaim, _: &ItemIds, outcome: &BatchOutcome) -> Result<Ended, FleetError> {
        Ok(self.lock().finish_batch(claim, outcome))
    }

    async fn find_batch_claim(&self, run: RunId, claim_id: Uuid) -> Result<Option<Batch>, FleetError> {
        Ok(self.lock().claimed_batch(run, claim_id))
    }

    async fn renew_leases(&self, batches: &[Renewal], runs: &[RunClaim]) -> Result<Unrenewed, FleetError> {
        let batches = self.renew_batches(batches).into_iter();
        let runs = self.renew_runs(runs).into_iter();
        Ok(Unrenewed {
            batches: batches.map(|claim| (claim, NotRenewed::Gone)).collect(),
            runs: runs.map(|claim| (claim, NotRenewed::Gone)).collect(),
        })
    }

    async fn hand_back_batches(&self, batches: &[HandBack]) -> Result<u64, FleetError> {
        let now = self.clock.now();
        let mut runs = self.lock();
        let held = batches.iter().filter(|back| runs.hand_back_batch(back, now));
        Ok(held.count() as u64)
    }

    async fn request_stop(&self, run: RunId, reason: &str) -> Result<(), FleetError> {
        self.fail_run(run, reason);
        Ok(())
    }

    async fn settle_stop(&self, run: RunId) -> Result<bool, FleetError> {
        Ok(Self::settle_stop(self, run))
    }

    async fn sweep(&self) -> Result<Swept, FleetError> {
        Ok(Self::sweep(self))
    }
}

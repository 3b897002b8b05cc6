//! The same for the verbs of fan-outs and batches.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::crashes::{CLAIM, Write};
use super::faulty::Faulty;
use crate::lifecycle::{
    Batch, BatchClaim, BatchOutcome, Ended, Fleet, FleetError, HandBack, Heartbeat, ItemIds, PlanChunk, PlanProgress,
    Renewal, RunClaim, RunId, Runnable, StepState, Swept, Unrenewed, WorkRun,
};

fn of_batch(claim: &BatchClaim, what: &str) -> [Write; 1] {
    [Write::new(claim.run, format!("{what} of batch {}", claim.seq))]
}

#[async_trait]
impl Fleet for Faulty {
    async fn heartbeat(&self, beat: &Heartbeat) -> Result<DateTime<Utc>, FleetError> {
        self.alive()?;
        self.store.heartbeat(beat).await
    }

    async fn leave(&self, replica: Uuid) -> Result<(), FleetError> {
        self.store.leave(replica).await
    }

    async fn read_run(&self, run: RunId) -> Result<Option<WorkRun>, FleetError> {
        self.alive()?;
        self.store.read_run(run).await
    }

    async fn fail_claimed_run(&self, claim: &RunClaim, reason: &str) -> Result<Ended, FleetError> {
        let failed = Fleet::fail_claimed_run(&self.store, claim, reason);
        self.write(&[Write::new(claim.run, "failure")], failed).await
    }

    async fn open_fan_out(
        &self,
        claim: &RunClaim,
        path: &str,
        consistent: bool,
    ) -> Result<Option<StepState>, FleetError> {
        let opened = Fleet::open_fan_out(&self.store, claim, path, consistent);
        self.write(&[Write::new(claim.run, format!("opening of {path}"))], opened)
            .await
    }

    async fn note_plan_trouble(&self, claim: &RunClaim, path: &str, trouble: &str) -> Result<(), FleetError> {
        let noted = self.store.note_plan_trouble(claim, path, trouble);
        self.write(
            &[Write::new(claim.run, format!("trouble of the plan of {path}"))],
            noted,
        )
        .await
    }

    async fn plan_chunk(&self, claim: &RunClaim, chunk: &PlanChunk) -> Result<PlanProgress, FleetError> {
        let after = chunk
            .after
            .map_or_else(|| "its start".to_owned(), |after| after.to_string());
        let write = Write::new(claim.run, format!("plan of {} after {after}", chunk.path));
        self.write(&[write], self.store.plan_chunk(claim, chunk)).await
    }

    async fn waiting_batches(&self, run: RunId, at_most: i64) -> Result<i64, FleetError> {
        self.alive()?;
        self.store.waiting_batches(run, at_most).await
    }

    async fn complete_fan_out(&self, run: RunId, path: &str) -> Result<bool, FleetError> {
        let completed = Fleet::complete_fan_out(&self.store, run, path);
        self.write(&[Write::new(run, format!("look whether {path} is over"))], completed)
            .await
    }

    async fn mark_alone(&self, claim: &BatchClaim) -> Result<Ended, FleetError> {
        self.write(&of_batch(claim, "suspicion"), self.store.mark_alone(claim))
            .await
    }

    async fn claimable_runs(
        &self,
        runnable: &[Runnable],
        without: &[RunId],
        behind: Option<RunId>,
        at_most: i64,
    ) -> Result<Vec<RunId>, FleetError> {
        self.alive()?;
        self.store.claimable_runs(runnable, without, behind, at_most).await
    }

    async fn claim_next_batch(&self, run: RunId, claim_id: Uuid) -> Result<Option<Batch>, FleetError> {
        self.alive()?;
        let batch = self.store.claim_next_batch(run, claim_id).await?;
        if let Some(batch) = &batch {
            self.has_claimed(&of_batch(&batch.claim, CLAIM))?;
        }
        Ok(batch)
    }

    async fn finish_and_claim_batch(
        &self,
        claim: &BatchClaim,
        next_run: RunId,
        next_claim_id: Uuid,
    ) -> Result<(Ended, Option<Batch>), FleetError> {
        let finished = self.store.finish_and_claim_batch(claim, next_run, next_claim_id);
        self.write(&of_batch(claim, "end"), finished).await
    }

    async fn finish_batch(
        &self,
        claim: &BatchClaim,
        ids: &ItemIds,
        outcome: &BatchOutcome,
    ) -> Result<Ended, FleetError> {
        self.write(&of_batch(claim, "end"), self.store.finish_batch(claim, ids, outcome))
            .await
    }

    async fn find_batch_claim(&self, run: RunId, claim_id: Uuid) -> Result<Option<Batch>, FleetError> {
        self.alive()?;
        self.store.find_batch_claim(run, claim_id).await
    }

    async fn renew_leases(&self, batches: &[Renewal], runs: &[RunClaim]) -> Result<Unrenewed, FleetError> {
        self.alive()?;
        self.store.renew_leases(batches, runs).await
    }

    async fn hand_back_batches(&self, batches: &[HandBack]) -> Result<u64, FleetError> {
        let writes: Vec<Write> = batches
            .iter()
            .flat_map(|back| of_batch(&back.claim, "hand-back"))
            .collect();
        self.write(&writes, self.store.hand_back_batches(batches)).await
    }

    async fn request_stop(&self, run: RunId, reason: &str) -> Result<(), FleetError> {
        self.write(&[Write::new(run, "stop")], self.store.request_stop(run, reason))
            .await
    }

    async fn settle_stop(&self, run: RunId) -> Result<bool, FleetError> {
        let settled = Fleet::settle_stop(&self.store, run);
        self.write(&[Write::new(run, "look whether it may stop")], settled)
            .await
    }

    async fn sweep(&self) -> Result<Swept, FleetError> {
        self.alive()?;
        Fleet::sweep(&self.store).await
    }
}

//! The batches of fan-outs: planned, claimed, finished.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Runs;
use super::run::{Run, Status};
use crate::lifecycle::{
    Batch, BatchClaim, BatchOutcome, Ended, HandBack, ItemIds, Kind, PlanChunk, PlanProgress, RunClaim, RunId,
    Runnable, StepState, StepStatus, UndeliveredItem,
};
use crate::workflow::FanOutSummary;

/// Who works on a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchHolder {
    pub(super) claim_id: Uuid,
    pub(super) lease_until: DateTime<Utc>,
}

/// A batch as it is kept.
#[derive(Debug, Clone)]
pub(super) struct StoredBatch {
    pub(super) step: String,
    pub(super) ids: ItemIds,
    pub(super) token: i64,
    pub(super) holder: Option<BatchHolder>,
    pub(super) attempts: u16,
    pub(super) delivered_bits: Option<Vec<u8>>,
    pub(super) not_before: DateTime<Utc>,
    /// None: it is not finished.
    pub(super) outcome: Option<FanOutSummary>,
}

impl StoredBatch {
    fn waits(&self) -> bool {
        self.outcome.is_none() && self.holder.is_none()
    }

    fn claim(&self, run: RunId, seq: i32) -> Option<BatchClaim> {
        self.holder.map(|holder| BatchClaim {
            run,
            seq,
            token: self.token,
            claim_id: holder.claim_id,
        })
    }
}

impl Run {
    /// Batches that wait to be claimed, and those that are.
    pub(super) fn unfinished(&self) -> (u32, u32) {
        let (mut waiting, mut held) = self.batches;
        for batch in self.planned.values() {
            waiting += u32::from(batch.waits());
            held += u32::from(batch.holder.is_some());
        }
        (waiting, held)
    }

    /// The first batch that may be claimed, and from when.
    pub(super) fn next_batch(&self) -> Option<(i32, DateTime<Utc>)> {
        if self.status != Status::Running || self.stop.is_some() {
            return None;
        }
        let ready = self
            .planned
            .iter()
            .filter(|(_, batch)| batch.waits() && self.may_claim(&batch.step));
        let first = ready.min_by_key(|(seq, batch)| (batch.not_before, **seq));
        first.map(|(seq, batch)| (*seq, batch.not_before))
    }

    fn may_claim(&self, fan_out: &str) -> bool {
        !self.consistent.contains(fan_out) || self.steps.get(fan_out).is_some_and(|step| step.planned)
    }

    fn batch(&self, seq: i32) -> Option<Batch> {
        let stored = self.planned.get(&seq)?;
        Some(Batch {
            claim: stored.claim(self.id(), seq)?,
            step: stored.step.clone(),
            ids: stored.ids.clone(),
            delivered_bits: stored.delivered_bits.clone(),
            pace_per_s: None,
            pace_wait: std::time::Duration::ZERO,
            attempts: stored.attempts,
        })
    }

    /// Takes batches from holders whose lease has ended; answers how many.
    pub(super) fn recover_batches(&mut self, now: DateTime<Utc>) -> u64 {
        let mut recovered = 0;
        for batch in self.planned.values_mut() {
            if batch.holder.is_some_and(|holder| holder.lease_until <= now) {
                (batch.holder, batch.attempts) = (None, batch.attempts.saturating_add(1));
                recovered += 1;
            }
        }
        recovered
    }
}

impl Runs {
    pub(super) fn plan(&mut self, claim: &RunClaim, chunk: &PlanChunk, now: DateTime<Utc>) -> PlanProgress {
        let Some(run) = self.held(claim) else {
            return PlanProgress::Lost;
        };
        if run.status != Status::Running || run.stop.is_some() {
            return PlanProgress::Halted;
        }
        let behind = |step: &&mut StepState| !step.planned && step.plan_cursor == chunk.after;
        let Some(step) = run.steps.get_mut(&chunk.path).filter(behind) else {
            return PlanProgress::Lost;
        };
        step.planned = chunk.last;
        let last = chunk.batches.last().and_then(|batch| batch.ids.as_slice().last());
        step.plan_cursor = last.copied().or(step.plan_cursor);
        for batch in &chunk.batches {
            let seq = run.planned.last_key_value().map_or(0, |(last, _)| *last) + 1;
            let stored = StoredBatch {
                step: chunk.path.clone(),
                ids: batch.ids.clone(),
                token: 0,
                holder: None,
                attempts: 0,
                delivered_bits: None,
                not_before: now,
                outcome: None,
            };
            run.planned.insert(seq, stored);
        }
        PlanProgress::Written
    }

    /// Runs that this code replays with a batch that may be claimed now.
    pub(super) fn with_batches(&self, runnable: &[Runnable], now: DateTime<Utc>) -> Vec<RunId> {
        let ready = |run: &&Run| {
            let (workflow, version) = (&run.request.workflow, run.code_version.unwrap_or(1));
            runnable.iter().any(|runnable| runnable.replays(workflow, version))
                && run.next_batch().is_some_and(|(_, from)| from <= now)
        };
        self.by_id.values().filter(ready).map(Run::id).collect()
    }

    pub(super) fn claim_batch(&mut self, run: RunId, holder: BatchHolder, now: DateTime<Utc>) -> Option<Batch> {
        let run = self.by_id.get_mut(&run)?;
        let (seq, _) = run.next_batch().filter(|(_, from)| *from <= now)?;
        let stored = run.planned.get_mut(&seq)?;
        stored.token += 1;
        stored.holder = Some(holder);
        run.batch(seq)
    }

    pub(super) fn claimed_batch(&self, run: RunId, claim_id: Uuid) -> Option<Batch> {
        let run = self.by_id.get(&run)?;
        let mine = |batch: &StoredBatch| batch.holder.is_some_and(|holder| holder.claim_id == claim_id);
        let (seq, _) = run.planned.iter().find(|(_, batch)| mine(batch))?;
        run.batch(*seq)
    }

    pub(super) fn held_batch(&mut self, claim: &BatchClaim) -> Option<&mut StoredBatch> {
        let batch = self.by_id.get_mut(&claim.run)?.planned.get_mut(&claim.seq)?;
        (batch.claim(claim.run, claim.seq) == Some(*claim)).then_some(batch)
    }

    pub(super) fn finish_batch(&mut self, claim: &BatchClaim, outcome: &BatchOutcome) -> Ended {
        let Some(batch) = self.held_batch(claim) else {
            return Ended::Lost;
        };
        let refused = outcome.undelivered.iter().filter(|item| item.refused).count();
        batch.holder = None;
        batch.delivered_bits = None;
        batch.outcome = Some(FanOutSummary {
            items: batch.ids.len() as u64,
            batches: 1,
            delivered: outcome.delivered as u64,
            refused: refused as u64,
            unknown: (outcome.undelivered.len() - refused) as u64,
            skipped: outcome.skipped.len() as u64,
            vanished: outcome.vanished.len() as u64,
        });
        let undelivered = outcome.undelivered.iter().cloned();
        self.undelivered.extend(undelivered.map(|item| (claim.run, item)));
        Ended::Done
    }

    pub(super) fn finish_delivered(&mut self, claim: &BatchClaim) -> Ended {
        let delivered = self.held_batch(claim).map_or(0, |batch| batch.ids.len());
        let outcome = BatchOutcome {
            delivered,
            ..BatchOutcome::default()
        };
        self.finish_batch(claim, &outcome)
    }

    pub(super) fn hand_back_batch(&mut self, back: &HandBack, now: DateTime<Utc>) -> bool {
        let Some(batch) = self.held_batch(&back.claim) else {
            return false;
        };
        batch.holder = None;
        batch.not_before = now + back.delay;
        if back.delivered_bits.is_some() {
            batch.delivered_bits.clone_from(&back.delivered_bits);
        }
        true
    }

    /// Completes a fan-out whose plan is whole and of which nothing is unfinished.
    pub(super) fn complete_planned(&mut self, run: RunId, path: &str, now: DateTime<Utc>) -> bool {
        let Some(found) = self.by_id.get(&run) else {
            return false;
        };
        let of_step = || found.planned.values().filter(|batch| batch.step == path);
        let whole = found.steps.get(path).is_some_and(|step| step.planned);
        if !whole || of_step().any(|batch| batch.outcome.is_none()) {
            return false;
        }
        let mut sum = FanOutSummary::default();
        for part in of_step().filter_map(|batch| batch.outcome) {
            sum.items += part.items;
            sum.batches += part.batches;
            sum.delivered += part.delivered;
            sum.refused += part.refused;
            sum.unknown += part.unknown;
            sum.skipped += part.skipped;
            sum.vanished += part.vanished;
        }
        serde_json::to_vec(&sum).is_ok_and(|result| self.complete_fan_out(run, path, &result, now))
    }

    /// Fan-outs whose last worker died before it could complete them.
    pub(super) fn complete_idle(&mut self, now: DateTime<Utc>) -> u64 {
        let open = |step: &&StepState| step.kind == Kind::FanOut && step.status == StepStatus::Open && step.planned;
        let idle: Vec<(RunId, String)> = self
            .by_id
            .values()
            .flat_map(|run| {
                let steps = run.steps.values().filter(open);
                steps.map(|step| (run.id(), step.path.clone()))
            })
            .collect();
        let completed = idle.iter().filter(|(run, path)| self.complete_planned(*run, path, now));
        completed.count() as u64
    }

    /// What could not be delivered, in order.
    pub(super) fn undelivered(&self) -> Vec<(RunId, UndeliveredItem)> {
        self.undelivered.clone()
    }
}

//! Fan-outs as far as the code of a workflow sees them: open, and then completed by others.

use chrono::{DateTime, Utc};

use super::Runs;
use super::steps::{MOST_STEPS, check_path};
use crate::lifecycle::{Kind, RunClaim, RunId, StepState, StepStatus};

impl Runs {
    pub(super) fn open_fan_out(&mut self, claim: &RunClaim, path: &str, now: DateTime<Utc>) -> Option<StepState> {
        check_path(path).ok()?;
        let run = self.held(claim).filter(|run| run.steps.len() < MOST_STEPS)?;
        let opened = run.steps.entry(path.to_owned()).or_insert_with(|| StepState {
            path: path.to_owned(),
            kind: Kind::FanOut,
            status: StepStatus::Open,
            result: None,
            started_at: now,
            finished_at: None,
            due_at: None,
            attempts: 0,
            claim_token: 0,
            plan_cursor: None,
            planned: false,
        });
        Some(opened.clone())
    }

    /// A plan made from one snapshot is made anew when it was not made to its end.
    pub(super) fn plan_anew(&mut self, claim: &RunClaim, path: &str) {
        let Some(run) = self.held(claim) else { return };
        run.consistent.insert(path.to_owned());
        let Some(step) = run.steps.get_mut(path).filter(|step| !step.planned) else {
            return;
        };
        step.plan_cursor = None;
        run.planned.retain(|_, batch| batch.step != path);
    }

    pub(super) fn complete_fan_out(&mut self, run: RunId, path: &str, result: &[u8], now: DateTime<Utc>) -> bool {
        let ready = self.ready(now);
        let Some(run) = self.by_id.get_mut(&run) else {
            return false;
        };
        let is_open = |step: &&mut StepState| step.kind == Kind::FanOut && step.status == StepStatus::Open;
        let Some(step) = run.steps.get_mut(path).filter(is_open) else {
            return false;
        };
        step.status = StepStatus::Completed;
        step.result = Some(result.to_vec());
        step.finished_at = Some(now);
        run.wake_seq += 1;
        run.ready = Some(ready);
        true
    }

    pub(super) fn set_batches(&mut self, run: RunId, batches: (u32, u32)) {
        if let Some(run) = self.by_id.get_mut(&run) {
            run.batches = batches;
        }
    }
}

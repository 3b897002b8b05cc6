//! Recording steps.

use std::collections::HashSet;

use chrono::{DateTime, SubsecRound, Utc};

use super::Runs;
use super::run::Run;
use crate::lifecycle::{FleetError, Kind, NewStep, Saved, StepState, StepStatus};

/// Steps kept of a run: more than any code should make.
pub(super) const MOST_STEPS: usize = 100_000;

impl Runs {
    /// All or none. A step that was not said to end an open row must be the first on its path.
    pub(super) fn save(&mut self, group: &[NewStep]) -> Result<Vec<Saved>, FleetError> {
        let mut first = HashSet::new();
        for step in group {
            check_path(&step.path)?;
            let run = self.held(&step.claim).filter(|_| !step.ends_open);
            let recorded = run.is_some_and(|run| {
                run.steps.contains_key(&step.path) || !first.insert((step.claim.run, step.path.as_str()))
            });
            if recorded {
                return Err(FleetError::Refused(format!("step {} has a row already", step.path)));
            }
        }
        group.iter().map(|step| self.settle(step)).collect()
    }

    pub(super) fn settle(&mut self, step: &NewStep) -> Result<Saved, FleetError> {
        check_path(&step.path)?;
        match self.held(&step.claim) {
            Some(run) => run.settle(step),
            None => Ok(Saved::Lost),
        }
    }

    /// Which branch of a select won, with what becomes of the others.
    pub(super) fn settle_select(
        &mut self,
        step: &NewStep,
        lost: &[String],
        now: DateTime<Utc>,
    ) -> Result<Saved, FleetError> {
        let is_settled = self
            .held(&step.claim)
            .is_some_and(|run| run.steps.contains_key(&step.path));
        let saved = self.settle(step)?;
        if let (Saved::Done, false, Some(run)) = (&saved, is_settled, self.held(&step.claim)) {
            run.lose(lost, step.finished_at);
            self.stop_lost_children(step.claim.run, lost, now);
        }
        Ok(saved)
    }
}

impl Run {
    /// What is open in these branches is dropped, and signals that they took are free again. What can be undone stays, and
    /// so does a fan-out, whose plan is whole from here, with the batches that somebody has ever held.
    fn lose(&mut self, lost: &[String], now: DateTime<Utc>) {
        let is_lost = |path: &str| lost.iter().any(|prefix| path.starts_with(prefix));
        self.planned.retain(|_, batch| batch.token > 0 || !is_lost(&batch.step));
        for step in self.steps.values_mut().filter(|step| is_lost(&step.path)) {
            match (step.status, step.kind) {
                (StepStatus::Open, Kind::FanOut) => step.planned = true,
                (StepStatus::Open, kind) if !matches!(kind, Kind::Undoable | Kind::Child) => {
                    step.status = StepStatus::Dropped;
                    (step.due_at, step.finished_at) = (None, Some(now));
                }
                _ => {}
            }
        }
        for stored in &mut self.signals {
            stored.consumed_by = stored.consumed_by.take().filter(|path| !is_lost(path));
        }
    }

    /// The first durable result of a path counts, whoever wrote it; a row that is open has none yet.
    fn settle(&mut self, step: &NewStep) -> Result<Saved, FleetError> {
        let mut state = StepState {
            attempts: step.attempts.min(i16::MAX.unsigned_abs()),
            // As exact as Postgres.
            started_at: step.started_at.trunc_subsecs(6),
            finished_at: step.ended_at().map(|at| at.trunc_subsecs(6)),
            ..step.clone().into_state()
        };
        match self.steps.get(&step.path) {
            Some(recorded) if is_mine(recorded, step) => return Ok(Saved::Done),
            Some(recorded) if recorded.status != StepStatus::Open || recorded.kind != step.kind => {
                return Ok(Saved::Adopted(Box::new(recorded.clone())));
            }
            Some(open) => {
                state.started_at = open.started_at;
                state.plan_cursor = open.plan_cursor;
                state.planned = open.planned;
            }
            None if self.steps.len() >= MOST_STEPS => {
                return Err(FleetError::Refused(format!("run {} has {MOST_STEPS} steps", self.id())));
            }
            None => {}
        }
        self.steps.insert(step.path.clone(), state);
        self.consume(step.signal_seq, &step.path);
        Ok(Saved::Done)
    }
}

/// Written by the same claim as it is given: a request before this one, whose answer was lost.
fn is_mine(recorded: &StepState, step: &NewStep) -> bool {
    recorded.claim_token == step.claim.token && recorded.status == step.status && recorded.result == step.result
}

/// What a table would refuse.
pub(super) fn check_path(path: &str) -> Result<(), FleetError> {
    if path.is_empty() || path.contains('\0') {
        return Err(FleetError::Refused(
            "a step's path is empty or has a zero character".to_owned(),
        ));
    }
    Ok(())
}

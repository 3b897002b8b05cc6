//! Letting go of runs.

use chrono::{DateTime, Utc};

use super::Runs;
use super::run::{Run, Status};
use super::steps::{MOST_STEPS, check_path};
use crate::lifecycle::{Act, Ending, FleetError, LetGo, OpenWait, StepState, StepStatus, storable_reason};

impl Runs {
    /// Each is judged by its own claim.
    pub(super) fn let_go(&mut self, group: &[Ending], now: DateTime<Utc>) -> Result<Vec<LetGo>, FleetError> {
        for ending in group {
            self.check(ending)?;
        }
        Ok(group.iter().map(|ending| self.let_go_of(ending, now)).collect())
    }

    fn check(&mut self, ending: &Ending) -> Result<(), FleetError> {
        let Act::Wait { waits, .. } = &ending.act else {
            return Ok(());
        };
        waits.iter().try_for_each(|wait| check_path(&wait.path))?;
        match self.held(&ending.claim) {
            Some(run) if run.steps.len() + waits.len() > MOST_STEPS => {
                Err(FleetError::Refused(format!("run {} has {MOST_STEPS} steps", run.id())))
            }
            _ => Ok(()),
        }
    }

    fn let_go_of(&mut self, ending: &Ending, now: DateTime<Utc>) -> LetGo {
        let due_at = match &ending.act {
            Act::Wait { due_at, .. } => *due_at,
            Act::HandBack { delay, .. } => Some(now + *delay),
            Act::Complete { .. } | Act::Fail { .. } | Act::Quarantine { .. } => None,
        };
        let ready = due_at.map(|at| self.ready(at));
        let Some(run) = self.held(&ending.claim) else {
            return LetGo::Lost;
        };
        if !run.allows(ending) {
            return LetGo::Held(run.poked());
        }
        let from = match run.status {
            Status::Paused => Status::Paused,
            _ => Status::Running,
        };
        run.ready = ready;
        let why = run.act(&ending.act, now);
        run.end_claim(from, run.status.as_str(), why);
        LetGo::Done
    }
}

impl Run {
    /// A wait is refused when the run was woken since; an end also when it is paused or a batch of it is unfinished.
    fn allows(&self, ending: &Ending) -> bool {
        match ending.act {
            Act::Wait { seen, .. } => self.stop.is_none() && self.wake_seq == seen,
            Act::Complete { .. } | Act::Fail { .. } => {
                let unfinished = ending.had_batches && self.unfinished() != (0, 0);
                self.stop.is_none() && self.status == Status::Running && !unfinished
            }
            Act::Quarantine { .. } | Act::HandBack { .. } => true,
        }
    }

    /// Does it, and says why for the audit.
    fn act(&mut self, act: &Act, now: DateTime<Utc>) -> Option<String> {
        match act {
            Act::Complete { output } => {
                self.status = Status::Completed;
                self.output = Some(output.clone());
                None
            }
            Act::Fail { reason } => self.end_with(Status::Failed, reason),
            Act::Quarantine { reason } => self.end_with(Status::Quarantined, reason),
            Act::Wait { batches, waits, .. } => {
                // What is suspended has no batch to claim; what is paused stays so.
                if !batches && self.status == Status::Running {
                    self.status = Status::Suspended;
                }
                self.attempts = 0;
                for wait in waits {
                    self.open(wait, now);
                }
                batches.then(|| "waits for its batches".to_owned())
            }
            Act::HandBack { reason, .. } => Some(reason.as_deref().map_or("handed back".to_owned(), storable_reason)),
        }
    }

    fn end_with(&mut self, status: Status, reason: &str) -> Option<String> {
        self.status = status;
        self.reason = Some(storable_reason(reason));
        self.reason.clone()
    }

    /// A wait that is suspended again as it was is not written again, and one that has ended stays so.
    fn open(&mut self, wait: &OpenWait, now: DateTime<Utc>) {
        let (token, attempts) = (self.token, wait.attempts.min(i16::MAX.unsigned_abs()));
        let Some(recorded) = self.steps.get_mut(&wait.path) else {
            let state = StepState {
                path: wait.path.clone(),
                kind: wait.kind,
                status: StepStatus::Open,
                result: None,
                started_at: now,
                finished_at: None,
                due_at: wait.due_at,
                attempts,
                claim_token: token,
                plan_cursor: None,
                planned: false,
            };
            self.steps.insert(wait.path.clone(), state);
            return;
        };
        let is_news = (recorded.due_at, recorded.attempts) != (wait.due_at, attempts);
        if recorded.status == StepStatus::Open && is_news {
            (recorded.due_at, recorded.attempts, recorded.claim_token) = (wait.due_at, attempts, token);
        }
    }
}

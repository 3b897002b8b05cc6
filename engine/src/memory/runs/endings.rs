//! Letting go of runs.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::Runs;
use super::run::{Run, Status};
use super::steps::{MOST_STEPS, check_path};
use crate::lifecycle::{Act, Ending, FleetError, LetGo, OpenWait, StepState, StepStatus, storable_reason};

/// Before code is run again that ran too long.
const OVERRUN_PAUSE: Duration = Duration::from_secs(1);
/// So often in a row, and it is set aside.
const MOST_OVERRUNS: u16 = 5;

impl Runs {
    /// Each is judged by its own claim.
    pub(super) fn let_go(&mut self, group: &[Ending], now: DateTime<Utc>) -> Result<Vec<LetGo>, FleetError> {
        for ending in group {
            self.check(ending)?;
        }
        Ok(group.iter().map(|ending| self.let_go_of(ending, now)).collect())
    }

    fn check(&mut self, ending: &Ending) -> Result<(), FleetError> {
        let waits = ending.act.waits();
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
            Act::Wait { due_at, .. } | Act::WaitToUndo { due_at, .. } => *due_at,
            Act::HandBack { delay, .. } => Some(now + *delay),
            Act::Overrun { .. } => Some(now + OVERRUN_PAUSE),
            Act::Complete { .. } | Act::Fail { .. } | Act::Quarantine { .. } => None,
            Act::NotUndone { .. } | Act::Unwound => None,
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
        run.merge_attributes(ending.attributes.as_ref());
        let why = run.act(&ending.act, now);
        run.end_claim(from, run.status.as_str(), why);
        LetGo::Done
    }
}

impl Run {
    /// What its code set of its attributes; null takes one away.
    pub(super) fn merge_attributes(&mut self, set: Option<&Map<String, Value>>) {
        for (name, value) in set.into_iter().flatten() {
            if value.is_null() {
                self.attributes.remove(name);
            } else {
                self.attributes.insert(name.clone(), value.clone());
            }
        }
    }

    /// A wait is refused when the run was woken since; an end also when it is paused or a batch of it is unfinished.
    fn allows(&self, ending: &Ending) -> bool {
        match ending.act {
            Act::Wait { seen, .. } => self.stop.is_none() && self.wake_seq == seen,
            Act::Complete { .. } | Act::Fail { .. } => {
                let unfinished = ending.had_batches && self.unfinished() != (0, 0);
                self.stop.is_none() && self.status == Status::Running && !unfinished
            }
            Act::WaitToUndo { seen, .. } => self.wake_seq == seen && self.undoing != Some(false),
            Act::Quarantine { .. } | Act::NotUndone { .. } | Act::Unwound => true,
            Act::HandBack { .. } | Act::Overrun { .. } => true,
        }
    }

    /// Does it, and says why for the audit.
    fn act(&mut self, act: &Act, now: DateTime<Utc>) -> Option<String> {
        match act {
            Act::Complete { output } => {
                self.status = Status::Completed;
                self.output = Some(output.clone());
                self.finished_at = Some(now);
                None
            }
            Act::Fail { reason } => {
                self.finished_at = Some(now);
                self.end_with(Status::Failed, reason)
            }
            Act::Quarantine { reason } => self.end_with(Status::Quarantined, reason),
            Act::Wait { batches, waits, .. } => {
                // What is suspended has no batch to claim; what is paused stays so.
                if !batches && self.status == Status::Running {
                    self.status = Status::Suspended;
                }
                self.attempts = 0;
                self.overruns = 0;
                for wait in waits {
                    self.open(wait, now);
                }
                batches.then(|| "waits for its batches".to_owned())
            }
            Act::WaitToUndo { waits, .. } => {
                self.attempts = 0;
                self.is_to_undo(waits, now);
                None
            }
            Act::NotUndone { reason, waits } => {
                self.is_to_undo(waits, now);
                self.end_with(Status::Quarantined, reason)
            }
            Act::Unwound => {
                self.undoing = Some(false);
                Some("came to its end, as asked".to_owned())
            }
            Act::Overrun { reason } => Some(self.overrun(reason)),
            Act::HandBack { reason, .. } => Some(reason.as_deref().map_or("handed back".to_owned(), storable_reason)),
        }
    }

    /// Kept from its end until it is undone; forced, it is not waited for.
    fn is_to_undo(&mut self, waits: &[OpenWait], now: DateTime<Utc>) {
        if self.stop.is_some() {
            self.undoing = self.undoing.or(Some(true));
        }
        for wait in waits {
            self.open(wait, now);
        }
    }

    /// Code that records something each time is slow, and goes on.
    fn overrun(&mut self, reason: &str) -> String {
        let progressed = self.steps.values().any(|step| step.claim_token == self.token);
        self.overruns = if progressed { 0 } else { self.overruns + 1 };
        if self.overruns >= MOST_OVERRUNS && !progressed {
            self.overruns = 0;
            if self.status == Status::Running {
                self.end_with(Status::Quarantined, &format!("{reason}, five times in a row"));
            }
        }
        storable_reason(reason)
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

//! Pausing, resuming and stopping.

use chrono::{DateTime, Utc};

use super::Runs;
use super::run::{Run, Status, Stop};
use crate::lifecycle::{Ended, RunClaim, RunId, Swept};

const UNKNOWN: &str = "unknown";
const STOPPING: &str = "stopping";

impl Runs {
    pub(super) fn pause(&mut self, run: RunId, reason: &str) -> &'static str {
        let Some(run) = self.by_id.get_mut(&run) else {
            return UNKNOWN;
        };
        if run.status.may_be_claimed() && run.stop.is_none() {
            run.reason = Some(reason.to_owned());
            run.turn_to(Status::Paused, Some(reason.to_owned()));
        }
        run.status.as_str()
    }

    /// What has begun runs again at once: something may have reached it meanwhile, which woke nobody. What has not
    /// keeps its time.
    pub(super) fn resume(&mut self, run: RunId, now: DateTime<Utc>) -> &'static str {
        let ready_now = self.ready(now);
        let Some(run) = self.by_id.get_mut(&run) else {
            return UNKNOWN;
        };
        if !matches!(run.status, Status::Paused | Status::Quarantined) {
            return run.status.as_str();
        }
        let begun = run.started_at.is_some();
        let later = run.ready.filter(|ready| !begun && ready.at > now);
        run.ready = Some(later.unwrap_or(ready_now));
        run.reason = None;
        run.attempts = 0;
        run.wake_seq += 1;
        let next = if begun { Status::Running } else { Status::Queued };
        run.turn_to(next, Some("resumed".to_owned()));
        next.as_str()
    }

    pub(super) fn request_stop(&mut self, run: RunId, status: Status, reason: &str) -> &'static str {
        let run = self.by_id.get_mut(&run);
        run.map_or(UNKNOWN, |run| run.request_stop(status, reason))
    }

    pub(super) fn fail_claimed(&mut self, claim: &RunClaim, reason: &str) -> Ended {
        let Some(run) = self.held(claim) else {
            return Ended::Lost;
        };
        let stop = run.stop.get_or_insert_with(|| Stop {
            status: Status::Failed,
            reason: reason.to_owned(),
        });
        let reason = stop.reason.clone();
        run.ready = None;
        run.end_claim(run.status, STOPPING, Some(reason));
        run.settle_stop();
        Ended::Done
    }

    pub(super) fn sweep(&mut self, now: DateTime<Utc>) -> Swept {
        let runs = self.recover(now);
        let batches = self.by_id.values_mut().map(|run| run.recover_batches(now)).sum();
        let fan_outs = self.complete_idle(now);
        let is_late = |run: &&mut Run| !run.status.is_over() && run.stop.is_none() && run.is_overdue(now);
        let overdue = self.by_id.values_mut().filter(is_late).map(|run| {
            run.request_stop(Status::Failed, "not over before its deadline");
        });
        let overdue = overdue.count() as u64;
        let settled = self
            .by_id
            .values_mut()
            .filter_map(|run| run.settle_stop().then_some(()))
            .count();
        Swept {
            batches,
            runs,
            fan_outs,
            stopped: overdue + settled as u64,
            ..Swept::default()
        }
    }

    pub(super) fn settle_stop(&mut self, run: RunId) -> bool {
        self.by_id.get_mut(&run).is_some_and(Run::settle_stop)
    }
}

impl Run {
    pub(super) fn overdue_at(&self) -> Option<DateTime<Utc>> {
        self.request.deadline.map(|deadline| self.created_at + deadline)
    }

    fn is_overdue(&self, now: DateTime<Utc>) -> bool {
        self.overdue_at().is_some_and(|at| at <= now)
    }

    fn request_stop(&mut self, status: Status, reason: &str) -> &'static str {
        if self.status.is_over() {
            return self.status.as_str();
        }
        if self.stop.is_none() {
            let reason = reason.to_owned();
            self.note(Some(self.status), STOPPING, Some(reason.clone()));
            self.stop = Some(Stop { status, reason });
        }
        match self.settle_stop() {
            true => self.status.as_str(),
            false => STOPPING,
        }
    }

    /// Asked to stop, its code is not running and no batch of it is held: it is over.
    fn settle_stop(&mut self) -> bool {
        let (_, held_batches) = self.unfinished();
        if self.status.is_over() || self.holder.is_some() || held_batches > 0 {
            return false;
        }
        let Some(Stop { status, reason }) = self.stop.clone() else {
            return false;
        };
        self.ready = None;
        self.reason = Some(reason.clone());
        self.turn_to(status, Some(reason));
        true
    }
}

//! Claiming pages of runs.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Runs;
use super::recover::SUSPECT_AFTER;
use super::run::{Holder, Ready, Run, Status};
use crate::lifecycle::{ClaimPage, RunClaim, RunId, Runnable, WorkRun};

/// Who the runs of a page go to.
pub(super) fn holder(page: &ClaimPage, replica: Uuid, now: DateTime<Utc>, lease: Duration) -> Holder {
    Holder {
        claim_id: page.claim_id,
        replica,
        since: now,
        lease_until: now + lease,
        alone: page.suspects,
    }
}

/// What may be claimed: by whom, and when.
#[derive(Clone, Copy)]
pub(super) struct Claimable<'a> {
    pub(super) runnable: &'a [Runnable],
    pub(super) suspects: bool,
    pub(super) now: DateTime<Utc>,
}

impl Runs {
    /// Of each queue so many, those that have waited longest first; of suspects one, whichever queue has it.
    pub(super) fn claim(&mut self, page: &ClaimPage, holder: Holder) -> Vec<(RunClaim, WorkRun)> {
        let asked = Claimable {
            runnable: &page.runnable,
            suspects: page.suspects,
            now: holder.since,
        };
        let mut picked = Vec::new();
        for share in &page.shares {
            let ready = self.ready_of(&share.queue, asked);
            let take = usize::try_from(share.take).unwrap_or(usize::MAX);
            picked.extend(ready.into_iter().take(take).map(|(_, run)| run));
        }
        if page.suspects {
            picked.truncate(1);
        }
        let claimed = picked.into_iter().filter_map(|run| {
            let run = self.by_id.get_mut(&run).filter(|run| run.holder.is_none())?;
            Some(run.take(page, holder))
        });
        claimed.collect()
    }

    /// The runs of a queue that may be claimed, in their order.
    pub(super) fn ready_of(&self, queue: &str, asked: Claimable<'_>) -> Vec<(Ready, RunId)> {
        let of_queue = self.by_id.values().filter(|run| run.queue() == queue);
        let mut ready: Vec<(Ready, RunId)> = of_queue
            .filter_map(|run| Some((self.claimable(run, asked)?, run.id())))
            .collect();
        ready.sort_unstable();
        ready
    }

    /// Somebody stands for this run in its line: itself, the one that goes on in its place, or whom it waited for and never
    /// began.
    fn is_waited_for(&self, run: RunId) -> bool {
        let mut next = Some(run);
        while let Some(run) = next.and_then(|run| self.by_id.get(&self.last_run(run))) {
            if !run.status.is_over() {
                return true;
            }
            next = run.after_run.filter(|_| run.started_at.is_none());
        }
        false
    }

    /// Its place, if its code may run now and is here.
    pub(super) fn claimable(&self, run: &Run, asked: Claimable<'_>) -> Option<Ready> {
        let ready = run.ready.filter(|ready| ready.at <= asked.now)?;
        let after_is_over = || run.after_run.is_none_or(|after| !self.is_waited_for(after));
        let may = run.status.may_be_claimed()
            && run.holder.is_none()
            && (run.stop.is_none() || run.undoing == Some(true))
            && (run.attempts >= SUSPECT_AFTER) == asked.suspects
            && asked.runnable.iter().any(|runnable| runs(runnable, run))
            && after_is_over();
        may.then(|| run.rank(ready))
    }

    pub(super) fn claimed(&self, claim_id: Uuid) -> Vec<(RunClaim, WorkRun)> {
        let held = self.by_id.values().filter_map(|run| {
            let holder = run.holder.filter(|holder| holder.claim_id == claim_id)?;
            Some(run.work(&holder))
        });
        held.collect()
    }

    /// How long until the first run of these queues may go on that may not yet.
    pub(super) fn next_due(&self, queues: &[String], now: DateTime<Utc>) -> Option<Duration> {
        let waiting = self.by_id.values().filter(|run| {
            run.status.may_be_claimed() && run.holder.is_none() && queues.iter().any(|queue| queue == run.queue())
        });
        let later = waiting.filter_map(|run| run.ready).filter(|ready| ready.at > now);
        later.min().and_then(|ready| (ready.at - now).to_std().ok())
    }

    pub(super) fn next_event(&self) -> Option<DateTime<Utc>> {
        let leases = self
            .by_id
            .values()
            .filter_map(|run| run.holder)
            .map(|holder| holder.lease_until);
        let unheld = self
            .by_id
            .values()
            .filter(|run| run.status.may_be_claimed() && run.holder.is_none());
        leases
            .chain(unheld.filter_map(|run| run.ready).map(|ready| ready.at))
            .min()
    }
}

/// A run that has not begun takes the code's own version; one that has is replayed by code that knows its version.
fn runs(runnable: &Runnable, run: &Run) -> bool {
    let workflow = &run.request.workflow;
    match run.started_at {
        None => runnable.workflow == *workflow,
        Some(_) => runnable.replays(workflow, run.code_version.unwrap_or(1)),
    }
}

impl Run {
    pub(super) fn take(&mut self, page: &ClaimPage, holder: Holder) -> (RunClaim, WorkRun) {
        if self.started_at.is_none() {
            let runnable = page.runnable.iter().find(|runnable| runs(runnable, self));
            self.code_version = runnable.map(|runnable| runnable.version);
            self.started_at = Some(holder.since);
        }
        self.hold(holder);
        self.work(&holder)
    }

    /// In the moment of its start.
    pub(super) fn begin(&mut self, code_version: u32, holder: Holder) {
        self.code_version = Some(code_version);
        self.started_at = Some(holder.since);
        self.hold(holder);
    }

    fn hold(&mut self, holder: Holder) {
        self.status = Status::Running;
        self.ready = None;
        self.debounce_key = None;
        self.token += 1;
        self.claimed_at = Some(holder.since);
        self.holder = Some(holder);
    }
}

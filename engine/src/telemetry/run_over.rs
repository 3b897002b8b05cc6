//! The span of a whole run, made by whoever ended it, or by the leader where it was ended in SQL.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};

use super::catalogue::{QUEUE, RUN, RUN_ATTEMPTS, RUN_ID, RUN_OUTCOME, SLOT, TOKEN, WORKFLOW};
use super::closed::{Closed as _, RunEnd};
use super::{RunTrace, Spanned};
use crate::lifecycle::RunId;

/// A run that has ended, or was set aside.
pub(crate) struct RunOver<'a> {
    pub(crate) id: RunId,
    pub(crate) workflow: &'a str,
    pub(crate) queue: &'a str,
    pub(crate) slot: Option<DateTime<Utc>>,
    /// Of its last claim.
    pub(crate) token: i64,
    /// Holders in a row that died on it.
    pub(crate) attempts: u16,
    pub(crate) trace: RunTrace,
    pub(crate) end: RunEnd,
    /// From its start to its end.
    pub(crate) took: Duration,
    /// How long ago that was.
    pub(crate) since: Duration,
    /// The run in its place.
    pub(crate) goes_on_as: Option<RunId>,
}

impl RunOver<'_> {
    /// Tells the whole of it, where its trace is recorded.
    pub(crate) fn tell(&self) {
        let root = self.trace.root();
        let mut span = Spanned::begin(&RUN, self.workflow, root, self.trace.parent());
        if !span.is_on() {
            return;
        }
        let end = SystemTime::now() - self.since;
        span.since(end - self.took);
        span.until(end);
        span.set(&RUN_ID, self.id.to_string());
        span.set(&WORKFLOW, self.workflow.to_owned());
        span.set(&QUEUE, self.queue.to_owned());
        if let Some(slot) = self.slot {
            span.set(&SLOT, slot.to_rfc3339());
        }
        span.set(&RUN_OUTCOME, self.end.text());
        span.set(&TOKEN, self.token);
        span.set(&RUN_ATTEMPTS, i64::from(self.attempts));
        if matches!(self.end, RunEnd::Failed | RunEnd::Quarantined) {
            span.failed(self.end.text());
        }
        if let Some(of) = self.trace.comes_of() {
            span.link(of, Vec::new());
        }
        if let Some(next) = self.goes_on_as {
            span.link(RunTrace::coming_of(next, root).root(), Vec::new());
        }
        span.end();
    }
}

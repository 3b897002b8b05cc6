//! What is told of a run while it is held here: counts and times of its workflow, and spans where its trace is recorded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};
use opentelemetry::{ContextGuard, KeyValue};

use super::owner_host::Left;
use crate::lifecycle::{Kind, RunClaim, RunId, StepState, StepStatus, WorkRun};
use crate::telemetry::catalogue::{
    ATTEMPT, CODE_VERSION, EXECUTE, EXECUTE_END, PAUSE, QUEUE, REPLAYED, RUN, RUN_ATTEMPTS, RUN_ID, RUN_OUTCOME, SLOT,
    STEP, STEP_ATTEMPTS, STEP_KIND, STEP_OUTCOME, STEP_PATH, TOKEN, WAIT, WORKFLOW,
};
use crate::telemetry::closed::{Closed, ExecuteEnd, LeaseKind, RunEnd, RunLeft, StepEnd, StepKind, Suspect};
use crate::telemetry::{Attachable, RunTrace, Spanned, TraceContext, WorkflowMeter, meters};

/// It has not ended here.
const OPEN: u8 = u8::MAX;

/// One claim of a run.
pub(super) struct RunTold {
    run: Arc<WorkRun>,
    claim: RunClaim,
    trace: RunTrace,
    meter: Arc<WorkflowMeter>,
    began: (SystemTime, Instant),
    /// What its code runs within, made once: it is polled often.
    code: Option<Attachable>,
    /// How the run ended in this claim.
    ended: AtomicU8,
}

impl RunTold {
    /// The run was claimed.
    pub(super) fn begin(run: Arc<WorkRun>, claim: RunClaim) -> Self {
        let trace = RunTrace::of(run.id, run.traceparent.as_deref());
        let meter = meters().workflow(&run.workflow);
        meter.run_claimed(Suspect::of(run.attempts > 0));
        if claim.token == 1 {
            meter.run_picked_up((run.claimed_at - run.created_at).to_std().unwrap_or_default());
        }
        let code = match Spanned::are_made() {
            true => Some(trace.claim(claim.token)),
            // Whoever started it goes on in what its code sends.
            false => run.traceparent.as_deref().and_then(TraceContext::parse),
        };
        Self {
            code: code.map(TraceContext::attachable),
            run,
            claim,
            trace,
            meter,
            began: (SystemTime::now(), Instant::now()),
            ended: AtomicU8::new(OPEN),
        }
    }

    /// The code runs within this claim until the guard is dropped.
    pub(super) fn attach(&self) -> Option<ContextGuard> {
        self.code.as_ref().map(Attachable::attach)
    }

    /// As what its code sends and starts carries it on.
    pub(super) fn traceparent(&self) -> Option<String> {
        self.code.as_ref().map(|code| code.of().traceparent())
    }

    /// What is counted of its workflow.
    pub(super) fn meter(&self) -> &WorkflowMeter {
        &self.meter
    }

    /// The run has ended here; another may go on in its place.
    pub(super) fn ended(&self, end: RunEnd, goes_on_as: Option<RunId>) {
        self.ended.store(end.index() as u8, Ordering::Relaxed);
        let before = (self.run.claimed_at - self.run.created_at).to_std().unwrap_or_default();
        let took = before + self.began.1.elapsed();
        self.meter.run_ended(end, took);
        let root = self.trace.root();
        let mut span = Spanned::begin(&RUN, &self.run.workflow, root, self.trace.parent());
        if !span.is_on() {
            return;
        }
        span.since(SystemTime::now() - took);
        span.set(&RUN_ID, self.run.id.to_string());
        span.set(&WORKFLOW, self.run.workflow.clone());
        span.set(&QUEUE, self.run.queue.clone());
        if let Some(slot) = self.run.slot {
            span.set(&SLOT, slot.to_rfc3339());
        }
        span.set(&RUN_OUTCOME, end.text());
        span.set(&TOKEN, self.claim.token);
        span.set(&RUN_ATTEMPTS, i64::from(self.run.attempts));
        if matches!(end, RunEnd::Failed | RunEnd::Quarantined) {
            span.failed(end.text());
        }
        if let Some(next) = goes_on_as {
            let next = RunTrace::of(next, self.run.traceparent.as_deref());
            span.link(next.root(), Vec::new());
        }
        span.end();
    }

    /// The claim is over, for this reason.
    pub(super) fn left(&self, left: Stay) {
        let ended = self.ended.load(Ordering::Relaxed);
        let (end, why) = match (RunEnd::VALUES.get(usize::from(ended)), left) {
            (Some(text), _) => (ExecuteEnd::named(text).unwrap_or(ExecuteEnd::Halted), None),
            (None, Stay::Gone) => (ExecuteEnd::Suspended, Some(RunLeft::Suspended)),
            (None, Stay::Lost) => (ExecuteEnd::Lost, Some(RunLeft::Lost)),
            (None, Stay::Halted) => (ExecuteEnd::Halted, Some(RunLeft::Halted)),
            (None, Stay::HandedBack) => (ExecuteEnd::HandedBack, Some(RunLeft::HandedBack)),
            (None, Stay::SetAside) => (ExecuteEnd::Quarantined, Some(RunLeft::Diverged)),
        };
        if let Some(why) = why {
            self.meter.run_left(why);
        }
        if end == ExecuteEnd::Lost {
            meters().leases_lost(LeaseKind::Run, 1);
        }
        let (root, own) = (self.trace.root(), self.trace.claim(self.claim.token));
        let mut span = Spanned::begin(&EXECUTE, &self.run.workflow, own, Some(root.span_id()));
        if !span.is_on() {
            return;
        }
        span.since(self.began.0);
        span.set(&RUN_ID, self.run.id.to_string());
        span.set(&WORKFLOW, self.run.workflow.clone());
        span.set(&TOKEN, self.claim.token);
        span.set(&EXECUTE_END, end.text());
        let replayed = self.run.steps.iter().filter(|step| step.status != StepStatus::Open);
        span.set(&REPLAYED, replayed.count() as i64);
        span.set(&CODE_VERSION, i64::from(self.run.code_version));
        if end == ExecuteEnd::Lost {
            span.failed(end.text());
        }
        span.end();
    }

    /// Code of a step begins to be tried.
    pub(super) fn step(&self, name: &str, path: &str, kind: Kind) -> StepTold {
        let (within, own) = (
            self.trace.claim(self.claim.token),
            self.trace.step(path, self.claim.token),
        );
        let mut span = Spanned::begin(&STEP, name, own, Some(within.span_id()));
        self.describe(&mut span, path, kind);
        StepTold(span)
    }

    fn describe(&self, span: &mut Spanned, path: &str, kind: Kind) {
        if span.is_on() {
            span.set(&RUN_ID, self.run.id.to_string());
            span.set(&WORKFLOW, self.run.workflow.clone());
            span.set(&STEP_PATH, path.to_owned());
            span.set(&STEP_KIND, kind.as_str());
        }
    }

    /// One try of a step's code took so long.
    pub(super) fn tried(&self, kind: Kind, done: bool, time: Duration) {
        let end = if done { StepEnd::Completed } else { StepEnd::Failed };
        if let Some(kind) = StepKind::named(kind.as_str()) {
            self.meter.step_tried(kind, end, time);
        }
    }

    /// Something that was waited for since then has come.
    pub(super) fn waited(&self, name: &str, path: &str, kind: Kind, since: DateTime<Utc>, now: DateTime<Utc>) {
        let (root, own) = (self.trace.root(), self.trace.wait(path));
        let mut span = Spanned::begin(&WAIT, name, own, Some(root.span_id()));
        if span.is_on() {
            self.describe(&mut span, path, kind);
            // By the store's clock, from now on back by ours.
            span.since(SystemTime::now() - (now - since).to_std().unwrap_or_default());
            span.end();
        }
    }

    /// A step was recorded here, or somebody else's record was found.
    pub(super) fn recorded(&self, step: &StepState, adopted: bool) {
        let end = match step.status {
            StepStatus::Open => return,
            _ if adopted => StepEnd::Adopted,
            StepStatus::Failed => StepEnd::Failed,
            _ => StepEnd::Completed,
        };
        if let Some(kind) = StepKind::named(step.kind.as_str()) {
            self.meter.step_recorded(kind, end);
        }
    }
}

/// Why a claim is over, when the run has not ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stay {
    Gone,
    Lost,
    Halted,
    HandedBack,
    SetAside,
}

impl Stay {
    pub(super) fn of(left: &Left) -> Self {
        match left {
            Left::Gone => Self::Gone,
            Left::Lost => Self::Lost,
            Left::Halted | Left::Unwound => Self::Halted,
            Left::Retry(_) | Left::Overran(_) => Self::HandedBack,
            Left::Diverged(_) | Left::NotUndone(..) => Self::SetAside,
        }
    }
}

/// The tries of a step that are under way; nothing is told of those that are dropped.
#[derive(Default)]
pub(super) struct StepTold(Spanned);

impl StepTold {
    /// What its code runs within, where it is recorded.
    pub(super) fn context(&self) -> Option<TraceContext> {
        self.0.context()
    }

    /// It is tried again after a pause.
    pub(super) fn retried(&mut self, failures: u32, pause: f64) {
        if self.0.is_on() {
            let attributes = vec![
                KeyValue::new(ATTEMPT.name, i64::from(failures)),
                KeyValue::new(PAUSE.name, pause),
            ];
            self.0.event("retry", attributes);
        }
    }

    /// It ended like this after so many failures.
    pub(super) fn end(&mut self, end: StepEnd, failures: u32) {
        let mut span = std::mem::take(&mut self.0);
        if span.is_on() {
            span.set(&STEP_OUTCOME, end.text());
            span.set(
                &STEP_ATTEMPTS,
                i64::from(failures) + i64::from(end == StepEnd::Completed),
            );
            if end == StepEnd::Failed {
                span.failed(end.text());
            }
            span.end();
        }
    }
}

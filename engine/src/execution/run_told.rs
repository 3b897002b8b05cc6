//! What is told of a run while it is held here: counts and times of its workflow, and spans where its trace is recorded.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};
use opentelemetry::{ContextGuard, KeyValue};

use super::owner_host::Left;
use crate::lifecycle::{Kind, RunClaim, RunId, StepState, StepStatus, WorkRun, derived_id};
use crate::telemetry::catalogue::{
    ATTEMPT, CODE_VERSION, EXECUTE, EXECUTE_END, PAUSE, REPLAYED, RUN_ID, STEP, STEP_ATTEMPTS, STEP_KIND, STEP_OUTCOME,
    STEP_PATH, TOKEN, WAIT, WORKFLOW,
};
use crate::telemetry::closed::{Closed, ExecuteEnd, LeaseKind, RunEnd, RunLeft, StepEnd, StepKind, Suspect};
use crate::telemetry::{Attachable, RunOver, RunTrace, Spanned, TraceContext, WorkflowMeter, link_to, meters};

/// Children that the span of a claim is linked to; each is linked to it whatever their number.
const MOST_LINKS: usize = 128;
/// It has not ended here.
const OPEN: u8 = u8::MAX;

/// One claim of a run.
pub(super) struct RunTold {
    run: Arc<WorkRun>,
    claim: RunClaim,
    trace: RunTrace,
    meter: Arc<WorkflowMeter>,
    began: (SystemTime, Instant),
    /// Steps that had ended before.
    replayed: usize,
    /// When the code itself last recorded something before.
    recorded_last: Option<DateTime<Utc>>,
    /// What its code runs within, made once: it is polled often.
    code: Option<Attachable>,
    /// How the run ended in this claim.
    ended: AtomicU8,
    /// Those that were started in this claim, as many as are linked to it.
    children: Mutex<Vec<RunId>>,
}

impl RunTold {
    /// The run was claimed, with these steps behind it.
    pub(super) fn begin(run: Arc<WorkRun>, claim: RunClaim, steps: &[StepState]) -> Self {
        let trace = RunTrace::of(run.id, run.traceparent.as_deref());
        let meter = meters().workflow(&run.workflow);
        meter.run_claimed(Suspect::of(run.attempts > 0));
        if claim.token == 1 {
            meter.run_picked_up((run.claimed_at - run.created_at).to_std().unwrap_or_default());
        }
        let code = match Spanned::are_made() {
            true => Some(trace.claim(claim.token)),
            // Whoever started it goes on in what its code sends.
            false => trace.given(),
        };
        Self {
            code: code.map(TraceContext::attachable),
            run,
            claim,
            trace,
            meter,
            began: (SystemTime::now(), Instant::now()),
            replayed: steps.iter().filter(|step| step.status != StepStatus::Open).count(),
            recorded_last: steps.iter().map(recorded_by_code).max(),
            ended: AtomicU8::new(OPEN),
            children: Mutex::default(),
        }
    }

    /// The code runs within this claim until the guard is dropped.
    pub(super) fn attach(&self) -> Option<ContextGuard> {
        self.code.as_ref().map(Attachable::attach)
    }

    /// What the row of a child says that it comes of.
    pub(super) fn link(&self) -> Option<String> {
        self.code.as_ref().map(|code| link_to(code.of()))
    }

    /// The code started a child.
    pub(super) fn started(&self, child: RunId) {
        if Spanned::are_made() && self.trace.root().is_sampled() {
            let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
            if children.len() < MOST_LINKS {
                children.push(child);
            }
        }
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
        let run = &self.run;
        let over = RunOver {
            id: run.id,
            workflow: &run.workflow,
            queue: &run.queue,
            slot: run.slot,
            token: self.claim.token,
            attempts: run.attempts,
            trace: self.trace,
            end,
            took,
            since: Duration::ZERO,
            goes_on_as,
        };
        over.tell();
    }

    /// The run was to stop, and that is settled as it is anywhere: the leader tells of it.
    pub(super) fn settled(&self, end: RunEnd) {
        self.ended.store(end.index() as u8, Ordering::Relaxed);
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
        span.set(&REPLAYED, self.replayed as i64);
        span.set(&CODE_VERSION, i64::from(self.run.code_version));
        if end == ExecuteEnd::Lost {
            span.failed(end.text());
        }
        for child in self.children.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            span.link(RunTrace::coming_of(*child, own).root(), Vec::new());
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

    /// Something that was waited for has come.
    pub(super) fn waited(&self, name: &str, path: &str, kind: Kind, wait: Range<DateTime<Utc>>, now: DateTime<Utc>) {
        let (root, own) = (self.trace.root(), self.trace.wait(path));
        let mut span = Spanned::begin(&WAIT, name, own, Some(root.span_id()));
        if span.is_on() {
            self.describe(&mut span, path, kind);
            // By the store's clock, from now on back by ours.
            let ago = |at: DateTime<Utc>| SystemTime::now() - (now - at).to_std().unwrap_or_default();
            span.since(ago(wait.start));
            span.until(ago(wait.end));
            if kind == Kind::Child {
                let child = derived_id(self.run.id, path);
                span.link(RunTrace::coming_of(child, root).root(), Vec::new());
            }
            span.end();
        }
    }

    /// The code has come to a fan-out whose batches ended while nobody ran the code: the wait for them is told now. Once,
    /// but where the claims since then recorded nothing, and then again with the same ids.
    pub(super) fn waited_away(&self, name: &str, step: &StepState, now: DateTime<Utc>) {
        let Some(end) = step.finished_at else { return };
        // With its first claim a run has no wait behind it but those of the run that it repeats.
        let first = self.claim.token == 1;
        if first || !Spanned::are_made() || self.recorded_last.is_some_and(|last| last > end) {
            return;
        }
        self.waited(name, &step.path, step.kind, step.started_at..end, now);
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

/// When the code itself recorded it.
fn recorded_by_code(step: &StepState) -> DateTime<Utc> {
    match step.kind {
        // Its end is written by whoever sends its last batch.
        Kind::FanOut => step.started_at,
        _ => step.finished_at.unwrap_or(step.started_at).max(step.started_at),
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

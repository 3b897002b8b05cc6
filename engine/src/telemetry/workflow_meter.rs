//! What is counted of one workflow. Resolved once, so that a run or batch pays an addition and no look-up.

use std::array::from_fn;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::catalogue::{self as c, MetricDef};
use super::closed::*;
use super::instruments::{Instruments, Timing};
use super::series::Count;

/// One of each value of a closed set, made when it is first used: series that say nothing are not told.
struct Cells<E, T> {
    cells: Box<[OnceLock<T>]>,
    of: PhantomData<E>,
}

impl<E: Closed, T> Default for Cells<E, T> {
    fn default() -> Self {
        Self {
            cells: E::VALUES.iter().map(|_| OnceLock::new()).collect(),
            of: PhantomData,
        }
    }
}

impl<E: Closed, T> Cells<E, T> {
    fn of(&self, value: E, make: impl FnOnce() -> T) -> &T {
        self.cells[value.index()].get_or_init(make)
    }
}

/// Instruments of one workflow.
pub(crate) struct WorkflowMeter {
    instruments: Arc<Instruments>,
    workflow: Box<str>,
    items: Cells<ItemEnd, Count>,
    batches: Cells<BatchEnd, (Count, Timing)>,
    read: OnceLock<Timing>,
    not_read: OnceLock<Timing>,
    planned: OnceLock<(Count, Count, Timing)>,
    started: Cells<StartedBy, Count>,
    claimed: Cells<Suspect, Count>,
    ended: Cells<RunEnd, (Count, Timing)>,
    left: Cells<RunLeft, Count>,
    pickup: OnceLock<Timing>,
    steps: [Cells<StepEnd, Count>; StepKind::VALUES.len()],
    tries: [Cells<StepEnd, Timing>; StepKind::VALUES.len()],
    retries: OnceLock<Count>,
}

impl WorkflowMeter {
    pub(super) fn new(instruments: Arc<Instruments>, workflow: &str) -> Self {
        Self {
            instruments,
            workflow: workflow.into(),
            items: Cells::default(),
            batches: Cells::default(),
            read: OnceLock::new(),
            not_read: OnceLock::new(),
            planned: OnceLock::new(),
            started: Cells::default(),
            claimed: Cells::default(),
            ended: Cells::default(),
            left: Cells::default(),
            pickup: OnceLock::new(),
            steps: from_fn(|_| Cells::default()),
            tries: from_fn(|_| Cells::default()),
            retries: OnceLock::new(),
        }
    }

    /// Its code is here: what may come to be counted is told from now on, so that the first of it is seen to be one.
    pub(crate) fn begin(&self) {
        for end in RunEnd::VALUES.iter().filter_map(|text| RunEnd::named(text)) {
            self.of_run_end(end);
        }
        for end in ItemEnd::VALUES.iter().filter_map(|text| ItemEnd::named(text)) {
            self.of_item_end(end);
        }
    }

    fn of_run_end(&self, end: RunEnd) -> &(Count, Timing) {
        self.ended.of(end, || {
            let values = &[end.text()];
            (
                self.count(&c::RUNS_ENDED, values),
                self.timing(&c::RUN_DURATION, values),
            )
        })
    }

    fn of_item_end(&self, end: ItemEnd) -> &Count {
        self.items.of(end, || self.count(&c::ITEMS_DONE, &[end.text()]))
    }

    fn count(&self, def: &'static MetricDef, values: &[&str]) -> Count {
        self.instruments.count(def, &self.with(values))
    }

    fn timing(&self, def: &'static MetricDef, values: &[&str]) -> Timing {
        self.instruments.timing(def, &self.with(values))
    }

    fn with<'a>(&'a self, values: &[&'a str]) -> Vec<&'a str> {
        let workflow: &str = &self.workflow;
        std::iter::once(workflow).chain(values.iter().copied()).collect()
    }
}

/// What happens to fan-outs.
impl WorkflowMeter {
    /// Items of a finished batch have ended so.
    pub(crate) fn items(&self, end: ItemEnd, items: usize) {
        if items > 0 {
            self.of_item_end(end).add(items as u64);
        }
    }

    /// The work on a batch has ended so, so long after its claim.
    pub(crate) fn batch_ended(&self, end: BatchEnd, time: Duration) {
        let (count, timing) = self.batches.of(end, || {
            let values = &[end.text()];
            (
                self.count(&c::BATCHES_DONE, values),
                self.timing(&c::BATCH_DURATION, values),
            )
        });
        count.add(1);
        timing.took(time);
    }

    /// The rows of a page of a batch were read, or could not be.
    pub(crate) fn source_read(&self, time: Duration, failed: bool) {
        let (timing, error) = if failed {
            (&self.not_read, "failed")
        } else {
            (&self.read, "")
        };
        timing
            .get_or_init(|| self.timing(&c::SOURCE_READ_DURATION, &[error]))
            .took(time);
    }

    /// A page of a plan was read and written.
    pub(crate) fn chunk_planned(&self, items: usize, batches: usize, time: Duration) {
        let (all_items, all_batches, timing) = self.planned.get_or_init(|| {
            let counts = (self.count(&c::PLAN_ITEMS, &[]), self.count(&c::PLAN_BATCHES, &[]));
            (counts.0, counts.1, self.timing(&c::PLAN_CHUNK_DURATION, &[]))
        });
        all_items.add(items as u64);
        all_batches.add(batches as u64);
        timing.took(time);
    }
}

/// What happens to runs.
impl WorkflowMeter {
    /// Runs were started.
    pub(crate) fn runs_started(&self, by: StartedBy, runs: usize) {
        if runs > 0 {
            let count = self.started.of(by, || self.count(&c::RUNS_STARTED, &[by.text()]));
            count.add(runs as u64);
        }
    }

    /// A run was claimed.
    pub(crate) fn run_claimed(&self, suspect: Suspect) {
        let count = self
            .claimed
            .of(suspect, || self.count(&c::RUNS_CLAIMED, &[suspect.text()]));
        count.add(1);
    }

    /// A run began so long after it could have.
    pub(crate) fn run_picked_up(&self, after: Duration) {
        self.pickup
            .get_or_init(|| self.timing(&c::RUN_PICKUP_DURATION, &[]))
            .took(after);
    }

    /// A run ended so, so long after its start.
    pub(crate) fn run_ended(&self, end: RunEnd, time: Duration) {
        let (count, timing) = self.of_run_end(end);
        count.add(1);
        timing.took(time);
    }

    /// A run was let go of that has not ended.
    pub(crate) fn run_left(&self, why: RunLeft) {
        let count = self.left.of(why, || self.count(&c::RUNS_LEFT, &[why.text()]));
        count.add(1);
    }

    /// A step was recorded.
    pub(crate) fn step_recorded(&self, kind: StepKind, end: StepEnd) {
        let count = self.steps[kind.index()].of(end, || self.count(&c::STEPS_DONE, &[kind.text(), end.text()]));
        count.add(1);
    }

    /// One try of the code of a step took so long.
    pub(crate) fn step_tried(&self, kind: StepKind, end: StepEnd, time: Duration) {
        let timing = self.tries[kind.index()].of(end, || self.timing(&c::STEP_DURATION, &[kind.text(), end.text()]));
        timing.took(time);
    }

    /// A step failed and is tried again.
    pub(crate) fn step_retried(&self) {
        self.retries.get_or_init(|| self.count(&c::STEP_RETRIES, &[])).add(1);
    }
}

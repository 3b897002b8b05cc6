//! The leader's tick: looks at due schedules and fires their slots.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use chrono::TimeDelta;

use super::{Bell, DueSchedule, Job, Reign, ScheduleStore, StepOutcome};
use crate::lifecycle::{FleetError, RunId};
use crate::telemetry::catalogue::{FIRE, SCHEDULE, SLOT, SLOT_OUTCOME, TERM};
use crate::telemetry::closed::{Closed, SlotEnd, StartedBy};
use crate::telemetry::{RunTrace, Spanned, meters};
use crate::trigger::{Step, decide};

/// Schedules read at once.
const PAGE: i64 = 100;
/// Pages a tick reads at most; the rest is due at the next.
const PAGES: usize = 50;

/// After a look that not all was done in.
const AGAIN: Duration = Duration::from_millis(500);
/// From one look to the next at least, however close a slot is.
const LEAST: Duration = Duration::from_millis(5);
/// From a ring to the look: who edits many schedules one by one rings for each.
const COMPANY: Duration = Duration::from_millis(100);
/// Where whoever edits a schedule rings, so much more rarely is looked for edits.
const RARELY: u32 = 5;

/// What one tick did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ticked {
    /// Schedules looked at.
    pub looked_at: u64,
    /// Runs started.
    pub fired: u64,
    /// Slots passed over by the overlap rule.
    pub passed_over: u64,
    /// Missed slots that catching up passed over.
    pub missed: u64,
    /// Schedules that cannot fire.
    pub problems: u64,
}

/// Fires schedules.
pub struct Scheduler {
    store: Arc<dyn ScheduleStore>,
    every: Duration,
    tolerance: Duration,
    /// The term whose first tick looked again at the schedules that cannot fire.
    retried_in: AtomicI64,
    /// From the start of the last tick to the next one.
    wait: Mutex<Duration>,
    /// Rung when a schedule was edited.
    bell: Arc<Bell>,
}

/// How the look at one schedule ended.
enum Look {
    /// Settled, or somebody else settled or edited it.
    Done,
    /// Nothing more may be written.
    Deposed,
}

impl Scheduler {
    /// A tick whenever a slot is due, and each `every`.
    #[must_use]
    pub fn new(store: Arc<dyn ScheduleStore>, every: Duration, tolerance: Duration) -> Self {
        Self {
            store,
            every,
            tolerance,
            retried_in: AtomicI64::new(0),
            wait: Mutex::new(every),
            bell: Arc::default(),
        }
    }

    /// The same, with ticks when this is rung, and fewer others while it would be.
    #[must_use]
    pub fn rung_by(mut self, bell: Arc<Bell>) -> Self {
        self.bell = bell;
        self
    }

    /// Looks at everything that is due. One schedule that fails does not keep the others from firing.
    ///
    /// # Errors
    /// The store does not answer, or refused to fire some schedule.
    pub async fn tick(&self, reign: &Reign) -> Result<Ticked, FleetError> {
        self.wait(AGAIN);
        if self.retried_in.load(Ordering::Relaxed) != reign.term {
            self.store.retry_schedule_problems(reign.term).await?;
            self.retried_in.store(reign.term, Ordering::Relaxed);
        }
        let (ticked, refusal) = self.look_at_all(reign).await?;
        refusal.map_or(Ok(ticked), Err)
    }

    /// What was done, and the last refusal among it.
    pub(super) async fn look_at_all(&self, reign: &Reign) -> Result<(Ticked, Option<FleetError>), FleetError> {
        let begun = Instant::now();
        let mut ticked = Ticked::default();
        let mut refusal = None;
        // What stays due after it was tried must not fill the pages of those behind it.
        let mut tried = Vec::new();
        for _ in 0..PAGES {
            let due = self.store.due_schedules(PAGE, &tried).await?;
            if due.schedules.is_empty() {
                self.wait(begun.elapsed() + self.until_next(due.next_in));
                break;
            }
            for look in due.schedules {
                if reign.over.is_cancelled() {
                    return Ok((ticked, refusal));
                }
                match self.look_at(reign.term, &look, &mut ticked).await {
                    Ok(Look::Done) => {}
                    Ok(Look::Deposed) => return Ok((ticked, refusal)),
                    Err(unanswered @ FleetError::Unanswered(_)) => return Err(unanswered),
                    Err(error) => refusal = Some(error),
                }
                tried.push(look.schedule.name);
            }
        }
        Ok((ticked, refusal))
    }

    fn wait(&self, wait: Duration) {
        *self.wait.lock().unwrap_or_else(PoisonError::into_inner) = wait;
    }

    /// How long to wait where nothing is left to do: a slot that has come all the same was tried and refused.
    fn until_next(&self, next_in: Option<Duration>) -> Duration {
        match next_in {
            Some(Duration::ZERO) => AGAIN,
            Some(next_in) => next_in.max(LEAST).min(self.longest()),
            None => self.longest(),
        }
    }

    /// Until a look for edits that nobody told of.
    fn longest(&self) -> Duration {
        if self.bell.is_heard() {
            self.every * RARELY
        } else {
            self.every
        }
    }

    async fn look_at(&self, term: i64, look: &DueSchedule, ticked: &mut Ticked) -> Result<Look, FleetError> {
        ticked.looked_at += 1;
        let schedule = &look.schedule;
        let steps = match decide(schedule, look.now, self.tolerance) {
            Ok(steps) => steps,
            Err(problem) => return self.set_aside(term, look, &problem.to_string(), ticked).await,
        };
        for step in &steps {
            let begin = SystemTime::now();
            match self.store.take_step(term, schedule, step).await {
                Ok(StepOutcome::Changed) => return Ok(Look::Done),
                Ok(StepOutcome::Deposed) => return Ok(Look::Deposed),
                Ok(outcome) => {
                    passed_over(term, look, step, &outcome, ticked);
                    if let StepOutcome::Fired(run) = outcome {
                        ticked.fired += 1;
                        fired(term, look, step, run, begin);
                    }
                }
                // What the row holds makes no run; trying again would not help.
                Err(FleetError::Damaged(why)) => return self.set_aside(term, look, &why, ticked).await,
                Err(error) => return Err(error),
            }
        }
        Ok(Look::Done)
    }

    async fn set_aside(
        &self,
        term: i64,
        look: &DueSchedule,
        problem: &str,
        ticked: &mut Ticked,
    ) -> Result<Look, FleetError> {
        ticked.problems += 1;
        let name = &look.schedule.name;
        if self.store.mark_schedule_problem(term, &look.schedule, problem).await? {
            meters().slot_came(SlotEnd::Problem);
            tracing::error!(name: "schedule_broken", schedule = %name, problem, term, "a schedule cannot fire; mend it by `schedules set`");
        }
        Ok(Look::Done)
    }
}

#[async_trait]
impl Job for Scheduler {
    fn name(&self) -> &'static str {
        "schedules"
    }

    fn every(&self) -> Duration {
        *self.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn rung(&self) {
        self.bell.rung().await;
        tokio::time::sleep(COMPANY).await;
    }

    async fn run_once(&self, reign: &Reign) -> Result<u64, FleetError> {
        let ticked = self.tick(reign).await?;
        Ok(ticked.fired + ticked.passed_over + ticked.problems)
    }
}

/// Counts the slots that a step settled and that start no run: those that were missed, and its own when that is in another's
/// way. A line for all of them, however many they are.
fn passed_over(term: i64, look: &DueSchedule, step: &Step, outcome: &StepOutcome, ticked: &mut Ticked) {
    let overlapping = match outcome {
        StepOutcome::PassedOver(reason) => Some(reason.as_str()),
        _ => None,
    };
    let own = u64::from(overlapping.is_some());
    ticked.missed += step.missed;
    ticked.passed_over += own;
    let slots = step.missed + own;
    if slots == 0 {
        return;
    }
    meters().slots_came(SlotEnd::PassedOver, slots);
    let reasons: Vec<&str> = step.passed_over.as_deref().into_iter().chain(overlapping).collect();
    let (schedule, reason) = (&look.schedule.name, reasons.join("; "));
    tracing::info!(name: "slot_passed_over", schedule, reason, slots, term, "slots of a schedule were passed over: they start no run");
}

/// Counts a run that was started, and makes a span of its firing, within the trace that the run's id names.
fn fired(term: i64, look: &DueSchedule, step: &Step, run: RunId, begin: SystemTime) {
    let schedule = &look.schedule.name;
    tracing::info!(name: "slot_fired", schedule, slot = ?step.slot, %run, term, "a schedule started a run");
    let late = step.slot.map_or_else(TimeDelta::zero, |slot| look.now - slot);
    meters().slot_fired(late.to_std().unwrap_or_default());
    meters().workflow(&look.workflow).runs_started(StartedBy::Schedule, 1);
    let root = RunTrace::of(run, None).root();
    let mut span = Spanned::begin(&FIRE, schedule, root.child(), Some(root.span_id()));
    if span.is_on() {
        span.since(begin);
        span.set(&SCHEDULE, schedule.clone());
        if let Some(slot) = step.slot {
            span.set(&SLOT, slot.to_rfc3339());
        }
        span.set(&SLOT_OUTCOME, SlotEnd::Fired.text());
        span.set(&TERM, term);
        span.end();
    }
}

//! What the testing kit needs to know of the store, and does to it.

use chrono::{DateTime, Utc};

use super::MemoryRunStore;
use super::claim::Claimable;
use super::run::Run;
use crate::lifecycle::{NewStep, RunClaim, RunId, Runnable, StepState, StepStatus};

/// What goes on in the store now.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// Who is held, how often it was woken, and whether it is to end.
    pub(crate) held: Vec<(RunClaim, i64, bool)>,
    /// Some run may be claimed now.
    pub(crate) ready: bool,
    /// Some batch may be claimed now.
    pub(crate) ready_batches: bool,
}

impl MemoryRunStore {
    /// What goes on, as far as this code is concerned.
    pub(crate) fn pulse(&self, runnable: &[Runnable]) -> Pulse {
        let now = self.clock.now();
        let runs = self.lock();
        let mut pulse = Pulse::default();
        let [asked, suspects] = [false, true].map(|suspects| Claimable {
            runnable,
            suspects,
            now,
        });
        for run in runs.by_id.values() {
            if let Some(claim) = run.claim() {
                let halted = run.stop.is_some() && run.undoing != Some(true);
                pulse.held.push((claim, run.wake_seq, halted));
            }
            pulse.ready |= runs.is_let_through(run, asked) || runs.is_let_through(run, suspects);
        }
        pulse.ready_batches = !runs.with_batches(runnable, now).is_empty();
        pulse.ready |= runs.any_limited(asked) || runs.any_limited(suspects);
        pulse
    }

    /// The next instant at which an unfinished run goes on by itself or is overdue, leases aside.
    pub(crate) fn next_due_instant(&self) -> Option<DateTime<Utc>> {
        let now = self.clock.now();
        let runs = self.lock();
        let unfinished = runs.by_id.values().filter(|run| !run.status.is_over());
        let instants = unfinished.flat_map(|run| [run.due(), run.next_batch().map(|(_, from)| from), run.deadline_at]);
        let instants = instants.flatten().chain(runs.next_token(now));
        instants.filter(|at| *at > now).min()
    }

    /// A death that a test asked for is not held against the code that ran.
    pub(crate) fn forgive_deaths(&self) {
        for run in self.lock().by_id.values_mut() {
            run.attempts = run.attempts.min(1);
        }
    }

    /// The recorded end of a step, if it has one.
    pub(crate) fn ended_step(&self, run: RunId, path: &str) -> Option<StepState> {
        let runs = self.lock();
        let step = runs.by_id.get(&run)?.steps.get(path)?;
        (step.status != StepStatus::Open).then(|| step.clone())
    }

    /// Numbers of the batches of a run that are done.
    pub(crate) fn finished_batches(&self, run: RunId) -> Vec<i32> {
        let runs = self.lock();
        let planned = runs.by_id.get(&run).into_iter().flat_map(|run| &run.planned);
        let finished = planned.filter(|(_, batch)| batch.outcome.is_some());
        finished.map(|(seq, _)| *seq).collect()
    }

    /// The run, or the one that goes on in its place by now.
    pub(crate) fn last_run(&self, run: RunId) -> RunId {
        self.lock().last_run(run)
    }

    /// Whether the claim still holds.
    pub(crate) fn is_held(&self, claim: &RunClaim) -> bool {
        self.lock().held(claim).is_some()
    }

    /// Records a step whose transaction is committed, whoever holds its run by now.
    pub(crate) fn record_committed(&self, step: &NewStep) -> Option<StepState> {
        let mut runs = self.lock();
        let run = runs.by_id.get_mut(&step.claim.run)?;
        let state = step.clone().into_state();
        run.steps.insert(step.path.clone(), state.clone());
        Some(state)
    }
}

impl Run {
    fn due(&self) -> Option<DateTime<Utc>> {
        let waits = self.status.may_be_claimed() && self.holder.is_none();
        self.ready.filter(|_| waits).map(|ready| ready.at)
    }
}

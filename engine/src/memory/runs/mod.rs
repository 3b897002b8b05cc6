//! Runs whose code is run, in memory: the plain statement of what [`RunStore`] means, and the store of tests.
//!
//! Everything is behind one lock, so every verb is atomic. Claims, leases and waits go by the store's clock alone.

mod batches;
mod children;
mod claim;
mod clock;
mod continuing;
mod control;
mod endings;
mod fan_outs;
mod fleet;
#[cfg(feature = "testing")]
mod kit;
#[cfg(feature = "testing")]
mod kit_queues;
mod publish;
mod queues;
mod recover;
mod repeat;
mod run;
mod signals;
mod start;
mod steps;
#[cfg(test)]
mod tests;
mod views;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::inspect::NotRepeated;
use crate::lifecycle::{
    Birth, ClaimPage, Clock, Continuation, Ended, EndedChild, Ending, FleetError, LetGo, LimitedClaim, ManagerError,
    NewChild, NewPublication, NewRun, NewSignal, NewStep, News, Poked, QueueNews, QueueSettings, QueuedCommand,
    RepeatRun, RunClaim, RunId, RunRecord, RunStore, Saved, Signalled, Started, StepState, Swept, Transacted,
    TransactionWork, UndeliveredItem, WorkRun, storable_reason,
};
pub use clock::VirtualClock;
#[cfg(feature = "testing")]
pub(crate) use kit::Pulse;
use run::{Ready, Run, Status};
pub use views::{RunChange, RunStart, RunView, SignalView};

/// One replica's verbs on runs in memory; [`replica`](Self::replica) makes further ones on the same runs.
#[derive(Clone)]
pub struct MemoryRunStore {
    runs: Arc<Mutex<Runs>>,
    clock: Arc<dyn Clock>,
    replica: Uuid,
    lease: Duration,
}

/// All runs, by id.
#[derive(Default)]
struct Runs {
    by_id: BTreeMap<RunId, Run>,
    queues: BTreeMap<String, queues::Queue>,
    turns: u64,
    /// What runs have published, in order.
    published: Vec<(RunId, QueuedCommand)>,
    /// What fan-outs could not deliver.
    undelivered: Vec<(RunId, UndeliveredItem)>,
}

impl Runs {
    /// The run that is still held under this very claim.
    fn held(&mut self, claim: &RunClaim) -> Option<&mut Run> {
        self.by_id.get_mut(&claim.run).filter(|run| run.is_held_by(claim))
    }

    /// Ready from this instant on, behind whoever was made ready for the same instant before.
    fn ready(&mut self, at: DateTime<Utc>) -> Ready {
        self.turns += 1;
        Ready { at, turn: self.turns }
    }
}

impl MemoryRunStore {
    /// A first replica, without any runs; its claims hold for so long.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, lease: Duration) -> Self {
        Self {
            runs: Arc::default(),
            clock,
            replica: Uuid::new_v4(),
            lease,
        }
    }

    /// Another replica on the same runs.
    #[must_use]
    pub fn replica(&self) -> Self {
        Self {
            replica: Uuid::new_v4(),
            ..self.clone()
        }
    }

    /// Starts a run, or finds the one that has its id, its idempotency key or its slot; `None` means that an unfinished
    /// run holds its singleton key.
    ///
    /// # Errors
    /// The request makes no sense, or there is no room for more runs.
    pub fn start_run(&self, start: RunStart) -> Result<Option<RunId>, ManagerError> {
        let now = self.clock.now();
        self.lock().start(start, now)
    }

    /// Makes the settings of a queue what is given; a pause stays.
    ///
    /// # Errors
    /// They make no sense.
    pub fn set_queue(&self, settings: QueueSettings) -> Result<(), ManagerError> {
        settings.check().map_err(ManagerError::Invalid)?;
        let now = self.clock.now();
        self.lock().set_queue(settings, now);
        Ok(())
    }

    /// Nothing of the queue is claimed until it is resumed.
    pub fn pause_queue(&self, name: &str) {
        let now = self.clock.now();
        self.lock().pause_queue(name, true, now);
    }

    /// Runs of the queue are claimed again.
    pub fn resume_queue(&self, name: &str) {
        let now = self.clock.now();
        self.lock().pause_queue(name, false, now);
    }

    /// Renews the leases of these claims; answers those that are gone.
    #[must_use]
    pub fn renew_runs(&self, claims: &[RunClaim]) -> Vec<RunClaim> {
        let lease_until = self.clock.now() + self.lease;
        self.lock().renew(claims, lease_until)
    }

    /// Takes runs from holders whose lease has ended, and ends what must end; answers how many of each.
    pub fn sweep(&self) -> Swept {
        let now = self.clock.now();
        self.lock().sweep(now)
    }

    /// The holder of this claim has died: its leases end now. Answers how many; recovering takes them from it.
    pub fn end_leases(&self, claim_id: Uuid) -> usize {
        let now = self.clock.now();
        self.lock().end_leases(Some(claim_id), now)
    }

    /// Every holder has died.
    pub fn end_all_leases(&self) -> usize {
        let now = self.clock.now();
        self.lock().end_leases(None, now)
    }

    /// Pauses a run, or the one that goes on in its place; answers the state it is in now.
    pub fn pause_run(&self, run: RunId, reason: &str) -> &'static str {
        self.lock().pause(run, &storable_reason(reason))
    }

    /// Resumes a paused or quarantined run, or the one that goes on in its place; answers the state it is in now.
    pub fn resume_run(&self, run: RunId) -> &'static str {
        let now = self.clock.now();
        self.lock().resume(run, now)
    }

    /// Asks a run to end as cancelled, or the one that goes on in its place, and its children with it; answers the state
    /// it is in now.
    pub fn cancel_run(&self, run: RunId, reason: &str) -> &'static str {
        self.cancel(run, reason, false)
    }

    /// Asks a run to end as cancelled without undoing what it did; answers the state it is in now.
    pub fn force_cancel_run(&self, run: RunId, reason: &str) -> &'static str {
        self.cancel(run, reason, true)
    }

    fn cancel(&self, run: RunId, reason: &str, force: bool) -> &'static str {
        let now = self.clock.now();
        self.lock().cancel(run, &storable_reason(reason), force, now)
    }

    /// Starts a run that begins with the steps of one that is over. Of one that went on as others the last is meant, unless
    /// it has the step that is named itself.
    ///
    /// # Errors
    /// [`NotRepeated`] says why nothing was started.
    pub fn repeat_run(&self, repeat: &RepeatRun) -> Result<RunId, NotRepeated> {
        let now = self.clock.now();
        self.lock().repeat(repeat, now)
    }

    /// Asks a run to end as failed; answers the state it is in now.
    pub fn fail_run(&self, run: RunId, reason: &str) -> &'static str {
        self.stop_run(run, Status::Failed, reason, false)
    }

    fn stop_run(&self, run: RunId, status: Status, reason: &str, force: bool) -> &'static str {
        let now = self.clock.now();
        self.lock()
            .request_stop(run, status, &storable_reason(reason), force, now)
    }

    /// Ends the run as failed by its holder, though batches of it may be in flight.
    #[must_use]
    pub fn fail_claimed_run(&self, claim: &RunClaim, reason: &str) -> Ended {
        let now = self.clock.now();
        self.lock().fail_claimed(claim, &storable_reason(reason), now)
    }

    /// Ends a run that was asked to stop, once nothing of it is held and what it did is undone.
    pub fn settle_stop(&self, run: RunId) -> bool {
        let now = self.clock.now();
        self.lock().settle_stop(run, now)
    }

    /// Opens a fan-out under the run's claim, or finds it open.
    pub fn open_fan_out(&self, claim: &RunClaim, path: &str) -> Option<StepState> {
        let now = self.clock.now();
        self.lock().open_fan_out(claim, path, now)
    }

    /// Completes an open fan-out and wakes its run; answers whether it was this that did.
    pub fn complete_fan_out(&self, run: RunId, path: &str, result: &[u8]) -> bool {
        let now = self.clock.now();
        self.lock().complete_fan_out(run, path, result, now)
    }

    /// Says how many batches of a run wait, and how many are held.
    pub fn set_batches(&self, run: RunId, waiting: u32, held: u32) {
        self.lock().set_batches(run, (waiting, held));
    }

    /// Instants at which an unfinished run goes on by itself, or a lease ends; the earliest of them.
    #[must_use]
    pub fn next_event(&self) -> Option<DateTime<Utc>> {
        self.lock().next_event()
    }

    /// All runs in order of their ids.
    #[must_use]
    pub fn views(&self) -> Vec<RunView> {
        self.lock().by_id.values().map(RunView::of).collect()
    }

    /// A run as it is now.
    #[must_use]
    pub fn view(&self, run: RunId) -> Option<RunView> {
        self.lock().by_id.get(&run).map(RunView::of)
    }

    /// What is recorded of a run's steps, by path.
    #[must_use]
    pub fn steps(&self, run: RunId) -> Vec<StepState> {
        let runs = self.lock();
        let steps = runs.by_id.get(&run).into_iter().flat_map(|run| run.steps.values());
        steps.cloned().collect()
    }

    /// The signals of a run, in order of arrival.
    #[must_use]
    pub fn signals(&self, run: RunId) -> Vec<SignalView> {
        let runs = self.lock();
        let signals = runs.by_id.get(&run).into_iter().flat_map(|run| &run.signals);
        signals.map(SignalView::of).collect()
    }

    /// What fan-outs could not deliver, in order.
    #[must_use]
    pub fn undelivered(&self) -> Vec<(RunId, UndeliveredItem)> {
        self.lock().undelivered()
    }

    /// What happened to a run, in order.
    #[must_use]
    pub fn changes(&self, run: RunId) -> Vec<RunChange> {
        let runs = self.lock();
        let changes = runs.by_id.get(&run).into_iter().flat_map(|run| &run.changes);
        changes.cloned().collect()
    }

    /// What runs have published, in order.
    #[must_use]
    pub fn published(&self) -> Vec<(RunId, QueuedCommand)> {
        self.lock().published.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Runs> {
        // A verb checks everything before it changes anything, so a panic leaves nothing half done.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl RunStore for MemoryRunStore {
    async fn start_runs(&self, page: &[NewRun], again: bool) -> Result<(), FleetError> {
        let now = self.clock.now();
        self.lock().start_page(page, again, now)
    }

    async fn start_run(&self, run: &NewRun) -> Result<Started, FleetError> {
        let now = self.clock.now();
        self.lock().start_new(run, now)
    }

    async fn start_claimed_runs(&self, births: &[&Birth], claim_id: Uuid) -> Result<DateTime<Utc>, FleetError> {
        let holder = claim::holder(
            &ClaimPage::of_claim(claim_id),
            self.replica,
            self.clock.now(),
            self.lease,
        );
        self.lock().start_claimed(births, holder)
    }

    async fn claim_runs(&self, page: &ClaimPage) -> Result<Vec<(RunClaim, WorkRun)>, FleetError> {
        let holder = claim::holder(page, self.replica, self.clock.now(), self.lease);
        Ok(self.lock().claim(page, holder))
    }

    async fn claim_limited_runs(&self, page: &ClaimPage) -> Result<LimitedClaim, FleetError> {
        let holder = claim::holder(page, self.replica, self.clock.now(), self.lease);
        Ok(self.lock().claim_limited(page, holder))
    }

    async fn read_queues(&self, workflows: &[String]) -> Result<QueueNews, FleetError> {
        Ok(self.lock().read_queues(workflows))
    }

    async fn waiting_queues(&self, queues: &[String]) -> Result<Vec<String>, FleetError> {
        let now = self.clock.now();
        Ok(self.lock().waiting_queues(queues, now))
    }

    async fn suspect_queues(&self) -> Result<Vec<String>, FleetError> {
        Ok(self.lock().suspect_queues())
    }

    async fn read_claimed_runs(&self, page: &ClaimPage) -> Result<Vec<(RunClaim, WorkRun)>, FleetError> {
        Ok(self.lock().claimed(page.claim_id))
    }

    async fn acquit_run(&self, claim: &RunClaim) -> Result<bool, FleetError> {
        Ok(self.lock().acquit(claim))
    }

    async fn read_record(&self, run: RunId) -> Result<RunRecord, FleetError> {
        let runs = self.lock();
        Ok(runs.by_id.get(&run).map(Run::recorded).unwrap_or_default())
    }

    async fn save_steps(&self, group: &[NewStep]) -> Result<Vec<Saved>, FleetError> {
        self.lock().save(group)
    }

    async fn settle_step(&self, step: &NewStep) -> Result<Saved, FleetError> {
        self.lock().settle(step)
    }

    async fn settle_select(&self, step: &NewStep, lost: &[String]) -> Result<Saved, FleetError> {
        let now = self.clock.now();
        self.lock().settle_select(step, lost, now)
    }

    async fn transact(&self, _: &NewStep, _: &TransactionWork, _: usize) -> Result<Transacted, FleetError> {
        let why = "this workflow uses ctx.transaction, which needs a database: give the test one";
        Err(FleetError::Refused(why.to_owned()))
    }

    async fn let_go_runs(&self, group: &[Ending]) -> Result<Vec<LetGo>, FleetError> {
        let now = self.clock.now();
        self.lock().let_go(group, now)
    }

    async fn continue_runs(&self, group: &[Continuation]) -> Result<Vec<LetGo>, FleetError> {
        let now = self.clock.now();
        self.lock().go_on(group, now)
    }

    async fn start_children(&self, group: &[NewChild]) -> Result<Vec<bool>, FleetError> {
        let now = self.clock.now();
        self.lock().start_children(group, now)
    }

    async fn ended_children(&self, parent: RunId, paths: &[String]) -> Result<Vec<EndedChild>, FleetError> {
        Ok(self.lock().ended_children(parent, paths))
    }

    async fn stop_children(&self, run: RunId) -> Result<(), FleetError> {
        let now = self.clock.now();
        self.lock().stop_children(run, now);
        Ok(())
    }

    async fn cancel_run(&self, run: RunId, reason: &str) -> Result<(), FleetError> {
        Self::cancel_run(self, run, reason);
        Ok(())
    }

    async fn publish(&self, group: &[NewPublication]) -> Result<Vec<Saved>, FleetError> {
        self.lock().publish(group)
    }

    async fn wake_runs(&self, runs: &[RunId]) -> Result<u64, FleetError> {
        let now = self.clock.now();
        Ok(self.lock().wake(runs, now))
    }

    async fn signal_run(&self, signal: &NewSignal) -> Result<Signalled, FleetError> {
        let now = self.clock.now();
        self.lock().signal(signal, now)
    }

    async fn poked_runs(&self, runs: &[RunId]) -> Result<Vec<Poked>, FleetError> {
        Ok(self.lock().look_at(runs, Run::poked))
    }

    async fn read_news(&self, runs: &[RunId]) -> Result<Vec<News>, FleetError> {
        Ok(self.lock().look_at(runs, signals::news))
    }

    async fn next_due(&self, queues: &[String]) -> Result<Option<Duration>, FleetError> {
        let now = self.clock.now();
        Ok(self.lock().next_due(queues, now))
    }
}

#![allow(clippy::unwrap_used)]
//! A run on the store in memory, whose holder may die at any write, and which may be asked to stop.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::executor::{Executor, ExecutorParts, Hints, Shared};
use super::nobody::NoPublisher;
use super::run_task::drive;
use super::run_task_tests::Code;
use super::settings::ExecutionSettings;
use crate::delivery::{BreakerPolicy, Breakers};
use crate::lifecycle::*;
use crate::memory::{MemoryRunStore, RunStart, RunView, VirtualClock};
use crate::workflow::{Context, Registry, Resources, StepOptions};

/// The run, the same in every trial: so is what its code draws.
pub(super) const RUN: RunId = Uuid::from_u128(7);
const LEASE: Duration = Duration::from_secs(3_600);
const MOST_TURNS: u32 = 50;

/// When a holder dies: at its n-th write, before or after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Death {
    Before(u32),
    After(u32),
    /// It lives, but whoever writes for it panics.
    Panics(u32),
}

struct Mortal {
    store: MemoryRunStore,
    death: Mutex<Option<Death>>,
    writes: AtomicU32,
    /// How many children each page started.
    starts: Mutex<Vec<usize>>,
    /// What is set for queues cannot be read.
    hides_queues: AtomicBool,
    /// How often it was asked for.
    asked_for_queues: AtomicU32,
    /// Starts of claimed runs that are answered one for each of these.
    births: Semaphore,
    asked_for_births: AtomicU32,
    /// So many more times what reached the run cannot be read.
    deaf: AtomicU32,
}

impl Mortal {
    /// Whether the holder dies around this write, and if so, whether it is written.
    fn dies(&self) -> Option<bool> {
        let write = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        let death = (*self.death.lock().unwrap())?;
        let written = match death {
            Death::Before(at) if at == write => false,
            Death::After(at) if at == write => true,
            Death::Panics(at) => {
                assert!(at != write, "as it was told");
                return None;
            }
            _ => return None,
        };
        Some(written)
    }

    fn bury(&self) {
        self.store.end_all_leases();
        self.store.sweep();
    }
}

/// Says what is lost when the holder dies at the write, and does it as far as it comes.
macro_rules! write {
    ($self:ident, $lost:expr, $write:expr) => {{
        match $self.dies() {
            None => $write.await,
            Some(written) => {
                if written {
                    $write.await?;
                }
                $self.bury();
                Ok($lost)
            }
        }
    }};
}

#[async_trait]
impl RunStore for Mortal {
    async fn claim_runs(&self, page: &ClaimPage) -> Result<Vec<(RunClaim, WorkRun)>, FleetError> {
        self.store.claim_runs(page).await
    }
    async fn read_claimed_runs(&self, page: &ClaimPage) -> Result<Vec<(RunClaim, WorkRun)>, FleetError> {
        self.store.read_claimed_runs(page).await
    }
    async fn acquit_run(&self, claim: &RunClaim) -> Result<bool, FleetError> {
        self.store.acquit_run(claim).await
    }
    async fn read_record(&self, run: RunId) -> Result<RunRecord, FleetError> {
        self.store.read_record(run).await
    }
    async fn save_steps(&self, group: &[NewStep]) -> Result<Vec<Saved>, FleetError> {
        write!(self, vec![Saved::Lost; group.len()], self.store.save_steps(group))
    }
    async fn settle_step(&self, step: &NewStep) -> Result<Saved, FleetError> {
        write!(self, Saved::Lost, self.store.settle_step(step))
    }
    async fn settle_select(&self, step: &NewStep, lost: &[String]) -> Result<Saved, FleetError> {
        write!(self, Saved::Lost, self.store.settle_select(step, lost))
    }
    async fn transact(&self, step: &NewStep, work: &TransactionWork, cap: usize) -> Result<Transacted, FleetError> {
        self.store.transact(step, work, cap).await
    }
    async fn let_go_runs(&self, group: &[Ending]) -> Result<Vec<LetGo>, FleetError> {
        write!(self, vec![LetGo::Lost; group.len()], self.store.let_go_runs(group))
    }
    async fn start_runs(&self, runs: &[NewRun], again: bool) -> Result<(), FleetError> {
        self.store.start_runs(runs, again).await
    }
    async fn start_run(&self, run: &NewRun) -> Result<Started, FleetError> {
        RunStore::start_run(&self.store, run).await
    }
    async fn start_claimed_runs(&self, births: &[&Birth], claim_id: Uuid) -> Result<DateTime<Utc>, FleetError> {
        let born = self.store.start_claimed_runs(births, claim_id).await;
        self.asked_for_births.fetch_add(1, Ordering::SeqCst);
        self.births.acquire().await.unwrap().forget();
        born
    }
    async fn claim_limited_runs(&self, page: &ClaimPage) -> Result<LimitedClaim, FleetError> {
        self.store.claim_limited_runs(page).await
    }
    async fn continue_runs(&self, group: &[Continuation]) -> Result<Vec<LetGo>, FleetError> {
        write!(self, vec![LetGo::Lost; group.len()], self.store.continue_runs(group))
    }
    async fn start_children(&self, group: &[NewChild]) -> Result<Vec<bool>, FleetError> {
        self.starts.lock().unwrap().push(group.len());
        write!(self, vec![false; group.len()], self.store.start_children(group))
    }
    async fn ended_children(&self, parent: RunId, paths: &[String]) -> Result<Vec<EndedChild>, FleetError> {
        RunStore::ended_children(&self.store, parent, paths).await
    }
    async fn stop_children(&self, run: RunId) -> Result<(), FleetError> {
        self.store.stop_children(run).await
    }
    async fn cancel_run(&self, run: RunId, reason: &str) -> Result<(), FleetError> {
        RunStore::cancel_run(&self.store, run, reason).await
    }
    async fn publish(&self, group: &[NewPublication]) -> Result<Vec<Saved>, FleetError> {
        write!(self, vec![Saved::Lost; group.len()], self.store.publish(group))
    }
    async fn read_queues(&self, workflows: &[String]) -> Result<QueueNews, FleetError> {
        self.asked_for_queues.fetch_add(1, Ordering::SeqCst);
        if self.hides_queues.load(Ordering::SeqCst) {
            return Err(FleetError::Unanswered("away".to_owned()));
        }
        self.store.read_queues(workflows).await
    }
    async fn waiting_queues(&self, queues: &[String]) -> Result<Vec<String>, FleetError> {
        self.store.waiting_queues(queues).await
    }
    async fn suspect_queues(&self) -> Result<Vec<String>, FleetError> {
        self.store.suspect_queues().await
    }
    async fn wake_runs(&self, runs: &[RunId]) -> Result<u64, FleetError> {
        self.store.wake_runs(runs).await
    }
    async fn signal_run(&self, signal: &NewSignal) -> Result<Signalled, FleetError> {
        self.store.signal_run(signal).await
    }
    async fn poked_runs(&self, runs: &[RunId]) -> Result<Vec<Poked>, FleetError> {
        self.store.poked_runs(runs).await
    }
    async fn read_news(&self, runs: &[RunId]) -> Result<Vec<News>, FleetError> {
        let is_deaf = |left: u32| left.checked_sub(1);
        if self
            .deaf
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_deaf)
            .is_ok()
        {
            return Err(FleetError::Unanswered("away".to_owned()));
        }
        self.store.read_news(runs).await
    }
    async fn next_due(&self, queues: &[String]) -> Result<Option<Duration>, FleetError> {
        self.store.next_due(queues).await
    }
}

/// One run and its code.
pub(super) struct Trial {
    pub(super) store: MemoryRunStore,
    pub(super) shared: Arc<Shared>,
    pub(super) run: RunId,
    mortal: Arc<Mortal>,
    clock: Arc<VirtualClock>,
}

impl Trial {
    pub(super) fn new(code: Code) -> Self {
        Self::dying(code, None)
    }

    pub(super) fn dying(code: Code, death: Option<Death>) -> Self {
        let clock = Arc::new(VirtualClock::new(Utc::now()));
        let store = MemoryRunStore::new(clock.clone(), LEASE);
        let mut start = RunStart::new("tested");
        start.request.id = RUN;
        start.request.params = b"null".to_vec();
        let run = store.start_run(start).unwrap().unwrap();
        Self::with(store, clock, run, code, death, Arc::new(SystemClock))
    }

    /// Other code for the run.
    pub(super) fn replaced(&self, code: Code) -> Self {
        self.waiting_by(code, Arc::new(SystemClock))
    }

    /// The same, which waits by another clock.
    pub(super) fn waiting_by(&self, code: Code, waits_by: Arc<dyn Clock>) -> Self {
        Self::with(self.store.clone(), self.clock.clone(), self.run, code, None, waits_by)
    }

    fn with(
        store: MemoryRunStore,
        clock: Arc<VirtualClock>,
        run: RunId,
        code: Code,
        death: Option<Death>,
        waits_by: Arc<dyn Clock>,
    ) -> Self {
        let mortal = Arc::new(Mortal {
            store: store.clone(),
            death: Mutex::new(death),
            writes: AtomicU32::new(0),
            starts: Mutex::default(),
            hides_queues: AtomicBool::new(false),
            asked_for_queues: AtomicU32::new(0),
            births: Semaphore::new(1),
            asked_for_births: AtomicU32::new(0),
            deaf: AtomicU32::new(0),
        });
        let mut registry = Registry::default();
        registry.add(code);
        let mut settings = ExecutionSettings::new(Uuid::nil());
        settings.cancel_grace = Duration::from_millis(300);
        settings.poll = Duration::from_millis(20);
        let executor = Executor::new(ExecutorParts {
            fleet: Arc::new(store.clone()),
            runs: mortal.clone(),
            publisher: Arc::new(NoPublisher),
            breakers: Arc::new(Breakers::new(BreakerPolicy::default())),
            door: None,
            registry,
            resources: Resources::default(),
            settings,
            hints: Arc::new(Hints::default()),
            clock: waits_by,
        });
        Self {
            shared: executor.shared(),
            store,
            run,
            mortal,
            clock,
        }
    }

    /// Takes the run; time jumps to when it is due. None: it waits for something that nobody does.
    pub(super) async fn claim(&self) -> Option<(RunClaim, WorkRun)> {
        let view = self.view();
        if let (Some(at), None) = (view.wake_at, view.claim) {
            self.clock.advance((at - self.clock.now()).to_std().unwrap_or_default());
        }
        let page = page("tested", 1, self.shared.registry.runnable());
        self.store.claim_runs(&page).await.unwrap().into_iter().next()
    }

    pub(super) async fn drive(&self, (claim, run): (RunClaim, WorkRun)) {
        let driven = drive(self.shared.clone(), claim, run, Instant::now());
        tokio::time::timeout(Duration::from_secs(20), driven).await.unwrap();
    }

    /// Claims the run once and runs its code; false when there is nothing to claim.
    pub(super) async fn turn(&self) -> bool {
        let Some(claimed) = self.claim().await else {
            return false;
        };
        self.drive(claimed).await;
        true
    }

    /// Runs it until it is over or waits for something that nobody does.
    pub(super) async fn play(&self) -> RunView {
        for _ in 0..MOST_TURNS {
            if !self.turn().await {
                return self.view();
            }
        }
        unreachable!("it goes round in a circle: {:?}", self.view())
    }

    pub(super) fn view(&self) -> RunView {
        self.store.view(self.run).unwrap()
    }

    /// How it ended, and why.
    pub(super) fn end(&self) -> (&'static str, String) {
        let view = self.view();
        (view.status, view.reason.unwrap_or_default())
    }

    pub(super) fn output(&self) -> String {
        String::from_utf8(self.view().output.unwrap_or_default()).unwrap()
    }

    /// Holds that this is what it gave, whenever its holder died.
    pub(super) fn gives(&self, output: &str, death: Death) {
        assert_eq!(self.output(), output, "{death:?} {:?} {:?}", self.end(), self.rows());
    }

    /// From now on what is set for queues can be read, or not.
    pub(super) fn hide_queues(&self, hides: bool) {
        self.mortal.hides_queues.store(hides, Ordering::SeqCst);
    }

    /// How often it was asked for.
    pub(super) fn asked_for_queues(&self) -> u32 {
        self.mortal.asked_for_queues.load(Ordering::SeqCst)
    }

    /// The next time what reached the run cannot be read.
    pub(super) fn is_deaf_once(&self) {
        self.mortal.deaf.store(1, Ordering::SeqCst);
    }

    /// Whether it was tried to read it, in vain.
    pub(super) fn was_deaf(&self) -> bool {
        self.mortal.deaf.load(Ordering::SeqCst) == 0
    }

    /// How often claimed runs were started.
    pub(super) fn asked_for_births(&self) -> u32 {
        self.mortal.asked_for_births.load(Ordering::SeqCst)
    }

    /// One more such start is answered; the first one is without that.
    pub(super) fn answer_birth(&self) {
        self.mortal.births.add_permits(1);
    }

    pub(super) fn writes(&self) -> u32 {
        self.mortal.writes.load(Ordering::SeqCst)
    }

    /// Its holder dies at that write, counted from here.
    pub(super) fn dies(&self, death: Death) {
        self.mortal.writes.store(0, Ordering::SeqCst);
        *self.mortal.death.lock().unwrap() = Some(death);
    }

    /// How many children each page started.
    pub(super) fn starts(&self) -> Vec<usize> {
        self.mortal.starts.lock().unwrap().clone()
    }

    /// How often it was let go of to wait.
    pub(super) fn waits(&self) -> usize {
        let changes = self.store.changes(self.run).into_iter();
        changes.filter(|change| change.to == "suspended").count()
    }

    pub(super) fn step(&self, path: &str) -> StepState {
        let mut steps = self.store.steps(self.run).into_iter();
        steps.find(|step| step.path == path).unwrap()
    }

    /// The rows of the run, path and state.
    pub(super) fn rows(&self) -> Vec<String> {
        let steps = self.store.steps(self.run).into_iter();
        steps
            .map(|step| format!("{} {}", step.path, step.status.as_str()))
            .collect()
    }

    pub(super) async fn send(&self, name: &str, payload: impl Into<serde_json::Value>) {
        let signal = NewSignal {
            run: self.run,
            name: name.to_owned(),
            payload: payload.into(),
            idempotency_key: None,
            actor: None,
            reason: None,
        };
        assert_eq!(self.store.signal_run(&signal).await.unwrap(), Signalled::Sent);
    }

    /// What the keeper would hear.
    pub(super) async fn tell(&self) {
        let poked = self.store.poked_runs(&[self.run]).await.unwrap();
        for held in self.shared.book.runs() {
            held.heard(&poked[0]);
        }
    }

    pub(super) async fn cancel(&self) -> &'static str {
        let answer = self.store.cancel_run(self.run, "enough");
        self.tell().await;
        answer
    }
}

/// So many runs of a queue, for whoever has this code.
pub(super) fn page(queue: &str, take: u32, runnable: Vec<Runnable>) -> ClaimPage {
    ClaimPage {
        claim_id: Uuid::new_v4(),
        shares: vec![Share {
            queue: queue.to_owned(),
            take,
        }],
        runnable,
        suspects: false,
    }
}

/// Waits until it is so.
pub(super) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waited = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), waited).await;
    assert!(waited.is_ok(), "never: {what}");
}

/// What was really done, in order.
#[derive(Clone, Default)]
pub(super) struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    pub(super) fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub(super) fn notes(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(super) fn count(&self, what: &str) -> usize {
        self.notes().iter().filter(|note| *note == what).count()
    }

    /// Only what undid something.
    pub(super) fn undone(&self) -> Vec<String> {
        let notes = self.notes().into_iter();
        notes.filter(|note| note.starts_with("undo ")).collect()
    }

    /// A step that is noted and can be undone, which is noted with what the step returned.
    pub(super) fn undoable(
        &self,
        ctx: &Context,
        name: &'static str,
        returns: u32,
    ) -> impl Future<Output = anyhow::Result<u32>> + Send + use<> {
        let (does, undoes) = (self.clone(), self.clone());
        ctx.step_with_undo(
            name,
            StepOptions::default(),
            move || {
                does.note(name);
                async move { anyhow::Ok(returns) }
            },
            move |returned: Option<u32>| {
                undoes.note(match returned {
                    Some(returned) => format!("undo {name} {returned}"),
                    None => format!("undo {name} perhaps"),
                });
                async { anyhow::Ok(()) }
            },
        )
    }
}

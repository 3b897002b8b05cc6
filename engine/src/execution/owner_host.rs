//! Carries out the steps of a run that is ours: what is recorded is answered, what is new is done and recorded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::pending;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use tokio::sync::Notify;

use super::book::HeldRun;
use super::executor::Shared;
use super::history::{Asked, History, Version, version_path};
use super::planner::{self, PlanEnd};
use crate::lifecycle::{Kind, NewStep, News, OpenWait, Saved, Signal, StepState, StepStatus, TransactionWork, WorkRun};
use crate::workflow::{Action, ContextHost, Done, FanOut, Outcome, Place, StepOptions, WaitFor, to_json};

/// Why a run's code was left before it ended.
#[derive(Debug)]
pub(super) enum Left {
    /// It was let go of: it waits.
    Gone,
    /// It was paused or asked to stop.
    Halted,
    /// Somebody took over.
    Lost,
    /// The store or the source failed; try again.
    Retry(String),
    /// Its code is not the one that ran before; says how.
    Diverged(String),
}

/// What a run that does nothing waits for.
#[derive(Debug, PartialEq)]
pub(super) struct Stalled {
    /// Wake-ups seen.
    pub(super) seen: i64,
    /// When the first of its timers ends.
    pub(super) due_at: Option<DateTime<Utc>>,
    /// Fan-outs are among what it waits for.
    pub(super) batches: bool,
    /// All others.
    pub(super) waits: Vec<OpenWait>,
}

#[derive(Debug)]
struct State {
    history: History,
    left: Option<Left>,
    /// Steps on their way: closures, checkpoints, plans. While there are any the run does something.
    operations: u32,
    has_batches: bool,
    waits: BTreeMap<String, OpenWait>,
    signals: VecDeque<Signal>,
    /// Signals that a step has taken here, though the store may not have heard so yet.
    taken: BTreeSet<i64>,
    seen: i64,
}

pub(super) struct OwnerHost {
    pub(super) shared: Arc<Shared>,
    pub(super) held: Arc<HeldRun>,
    run: Arc<WorkRun>,
    state: Mutex<State>,
    /// Something came that a wait may have waited for.
    came: Notify,
    /// Whoever polls the code.
    poller: AtomicWaker,
    /// The database's clock when the claim was heard of.
    heard: (DateTime<Utc>, Instant),
}

impl OwnerHost {
    pub(super) fn new(shared: Arc<Shared>, held: Arc<HeldRun>, run: Arc<WorkRun>) -> Self {
        let state = State {
            history: History::new(&run),
            left: None,
            operations: 0,
            has_batches: run.steps.iter().any(|step| step.kind == Kind::FanOut),
            waits: BTreeMap::new(),
            signals: run.signals.iter().cloned().collect(),
            taken: BTreeSet::new(),
            seen: run.wake_seq,
        };
        Self {
            heard: (run.claimed_at, Instant::now()),
            state: Mutex::new(state),
            came: Notify::new(),
            poller: AtomicWaker::new(),
            shared,
            held,
            run,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The database's time as this process knows it, as exact as it is recorded. It decides nothing in the tables: it is
    /// what the code is told, and so what is recorded.
    pub(super) fn time(&self) -> DateTime<Utc> {
        let (told, then) = self.heard;
        self.shared.clock.store_time(told, then).trunc_subsecs(6)
    }

    /// Whoever polls the code is to look again when an operation ends elsewhere.
    pub(super) fn polled_by(&self, waker: &Waker) {
        self.poller.register(waker);
    }

    /// Why the code is to be left, once.
    pub(super) fn take_left(&self) -> Option<Left> {
        self.lock().left.take()
    }

    /// What the code waits for, when it does nothing else.
    pub(super) fn stalled(&self) -> Option<Stalled> {
        let state = self.lock();
        if state.operations > 0 || state.waits.is_empty() {
            return None;
        }
        let waits = state.waits.values();
        Some(Stalled {
            seen: state.seen,
            due_at: waits.clone().filter_map(|wait| wait.due_at).min(),
            batches: waits.clone().any(|wait| wait.kind == Kind::FanOut),
            waits: waits.filter(|wait| wait.kind != Kind::FanOut).cloned().collect(),
        })
    }

    /// When the first timer of those the code waits for ends.
    pub(super) fn next_due(&self) -> Option<DateTime<Utc>> {
        self.lock().waits.values().filter_map(|wait| wait.due_at).min()
    }

    /// It does nothing until time passes: its timers are short, and its steps pause before their next try.
    pub(super) fn sits(&self) -> bool {
        let pausing = self.held.pausing();
        let state = self.lock();
        let timer = || state.waits.values().any(|wait| wait.due_at.is_some());
        state.operations == pausing && (pausing > 0 || timer())
    }

    /// A step pauses before its next try, though it counts as something that is done.
    pub(super) async fn pause(&self, time: Duration) {
        let pausing = self.held.pause();
        self.poller.wake();
        self.shared.clock.sleep(time).await;
        drop(pausing);
    }

    /// Waits look whether what they wait for has come.
    pub(super) fn ring(&self) {
        self.came.notify_waiters();
    }

    /// What reached the run since it was claimed.
    pub(super) fn hear(&self, news: News) {
        let mut state = self.lock();
        state.seen = state.seen.max(news.wake_seq);
        let taken = &state.taken;
        let signals = news.signals.into_iter().filter(|signal| !taken.contains(&signal.seq));
        state.signals = signals.collect();
        for fan_out in news.fan_outs {
            state.history.learn(fan_out);
        }
        drop(state);
        self.ring();
    }

    /// Wake-ups that were seen.
    pub(super) fn seen(&self) -> i64 {
        self.lock().seen
    }

    /// The run has fan-outs: batches of it may be unfinished.
    pub(super) fn has_batches(&self) -> bool {
        self.lock().has_batches
    }

    /// What the ended code never asked for.
    pub(super) fn never_asked(&self) -> Option<String> {
        self.lock().history.never_asked()
    }

    /// Leaves the code where it is: it never goes on from here.
    pub(super) async fn leave<T>(&self, left: Left) -> T {
        self.lock().left.get_or_insert(left);
        self.poller.wake();
        pending().await
    }

    pub(super) fn ask(&self, place: &Place, kind: Kind) -> Asked {
        self.lock().history.ask(place, kind)
    }

    pub(super) fn begin(self: &Arc<Self>) -> Operation {
        self.lock().operations += 1;
        Operation(self.clone())
    }

    /// Why the run is best left here, between two steps, with nothing of it under way.
    pub(super) fn to_be_left(&self) -> Option<Left> {
        if self.lock().operations > 0 {
            return None;
        }
        if self.held.is_paused() {
            return Some(Left::Halted);
        }
        let stops = self.shared.stopping.is_cancelled();
        stops.then(|| Left::Retry("this replica stops".to_owned()))
    }

    /// Waits until `over` says so; the run may be let go of meanwhile, and then this never ends.
    pub(super) async fn wait_until<T>(self: &Arc<Self>, wait: OpenWait, over: impl Fn(&Self) -> Option<T>) -> T {
        let path = wait.path.clone();
        self.lock().waits.insert(path.clone(), wait);
        // The wait may be awaited in a task of the code's own.
        self.poller.wake();
        let _waiting = Waiting(self.clone(), path);
        loop {
            let mut came = std::pin::pin!(self.came.notified());
            came.as_mut().enable();
            if let Some(over) = over(self) {
                return over;
            }
            came.await;
        }
    }

    pub(super) fn is_past(&self, due_at: Option<DateTime<Utc>>) -> bool {
        due_at.is_some_and(|due| due <= self.time())
    }

    /// Takes the first signal of a name.
    fn take_signal(&self, name: &str) -> Option<Signal> {
        let mut state = self.lock();
        let at = state.signals.iter().position(|signal| signal.name == name)?;
        let signal = state.signals.remove(at)?;
        state.taken.insert(signal.seq);
        Some(signal)
    }

    pub(super) fn new_step(&self, place: String, kind: Kind) -> NewStep {
        let now = self.time();
        NewStep {
            claim: self.held.claim,
            path: place,
            kind,
            status: StepStatus::Completed,
            result: None,
            started_at: now,
            finished_at: now,
            attempts: 0,
            signal_seq: None,
            ends_open: false,
        }
    }

    /// Records the end of a step.
    pub(super) async fn save(&self, step: NewStep) -> anyhow::Result<Done> {
        fail::fail_point!("step.before_save");
        let told = step.clone().into_state();
        match self.shared.checkpoints.save(&self.held, step).await {
            Ok(Saved::Done) => done(told),
            // What was taken or begun here may be another's now: the code is run again over what is recorded.
            Ok(Saved::Adopted(earlier)) if earlier.kind == Kind::Signal || !same_kind(&told, &earlier) => {
                let why = format!("step {} has another's result", earlier.path);
                self.leave(Left::Retry(why)).await
            }
            Ok(Saved::Adopted(earlier)) => done(*earlier),
            Ok(Saved::Lost) => self.leave(Left::Lost).await,
            // Not for want of a store: what is to be recorded will never be taken.
            Err(error) => Err(anyhow::anyhow!("step {} cannot be recorded: {error}", told.path)),
        }
    }

    async fn plan_and_wait(self: Arc<Self>, path: String, fan_out: Arc<dyn FanOut>) -> anyhow::Result<Done> {
        let known = self.shared.fan_outs.learn(&self.run, &path, fan_out);
        let operation = self.begin();
        self.lock().has_batches = true;
        match planner::plan(&self.shared, &self.held.claim, &known).await {
            Ok(PlanEnd::Whole) => {}
            Ok(PlanEnd::Halted) => return self.leave(Left::Halted).await,
            Ok(PlanEnd::Lost) => return self.leave(Left::Lost).await,
            Ok(PlanEnd::Retry(why)) => return self.leave(Left::Retry(why)).await,
            Err(error) => return Err(error.context(format!("planning step {path}"))),
        }
        // Nothing to send, or all of it sent while we planned.
        if let Err(error) = self.shared.fleet.complete_fan_out(self.run.id, &path).await {
            tracing::warn!(run = %self.run.id, step = path, %error, "could not complete the fan-out");
        }
        drop(operation);
        let wait = OpenWait {
            path: path.clone(),
            kind: Kind::FanOut,
            due_at: None,
            attempts: 0,
        };
        let over = |host: &Self| {
            let state = host.lock();
            let step = state.history.step(&path)?;
            (step.status != StepStatus::Open).then(|| step.clone())
        };
        done(self.wait_until(wait, over).await)
    }
}

fn same_kind(one: &StepState, other: &StepState) -> bool {
    one.kind == other.kind && other.status != StepStatus::Open
}

/// A step on its way.
pub(super) struct Operation(Arc<OwnerHost>);

impl Drop for Operation {
    fn drop(&mut self) {
        self.0.lock().operations -= 1;
        // Whoever polls the code may be told nothing else: the step may have been awaited in another task.
        self.0.poller.wake();
    }
}

/// A wait that the code is at.
struct Waiting(Arc<OwnerHost>, String);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.lock().waits.remove(&self.1);
    }
}

/// A recorded end, as the code is told.
pub(super) fn done(step: StepState) -> anyhow::Result<Done> {
    let at = step.finished_at.unwrap_or(step.started_at);
    let failed = step.status == StepStatus::Failed;
    Ok(Done {
        failed: match &step.result {
            Some(result) if failed => Some(serde_json::from_slice(result).map_err(|error| {
                anyhow::anyhow!("the recorded failure of step {} does not read: {error}", step.path)
            })?),
            _ => None,
        },
        result: step.result,
        at,
    })
}

impl ContextHost for OwnerHost {
    fn step(self: Arc<Self>, place: Place, options: StepOptions, action: Action) -> Outcome {
        let asked = self.ask(&place, Kind::Step);
        self.run_step(place, options, action, asked).boxed()
    }

    fn transact(self: Arc<Self>, place: Place, work: TransactionWork) -> Outcome {
        let asked = self.ask(&place, Kind::Transaction);
        self.run_transaction(place, work, asked).boxed()
    }

    fn wait(self: Arc<Self>, place: Place, wait: WaitFor) -> Outcome {
        let (kind, due_at) = match wait {
            WaitFor::Instant(at) => (Kind::Sleep, Some(at)),
            WaitFor::Signal { until } => (Kind::Signal, until),
        };
        let asked = self.ask(&place, kind);
        async move {
            let (open, due_at) = match asked {
                Asked::Ended(step) => return done(step),
                Asked::Diverged(how) => return self.leave(Left::Diverged(how)).await,
                // What it said when it began to wait counts.
                Asked::Open(step) => (true, step.due_at),
                Asked::New => (false, due_at),
            };
            let mut step = self.new_step(place.to_string(), kind);
            step.ends_open = open;
            let wait = OpenWait {
                path: step.path.clone(),
                kind,
                due_at,
                attempts: 0,
            };
            let over = |host: &Self| {
                let signal = (kind == Kind::Signal).then(|| host.take_signal(&place.name)).flatten();
                (signal.is_some() || host.is_past(due_at)).then_some(signal)
            };
            let signal = self.wait_until(wait, over).await;
            let _operation = self.begin();
            step.finished_at = match (&signal, due_at) {
                (None, Some(due)) => due,
                _ => self.time(),
            };
            step.signal_seq = signal.as_ref().map(|signal| signal.seq);
            step.result = signal.map(|signal| signal.payload);
            self.save(step).await
        }
        .boxed()
    }

    fn fan_out(self: Arc<Self>, place: Place, fan_out: Arc<dyn FanOut>) -> Outcome {
        let asked = self.ask(&place, Kind::FanOut);
        async move {
            match asked {
                Asked::Ended(step) => done(step),
                Asked::Diverged(how) => self.leave(Left::Diverged(how)).await,
                Asked::Open(_) | Asked::New => self.plan_and_wait(place.to_string(), fan_out).await,
            }
        }
        .boxed()
    }

    fn join(self: Arc<Self>, place: Place) -> BoxFuture<'static, anyhow::Result<()>> {
        let differs = self.lock().history.ask_join(&place);
        async move {
            match differs {
                Some(how) => self.leave(Left::Diverged(how)).await,
                None => Ok(()),
            }
        }
        .boxed()
    }

    fn version(
        self: Arc<Self>,
        prefix: String,
        next: u32,
        change: String,
        range: RangeInclusive<u32>,
    ) -> BoxFuture<'static, anyhow::Result<u32>> {
        let version = self.lock().history.version(&prefix, next, &change, &range);
        async move {
            let new = match version {
                Version::Taken(version) => return Ok(version),
                Version::Diverged(how) => return self.leave(Left::Diverged(how)).await,
                Version::New(version) => version,
            };
            let _operation = self.begin();
            let mut step = self.new_step(version_path(&prefix, &change), Kind::Version);
            step.result = Some(to_json(&new)?);
            let recorded = self.save(step).await?.result.unwrap_or_default();
            Ok(serde_json::from_slice(&recorded)?)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::book::Lease;
    use super::super::fake::{RUN, Stage};
    use super::*;
    use crate::workflow::{Context, Workflow};

    struct Nothing;

    impl Workflow for Nothing {
        const NAME: &'static str = "tested";
        type Input = ();
        type Output = ();

        async fn run(&self, _: Context, (): ()) -> anyhow::Result<()> {
            Ok(())
        }
    }

    /// The store still lists a signal while the step that took it is on its way to be recorded.
    #[tokio::test]
    async fn a_signal_that_was_taken_here_is_not_taken_again() {
        let stage = Stage::new(Nothing);
        let (claim, run) = stage.store.claim().unwrap();
        let held = Arc::new(HeldRun::new(
            claim,
            Lease::new(Instant::now(), std::time::Duration::MAX / 4),
            0,
        ));
        let host = OwnerHost::new(stage.shared.clone(), held, Arc::new(run));
        let listed = |seq| Signal {
            seq,
            name: "go".to_owned(),
            payload: b"1".to_vec(),
        };
        let news = |wake_seq, signals| News {
            run: RUN,
            wake_seq,
            signals,
            fan_outs: Vec::new(),
        };
        host.hear(news(1, vec![listed(1)]));
        assert_eq!(host.take_signal("other"), None);
        assert_eq!(host.take_signal("go"), Some(listed(1)));
        host.hear(news(2, vec![listed(1), listed(2)]));
        assert_eq!((host.take_signal("go"), host.seen()), (Some(listed(2)), 2));
        assert_eq!(host.take_signal("go"), None);
    }
}

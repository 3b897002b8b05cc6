//! What this process knows of a run that is ours, and how its steps are recorded.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use futures::task::AtomicWaker;
use tokio::sync::Notify;

use super::book::HeldRun;
use super::executor::Shared;
use super::history::{Asked, History};
use super::run_told::RunTold;
use super::under_way::UnderWay;
use super::undoables::Undoables;
use super::unwinding::Unwinding;
use crate::lifecycle::{
    EndedChild, FleetError, Kind, NewStep, News, OpenWait, RunId, RunRecord, Saved, Signal, StepState, StepStatus,
    WorkRun, derived_id,
};
use crate::workflow::{Done, Place, StepError, misfit};

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
    /// It ran longer than its queue lets code run.
    Overran(Duration),
    /// Its code is not the one that ran before, or not one that can be run again; says how.
    Diverged(String),
    /// It was to stop, and what it did is undone.
    Unwound,
    /// What it did cannot all be undone; says why, and what is left.
    NotUndone(String, Vec<OpenWait>),
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) history: History,
    left: Option<Left>,
    /// Steps on their way: closures, checkpoints, plans. While there are any the run does something.
    pub(super) operations: u32,
    /// Steps that are not begun because the run is best left: it is, once nothing of it is under way.
    held_back: u32,
    pub(super) has_batches: bool,
    /// What the code is at that something outside ends.
    pub(super) waits: BTreeMap<String, OpenWait>,
    pub(super) signals: VecDeque<Signal>,
    /// Signals that a step, by its path, has taken here, though the store may not have heard so yet.
    pub(super) taken: BTreeMap<i64, String>,
    pub(super) seen: i64,
    /// Children whose end is not recorded, by the step that started them.
    pub(super) unread: HashSet<String>,
    /// Those of which it is known how they ended.
    pub(super) ended_children: HashMap<String, EndedChild>,
    /// Paths of steps that are recorded whether or not the code still waits for them.
    pub(super) writing: BTreeSet<String>,
    pub(super) under_way: UnderWay,
    pub(super) unwinding: Unwinding,
    pub(super) undoables: Undoables,
}

pub(super) struct OwnerHost {
    pub(super) shared: Arc<Shared>,
    pub(super) held: Arc<HeldRun>,
    pub(super) run: Arc<WorkRun>,
    /// What is told of it.
    pub(super) told: Arc<RunTold>,
    state: Mutex<State>,
    /// Something came that a wait may have waited for.
    pub(super) came: Notify,
    /// Rings when refusals are told.
    pub(super) refusals_told: Notify,
    /// Whoever polls the code.
    pub(super) poller: AtomicWaker,
    /// The database's clock when the claim was heard of.
    heard: (DateTime<Utc>, Instant),
    /// Just after the last thing that was recorded before.
    floor: DateTime<Utc>,
}

impl OwnerHost {
    pub(super) fn new(shared: Arc<Shared>, held: Arc<HeldRun>, run: Arc<WorkRun>, record: RunRecord) -> Self {
        let RunRecord { steps, signals } = record;
        let floor = floor(&run, &steps);
        let told = Arc::new(RunTold::begin(run.clone(), held.claim, &steps));
        let state = State {
            left: None,
            operations: 0,
            held_back: 0,
            has_batches: steps.iter().any(|step| step.kind == Kind::FanOut),
            waits: BTreeMap::new(),
            signals: signals.into(),
            taken: BTreeMap::new(),
            seen: run.wake_seq,
            unread: unread_children(&steps),
            ended_children: HashMap::new(),
            writing: BTreeSet::new(),
            under_way: UnderWay::default(),
            unwinding: Unwinding::of(&run, &steps),
            undoables: Undoables::default(),
            history: History::new(&run, steps),
        };
        Self {
            told,
            heard: (run.claimed_at, Instant::now()),
            floor,
            state: Mutex::new(state),
            came: Notify::new(),
            refusals_told: Notify::new(),
            poller: AtomicWaker::new(),
            shared,
            held,
            run,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The database's time as this process knows it, as exact as it is recorded. It decides nothing in the tables: it is
    /// what the code is told, and so what is recorded.
    pub(super) fn time(&self) -> DateTime<Utc> {
        let (told, then) = self.heard;
        self.shared.clock.store_time(told, then).trunc_subsecs(6)
    }

    /// When something is recorded to have happened: never before what is recorded already, whatever the clocks do.
    pub(super) fn stamp(&self) -> DateTime<Utc> {
        self.time().max(self.floor)
    }

    /// The code is polled; whoever does it is to look again when an operation ends elsewhere.
    pub(super) fn polled_by(&self, waker: &Waker) {
        self.poller.register(waker);
        self.lock().under_way.failed = false;
    }

    /// Why the code is to be left, once.
    pub(super) fn take_left(&self) -> Option<Left> {
        let mut state = self.lock();
        if let Some(left) = state.left.take() {
            return Some(left);
        }
        if state.held_back == 0 || state.operations > 0 {
            return None;
        }
        drop(state);
        self.is_best_left()
    }

    /// Says what is waited for until the code is polled again. It sits when it does nothing until time passes: its timers are
    /// short, and its steps pause before their next try.
    pub(super) fn rests(&self) {
        let pausing = self.held.pausing();
        let state = self.lock();
        let timer = || state.waits.values().any(|wait| wait.due_at.is_some());
        self.held.sits(state.operations == pausing && (pausing > 0 || timer()));
        self.held.awaits_child(state.unheard_children().next().is_some());
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
        let signals = news
            .signals
            .into_iter()
            .filter(|signal| !taken.contains_key(&signal.seq));
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

    /// Why nothing new of the run is to begin here.
    fn is_best_left(&self) -> Option<Left> {
        if self.held.is_paused() && !self.unwinds() {
            return Some(Left::Halted);
        }
        let stops = self.shared.stopping.is_cancelled();
        stops.then(|| Left::Retry("this replica stops".to_owned()))
    }

    /// Begins what is new. While the run is best left it is held back, and the run is left as soon as what is under way has
    /// ended, however the steps of its branches overlap.
    pub(super) async fn begin_new(self: &Arc<Self>, path: &str) -> anyhow::Result<Operation> {
        let mut held_back = None;
        loop {
            let mut came = std::pin::pin!(self.came.notified());
            came.as_mut().enable();
            if self.unwinds() {
                drop(held_back);
                return self.refused(path).await;
            }
            if self.is_best_left().is_none() {
                return Ok(self.begin());
            }
            held_back.get_or_insert_with(|| HeldBack::new(self.clone()));
            came.await;
        }
    }

    pub(super) fn new_step(&self, place: String, kind: Kind) -> NewStep {
        let now = self.stamp();
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

    /// Records the end of a step, or its beginning.
    pub(super) async fn save(&self, step: NewStep) -> anyhow::Result<Done> {
        fail::fail_point!("step.before_save");
        let told = step.clone().into_state();
        let saved = self.shared.checkpoints.save(&self.held, step).await;
        self.saved(told, saved).await
    }

    /// What the code is told of a step that was to be recorded like this.
    pub(super) async fn saved(&self, told: StepState, saved: Result<Saved, FleetError>) -> anyhow::Result<Done> {
        match saved {
            Ok(Saved::Done) => {
                self.told.recorded(&told, false);
                done(told)
            }
            // What was taken or begun here may be another's now: the code is run again over what is recorded.
            Ok(Saved::Adopted(earlier))
                if matches!(earlier.kind, Kind::Signal | Kind::Select) || !same_kind(&told, &earlier) =>
            {
                let why = format!("step {} has another's result", earlier.path);
                self.leave(Left::Retry(why)).await
            }
            Ok(Saved::Adopted(earlier)) => {
                self.told.recorded(&earlier, true);
                done(*earlier)
            }
            Ok(Saved::Lost) => self.leave(Left::Lost).await,
            // Whoever wrote for many has ended before its time: what is recorded, a replay finds.
            Err(error @ (FleetError::Unanswered(_) | FleetError::NotNow(_))) => {
                self.leave(Left::Retry(error.to_string())).await
            }
            // Not for want of a store: what is to be recorded will never be taken.
            Err(error) => self.doom(anyhow::anyhow!("step {} cannot be recorded: {error}", told.path)),
        }
    }
}

fn unread_children(steps: &[StepState]) -> HashSet<String> {
    let unread = steps
        .iter()
        .filter(|step| step.kind == Kind::Child && step.status == StepStatus::Open);
    unread.map(|step| step.path.clone()).collect()
}

fn floor(run: &WorkRun, steps: &[StepState]) -> DateTime<Utc> {
    let ended = steps.iter().filter_map(|step| step.finished_at);
    let last = ended.max().unwrap_or(run.claimed_at);
    last.checked_add_signed(TimeDelta::microseconds(1)).unwrap_or(last)
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

/// A step that is not begun.
struct HeldBack(Arc<OwnerHost>);

impl HeldBack {
    fn new(host: Arc<OwnerHost>) -> Self {
        host.lock().held_back += 1;
        host.poller.wake();
        Self(host)
    }
}

impl Drop for HeldBack {
    fn drop(&mut self) {
        self.0.lock().held_back -= 1;
    }
}

/// A recorded end, as the code is told.
pub(super) fn done(step: StepState) -> anyhow::Result<Done> {
    let at = step.finished_at.unwrap_or(step.started_at);
    let failed = step.status == StepStatus::Failed;
    Ok(Done {
        failed: match &step.result {
            Some(result) if failed => Some(serde_json::from_slice(result).map_err(|error| {
                let why = misfit(&error);
                anyhow::anyhow!("the recorded failure of step {} does not read: {why}", step.path)
            })?),
            _ => None,
        },
        result: step.result,
        at,
    })
}

/// The same of one that may have been dropped: the run that this one does again never heard its end, and this one cannot.
pub(super) fn recorded_end(run: RunId, step: StepState) -> anyhow::Result<Done> {
    if step.status != StepStatus::Dropped {
        return done(step);
    }
    let path = step.path;
    let why = "the run that this one does again was over before it heard the end; retry from this step to do it again";
    let failed = match step.kind {
        Kind::Child => StepError::Child {
            child: derived_id(run, &path),
            path,
            cancelled: false,
            reason: why.to_owned(),
        },
        _ => StepError::Failed {
            path,
            attempts: step.attempts.into(),
            message: why.to_owned(),
        },
    };
    Ok(Done {
        result: None,
        failed: Some(failed),
        at: step.finished_at.unwrap_or(step.started_at),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::book::Lease;
    use super::super::run_task_tests::code;
    use super::super::trial::{RUN, Trial};
    use super::*;

    /// The store still lists a signal while the step that took it is on its way to be recorded.
    #[tokio::test]
    async fn a_signal_that_was_taken_here_is_not_taken_again() {
        let trial = Trial::new(code(|_| async { Ok(String::new()) }));
        let (claim, mut run) = trial.claim().await.unwrap();
        let held = Arc::new(HeldRun::new(
            claim,
            Lease::new(Instant::now(), std::time::Duration::MAX / 4),
            0,
        ));
        let record = run.take_record();
        let host = OwnerHost::new(trial.shared.clone(), held, Arc::new(run), record);
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
        let take = |name: &str| {
            host.take_signal(&Place {
                prefix: String::new(),
                ordinal: 0,
                name: name.to_owned(),
            })
        };
        host.hear(news(1, vec![listed(1)]));
        assert_eq!(take("other"), None);
        assert_eq!(take("go"), Some(listed(1)));
        host.hear(news(2, vec![listed(1), listed(2)]));
        assert_eq!((take("go"), host.seen()), (Some(listed(2)), 2));
        assert_eq!(take("go"), None);
    }
}

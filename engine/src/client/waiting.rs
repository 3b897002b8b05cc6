//! Waiting for the ends of runs: those that end in this process are told; the others are asked for, many together, each at
//! first often, then more and more rarely.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::RunStatus;
use crate::lifecycle::RunId;
use crate::local::Local;
use crate::postgres::DatabaseError;

/// Between the first looks for a run.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// Before the first look for a run whose code runs in this process.
const FIRST_LOOK_HERE: Duration = Duration::from_millis(100);
/// Looks so close to each other are one.
const COALESCED: Duration = Duration::from_millis(2);
/// Between looks for a run that does not end.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Runs asked for at once.
const PAGE: usize = 1000;

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EndedRun {
    /// Its state; none: it is not there.
    pub(crate) status: Option<RunStatus>,
    /// What it returned, exact bytes of a JSON document.
    pub(crate) output: Option<Vec<u8>>,
    /// Why it has the state it has.
    pub(crate) reason: Option<String>,
    /// The run that goes on in its place.
    pub(crate) continued_as: Option<RunId>,
    /// Why it cannot be asked for, however long one waits.
    pub(crate) refused: Option<DatabaseError>,
}

impl EndedRun {
    fn refused(error: DatabaseError) -> Self {
        Self {
            refused: Some(error),
            ..Self::default()
        }
    }
}

/// Says which of these runs are over.
#[async_trait]
pub(crate) trait AskRuns: Send + Sync {
    async fn ended_runs(&self, runs: Vec<RunId>) -> Result<Vec<(RunId, EndedRun)>, DatabaseError>;
}

/// When a run is looked for next, and how long after that again.
struct Look {
    at: Instant,
    pause: Duration,
}

#[derive(Default)]
struct Looks {
    runs: HashMap<RunId, Look>,
    /// Somebody asks.
    asked: bool,
}

pub(super) struct Waiting {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn AskRuns>,
    local: Arc<Local>,
    looks: Mutex<Looks>,
    more: Notify,
}

impl Waiting {
    pub(super) fn new(store: Arc<dyn AskRuns>, local: Arc<Local>) -> Self {
        Self {
            inner: Arc::new(Inner {
                store,
                local,
                looks: Mutex::default(),
                more: Notify::new(),
            }),
        }
    }

    /// Waits until a run is over; one that is new is not looked for at once.
    pub(super) async fn ended(&self, run: RunId, mut is_new: bool) -> EndedRun {
        loop {
            let (sender, answer) = oneshot::channel();
            self.inner.local.wait(run, sender);
            if self.inner.add(run, std::mem::take(&mut is_new)) {
                let asking = Asking {
                    inner: self.inner.clone(),
                    is_over: false,
                };
                tokio::spawn(async move { asking.ask().await });
            }
            // None when the runtime that asked has ended: from now on this one asks.
            if let Ok(ended) = answer.await {
                return ended;
            }
        }
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for a run from now on, or anew: somebody has come who may know that it is over. True: somebody has to ask.
    fn add(&self, run: RunId, is_new: bool) -> bool {
        let is_here = self.local.is_here(run);
        let (first, pause) = match is_here {
            // It most likely ends here, and is told.
            true => (FIRST_LOOK_HERE, FIRST_LOOK_HERE),
            // Whoever claims it has better use for the processor.
            false if is_new => (FIRST_PAUSE, FIRST_PAUSE),
            false => (Duration::ZERO, FIRST_PAUSE),
        };
        let at = Instant::now() + first;
        let mut looks = self.lock();
        looks.runs.insert(run, Look { at, pause });
        if !is_here {
            self.more.notify_one();
        }
        !std::mem::replace(&mut looks.asked, true)
    }

    /// Asks for those that are due.
    async fn ask(&self, due: &[RunId]) {
        for page in due.chunks(PAGE) {
            match self.store.ended_runs(page.to_vec()).await {
                Ok(ended) => self.local.tell(ended.into_iter()),
                Err(error) if error.is_of_the_setup() => {
                    let refused = |run: &RunId| (*run, EndedRun::refused(error.clone()));
                    self.local.tell(page.iter().map(refused));
                }
                Err(error) => tracing::debug!(%error, "could not ask for the ends of runs"),
            }
        }
    }

    /// The runs to look for now, and when to look again; none: nobody waits, and this asking is over.
    fn due(&self) -> Option<(Vec<RunId>, Instant)> {
        let mut looks = self.lock();
        let now = Instant::now();
        let mut due = Vec::new();
        let mut next = now + LONGEST_PAUSE;
        looks.runs.retain(|run, look| {
            // Those that are nearly due go along.
            if look.at <= now + COALESCED {
                if !self.local.is_awaited(*run) {
                    return false;
                }
                due.push(*run);
                look.at = now + look.pause;
                look.pause = (look.pause * 2).min(LONGEST_PAUSE);
            }
            next = next.min(look.at);
            true
        });
        looks.asked = !looks.runs.is_empty();
        // Not more often than the first looks need it.
        looks.asked.then_some((due, next.max(now + FIRST_PAUSE)))
    }
}

/// Whoever asks for all that wait, in whichever runtime.
struct Asking {
    inner: Arc<Inner>,
    /// Nobody waited any more.
    is_over: bool,
}

impl Asking {
    /// Asks until nobody waits.
    async fn ask(mut self) {
        while let Some((due, next)) = self.inner.due() {
            self.inner.ask(&due).await;
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.inner.more.notified() => {}
            }
        }
        self.is_over = true;
    }
}

impl Drop for Asking {
    /// Its runtime has ended: all that wait in others are to ask by themselves.
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let runs = {
            let mut looks = self.inner.lock();
            looks.asked = false;
            std::mem::take(&mut looks.runs)
        };
        self.inner.local.forget(runs.keys());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use uuid::Uuid;

    use super::*;

    /// Answers from the third time on, and only for runs that it is told of.
    #[derive(Default)]
    struct Table {
        asked: AtomicUsize,
        ended: Mutex<Vec<RunId>>,
    }

    #[async_trait]
    impl AskRuns for Table {
        async fn ended_runs(&self, runs: Vec<RunId>) -> Result<Vec<(RunId, EndedRun)>, DatabaseError> {
            if self.asked.fetch_add(1, Ordering::SeqCst) < 2 {
                return Err(DatabaseError::Unanswered("away".to_owned()));
            }
            let ended = self.ended.lock().unwrap();
            let is_over = |run: &RunId| ended.contains(run);
            Ok(runs.into_iter().filter(is_over).map(|run| (run, over())).collect())
        }
    }

    fn over() -> EndedRun {
        EndedRun {
            status: Some(RunStatus::Completed),
            ..EndedRun::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_waits_are_one_question_and_an_outage_is_waited_out() {
        let table = Arc::new(Table::default());
        let waiting = Arc::new(Waiting::new(table.clone(), Arc::default()));
        let runs: Vec<RunId> = (0..500).map(Uuid::from_u128).collect();
        let all = runs.iter().chain(&runs).map(|run| {
            let (waiting, run) = (waiting.clone(), *run);
            tokio::spawn(async move { waiting.ended(run, false).await })
        });
        let all: Vec<_> = all.collect();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(all.iter().all(|wait| !wait.is_finished()));
        table.ended.lock().unwrap().extend(&runs);
        for wait in all {
            assert_eq!(wait.await.unwrap(), over());
        }
        let asked = table.asked.load(Ordering::SeqCst);
        assert!((20..40).contains(&asked), "asked {asked} times in 10 s");
    }

    /// Those who waited beside it, and those who come after it.
    #[test]
    fn who_waits_in_another_runtime_is_told_though_the_one_that_asked_has_ended() {
        let runtime = || {
            let mut alone = tokio::runtime::Builder::new_multi_thread();
            alone.worker_threads(1).enable_all().build().unwrap()
        };
        let table = Arc::new(Table::default());
        let waiting = Arc::new(Waiting::new(table.clone(), Arc::default()));
        let runs = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let wait = |run| {
            let waiting = waiting.clone();
            async move { waiting.ended(run, false).await }
        };
        let asks = runtime();
        let stays = runtime();
        let _first = asks.spawn(wait(runs[0]));
        while table.asked.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        let beside = stays.spawn(wait(runs[0]));
        while waiting.inner.local.awaiting(runs[0]) < 2 {
            std::thread::yield_now();
        }
        drop(asks);
        let after = stays.spawn(wait(runs[1]));
        table.ended.lock().unwrap().extend(runs);
        let told = async {
            let both = async { (beside.await, after.await) };
            tokio::time::timeout(Duration::from_secs(10), both).await.unwrap()
        };
        let (beside, after) = stays.block_on(told);
        assert_eq!((beside.unwrap(), after.unwrap()), (over(), over()));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_asked_when_nobody_waits() {
        let table = Arc::new(Table::default());
        let waiting = Waiting::new(table.clone(), Arc::default());
        let run = Uuid::from_u128(1);
        let gone = tokio::time::timeout(Duration::from_secs(5), waiting.ended(run, false)).await;
        assert!(gone.is_err());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let asked = table.asked.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(table.asked.load(Ordering::SeqCst), asked);
        // Whoever comes later is answered all the same.
        table.ended.lock().unwrap().push(run);
        assert_eq!(waiting.ended(run, false).await, over());
    }
}

//! Waiting for the ends of runs: all waits of a client are asked for together, at first often, then more and more rarely.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, oneshot};

use super::RunStatus;
use crate::lifecycle::RunId;
use crate::postgres::DatabaseError;

/// Between the first looks.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// Between looks while nothing ends.
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
}

/// Says which of these runs are over.
#[async_trait]
pub(crate) trait AskRuns: Send + Sync {
    async fn ended_runs(&self, runs: Vec<RunId>) -> Result<Vec<(RunId, EndedRun)>, DatabaseError>;
}

type Waiters = Vec<oneshot::Sender<EndedRun>>;

#[derive(Default)]
struct Awaited {
    runs: HashMap<RunId, Waiters>,
    /// Somebody asks.
    asked: bool,
}

pub(super) struct Waiting {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn AskRuns>,
    awaited: Mutex<Awaited>,
    more: Notify,
}

impl Waiting {
    pub(super) fn new(store: Arc<dyn AskRuns>) -> Self {
        Self {
            inner: Arc::new(Inner {
                store,
                awaited: Mutex::default(),
                more: Notify::new(),
            }),
        }
    }

    /// Waits until a run is over.
    pub(super) async fn ended(&self, run: RunId) -> EndedRun {
        loop {
            let (sender, answer) = oneshot::channel();
            if self.inner.add(run, sender) {
                tokio::spawn(self.inner.clone().ask());
            }
            self.inner.more.notify_one();
            // None when the runtime that asked has ended.
            if let Ok(ended) = answer.await {
                return ended;
            }
            self.inner.lock().asked = false;
        }
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, Awaited> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a waiter; true: somebody has to ask from now on.
    fn add(&self, run: RunId, waiter: oneshot::Sender<EndedRun>) -> bool {
        let mut awaited = self.lock();
        awaited.runs.entry(run).or_default().push(waiter);
        !std::mem::replace(&mut awaited.asked, true)
    }

    /// Asks until nobody waits.
    async fn ask(self: Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        while let Some(runs) = self.awaited_runs() {
            let mut some_ended = false;
            for page in runs.chunks(PAGE) {
                match self.store.ended_runs(page.to_vec()).await {
                    Ok(ended) => {
                        some_ended |= !ended.is_empty();
                        self.tell(ended);
                    }
                    Err(error) => tracing::debug!(%error, "could not ask for the ends of runs"),
                }
            }
            if some_ended {
                pause = FIRST_PAUSE;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = self.more.notified() => pause = FIRST_PAUSE,
            }
        }
    }

    /// The runs that somebody still waits for; none: this asking is over.
    fn awaited_runs(&self) -> Option<Vec<RunId>> {
        let mut awaited = self.lock();
        awaited.runs.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
        awaited.asked = !awaited.runs.is_empty();
        awaited.asked.then(|| awaited.runs.keys().copied().collect())
    }

    fn tell(&self, ended: Vec<(RunId, EndedRun)>) {
        for (run, end) in ended {
            let waiters = self.lock().runs.remove(&run).unwrap_or_default();
            for waiter in waiters {
                // Whoever waited may have gone.
                let _ = waiter.send(end.clone());
            }
        }
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
        let waiting = Arc::new(Waiting::new(table.clone()));
        let runs: Vec<RunId> = (0..500).map(Uuid::from_u128).collect();
        let all = runs.iter().chain(&runs).map(|run| {
            let (waiting, run) = (waiting.clone(), *run);
            tokio::spawn(async move { waiting.ended(run).await })
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

    #[tokio::test(start_paused = true)]
    async fn nobody_is_asked_when_nobody_waits() {
        let table = Arc::new(Table::default());
        let waiting = Waiting::new(table.clone());
        let run = Uuid::from_u128(1);
        let gone = tokio::time::timeout(Duration::from_secs(5), waiting.ended(run)).await;
        assert!(gone.is_err());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let asked = table.asked.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(table.asked.load(Ordering::SeqCst), asked);
        // Whoever comes later is answered all the same.
        table.ended.lock().unwrap().push(run);
        assert_eq!(waiting.ended(run).await, over());
    }
}

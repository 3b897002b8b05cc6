//! Writes of many runs in one statement: what waits goes together, at once, and each writer hears of its own alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::book::{Fate, HeldRun};
use crate::lifecycle::{FleetError, RunClaim};

/// Most writes in one statement.
const MOST: usize = 1_000;
/// Most bytes of them.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// Statements on their way at once: more would each carry less.
const IN_FLIGHT: usize = 2;
/// When the disk is slow their flushes overlap, so that two more pay.
const IN_FLIGHT_WHEN_SLOW: usize = 4;
const SLOW: Duration = Duration::from_millis(1);
/// Before a store is asked again that could not do it.
const PAUSE: Duration = Duration::from_millis(100);

/// Writes that can go together.
#[async_trait]
pub(crate) trait Together: Send + Sync + 'static {
    /// A write under the claim of a run.
    type Write: Clone + Send + Sync + 'static;
    /// What its writer hears.
    type Answer: Send + 'static;

    fn claim(write: &Self::Write) -> RunClaim;
    fn bytes(write: &Self::Write) -> usize;
    /// What the writer of a lost claim hears.
    fn lost() -> Self::Answer;
    /// All in one commit, or none.
    async fn all(&self, writes: &[Self::Write]) -> Result<Vec<Self::Answer>, FleetError>;
    /// One alone; it recognises its own earlier write, whose answer was lost.
    async fn one(&self, write: &Self::Write) -> Result<Self::Answer, FleetError>;
}

struct Waiting<T: Together> {
    write: T::Write,
    held: Arc<HeldRun>,
    tell: oneshot::Sender<Result<T::Answer, FleetError>>,
}

/// A queue of writes and those on their way.
pub(crate) struct Group<T: Together> {
    queue: mpsc::Sender<Waiting<T>>,
}

impl<T: Together> Group<T> {
    /// A group with room for so many waiting writes; it ends with its last owner.
    pub(crate) fn new(together: Arc<T>, room: usize) -> Self {
        let (queue, waiting) = mpsc::channel(room.max(1));
        tokio::spawn(send_all(together, waiting));
        Self { queue }
    }

    /// Writes, and answers when it is durable. While the store cannot be asked it is tried again, as long as the claim is
    /// trusted; an error is for good, and says that nothing was written.
    pub(crate) async fn write(&self, held: &Arc<HeldRun>, write: T::Write) -> Result<T::Answer, FleetError> {
        debug_assert_eq!(held.claim, T::claim(&write));
        let (tell, told) = oneshot::channel();
        let waiting = Waiting {
            write,
            held: held.clone(),
            tell,
        };
        let over = || FleetError::Unanswered("the process stops".to_owned());
        self.queue.send(waiting).await.map_err(|_| over())?;
        told.await.unwrap_or_else(|_| Err(over()))
    }
}

async fn send_all<T: Together>(together: Arc<T>, mut queue: mpsc::Receiver<Waiting<T>>) {
    let mut flights = JoinSet::new();
    let mut youngest = Instant::now();
    while let Some(first) = queue.recv().await {
        make_room(&mut flights, youngest).await;
        // Whatever came while there was no room goes along; nothing is waited for.
        let mut bytes = T::bytes(&first.write);
        let mut writes = vec![first];
        while writes.len() < MOST && bytes < MOST_BYTES {
            let Ok(next) = queue.try_recv() else { break };
            bytes += T::bytes(&next.write);
            writes.push(next);
        }
        // Rows are locked in the order of their ids, as by every other statement: two cannot wait for each other.
        writes.sort_by_key(|waiting| T::claim(&waiting.write).run);
        youngest = Instant::now();
        let together = together.clone();
        flights.spawn(async move { send(&*together, writes).await });
    }
    while flights.join_next().await.is_some() {}
}

async fn make_room(flights: &mut JoinSet<()>, youngest: Instant) {
    while flights.try_join_next().is_some() {}
    while flights.len() >= IN_FLIGHT {
        if flights.len() < IN_FLIGHT_WHEN_SLOW && youngest.elapsed() >= SLOW {
            return;
        }
        let slow = tokio::time::sleep_until((youngest + SLOW).into());
        tokio::select! {
            _ = flights.join_next() => {}
            () = slow, if flights.len() < IN_FLIGHT_WHEN_SLOW => {}
        }
    }
}

async fn send<T: Together>(together: &T, mut writes: Vec<Waiting<T>>) {
    loop {
        let asked: Vec<T::Write> = writes.iter().map(|waiting| waiting.write.clone()).collect();
        match together.all(&asked).await {
            Ok(answers) => {
                debug_assert_eq!(answers.len(), writes.len());
                for (waiting, answer) in writes.into_iter().zip(answers) {
                    let _ = waiting.tell.send(Ok(answer));
                }
                return;
            }
            // Nothing of it was written: together again, those that may still be.
            Err(FleetError::NotNow(why)) => {
                tracing::warn!(
                    writes = writes.len(),
                    why,
                    "the store cannot take a group of writes now"
                );
                tokio::time::sleep(PAUSE).await;
                writes = keep_held(writes);
                if writes.is_empty() {
                    return;
                }
            }
            // One of them spoils the others, or all of them are written and nobody knows.
            Err(error) => {
                tracing::debug!(writes = writes.len(), %error, "writes of a group are tried one by one");
                return send_each(together, writes).await;
            }
        }
    }
}

async fn send_each<T: Together>(together: &T, writes: Vec<Waiting<T>>) {
    for waiting in writes {
        let answer = loop {
            if is_lost(&waiting.held) {
                break Ok(T::lost());
            }
            match together.one(&waiting.write).await {
                Err(FleetError::NotNow(_) | FleetError::Unanswered(_)) => tokio::time::sleep(PAUSE).await,
                decided => break decided,
            }
        };
        let _ = waiting.tell.send(answer);
    }
}

/// Whose claim is lost hears so, and is not asked for again: a process that slept holds a thousand of them.
fn keep_held<T: Together>(writes: Vec<Waiting<T>>) -> Vec<Waiting<T>> {
    let (lost, held): (Vec<_>, Vec<_>) = writes.into_iter().partition(|waiting| is_lost(&waiting.held));
    for waiting in lost {
        let _ = waiting.tell.send(Ok(T::lost()));
    }
    held
}

fn is_lost(held: &HeldRun) -> bool {
    held.lease.fate() == Fate::Lost
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;
    use uuid::Uuid;

    use super::super::book::Lease;
    use super::*;

    /// A store that fails as told, holds answers back, and counts what it was asked.
    struct Scripted {
        failures: Mutex<VecDeque<FleetError>>,
        bad: Option<RunClaim>,
        gate: Semaphore,
        asked: Mutex<Vec<usize>>,
        under_way: AtomicUsize,
        most_under_way: AtomicUsize,
    }

    impl Scripted {
        fn new(failures: impl IntoIterator<Item = FleetError>, gate: usize) -> Self {
            Self {
                failures: Mutex::new(failures.into_iter().collect()),
                bad: None,
                gate: Semaphore::new(gate),
                asked: Mutex::default(),
                under_way: AtomicUsize::new(0),
                most_under_way: AtomicUsize::new(0),
            }
        }

        fn asked(&self) -> Vec<usize> {
            self.asked.lock().unwrap().clone()
        }
    }

    #[async_trait]
    impl Together for Scripted {
        type Write = RunClaim;
        type Answer = Option<RunClaim>;

        fn claim(write: &RunClaim) -> RunClaim {
            *write
        }
        fn bytes(_: &RunClaim) -> usize {
            0
        }
        fn lost() -> Option<RunClaim> {
            None
        }
        async fn all(&self, writes: &[RunClaim]) -> Result<Vec<Option<RunClaim>>, FleetError> {
            let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_under_way.fetch_max(under_way, Ordering::SeqCst);
            self.gate.acquire().await.unwrap().forget();
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            self.asked.lock().unwrap().push(writes.len());
            if let Some(failure) = self.failures.lock().unwrap().pop_front() {
                return Err(failure);
            }
            match self.bad {
                Some(bad) if writes.contains(&bad) => Err(FleetError::Refused("bad".to_owned())),
                _ => Ok(writes.iter().map(|write| Some(*write)).collect()),
            }
        }
        async fn one(&self, write: &RunClaim) -> Result<Option<RunClaim>, FleetError> {
            Ok(self.all(std::slice::from_ref(write)).await?.pop().flatten())
        }
    }

    fn held(trusted: Duration) -> Arc<HeldRun> {
        let claim = RunClaim {
            run: Uuid::now_v7(),
            token: 1,
            claim_id: Uuid::now_v7(),
        };
        Arc::new(HeldRun::new(claim, Lease::new(Instant::now(), trusted), 0))
    }

    const LONG: Duration = Duration::from_secs(600);
    const MANY: usize = 10_000;

    /// Writes all of them at once and answers what each heard, in their order.
    async fn write_all(group: &Group<Scripted>, all: &[Arc<HeldRun>]) -> Vec<Result<Option<RunClaim>, FleetError>> {
        futures::future::join_all(all.iter().map(|held| group.write(held, held.claim))).await
    }

    #[tokio::test]
    async fn what_waits_goes_together_and_each_hears_its_own() {
        let store = Arc::new(Scripted::new([], 0));
        let group = Group::new(store.clone(), MANY);
        let all: Vec<_> = (0..2_500).map(|_| held(LONG)).collect();
        let release = async {
            while store.under_way.load(Ordering::SeqCst) < IN_FLIGHT_WHEN_SLOW {
                tokio::task::yield_now().await;
            }
            store.gate.add_permits(MANY);
        };
        let (answers, ()) = tokio::join!(write_all(&group, &all), release);
        for (held, answer) in all.iter().zip(answers) {
            assert_eq!(answer.unwrap(), Some(held.claim));
        }
        let asked = store.asked();
        assert_eq!(asked.iter().sum::<usize>(), 2_500);
        assert!(
            asked.len() < 100 && asked.iter().all(|writes| *writes <= MOST),
            "{asked:?}"
        );
        assert_eq!(store.most_under_way.load(Ordering::SeqCst), IN_FLIGHT_WHEN_SLOW);
    }

    #[tokio::test]
    async fn one_bad_write_fails_alone() {
        let all: Vec<_> = (0..5).map(|_| held(LONG)).collect();
        let bad = all[3].claim;
        let store = Arc::new(Scripted {
            bad: Some(bad),
            ..Scripted::new([], MANY)
        });
        let group = Group::new(store, MANY);
        let answers = write_all(&group, &all).await;
        for (held, answer) in all.iter().zip(answers) {
            match answer {
                Ok(answer) => assert_eq!(answer, Some(held.claim)),
                Err(error) => assert_eq!(
                    (held.claim, error.to_string().as_str()),
                    (bad, "the store refused: bad")
                ),
            }
        }
    }

    #[tokio::test]
    async fn a_store_that_cannot_or_does_not_answer_is_asked_again() {
        let failures = [
            FleetError::NotNow("full disk".to_owned()),
            FleetError::Unanswered("cut".to_owned()),
            FleetError::Unanswered("cut".to_owned()),
            FleetError::NotNow("full disk".to_owned()),
        ];
        let store = Arc::new(Scripted::new(failures, MANY));
        let group = Group::new(store.clone(), MANY);
        let all = [held(LONG), held(LONG)];
        for (held, answer) in all.iter().zip(write_all(&group, &all).await) {
            assert_eq!(answer.unwrap(), Some(held.claim));
        }
        assert!(store.asked().len() >= 6);
    }

    #[tokio::test]
    async fn a_lost_claim_is_not_asked_for_and_the_others_are() {
        let store = Arc::new(Scripted::new([FleetError::NotNow("full disk".to_owned())], MANY));
        let group = Group::new(store.clone(), MANY);
        let all = [held(Duration::ZERO), held(LONG)];
        let answers = write_all(&group, &all).await;
        assert_eq!(answers[0].clone().unwrap(), None);
        assert_eq!(answers[1].clone().unwrap(), Some(all[1].claim));
    }
}

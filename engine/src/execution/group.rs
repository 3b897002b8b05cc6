//! Writes of many runs in one statement: what waits goes together, at once, and each writer hears of its own alone.

use std::collections::VecDeque;
use std::fmt::Display;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::book::HeldRun;
use crate::lifecycle::{FleetError, RunClaim, RunId};
use crate::telemetry::catalogue::GROUP_WAITING;
use crate::telemetry::closed::{Closed, GroupName, StoreTrouble};
use crate::telemetry::{Watching, meters};

/// Most writes in one statement.
const MOST: usize = 1_000;
/// Most bytes of them.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// Statements on their way at once: what a statement costs beside its rows is several rows' worth, so that more of them
/// would each carry less.
const IN_FLIGHT: usize = 1;
/// When the disk is slow their flushes overlap, so that more pay.
const MOST_IN_FLIGHT: usize = 4;
/// A disk is slow when even the quickest of late took so long: one that waited for a processor says nothing of the disk.
const SLOW: Duration = Duration::from_millis(2);
/// And then another starts so long after the last one.
const APART: Duration = Duration::from_millis(1);
/// Else only when the last one is held up, as by a row that somebody has locked.
const LATE: Duration = Duration::from_millis(20);
/// Before a store is asked again that could not do it.
const PAUSE: Duration = Duration::from_millis(100);

/// What a failure of many writes says of each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// They can be asked for again together.
    Again,
    /// All of them may be written, and each can be asked for again alone.
    Unknown,
    /// One of them spoils the others.
    Spoiled,
}

/// Writes that can go together.
#[async_trait]
pub(crate) trait Together: Send + Sync + 'static {
    /// What these writes are told as.
    const NAME: GroupName;
    /// A write for one run.
    type Write: Send + Sync + 'static;
    /// What makes it worth trying again.
    type Held: Send + Sync + 'static;
    /// What its writer hears.
    type Answer: Send + 'static;
    /// Or else.
    type Error: Display + Send + 'static;

    fn run(write: &Self::Write) -> RunId;
    fn bytes(write: &Self::Write) -> usize;
    fn trouble(error: &Self::Error) -> Trouble;
    /// It is not worth trying again.
    fn is_lost(held: &Self::Held) -> bool;
    /// What its writer hears then, after this failure.
    fn lost(why: &str) -> Result<Self::Answer, Self::Error>;
    /// What its writer hears when the process stops before the answer came.
    fn stopped() -> Self::Error;
    /// All in one commit, or none; `again` when they were asked for before.
    async fn all(&self, writes: &[Self::Write], again: bool) -> Result<Vec<Self::Answer>, Self::Error>;
    /// One alone; it recognises its own earlier write, whose answer was lost.
    async fn one(&self, write: &Self::Write) -> Result<Self::Answer, Self::Error>;
}

/// What a verb of the store failed of says of those that were in it.
pub(crate) fn fleet_trouble(error: &FleetError) -> Trouble {
    match error {
        FleetError::NotNow(_) => Trouble::Again,
        FleetError::Unanswered(_) => Trouble::Unknown,
        FleetError::Refused(_) | FleetError::Damaged(_) => Trouble::Spoiled,
    }
}

/// Writes under the claims of runs: tried again as long as the claim is not lost.
#[async_trait]
pub(crate) trait UnderClaim: Send + Sync + 'static {
    /// What these writes are told as.
    const NAME: GroupName;
    /// A write under a claim.
    type Write: Send + Sync + 'static;
    /// What its writer hears.
    type Answer: Send + 'static;

    fn claim(write: &Self::Write) -> RunClaim;
    fn bytes(write: &Self::Write) -> usize;
    /// What the writer of a lost claim hears.
    fn lost() -> Self::Answer;
    /// All in one commit, or none.
    async fn all(&self, writes: &[Self::Write]) -> Result<Vec<Self::Answer>, FleetError>;
    /// One alone; it recognises its own earlier write, whose answer was lost.
    async fn one(&self, write: &Self::Write) -> Result<Self::Answer, FleetError> {
        let mut answers = self.all(std::slice::from_ref(write)).await?;
        Ok(answers.pop().unwrap_or_else(Self::lost))
    }
}

#[async_trait]
impl<T: UnderClaim> Together for T {
    const NAME: GroupName = T::NAME;

    type Write = T::Write;
    type Held = Arc<HeldRun>;
    type Answer = T::Answer;
    type Error = FleetError;

    fn run(write: &T::Write) -> RunId {
        T::claim(write).run
    }

    fn bytes(write: &T::Write) -> usize {
        T::bytes(write)
    }

    fn trouble(error: &FleetError) -> Trouble {
        fleet_trouble(error)
    }

    fn is_lost(held: &Arc<HeldRun>) -> bool {
        held.is_lost()
    }

    fn lost(_: &str) -> Result<T::Answer, FleetError> {
        Ok(T::lost())
    }

    fn stopped() -> FleetError {
        FleetError::Unanswered("the process stops".to_owned())
    }

    async fn all(&self, writes: &[T::Write], _: bool) -> Result<Vec<T::Answer>, FleetError> {
        UnderClaim::all(self, writes).await
    }

    async fn one(&self, write: &T::Write) -> Result<T::Answer, FleetError> {
        UnderClaim::one(self, write).await
    }
}

struct Waiting<T: Together> {
    write: T::Write,
    writer: Writer<T>,
}

struct Writer<T: Together> {
    held: T::Held,
    tell: oneshot::Sender<Result<T::Answer, T::Error>>,
    _room: OwnedSemaphorePermit,
}

/// A queue of writes and those on their way. Writers send them themselves: whoever comes while few are on their way starts
/// a flight, which takes along what has come meanwhile, again and again, until nothing waits.
pub(crate) struct Group<T: Together>(Arc<Inner<T>>);

struct Inner<T: Together> {
    together: T,
    /// Where flights live; none: with whoever starts them.
    runtime: Option<Handle>,
    room: Arc<Semaphore>,
    state: Mutex<State<T>>,
    /// Told from the first write on.
    waiting: OnceLock<Watching>,
}

struct State<T: Together> {
    queue: VecDeque<Waiting<T>>,
    flights: usize,
    youngest: Instant,
    /// What the quickest of late took.
    quickest: Duration,
}

impl<T: Together> Group<T> {
    /// A group with room for so many writes.
    pub(crate) fn new(together: T, room: usize) -> Self {
        Self::on(together, room, None)
    }

    /// The same, whose flights live in this runtime, whichever its writers are in.
    pub(crate) fn in_runtime(together: T, room: usize, runtime: Handle) -> Self {
        Self::on(together, room, Some(runtime))
    }

    fn on(together: T, room: usize, runtime: Option<Handle>) -> Self {
        Self(Arc::new(Inner {
            together,
            runtime,
            room: Arc::new(Semaphore::new(room.max(1))),
            state: Mutex::new(State {
                queue: VecDeque::new(),
                flights: 0,
                youngest: Instant::now(),
                quickest: LATE,
            }),
            waiting: OnceLock::new(),
        }))
    }

    pub(crate) fn together(&self) -> &T {
        &self.0.together
    }

    /// Writes, and answers when it is durable. While the store cannot be asked it is tried again, as long as that is worth
    /// it; an error is for good.
    pub(crate) async fn write(&self, held: T::Held, write: T::Write) -> Result<T::Answer, T::Error> {
        self.0.waiting.get_or_init(|| self.0.watch());
        let (tell, told) = oneshot::channel();
        // Never closed.
        let Ok(room) = self.0.room.clone().acquire_owned().await else {
            return Err(T::stopped());
        };
        let writer = Writer {
            held,
            tell,
            _room: room,
        };
        let starts = {
            let mut state = self.0.lock();
            state.queue.push_back(Waiting { write, writer });
            state.takes_off()
        };
        if starts {
            Flight::start(self.0.clone());
        }
        told.await.unwrap_or_else(|_| Err(T::stopped()))
    }
}

impl<T: Together> State<T> {
    /// Whether another flight starts now.
    fn takes_off(&mut self) -> bool {
        let another = self.flights < MOST_IN_FLIGHT && self.youngest.elapsed() >= self.apart();
        if self.queue.is_empty() || (self.flights >= IN_FLIGHT && !another) {
            return false;
        }
        self.flights += 1;
        self.youngest = Instant::now();
        true
    }

    /// How long after the last one another may start.
    fn apart(&self) -> Duration {
        if self.quickest >= SLOW { APART } else { LATE }
    }

    /// A flight took so long. What was quick once is forgotten after some that were not.
    fn landed(&mut self, took: Duration) {
        self.quickest = took.min(self.quickest + self.quickest / 8 + Duration::from_micros(1));
    }

    /// What goes together next; nothing is waited for.
    fn load(&mut self) -> Vec<Waiting<T>> {
        let mut bytes = 0;
        let mut fits = |waiting: &Waiting<T>| {
            let before = bytes;
            bytes += T::bytes(&waiting.write);
            before < MOST_BYTES
        };
        let count = self.queue.iter().take(MOST).take_while(|waiting| fits(waiting)).count();
        if count > 0 {
            self.youngest = Instant::now();
        }
        self.queue.drain(..count).collect()
    }
}

impl<T: Together> Inner<T> {
    /// Tells how many writes wait, for as long as there is this group.
    fn watch(self: &Arc<Self>) -> Watching {
        let group = Arc::downgrade(self);
        meters().watch(&GROUP_WAITING, &[T::NAME.text()], move || {
            group.upgrade().map(|group| group.lock().queue.len() as f64)
        })
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of those on their way; its place is free again whatever becomes of it.
struct Flight<T: Together> {
    group: Arc<Inner<T>>,
    landed: bool,
}

impl<T: Together> Flight<T> {
    fn start(group: Arc<Inner<T>>) {
        let runtime = group.runtime.clone();
        let flight = Self { group, landed: false }.fly();
        match runtime {
            Some(runtime) => drop(runtime.spawn(flight)),
            None => drop(tokio::spawn(flight)),
        }
    }

    /// Boxed, since a flight that takes long starts another.
    fn fly(mut self) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let mut last = usize::MAX;
            loop {
                // Whoever is about to write comes along: those that heard of the last one are, where few others wait.
                if self.group.lock().queue.len() < last / 2 {
                    tokio::task::yield_now().await;
                }
                let Some(load) = self.next_load() else { return };
                last = load.writes.len();
                let begun = Instant::now();
                let sent = send(&self.group.together, load);
                tokio::pin!(sent);
                if !self.overtaken(sent.as_mut()).await {
                    sent.await;
                }
                self.group.lock().landed(begun.elapsed());
            }
        })
    }

    /// Has another start meanwhile when this one takes long; whether it has landed.
    async fn overtaken(&self, sent: Pin<&mut (impl Future<Output = ()> + Send)>) -> bool {
        let apart = self.group.lock().apart();
        tokio::select! {
            () = sent => return true,
            () = tokio::time::sleep(apart) => {}
        }
        if self.group.lock().takes_off() {
            Self::start(self.group.clone());
        }
        false
    }

    /// Lands in the same breath as it finds nothing, so that no writer relies on a flight that has ended.
    fn next_load(&mut self) -> Option<Load<T>> {
        let mut state = self.group.lock();
        let load = state.load();
        if load.is_empty() {
            state.flights -= 1;
            self.landed = true;
            return None;
        }
        drop(state);
        Some(Load::of(load))
    }
}

impl<T: Together> Drop for Flight<T> {
    fn drop(&mut self) {
        if self.landed {
            return;
        }
        let mut state = self.group.lock();
        state.flights -= 1;
        if state.flights == 0 {
            // Nobody would come for them: their writers hear that it stopped.
            state.queue.clear();
        }
    }
}

/// What goes together, and who wrote it.
struct Load<T: Together> {
    writes: Vec<T::Write>,
    writers: Vec<Writer<T>>,
}

impl<T: Together> Load<T> {
    fn of(mut waiting: Vec<Waiting<T>>) -> Self {
        // Rows are locked in the order of their ids, as by every other statement: two cannot wait for each other.
        waiting.sort_unstable_by_key(|waiting| T::run(&waiting.write));
        let (writes, writers) = waiting
            .into_iter()
            .map(|waiting| (waiting.write, waiting.writer))
            .unzip();
        Self { writes, writers }
    }

    fn into_each(self) -> impl Iterator<Item = (T::Write, Writer<T>)> {
        self.writes.into_iter().zip(self.writers)
    }

    /// Whose write is lost hears so, and is not asked for again: a process that slept holds a thousand of them.
    fn keep_held(self, why: &str) -> Self {
        let (lost, held): (Vec<_>, Vec<_>) = self.into_each().partition(|(_, writer)| T::is_lost(&writer.held));
        for (_, writer) in lost {
            writer.hear(T::lost(why));
        }
        let (writes, writers) = held.into_iter().unzip();
        Self { writes, writers }
    }
}

impl<T: Together> Writer<T> {
    /// Whoever wrote may have gone.
    fn hear(self, answer: Result<T::Answer, T::Error>) {
        let _ = self.tell.send(answer);
    }
}

async fn send<T: Together>(together: &T, mut load: Load<T>) {
    let mut again = false;
    while !load.writes.is_empty() {
        let began = Instant::now();
        let answers = together.all(&load.writes, again).await;
        let trouble = answers.as_ref().err().map(|error| label(T::trouble(error)));
        meters().group_went(T::NAME, load.writes.len(), began.elapsed(), trouble);
        let error = match answers {
            Ok(answers) => {
                debug_assert_eq!(answers.len(), load.writers.len());
                for (writer, answer) in load.writers.into_iter().zip(answers) {
                    writer.hear(Ok(answer));
                }
                return;
            }
            Err(error) => error,
        };
        let why = error.to_string();
        if T::trouble(&error) != Trouble::Again {
            tracing::debug!(
                writes = load.writes.len(),
                why,
                "writes of a group are tried one by one"
            );
            return send_each(together, load).await;
        }
        tracing::warn!(
            name: "store_not_now", count = load.writes.len(), why,
            "the store cannot take a group of writes now"
        );
        tokio::time::sleep(PAUSE).await;
        again = true;
        load = load.keep_held(&why);
    }
}

fn label(trouble: Trouble) -> StoreTrouble {
    match trouble {
        Trouble::Again => StoreTrouble::NotNow,
        Trouble::Unknown => StoreTrouble::Unanswered,
        Trouble::Spoiled => StoreTrouble::Refused,
    }
}

async fn send_each<T: Together>(together: &T, load: Load<T>) {
    for (write, writer) in load.into_each() {
        let mut why = String::new();
        let answer = loop {
            if T::is_lost(&writer.held) {
                break T::lost(&why);
            }
            match together.one(&write).await {
                Err(error) if T::trouble(&error) != Trouble::Spoiled => why = error.to_string(),
                decided => break decided,
            }
            tokio::time::sleep(PAUSE).await;
        };
        writer.hear(answer);
    }
}

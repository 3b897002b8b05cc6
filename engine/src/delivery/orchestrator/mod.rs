//! The orchestrator of direct commands: takes them at once, sends them, and stores what the broker does not take.

mod counters;
mod doze;
mod landing;
mod lanes;
mod notices;
mod own_runtime;
mod pending;
mod pump;
mod settings;
mod shared;
mod spill;
mod stall;
mod submitted;
mod told;
mod waiting;
mod weight;
mod window;
mod writer;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;

pub use counters::DirectStats;
pub use notices::{Fate, Notice, OutcomeHandler};
pub(crate) use own_runtime::OwnRuntime;
pub use settings::DirectSettings;

use self::lanes::LANES;
use self::notices::Notices;
use self::pending::{Entry, PANICKED};
use self::pump::Pump;
use self::shared::Shared;
use self::waiting::{Placed, Waiter, Waiting};
use self::writer::Writer;
use super::breakers::Breakers;
use super::command::{CommandKind, InvalidCommand};
use super::direct::{Direct, ReadyCommand, Topics};
use super::door::{CommandDoor, HandedOver};
use super::fallback::FallbackStore;
use super::key_hash::KeyHash;
use super::publisher::Publisher;
use crate::telemetry::Watching;

/// Beyond the patience with the brokers: how long those who wait give the table.
const STORED_WITHIN: Duration = Duration::from_secs(5);
/// How long a dropped orchestrator may take to place what it holds.
const DROPPED_WITHIN: Duration = Duration::from_secs(10);
/// How long the threads may take to notice that the stop's time is over.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Sends the commands of a service without holding it up. Cheap to clone; all clones are one orchestrator.
///
/// [`submit`](Self::submit) takes a command in less than a microsecond, whatever Kafka and Postgres do. The command waits
/// in memory, is sent, and is stored in `lockgate.undelivered_messages` (e-mails: `undelivered_email_commands`) in a
/// transaction of its own when Kafka refuses it, does not answer, or cannot take it; redelivery sends it from there
/// under the same `message-id`. So it arrives at least once, and consumers drop what they have seen.
///
/// # What a dying process loses
/// Exactly the commands that were accepted and are neither acknowledged nor stored at that moment: at most `queue`
/// waiting to be sent, `spill` waiting to be stored, and `window` under way (those that had reached the broker still
/// arrive). With Kafka up that is the traffic of a few milliseconds; with Kafka frozen that of `direct.patience` and of
/// a page or two; with Postgres down as well everything since it went, up to the bounds. [`stop`](Self::stop) loses nothing
/// while Postgres works, and nothing that was not turned away from the queue while Kafka works: what waits to be stored
/// does not go back to Kafka. A service that cannot afford this loss uses `enqueue_in`, which commits the
/// command with its own rows and leaves nothing in memory only.
#[derive(Clone)]
pub struct NotificationOrchestrator {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    breakers: Arc<Breakers>,
    _told: Vec<Watching>,
}

/// What an orchestrator is made of.
pub struct OrchestratorParts {
    /// Where messages go; may be shared with others.
    pub publisher: Arc<dyn Publisher>,
    /// The breakers that the publisher tells of its troubles.
    pub breakers: Arc<Breakers>,
    /// Where commands are stored, over connections that nobody else uses: a busy pool must not hold them up.
    pub store: Arc<dyn FallbackStore>,
    /// Where each kind of command goes.
    pub topics: Topics,
    /// Makes keys of what is personal.
    pub key_hash: KeyHash,
    /// Bounds and times.
    pub settings: DirectSettings,
    /// Told what became of commands.
    pub handler: Option<Arc<dyn OutcomeHandler>>,
}

/// What became of the hand-over of a command: to be logged or ignored, it is no error.
#[derive(Debug)]
#[must_use = "a command that was not accepted is given back"]
pub enum Handover<C> {
    /// It is being seen to.
    Accepted,
    /// A field is not as it must be: it can never be sent.
    Invalid(InvalidCommand),
    /// Both queues or the memory for them are full, or the orchestrator has stopped: here it is back.
    NotAccepted(Box<Direct<C>>),
}

/// What became of a command that was waited for.
#[derive(Debug)]
pub enum Waited<C> {
    /// The broker acknowledged it.
    Delivered {
        /// The partition it is in.
        partition: i32,
        /// Its offset there.
        offset: i64,
    },
    /// Its row is committed: it is sent from there.
    Stored,
    /// Its row is committed, but the brokers do not take it as it is: a person must look.
    Refused,
    /// It can never be sent.
    Invalid(InvalidCommand),
    /// Both queues are full, or the orchestrator has stopped: here it is back.
    NotAccepted(Box<Direct<C>>),
    /// Neither sent nor stored as far as is known in time; it is still being tried.
    Unsettled,
}

/// How a stop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Commands that were neither acknowledged nor stored in time, and are lost to this process.
    pub unplaced: u64,
}

impl NotificationOrchestrator {
    /// Starts it on threads of its own, named `lockgate-direct-*`.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(parts: OrchestratorParts) -> io::Result<Self> {
        Self::start_on(OwnRuntime::new()?, parts)
    }

    /// On a runtime to which its publisher and connections may belong too.
    pub(crate) fn start_on(runtime: OwnRuntime, parts: OrchestratorParts) -> io::Result<Self> {
        // Trouble with all brokers is then trouble with these too.
        for topic in parts.topics.all() {
            parts.breakers.watch(topic);
        }
        let notices = Notices::start(parts.handler)?;
        let shared = Shared::new(parts.settings, parts.topics, parts.key_hash, notices);
        let inner = Arc::new(Inner {
            _told: told::watch(&shared),
            shared: shared.clone(),
            breakers: parts.breakers.clone(),
        });
        let pump = Pump::new(shared.clone(), parts.publisher, parts.breakers);
        let runtime = Arc::new(runtime);
        for lane in 0..LANES {
            let writer = Writer::new(shared.clone(), lane, parts.store.clone(), runtime.clone());
            spawn("lockgate-direct-store", move || writer.run())?;
        }
        spawn("lockgate-direct-pump", move || pump.run())?;
        Ok(Self { inner })
    }

    /// Hands a command over and returns at once: no waiting, no I/O, no error, no panic.
    pub fn submit<C: CommandKind + Send + 'static>(&self, command: Direct<C>) -> Handover<C> {
        self.take(command, None)
    }

    /// Hands a command over and waits until it is acknowledged or stored, a bounded time.
    pub async fn submit_and_wait<C: CommandKind + Send + 'static>(&self, command: Direct<C>) -> Waited<C> {
        let waiting = Waiting::for_commands(1);
        match self.take(command, Some(waiting.waiter(0))) {
            Handover::Accepted => {}
            Handover::Invalid(invalid) => return Waited::Invalid(invalid),
            Handover::NotAccepted(command) => return Waited::NotAccepted(command),
        }
        match waiting.placed(self.patience()).await.pop().flatten() {
            Some(Placed::Delivered { partition, offset }) => Waited::Delivered { partition, offset },
            Some(Placed::Stored) => Waited::Stored,
            Some(Placed::Refused) => Waited::Refused,
            Some(Placed::Invalid(invalid)) => Waited::Invalid(invalid),
            None => Waited::Unsettled,
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> DirectStats {
        self.inner.shared.stats()
    }

    /// Accepts nothing more, and gives what was accepted so long to get into Kafka or the table: the first half of the
    /// time to be acknowledged, the rest to be stored.
    pub async fn stop(&self, within: Duration) -> Stopped {
        let shared = &self.inner.shared;
        shared.stop(within);
        if tokio::time::timeout(within + LAST_LOOK, shared.ended.cancelled())
            .await
            .is_err()
        {
            tracing::error!(name: "direct_threads_hang", "the threads of direct commands do not end");
        }
        Stopped {
            unplaced: self.stats().unplaced,
        }
    }

    fn take<C: CommandKind + Send + 'static>(&self, command: Direct<C>, waiter: Option<Waiter>) -> Handover<C> {
        let shared = &self.inner.shared;
        // The code of a kind of command is its user's; nothing of it may reach the caller but an answer.
        let check = || shared.topics.check(&command.command);
        if let Err(invalid) = catch_unwind(AssertUnwindSafe(check)).unwrap_or(Err(PANICKED)) {
            counters::add(&shared.counters.invalid, 1);
            return Handover::Invalid(invalid);
        }
        let later = command.not_before.is_some_and(|at| at > Utc::now());
        let command = Box::new(command);
        match shared.accept(Entry::new(command, waiter), later) {
            Ok(()) => Handover::Accepted,
            Err(entry) => {
                let back = entry.command.into_any().downcast();
                Handover::NotAccepted(back.expect("what comes back is what was pushed"))
            }
        }
    }

    fn patience(&self) -> Duration {
        self.inner.shared.settings.patience + STORED_WITHIN
    }
}

#[async_trait]
impl CommandDoor for NotificationOrchestrator {
    async fn hand_over(&self, commands: Vec<ReadyCommand>) -> Vec<HandedOver> {
        let waiting = Waiting::for_commands(commands.len());
        let mut given_back = vec![false; commands.len()];
        for (index, command) in commands.into_iter().enumerate() {
            let later = command.not_before.is_some_and(|at| at > Utc::now());
            let entry = Entry::new(Box::new(command), Some(waiting.waiter(index)));
            given_back[index] = self.inner.shared.accept(entry, later).is_err();
        }
        let placed = waiting.placed(self.patience()).await;
        let told = placed.into_iter().zip(given_back);
        told.map(|(placed, given_back)| {
            if given_back {
                HandedOver::NotAccepted
            } else {
                handed_over(placed)
            }
        })
        .collect()
    }

    fn breakers(&self) -> Option<Arc<Breakers>> {
        Some(self.inner.breakers.clone())
    }
}

fn handed_over(placed: Option<Placed>) -> HandedOver {
    match placed {
        Some(Placed::Delivered { partition, offset }) => HandedOver::Delivered { partition, offset },
        Some(Placed::Stored) => HandedOver::Stored,
        Some(Placed::Refused) => HandedOver::Refused,
        Some(Placed::Invalid(_)) => HandedOver::NotAccepted,
        None => HandedOver::Unsettled,
    }
}

/// The last clone is gone: what was accepted is still placed, in the background.
impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.stop(DROPPED_WITHIN);
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

//! The engine of a test.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::crashes::{Crashes, Side, Wish};
use super::faulty::{Faulty, Surroundings};
use super::messages::{Messages, SentMessage};
use super::sources::FakeSources;
use super::start::TestStart;
use crate::delivery::{BreakerPolicy, Breakers};
use crate::execution::{ExecutionSettings, Executor, ExecutorParts, Hints, Shared};
use crate::lifecycle::{Clock as _, QueueSettings, QueuedCommand, RunId, UndeliveredItem};
use crate::memory::{MemoryRunStore, VirtualClock};
use crate::postgres::TestPostgres;
use crate::workflow::{Registry, Resources, Workflow};

/// When the clock of a test begins to run: a Thursday.
const BEGINNING: DateTime<Utc> = match DateTime::from_timestamp_secs(1_767_225_600) {
    Some(first_of_2026) => first_of_2026,
    None => DateTime::UNIX_EPOCH,
};
/// Longer than any test: leases end with the replica that holds them.
const LEASE: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);
/// Real time that a step may take unless the test says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);
/// Batches at a time.
const BATCHES: usize = 2;

/// An engine in memory: put workflows in, start runs, let time pass, and look at what came of it. It is dropped with its
/// last clone.
#[derive(Clone)]
pub struct TestEngine {
    pub(super) world: Arc<World>,
}

pub(super) struct World {
    pub(super) clock: Arc<VirtualClock>,
    pub(super) store: MemoryRunStore,
    pub(super) messages: Arc<Messages>,
    parts: Mutex<Parts>,
    replica: Mutex<Option<Replica>>,
    runs: AtomicU64,
    /// One moves the clock at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
}

struct Parts {
    registry: Registry,
    resources: Resources,
    sources: FakeSources,
    settings: ExecutionSettings,
    around: Surroundings,
    patience: Duration,
}

/// A process of the test.
#[derive(Clone)]
pub(super) struct Replica {
    pub(super) faulty: Arc<Faulty>,
    pub(super) shared: Arc<Shared>,
}

impl Default for TestEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl TestEngine {
    /// An engine without workflows, at the beginning of 2026.
    #[must_use]
    pub fn new() -> Self {
        Self::with_crashes(Arc::default())
    }

    pub(super) fn with_crashes(crashes: Arc<Crashes>) -> Self {
        let clock = Arc::new(VirtualClock::new(BEGINNING));
        let parts = Parts {
            registry: Registry::default(),
            resources: Resources::default(),
            sources: FakeSources::default(),
            settings: ExecutionSettings {
                batches: BATCHES,
                drain: Duration::from_secs(2),
                ..ExecutionSettings::new(Uuid::nil())
            },
            around: Surroundings {
                crashes,
                ..Surroundings::default()
            },
            patience: PATIENCE,
        };
        let world = World {
            store: MemoryRunStore::new(clock.clone(), LEASE),
            clock,
            messages: Arc::default(),
            parts: Mutex::new(parts),
            replica: Mutex::default(),
            runs: AtomicU64::new(0),
            turn: tokio::sync::Mutex::default(),
        };
        Self { world: Arc::new(world) }
    }

    /// Adds a workflow. One of the same name takes its place from here on, as after a deployment: what runs is left where
    /// it is and run again by the new code.
    #[must_use]
    pub fn workflow<W: Workflow>(self, workflow: W) -> Self {
        self.with(|parts| {
            parts.registry.replace(workflow);
        })
    }

    /// Gives sources and steps a value to use, one a type.
    #[must_use]
    pub fn resource<T: Send + Sync + 'static>(self, value: T) -> Self {
        self.with(|parts| parts.resources.insert(value))
    }

    /// Gives it a database, for `ctx.transaction`, for SQL sources, and as the resource that workflows find.
    #[must_use]
    pub fn database(self, database: &TestPostgres) -> Self {
        self.with(|parts| {
            parts.resources.insert(database.database());
            parts.around.database = Some(database.clone());
        })
    }

    /// Makes up the source of a fan-out by its name: its ids, and the row of each; none: it has vanished.
    #[must_use]
    pub fn fan_out_source<R: 'static>(
        self,
        name: impl Into<String>,
        ids: impl IntoIterator<Item = i64>,
        row: impl Fn(i64) -> Option<R> + Send + Sync + 'static,
    ) -> Self {
        let (name, ids) = (name.into(), ids.into_iter().collect());
        self.with(|parts| parts.sources.add(name, ids, row))
    }

    /// Items in a batch of a fan-out, 1,000 unless said otherwise.
    #[must_use]
    pub fn batch_size(self, items: usize) -> Self {
        self.with(|parts| parts.settings.batch_size = items.max(1))
    }

    /// Sets the limits of a queue.
    ///
    /// # Panics
    /// They make no sense.
    #[must_use]
    pub fn queue(self, settings: QueueSettings) -> Self {
        if let Err(why) = self.world.store.set_queue(settings) {
            panic!("the settings of the queue make no sense: {why}");
        }
        self
    }

    /// How much real time may pass without anything being written, a minute unless said otherwise: a step that takes longer
    /// counts as hanging.
    #[must_use]
    pub fn patience(self, real: Duration) -> Self {
        self.world.parts().patience = real;
        self
    }

    /// Sends commands of a kind to a topic, as in the configuration.
    #[must_use]
    pub fn topic(self, kind: impl Into<String>, topic: impl Into<String>) -> Self {
        self.with(|parts| {
            parts.settings.topics.insert(kind.into(), topic.into());
        })
    }

    /// Crashes once when a step of any run is about to be recorded: its code has run, and will run again.
    #[must_use]
    pub fn crash_before(self, path: impl Into<String>) -> Self {
        self.wish(Wish::Path(Side::Before, path.into()))
    }

    /// Crashes once when a step of any run is recorded, before its code hears so: it will not run again.
    #[must_use]
    pub fn crash_after(self, path: impl Into<String>) -> Self {
        self.wish(Wish::Path(Side::After, path.into()))
    }

    /// Crashes before and after each thing that is durably written, once each.
    #[must_use]
    pub fn crash_everywhere(self) -> Self {
        self.wish(Wish::Everywhere)
    }

    /// Crashes now. What was under way is left where it is; another replica takes over, and no time passes.
    pub fn crash(&self) {
        if let Some(replica) = self.world.replica().as_ref() {
            replica.faulty.die();
        }
    }

    /// How often it has crashed by wish.
    #[must_use]
    pub fn crashes(&self) -> u32 {
        self.world.parts().around.crashes.count()
    }

    /// What time it is for the engine.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.world.clock.now()
    }

    /// A run of a workflow; awaiting it starts it and gives its handle.
    pub fn start<W: Workflow>(&self, input: &W::Input) -> TestStart<W>
    where
        W::Input: serde::Serialize,
    {
        TestStart::new(self.clone(), input)
    }

    /// All messages that were sent, in order; after a crash some may have been sent again, under the same ids.
    #[must_use]
    pub fn messages(&self) -> Vec<SentMessage> {
        self.world.messages.all()
    }

    /// All commands that workflows have published, in order, each once.
    #[must_use]
    pub fn published(&self) -> Vec<QueuedCommand> {
        let published = self.world.store.published().into_iter();
        published.map(|(_, command)| command).collect()
    }

    /// What fan-outs could not deliver, in order.
    #[must_use]
    pub fn undelivered(&self) -> Vec<UndeliveredItem> {
        let undelivered = self.world.store.undelivered().into_iter();
        undelivered.map(|(_, item)| item).collect()
    }

    fn with(self, change: impl FnOnce(&mut Parts)) -> Self {
        change(&mut self.world.parts());
        self.crash();
        self
    }

    fn wish(self, wish: Wish) -> Self {
        self.world.parts().around.crashes.wish(wish);
        self
    }
}

impl World {
    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replica(&self) -> MutexGuard<'_, Option<Replica>> {
        self.replica.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same in every pass of a test, and so is what is made of it.
    pub(super) fn next_run_id(&self) -> RunId {
        let count = self.runs.fetch_add(1, Ordering::SeqCst);
        let milliseconds = u64::try_from(self.clock.now().timestamp_millis()).unwrap_or(0);
        let mut random = [0; 10];
        random[2..].copy_from_slice(&count.to_be_bytes());
        uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid()
    }

    /// Things that were durably written so far.
    pub(super) fn writes(&self) -> usize {
        self.parts().around.crashes.writes()
    }

    pub(super) fn patience(&self) -> Duration {
        self.parts().patience
    }

    /// What the test did not give, though a workflow needs it.
    pub(super) fn missing(&self) -> Option<String> {
        self.parts().around.missing.noted()
    }

    /// The process that lives, after one that died if need be.
    pub(super) fn living(&self) -> Replica {
        let mut replica = self.replica();
        match replica.as_ref() {
            Some(living) if !living.faulty.is_dead() => living.clone(),
            _ => replica.insert(self.boot()).clone(),
        }
    }

    fn boot(&self) -> Replica {
        let parts = self.parts();
        let faulty = Arc::new(Faulty::new(self.store.replica(), parts.around.clone()));
        let mut resources = parts.resources.clone();
        resources.insert(parts.sources.clone());
        resources.insert(parts.around.missing.clone());
        let executor = Executor::new(ExecutorParts {
            fleet: faulty.clone(),
            runs: faulty.clone(),
            publisher: self.messages.clone(),
            breakers: Arc::new(Breakers::new(BreakerPolicy::default())),
            door: None,
            registry: parts.registry.clone(),
            resources,
            settings: ExecutionSettings {
                replica: Uuid::new_v4(),
                ..parts.settings.clone()
            },
            hints: Arc::new(Hints::default()),
            clock: self.clock.clone(),
        });
        let shared = executor.shared();
        faulty.serves(&shared);
        let stop = faulty.stop.clone();
        tokio::spawn(async move { executor.run(stop).await });
        Replica { faulty, shared }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(replica) = self.replica().take() {
            replica.faulty.die();
        }
    }
}

//! The execution side of a replica: its parts, and how it starts and stops.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::alone::Floor;
use super::book::Book;
use super::checkpoints::Checkpoints;
use super::endings::Endings;
use super::fan_outs::FanOuts;
use super::presence::leave;
use super::settings::ExecutionSettings;
use super::window::Window;
use super::work::WorkList;
use super::{driver, keeper, worker};
use crate::delivery::{Breakers, Publisher};
use crate::health::Pulse;
use crate::lifecycle::{Clock, Fleet, Heartbeat, RunStore};
use crate::workflow::{Registry, Resources};

/// What an executor and the rest of its replica tell each other. Most are rung by whoever knows of something to do; the
/// polls find it anyway.
#[derive(Debug, Default)]
pub struct Hints {
    /// A run's code may go on.
    pub runs: Notify,
    /// Batches may be claimed.
    pub batches: Notify,
    /// A run was asked to stop.
    pub stops: Notify,
    /// The leader resigned.
    pub leader: Arc<Notify>,
    /// Undelivered messages are due.
    pub undelivered: Arc<Notify>,
    /// Beaten by the loop that renews leases.
    pub leases: Pulse,
}

impl Hints {
    /// Somebody started or woke a run.
    pub fn ring(&self) {
        self.runs.notify_one();
        self.batches.notify_one();
    }
}

/// What an executor is made of.
pub struct ExecutorParts {
    /// The store's verbs of the fleet.
    pub fleet: Arc<dyn Fleet>,
    /// The store's verbs of whoever runs the code of workflows.
    pub runs: Arc<dyn RunStore>,
    /// Where messages go.
    pub publisher: Arc<dyn Publisher>,
    /// The breakers that the publisher tells of its troubles.
    pub breakers: Arc<Breakers>,
    /// The workflows of this binary.
    pub registry: Registry,
    /// What sources may use.
    pub resources: Resources,
    /// Bounds and times.
    pub settings: ExecutionSettings,
    /// Wake-ups from outside.
    pub hints: Arc<Hints>,
    /// By which it waits; a test moves its own.
    pub clock: Arc<dyn Clock>,
}

pub(crate) struct Shared {
    pub(crate) fleet: Arc<dyn Fleet>,
    pub(crate) runs: Arc<dyn RunStore>,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) endings: Endings,
    pub(crate) publisher: Arc<dyn Publisher>,
    pub(crate) breakers: Arc<Breakers>,
    pub(crate) registry: Registry,
    pub(crate) resources: Resources,
    pub(crate) settings: ExecutionSettings,
    pub(crate) hints: Arc<Hints>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) fan_outs: FanOuts,
    pub(crate) book: Book,
    pub(crate) floor: Floor,
    pub(crate) window: Arc<Window>,
    pub(crate) work: WorkList,
    /// Nothing new is claimed.
    pub(crate) stopping: CancellationToken,
    /// What is in flight is handed back at the next look.
    pub(crate) hurry: CancellationToken,
    /// All work is over: the keeper may stop renewing.
    pub(crate) over: CancellationToken,
}

impl Shared {
    pub(crate) fn workflows(&self) -> Vec<String> {
        self.registry.names()
    }

    pub(crate) fn heartbeat(&self) -> Heartbeat {
        let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        Heartbeat {
            replica: self.settings.replica,
            roles: self.settings.roles.clone(),
            workflows: self.workflows(),
            draining: self.stopping.is_cancelled(),
            in_flight: count(self.book.batch_count()),
            window_used: count(self.window.used()),
            window_size: count(self.window.size()),
            breakers: self.breakers.report(),
        }
    }

    /// Forgets fan-outs of runs that nothing here works on.
    pub(crate) fn forget_idle(&self) {
        let busy: BTreeSet<Uuid> = self
            .book
            .batches()
            .iter()
            .map(|held| held.claim.run)
            .chain(self.book.runs().iter().map(|held| held.claim.run))
            .collect();
        if self.work.is_empty() {
            self.fan_outs.keep(&busy);
        }
    }
}

/// Runs workflows and streams their batches.
pub struct Executor {
    shared: Arc<Shared>,
}

impl Executor {
    /// Puts an executor together; nothing is claimed yet. Wants a runtime, in which its groups of writes live.
    #[must_use]
    pub fn new(parts: ExecutorParts) -> Self {
        let window = Arc::new(Window::new(parts.settings.window));
        for topic in parts.settings.topics.values() {
            parts.breakers.watch(topic);
        }
        let shared = Shared {
            fan_outs: FanOuts::new(parts.fleet.clone(), parts.registry.clone(), parts.resources.clone()),
            fleet: parts.fleet,
            checkpoints: Checkpoints::new(parts.runs.clone(), parts.settings.runs),
            endings: Endings::new(parts.runs.clone(), parts.settings.runs),
            runs: parts.runs,
            publisher: parts.publisher,
            breakers: parts.breakers,
            registry: parts.registry,
            resources: parts.resources,
            settings: parts.settings,
            hints: parts.hints,
            clock: parts.clock,
            book: Book::default(),
            floor: Floor::default(),
            window,
            work: WorkList::default(),
            stopping: CancellationToken::new(),
            hurry: CancellationToken::new(),
            over: CancellationToken::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Works until told to stop, then drains: nothing new is claimed, what is in flight is finished or, when the
    /// deadline comes near, handed back. Answers whether everything ended in time.
    pub async fn run(&self, stop: CancellationToken) -> bool {
        let shared = &self.shared;
        let tasks = TaskTracker::new();
        for _ in 0..shared.settings.batches {
            tasks.spawn(worker::run(shared.clone()));
        }
        tasks.spawn(worker::scout(shared.clone()));
        tasks.spawn(driver::run(shared.clone()));
        let keeper = tokio::spawn(keeper::run(shared.clone()));
        stop.cancelled().await;
        shared.stopping.cancel();
        tasks.close();
        let deadline = shared.settings.drain;
        let mut in_time = finished_within(&tasks, deadline / 2).await;
        if !in_time {
            shared.hurry.cancel();
            in_time = finished_within(&tasks, deadline / 2).await;
        }
        shared.over.cancel();
        let _ = keeper.await;
        leave(&*shared.fleet, shared.settings.replica).await;
        in_time
    }
}

async fn finished_within(tasks: &TaskTracker, time: Duration) -> bool {
    tokio::time::timeout(time, tasks.wait()).await.is_ok()
}

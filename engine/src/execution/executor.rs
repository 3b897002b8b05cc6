//! The execution side of a replica: its parts, and how it starts and stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::alone::Floor;
use super::book::Book;
use super::checkpoints::Checkpoints;
use super::eager::{EagerStarts, ShortQueues};
use super::endings::Endings;
use super::families::{Children, Continuations, Parents};
use super::fan_outs::FanOuts;
use super::going_on::going_on;
use super::publications::Publications;
use super::queues::QueueBook;
use super::recall::LargeRecords;
use super::settings::ExecutionSettings;
use super::window::Window;
use super::work::WorkList;
use super::{driver, gauges, keeper, worker};
use crate::delivery::{Breakers, Publisher, Topics};
use crate::health::Pulse;
use crate::leader::LeaderHints;
use crate::lifecycle::{Clock, Counts, Fleet, Heartbeat, NewRun, RunId, RunStore};
use crate::local::{Beside, Local};
use crate::telemetry::catalogue::{DRAIN, IN_FLIGHT, IN_TIME};
use crate::telemetry::{Spanned, TraceContext};
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
    /// Of whoever leads.
    pub leader: LeaderHints,
    /// Undelivered messages are due.
    pub undelivered: Arc<Notify>,
    /// What is set for queues was changed since it was read.
    pub queues: AtomicBool,
    /// Others can ring: then less is asked while nothing comes.
    pub listening: AtomicBool,
    /// The clients and replicas of this process.
    pub(crate) local: Arc<Local>,
    /// Beaten by the loop that renews leases.
    pub leases: Pulse,
}

impl Hints {
    /// Somebody changed what is set for a queue.
    pub fn queues_changed(&self) {
        self.queues.store(true, Ordering::Relaxed);
        self.ring();
    }

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
    /// Those of the door of commands beside it, for the replica's row.
    pub door: Option<Arc<Breakers>>,
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
    pub(crate) children: Children,
    pub(crate) continuations: Continuations,
    pub(crate) parents: Parents,
    pub(crate) publications: Publications,
    pub(crate) publisher: Arc<dyn Publisher>,
    pub(crate) breakers: Arc<Breakers>,
    pub(crate) door: Option<Arc<Breakers>>,
    pub(crate) registry: Registry,
    pub(crate) resources: Resources,
    pub(crate) settings: ExecutionSettings,
    /// Where what workflows publish goes.
    pub(crate) topics: Topics,
    pub(crate) hints: Arc<Hints>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) fan_outs: FanOuts,
    pub(crate) book: Arc<Book>,
    pub(crate) queues: QueueBook,
    pub(crate) large_records: LargeRecords,
    pub(crate) floor: Floor,
    pub(crate) window: Arc<Window>,
    pub(crate) work: WorkList,
    /// Places for runs whose code runs.
    pub(crate) slots: Arc<Semaphore>,
    /// Whoever looks for runs waits for longer than a poll.
    pub(crate) rests: AtomicBool,
    pub(crate) run_tasks: TaskTracker,
    pub(crate) short_queues: ShortQueues,
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

    /// Whether this replica takes such a run by itself, some time.
    pub(crate) fn runs_of(&self, run: &NewRun) -> bool {
        run.queue.is_none() && self.registry.get(&run.workflow).is_some()
    }

    pub(crate) fn heartbeat(&self) -> Heartbeat {
        let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        Heartbeat {
            replica: self.settings.replica,
            roles: self.settings.roles.clone(),
            runnable: self.registry.runnable(),
            draining: self.stopping.is_cancelled(),
            in_flight: count(self.book.batch_count()),
            window_used: count(self.window.used()),
            window_size: count(self.window.size()),
            breakers: Breakers::report(self.door.iter().chain([&self.breakers]).map(AsRef::as_ref)),
            counts: Counts::default(),
            clock_offset: None,
        }
    }

    /// Batches of this run may be claimed. Nobody looks into the list where none are.
    pub(crate) fn offer_batches(&self, run: RunId) {
        if self.settings.sends() {
            self.work.offer(run);
        }
    }

    /// Nothing more is begun, and what is under way is given up at the next look.
    fn end(&self) {
        self.stopping.cancel();
        self.hurry.cancel();
        self.over.cancel();
    }

    /// As if the process had died: nothing more is begun, and what is under way is left where it is.
    #[cfg(feature = "testing")]
    pub(crate) fn die(&self) {
        self.end();
        self.book.runs().iter().for_each(|held| held.lease.lose());
        self.book.batches().iter().for_each(|held| held.lease.lose());
    }

    /// Forgets fan-outs that nothing here works on. Not while a topic of theirs is in trouble: without them it would be claimed
    /// for it as if all were well.
    pub(crate) fn forget_unused(&self) {
        self.fan_outs.forget_unused(Instant::now(), |known| {
            known.topics().iter().any(|topic| self.breakers.is_in_trouble(topic))
        });
    }
}

/// Runs workflows and streams their batches.
pub struct Executor {
    pub(super) shared: Arc<Shared>,
}

/// Ends all parts of an executor: also when nobody waits any more for it to drain.
struct Working {
    shared: Arc<Shared>,
    eager: Arc<dyn Beside>,
}

impl Drop for Working {
    fn drop(&mut self) {
        self.shared.hints.local.leave(&self.eager);
        self.shared.end();
    }
}

impl Executor {
    /// Puts an executor together; nothing is claimed yet. Wants a runtime, in which its groups of writes live.
    #[must_use]
    pub fn new(parts: ExecutorParts) -> Self {
        let window = Arc::new(Window::new(parts.settings.window));
        for topic in parts.settings.topics.values() {
            parts.breakers.watch(topic);
        }
        let book = Arc::<Book>::default();
        let shared = Shared {
            fan_outs: FanOuts::new(parts.fleet.clone(), parts.registry.clone(), parts.resources.clone()),
            fleet: parts.fleet,
            checkpoints: Checkpoints::new(parts.runs.clone(), parts.settings.runs),
            endings: Endings::new(parts.runs.clone(), parts.hints.local.clone(), parts.settings.runs),
            children: Children::new(parts.runs.clone(), parts.hints.clone(), parts.settings.runs),
            continuations: Continuations::new(parts.runs.clone(), parts.hints.clone(), parts.settings.runs),
            parents: Parents::new(
                parts.runs.clone(),
                parts.hints.clone(),
                book.clone(),
                parts.settings.runs,
            ),
            publications: Publications::new(parts.runs.clone(), parts.settings.runs),
            slots: Arc::new(Semaphore::new(parts.settings.runs)),
            rests: AtomicBool::new(false),
            run_tasks: TaskTracker::new(),
            short_queues: ShortQueues::new(parts.registry.names()),
            large_records: LargeRecords::new(parts.settings.large_records),
            runs: parts.runs,
            publisher: parts.publisher,
            breakers: parts.breakers,
            door: parts.door,
            registry: parts.registry,
            resources: parts.resources,
            topics: Topics::new(&parts.settings.topics),
            settings: parts.settings,
            hints: parts.hints,
            clock: parts.clock,
            book,
            queues: QueueBook::default(),
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

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Works until told to stop, then drains: nothing new is claimed, what is in flight is finished or, when the
    /// deadline comes near, handed back. Answers whether everything ended in time. Dropped before, it ends and nobody waits for
    /// that: what is in flight is handed back, or recovered when its leases end.
    pub async fn run(&self, stop: CancellationToken) -> bool {
        let shared = &self.shared;
        let _watching = gauges::watch(shared);
        let tasks = TaskTracker::new();
        if shared.settings.sends() {
            for _ in 0..shared.settings.batches {
                let shared = shared.clone();
                tasks.spawn(async move { going_on("worker", || worker::run(shared.clone())).await });
            }
            let scouting = shared.clone();
            tasks.spawn(async move { going_on("scout", || worker::scout(scouting.clone())).await });
        }
        let driving = shared.clone();
        tasks.spawn(async move { going_on("driver", || driver::run(driving.clone())).await });
        let eager: Arc<dyn Beside> = Arc::new(EagerStarts::new(shared.clone()));
        shared.hints.local.join(eager.clone());
        let _working = Working {
            shared: shared.clone(),
            eager: eager.clone(),
        };
        let keeping = shared.clone();
        let keeper = tokio::spawn(async move { going_on("keeper", || keeper::run(keeping.clone())).await });
        stop.cancelled().await;
        shared.stopping.cancel();
        let mut span = Spanned::begin(&DRAIN, "", TraceContext::root(), None);
        span.set(&IN_FLIGHT, (shared.book.batch_count() + shared.book.run_count()) as i64);
        shared.hints.local.leave(&eager);
        tasks.close();
        let deadline = shared.settings.drain;
        let mut in_time = finished_within(&tasks, deadline / 2).await;
        if !in_time {
            shared.hurry.cancel();
            in_time = finished_within(&tasks, deadline / 2).await;
        }
        span.set(&IN_TIME, if in_time { "true" } else { "false" });
        span.end();
        shared.over.cancel();
        let mut presence = keeper.await.unwrap_or_default();
        presence.leave(&*shared.fleet, shared.heartbeat()).await;
        in_time
    }
}

async fn finished_within(tasks: &TaskTracker, time: Duration) -> bool {
    tokio::time::timeout(time, tasks.wait()).await.is_ok()
}

//! What lives as long as the publisher: the producer in service, its replacement when it fails for
//! good, and the way out.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::config::KafkaConfig;
use super::generation::{Complaint, Generation, Running};
use super::probe::{self, CHECK_TIMEOUT};
use super::reports::describe;
use super::sight::Lost;
use super::verdict::{Verdict, verdict};
use super::wake::Wake;
use crate::delivery::{Failure, PublisherEvents, Rejected, TopicError, TopicInfo};
use crate::telemetry::catalogue::KAFKA_OUTSTANDING;
use crate::telemetry::{Watching, meters};

/// How long purged messages may take to be reported before they are settled without a report. Waited out only where a report
/// is missing.
const PURGE_GRACE: Duration = Duration::from_secs(5);
/// First and last pause before a failed producer is replaced.
const REBUILD_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A new producer asks for its id half a second after its start, whenever its connection is there, and
/// tells nobody when it has it.
const PRODUCER_ID_WAIT: Duration = Duration::from_millis(550);

/// The state behind a publisher, shared with the library's threads and the background tasks.
pub(super) struct Service {
    config: KafkaConfig,
    events: Arc<dyn PublisherEvents>,
    runtime: Handle,
    /// Publishers read it for as long as they send, so after a write nobody sends to the old producer.
    state: RwLock<State>,
    /// The generations that may still hold tickets.
    live: Mutex<Vec<Arc<Generation>>>,
    pub(super) wake: Arc<Wake>,
    closed: CancellationToken,
    generations: AtomicU64,
    /// Producers in a row that failed before they delivered anything.
    unproven: AtomicU32,
}

pub(super) enum State {
    Running(Arc<Running>),
    Rebuilding,
    Closed,
}

impl Service {
    /// A service that has no producer yet.
    pub(super) fn new(config: KafkaConfig, events: Arc<dyn PublisherEvents>, runtime: Handle) -> Arc<Service> {
        Arc::new(Service {
            config,
            events,
            runtime,
            state: RwLock::new(State::Rebuilding),
            live: Mutex::default(),
            wake: Arc::default(),
            closed: CancellationToken::new(),
            generations: AtomicU64::new(0),
            unproven: AtomicU32::new(0),
        })
    }

    /// Makes the first producer.
    pub(super) fn begin(self: &Arc<Service>) -> Result<(), KafkaError> {
        let running = self.start_generation()?;
        *self.write() = State::Running(running);
        Ok(())
    }

    /// What an offer that the library turned down means to the caller.
    pub(super) fn rejected(self: &Arc<Service>, error: &KafkaError, number: u64, topic: &str) -> Rejected {
        let Some(code) = error.rdkafka_error_code() else {
            // The only error without a code is a topic with a NUL in its name.
            return Rejected::Refused(Failure {
                code: "invalid_message",
                detail: error.to_string(),
            });
        };
        let verdict = verdict(code);
        // A broken producer answers with the code of what broke it, which reads like the message's fault.
        if verdict != Verdict::Full && self.replace_if_broken(number) {
            return Rejected::Unavailable;
        }
        match verdict {
            Verdict::Full => Rejected::Full,
            Verdict::TryAlone(label) | Verdict::Refused(label) => Rejected::Refused(Failure {
                code: label,
                detail: describe(code),
            }),
            Verdict::Topic(trouble) => {
                self.events.topic_trouble(topic, trouble);
                Rejected::Unavailable
            }
            Verdict::Unknown(_) | Verdict::Delivered => {
                tracing::debug!(topic, code = describe(code), "a message was not accepted");
                Rejected::Unavailable
            }
        }
    }

    /// Takes the producer of this generation out of service if it failed for good, and replaces it in
    /// the background. Tells whether it is out of service.
    fn replace_if_broken(self: &Arc<Service>, number: u64) -> bool {
        match self.with_running(|running| running.generation.number == number && running.is_broken()) {
            Some(false) => return false,
            Some(true) => {}
            None => return true,
        }
        let mut state = self.write();
        let running = match std::mem::replace(&mut *state, State::Rebuilding) {
            State::Running(running) if running.generation.number == number => running,
            // Somebody was faster.
            other => {
                *state = other;
                return true;
            }
        };
        drop(state);
        running.generation.mark_ending("producer_fatal");
        let client = running.producer().client();
        let lost = || client.context().sight.lost().unwrap_or(Lost::Blind).text().to_owned();
        let cause = client.fatal_error();
        let cause = cause.map_or_else(lost, |(code, text)| format!("{code:?}: {text}"));
        tracing::error!(name: "producer_failed", error = cause, "the producer failed for good and is replaced");
        self.events.fatal();
        let service = Arc::clone(self);
        self.runtime.spawn(async move { service.rebuild(running).await });
        true
    }

    /// Ends the old producer and starts a new one, with growing pauses while they keep failing.
    async fn rebuild(self: Arc<Service>, old: Arc<Running>) {
        if old.generation.proven() {
            self.unproven.store(0, Ordering::Relaxed);
        }
        self.retire(old, "producer_fatal").await;
        loop {
            let pause = backoff(self.unproven.fetch_add(1, Ordering::Relaxed));
            if tokio::time::timeout(pause, self.closed.cancelled()).await.is_ok() {
                return;
            }
            match self.start_generation() {
                Ok(running) => {
                    let number = running.generation.number;
                    self.put_in_service(running).await;
                    // It may have failed before it was in a place to be seen.
                    self.replace_if_broken(number);
                    return;
                }
                Err(error) => {
                    tracing::error!(name: "producer_not_made", %error, "a producer cannot be made; it is tried again");
                }
            }
        }
    }

    async fn put_in_service(&self, running: Arc<Running>) {
        let refused = {
            let mut state = self.write();
            match &*state {
                State::Rebuilding => {
                    let number = running.generation.number;
                    tracing::info!(name: "producer_replaced", number, "a new producer is in service");
                    *state = State::Running(running);
                    None
                }
                State::Running(_) | State::Closed => Some(running),
            }
        };
        if let Some(running) = refused {
            self.retire(running, "purged").await;
        }
    }

    /// Purges a producer that nobody sends to any more and sees to it that its tickets are settled.
    async fn retire(&self, running: Arc<Running>, code: &'static str) {
        running.purge(code);
        let generation = &running.generation;
        let all_settled = || generation.untold() == 0;
        if !self.wake.until(Instant::now() + PURGE_GRACE, all_settled).await {
            let count = generation.settle_rest(code);
            not_answered(count);
        }
        self.lock_live().retain(|live| live.number != generation.number);
    }

    /// Ends at once, for those who cannot wait.
    pub(super) fn abandon(&self) {
        if let Some(running) = self.close() {
            running.purge("purged");
        }
        self.settle_rest("purged");
    }

    /// Accepts nothing more, waits for what is outstanding until the deadline, then settles it.
    pub(super) async fn shutdown(&self, deadline: Instant) {
        let running = self.close();
        if !self.wake.until(deadline, || self.untold() == 0).await {
            not_answered(self.outstanding());
        }
        if let Some(running) = running {
            self.retire(running, "purged").await;
        }
        // A generation that is being retired elsewhere has its own grace; do not wait for more than that.
        self.wake
            .until(Instant::now() + PURGE_GRACE, || self.untold() == 0)
            .await;
        self.settle_rest("purged");
    }

    /// From here on nothing is accepted. Gives the producer to whoever closes first.
    fn close(&self) -> Option<Arc<Running>> {
        self.closed.cancel();
        match std::mem::replace(&mut *self.write(), State::Closed) {
            State::Running(running) => Some(running),
            State::Rebuilding | State::Closed => None,
        }
    }

    fn start_generation(self: &Arc<Service>) -> Result<Arc<Running>, KafkaError> {
        let service = Arc::downgrade(self);
        let on_trouble = Box::new(move |number| {
            if let Some(service) = service.upgrade() {
                service.replace_if_broken(number);
            }
        });
        let number = self.generations.fetch_add(1, Ordering::Relaxed) + 1;
        let (config, wake) = (self.config.clone(), Arc::clone(&self.wake));
        let running = Running::start(Generation::new(
            number,
            config,
            wake,
            Arc::clone(&self.events),
            on_trouble,
        ))?;
        meters().producer_made();
        self.lock_live().push(Arc::clone(&running.generation));
        Ok(Arc::new(running))
    }

    pub(super) fn complaint(&self) -> Option<Complaint> {
        self.with_running(|running| running.generation.last_error()).flatten()
    }

    pub(super) fn check_topic(&self, topic: &str) -> Result<TopicInfo, TopicError> {
        let info = probe::ask(&self.config, topic, || self.complaint())?;
        self.warm_up(topic);
        Ok(info)
    }

    /// Has the producer itself ask for the topic: it then knows the partitions and has its producer id.
    pub(super) fn warm_up(&self, topic: &str) {
        let Some(running) = self.with_running(Arc::clone) else {
            return;
        };
        if let Err(error) = running.producer().client().fetch_metadata(Some(topic), CHECK_TIMEOUT) {
            tracing::debug!(topic, %error, "warming up failed");
        }
        std::thread::sleep(PRODUCER_ID_WAIT.saturating_sub(running.started.elapsed()));
    }

    fn with_running<T>(&self, look: impl FnOnce(&Arc<Running>) -> T) -> Option<T> {
        match &*self.read() {
            State::Running(running) => Some(look(running)),
            State::Rebuilding | State::Closed => None,
        }
    }

    /// Tells how many messages are without an outcome, as long as the answer lives.
    pub(super) fn watch(self: &Arc<Service>) -> Watching {
        let service = Arc::downgrade(self);
        meters().watch(&KAFKA_OUTSTANDING, &[], move || {
            service.upgrade().map(|service| service.outstanding() as f64)
        })
    }

    pub(super) fn outstanding(&self) -> usize {
        self.lock_live()
            .iter()
            .map(|generation| generation.tickets.held())
            .sum()
    }

    fn untold(&self) -> usize {
        self.lock_live().iter().map(|generation| generation.untold()).sum()
    }

    fn settle_rest(&self, code: &'static str) {
        let live = std::mem::take(&mut *self.lock_live());
        for generation in live {
            generation.settle_rest(code);
        }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_live(&self) -> MutexGuard<'_, Vec<Arc<Generation>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_answered(count: usize) {
    tracing::warn!(name: "messages_unanswered", count, "messages have no outcome and are settled as unknown");
}

/// The pause before the next producer: doubled for each that never delivered, with jitter.
fn backoff(failures: u32) -> Duration {
    let (first, last) = REBUILD_BACKOFF;
    let pause = first.saturating_mul(1 << failures.min(16)).min(last);
    pause.mul_f64(rand::random_range(0.5..1.0))
}

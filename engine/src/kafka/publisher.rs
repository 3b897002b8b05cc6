//! The publisher on Kafka: an idempotent producer that is replaced when it fails for good.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use futures::future::BoxFuture;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, Producer as _};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::config::{KafkaConfig, KafkaConfigError};
use super::generation::{Generation, Producer, Running, to_headers};
use super::probe::{self, CHECK_TIMEOUT};
use super::reports::describe;
use super::verdict::{Verdict, verdict};
use super::wake::Wake;
use crate::delivery::{Failure, Message, Publisher, PublisherEvents, Rejected, Ticket, TopicError, TopicInfo};

/// The longest that a full queue keeps a caller waiting before it may try again.
const CAPACITY_WAIT: Duration = Duration::from_millis(100);
/// How long purged messages may take to be reported before they are settled without a report.
const PURGE_GRACE: Duration = Duration::from_secs(1);
/// First and last pause before a failed producer is replaced.
const REBUILD_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A new producer asks for its id half a second after its start, whenever its connection is there, and
/// tells nobody when it has it.
const PRODUCER_ID_WAIT: Duration = Duration::from_millis(550);
/// Idempotent producers of older versions never recover from some broker failures.
const OLDEST_LIBRDKAFKA: i32 = 0x0205_00ff;

/// Why a publisher cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is at fault.
    #[error(transparent)]
    Config(#[from] KafkaConfigError),
    /// It was started outside a tokio runtime.
    #[error("the kafka publisher must be started inside a tokio runtime")]
    NoRuntime,
    /// The client library is too old.
    #[error("librdkafka {found} is too old: link 2.5.0 or newer")]
    OldLibrary {
        /// Its version.
        found: String,
    },
}

/// Hands messages to Kafka. Dropping it settles whatever is outstanding as unknown, code `purged`.
pub struct KafkaPublisher {
    core: Arc<Core>,
}

struct Core {
    config: KafkaConfig,
    events: Arc<dyn PublisherEvents>,
    runtime: Handle,
    /// Publishers read it for as long as they send, so after a write nobody sends to the old producer.
    state: RwLock<State>,
    /// The generations that may still hold tickets.
    live: Mutex<Vec<Arc<Generation>>>,
    wake: Arc<Wake>,
    closed: CancellationToken,
    generations: AtomicU64,
}

enum State {
    Running(Running),
    Rebuilding,
    Closed,
}

impl KafkaPublisher {
    /// Starts the producer; brokers need not be reachable yet.
    ///
    /// # Errors
    /// The configuration is refused, or this is not inside a tokio runtime.
    pub fn start(config: KafkaConfig, events: Arc<dyn PublisherEvents>) -> Result<KafkaPublisher, StartError> {
        let (number, found) = rdkafka::util::get_rdkafka_version();
        if number < OLDEST_LIBRDKAFKA {
            return Err(StartError::OldLibrary { found });
        }
        config.validate()?;
        let runtime = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let core = Arc::new(Core {
            config,
            events,
            runtime,
            state: RwLock::new(State::Rebuilding),
            live: Mutex::default(),
            wake: Arc::default(),
            closed: CancellationToken::new(),
            generations: AtomicU64::new(0),
        });
        let running = core.start_generation().map_err(KafkaConfigError::from)?;
        *core.write() = State::Running(running);
        Ok(KafkaPublisher { core })
    }

    /// How many accepted messages are not settled yet.
    pub fn outstanding(&self) -> usize {
        self.core.outstanding()
    }

    /// Connects and learns the topic's partitions, so that the first message does not wait for it.
    pub async fn warm_up(&self, topic: &str) {
        let (core, topic) = (Arc::clone(&self.core), topic.to_owned());
        // A cold start only costs time: whatever fails here is reported by the first message.
        let _ = tokio::task::spawn_blocking(move || core.warm_up(&topic)).await;
    }
}

impl Publisher for KafkaPublisher {
    fn publish(&self, message: &Message, ticket: Ticket) -> Result<(), Rejected> {
        let state = self.core.read();
        let State::Running(running) = &*state else {
            return Err(Rejected::Unavailable);
        };
        let Err(error) = running.send(message, ticket) else {
            return Ok(());
        };
        let number = running.generation.number;
        drop(state);
        Err(self.core.rejected(&error, number, &message.topic))
    }

    fn capacity(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.core.wake.next(Instant::now() + CAPACITY_WAIT))
    }

    fn check_topic<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<TopicInfo, TopicError>> {
        let (core, topic) = (Arc::clone(&self.core), topic.to_owned());
        Box::pin(async move {
            let check = tokio::task::spawn_blocking(move || core.check_topic(&topic)).await;
            check.unwrap_or_else(|_| {
                Err(TopicError::Unreachable {
                    detail: "the check was cut off".to_owned(),
                })
            })
        })
    }

    fn shutdown(&self, within: Duration) -> BoxFuture<'_, ()> {
        Box::pin(self.core.shutdown(Instant::now() + within))
    }
}

impl Drop for KafkaPublisher {
    fn drop(&mut self) {
        if let Some(running) = self.core.close() {
            let lone = running.purge("purged");
            self.core.settle_rest("purged");
            drop_elsewhere(running, lone);
        } else {
            self.core.settle_rest("purged");
        }
    }
}

impl Running {
    fn send(&self, message: &Message, ticket: Ticket) -> Result<(), KafkaError> {
        let key = self.generation.tickets.put(ticket);
        let record = BaseRecord {
            topic: &*message.topic,
            partition: None,
            payload: Some(message.payload.as_slice()),
            key: message.key.as_deref(),
            timestamp: None,
            headers: to_headers(&message.headers),
            delivery_opaque: key,
        };
        self.producer.send(record).map_err(|(error, _)| {
            // Not accepted: the caller keeps the right to settle it.
            drop(self.generation.tickets.take(key));
            error
        })
    }
}

impl Core {
    /// What an offer that the library turned down means to the caller.
    fn rejected(self: &Arc<Core>, error: &KafkaError, number: u64, topic: &str) -> Rejected {
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
                tracing::debug!("kafka did not accept a message for {topic}: {}", describe(code));
                Rejected::Unavailable
            }
        }
    }

    /// Takes the producer of this generation out of service if it failed for good, and replaces it in
    /// the background. Tells whether it is out of service.
    fn replace_if_broken(self: &Arc<Core>, number: u64) -> bool {
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
        let cause = running
            .producer
            .client()
            .fatal_error()
            .map(|(code, text)| format!("{code:?}: {text}"));
        tracing::error!(
            "the kafka producer failed for good and is replaced: {}",
            cause.unwrap_or_default()
        );
        self.events.fatal();
        let core = Arc::clone(self);
        self.runtime.spawn(async move { core.rebuild(running).await });
        true
    }

    /// Ends the old producer and starts a new one, with growing pauses while they keep failing.
    async fn rebuild(self: Arc<Core>, old: Running) {
        let proven = old.generation.proven();
        let mut failures = if proven {
            0
        } else {
            old.generation.number.min(16) as u32
        };
        self.retire(old, "producer_fatal").await;
        loop {
            let pause = backoff(failures);
            let closed = self.closed.cancelled();
            if tokio::time::timeout(pause, closed).await.is_ok() {
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
                Err(error) => tracing::error!("cannot make a new kafka producer, will try again: {error}"),
            }
            failures = failures.saturating_add(1);
        }
    }

    async fn put_in_service(&self, running: Running) {
        let refused = {
            let mut state = self.write();
            match &*state {
                State::Rebuilding => {
                    tracing::info!(
                        "a new kafka producer is in service (number {})",
                        running.generation.number
                    );
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
    async fn retire(&self, running: Running, code: &'static str) {
        let lone = running.purge(code);
        let generation = Arc::clone(&running.generation);
        let all_settled = || generation.tickets.held() == 0;
        if !self.wake.until(Instant::now() + PURGE_GRACE, all_settled).await {
            let count = generation.settle_rest(code);
            tracing::warn!("{count} messages were settled as unknown without a report from librdkafka");
        }
        drop_elsewhere(running, lone);
        self.lock_live().retain(|live| live.number != generation.number);
    }

    async fn shutdown(&self, deadline: Instant) {
        let running = self.close();
        if !self.wake.until(deadline, || self.outstanding() == 0).await {
            tracing::warn!(
                "{} messages are unanswered at shutdown and are settled as unknown",
                self.outstanding()
            );
        }
        if let Some(running) = running {
            self.retire(running, "purged").await;
        }
        // A generation that is being retired elsewhere has its own grace; do not wait for more than that.
        self.wake
            .until(Instant::now() + PURGE_GRACE, || self.outstanding() == 0)
            .await;
        self.settle_rest("purged");
    }

    /// From here on nothing is accepted. Gives the producer to whoever closes first.
    fn close(&self) -> Option<Running> {
        self.closed.cancel();
        match std::mem::replace(&mut *self.write(), State::Closed) {
            State::Running(running) => Some(running),
            State::Rebuilding | State::Closed => None,
        }
    }

    fn start_generation(self: &Arc<Core>) -> Result<Running, KafkaError> {
        let core = Arc::downgrade(self);
        let on_trouble = Box::new(move |number| {
            if let Some(core) = core.upgrade() {
                core.replace_if_broken(number);
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
        self.lock_live().push(Arc::clone(&running.generation));
        Ok(running)
    }

    fn check_topic(&self, topic: &str) -> Result<TopicInfo, TopicError> {
        let complaint = || self.with_running(|running| running.generation.last_error()).flatten();
        let info = probe::ask(&self.config, topic, complaint)?;
        self.warm_up(topic);
        Ok(info)
    }

    /// Has the producer itself ask for the topic: it then knows the partitions and has its producer id.
    fn warm_up(&self, topic: &str) {
        let found = self.with_running(|running| (running.producer.clone(), running.started));
        let Some((producer, started)) = found else {
            return;
        };
        if let Err(error) = producer.client().fetch_metadata(Some(topic), CHECK_TIMEOUT) {
            tracing::debug!("warming up for topic {topic} failed: {error}");
        }
        std::thread::sleep(PRODUCER_ID_WAIT.saturating_sub(started.elapsed()));
    }

    fn with_running<T>(&self, look: impl FnOnce(&Running) -> T) -> Option<T> {
        match &*self.read() {
            State::Running(running) => Some(look(running)),
            State::Rebuilding | State::Closed => None,
        }
    }

    fn outstanding(&self) -> usize {
        self.lock_live()
            .iter()
            .map(|generation| generation.tickets.held())
            .sum()
    }

    fn settle_rest(&self, code: &'static str) {
        let live = std::mem::take(&mut *self.lock_live());
        for generation in live {
            generation.settle_rest(code);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_live(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Generation>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pause before the next producer: doubled for each that never delivered, with jitter.
fn backoff(failures: u32) -> Duration {
    let (first, last) = REBUILD_BACKOFF;
    let pause = first.saturating_mul(1 << failures.min(16)).min(last);
    pause.mul_f64(rand::random_range(0.5..1.0))
}

/// Destroys producers on a thread of their own: it may take a while and joins their polling threads.
fn drop_elsewhere(running: Running, lone: Option<Producer>) {
    let spawned = std::thread::Builder::new()
        .name("lockgate-kafka-end".to_owned())
        .spawn(move || {
            drop(lone);
            drop(running);
        });
    if let Err(error) = spawned {
        tracing::warn!("a kafka producer was ended on the calling thread: {error}");
    }
}

//! One generation of producers: what is shared between the threads that send and those that report
//! from the start of a producer until every ticket it accepted is settled.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, PurgeConfig};
use rdkafka::types::RDKafkaErrorCode;

use super::config::KafkaConfig;
use super::polled::Polled;
use super::reports::Reports;
use super::statistics::Statistics;
use super::tickets::Tickets;
use super::wake::Wake;
use crate::delivery::{Failure, Headers, Message, Outcome, PublisherEvents, Ticket};

/// How often people are told that no broker can be reached, while it lasts.
const SAY_AGAIN: Duration = Duration::from_secs(30);

/// Called with the number of a generation whose producer may be of no more use.
pub(super) type OnTrouble = Box<dyn Fn(u64) + Send + Sync>;

/// What outlives a producer until its last ticket is settled.
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) tickets: Tickets,
    pub(super) events: Arc<dyn PublisherEvents>,
    pub(super) on_trouble: OnTrouble,
    pub(super) statistics: Statistics,
    config: KafkaConfig,
    wake: Arc<Wake>,
    /// The code for messages that end with the producer; set once, when it ends.
    ending: OnceLock<&'static str>,
    /// Whether any message was ever delivered.
    proven: AtomicBool,
    lone: Mutex<Lone>,
    last_error: Mutex<Option<Complaint>>,
    /// When it was last said that no broker can be reached.
    said_down: Mutex<Option<Instant>>,
    /// Who is between taking tickets out and having told their owners.
    settling: AtomicUsize,
}

/// What the client library last complained of; its reason names brokers and mechanisms, never credentials.
#[derive(Debug, Clone)]
pub(super) struct Complaint {
    pub(super) code: RDKafkaErrorCode,
    pub(super) reason: String,
}

/// The second producer, which sends one message per request.
enum Lone {
    NotNeeded,
    Made(Polled),
    Ended,
}

impl Generation {
    pub(super) fn new(
        number: u64,
        config: KafkaConfig,
        wake: Arc<Wake>,
        events: Arc<dyn PublisherEvents>,
        on_trouble: OnTrouble,
    ) -> Generation {
        Generation {
            number,
            tickets: Tickets::new(),
            events,
            on_trouble,
            statistics: Statistics::told(),
            config,
            wake,
            ending: OnceLock::new(),
            proven: AtomicBool::new(false),
            lone: Mutex::new(Lone::NotNeeded),
            last_error: Mutex::new(None),
            said_down: Mutex::new(None),
            settling: AtomicUsize::new(0),
        }
    }

    /// Tells the ticket's owner, unless somebody did before.
    pub(super) fn settle(&self, key: usize, outcome: Outcome) {
        if matches!(outcome, Outcome::Delivered { .. }) && !self.proven.load(Ordering::Relaxed) {
            self.proven.store(true, Ordering::Relaxed);
        }
        let settling = Settling::begin(&self.settling);
        if let Some(ticket) = self.tickets.take(key) {
            settle_ticket(ticket, outcome);
            drop(settling);
            self.wake.settled();
        }
    }

    /// Whether this generation has ever delivered.
    pub(super) fn proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// The code for messages that end with their producer.
    pub(super) fn ending(&self) -> Option<&'static str> {
        self.ending.get().copied()
    }

    /// Makes `code` what unsent and unanswered messages are settled with. The first code stays.
    pub(super) fn mark_ending(&self, code: &'static str) {
        self.ending.get_or_init(|| code);
    }

    /// Takes the lone producer out for good. It must be dropped on a thread that is not its own.
    fn end_lone(&self) -> Option<Polled> {
        match std::mem::replace(&mut *self.lock_lone(), Lone::Ended) {
            Lone::Made(producer) => Some(producer),
            Lone::NotNeeded | Lone::Ended => None,
        }
    }

    fn lock_lone(&self) -> MutexGuard<'_, Lone> {
        self.lone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lone_is_broken(&self) -> bool {
        match &*self.lock_lone() {
            Lone::Made(producer) => is_broken(producer),
            Lone::NotNeeded | Lone::Ended => false,
        }
    }

    /// Settles whatever the library has not reported.
    pub(super) fn settle_rest(&self, code: &'static str) -> usize {
        let settling = Settling::begin(&self.settling);
        let rest = self.tickets.drain();
        let count = rest.len();
        for ticket in rest {
            let detail = "the producer ended before the broker answered".to_owned();
            settle_ticket(ticket, Outcome::Unknown(Failure { code, detail }));
        }
        drop(settling);
        self.wake.settled();
        count
    }

    /// How many accepted messages have not told their outcome yet, those being told this moment included.
    pub(super) fn untold(&self) -> usize {
        // In this order: a ticket is counted as being settled before it leaves the others.
        self.tickets.held() + self.settling.load(Ordering::Acquire)
    }

    /// Notes what the client complains of. That no broker can be reached follows from everything, so it never takes the
    /// place of why.
    pub(super) fn note_error(&self, code: RDKafkaErrorCode, reason: &str) {
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        if code != RDKafkaErrorCode::AllBrokersDown || last.is_none() {
            let reason = reason.to_owned();
            *last = Some(Complaint { code, reason });
        }
    }

    /// Whether it is time to say again that no broker can be reached; the library says so at every try.
    pub(super) fn is_news(&self) -> bool {
        let mut said = self.said_down.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_some_and(|said| said.elapsed() < SAY_AGAIN) {
            return false;
        }
        *said = Some(Instant::now());
        true
    }

    pub(super) fn last_error(&self) -> Option<Complaint> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Counts whoever takes tickets out, until their owners were told; also when an owner panics.
struct Settling<'a>(&'a AtomicUsize);

impl<'a> Settling<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A producer and what is shared with its reports.
pub(super) struct Running {
    /// There until it is dropped.
    producer: Option<Polled>,
    pub(super) started: Instant,
    pub(super) generation: Arc<Generation>,
}

impl Running {
    pub(super) fn start(generation: Generation) -> Result<Running, KafkaError> {
        let generation = Arc::new(generation);
        let reports = Reports::new(Arc::clone(&generation), false);
        let producer = Polled::start(&generation.config.producer(), reports)?;
        Ok(Running {
            producer: Some(producer),
            started: Instant::now(),
            generation,
        })
    }

    /// Hands a message to the library, which copies it.
    pub(super) fn send(&self, message: &Message, ticket: Ticket) -> Result<(), KafkaError> {
        let key = self.generation.tickets.put(ticket);
        let record = BaseRecord {
            topic: &message.topic,
            partition: None,
            payload: Some(message.payload.as_slice()),
            key: message.key.as_deref(),
            timestamp: None,
            headers: to_headers(&message.headers),
            delivery_opaque: key,
        };
        self.producer().send(record).map_err(|(error, _)| {
            // Not accepted: the caller keeps the right to settle it.
            drop(self.generation.tickets.take(key));
            error
        })
    }

    /// Whether a producer of this generation has failed for good. The error callback does not say:
    /// it passes the cause on, with the code of an error that may be harmless elsewhere.
    pub(super) fn is_broken(&self) -> bool {
        is_broken(self.producer()) || self.generation.lone_is_broken()
    }

    /// Drops what is queued and in flight; the library reports each message as purged.
    pub(super) fn purge(&self, code: &'static str) {
        self.generation.mark_ending(code);
        // Not blocking: a broker thread that is busy resolving a name would hold us up.
        let everything = || PurgeConfig::default().queue().inflight().non_blocking();
        self.producer().purge(everything());
        if let Lone::Made(lone) = &*self.generation.lock_lone() {
            lone.purge(everything());
        }
    }

    pub(super) fn producer(&self) -> &Polled {
        self.producer.as_ref().expect("a producer is there until it is dropped")
    }
}

fn is_broken(producer: &Polled) -> bool {
    producer.client().fatal_error().is_some() || producer.client().context().sight.lost().is_some()
}

/// Destroying a producer takes a while and joins its polling thread, so it happens on a thread of its
/// own: the last owner may be that very thread, or one that must not block.
impl Drop for Running {
    fn drop(&mut self) {
        let (producer, generation) = (self.producer.take(), Arc::clone(&self.generation));
        let end = move || {
            drop(generation.end_lone());
            drop(producer);
        };
        let spawned = std::thread::Builder::new()
            .name("lockgate-kafka-end".to_owned())
            .spawn(end);
        if let Err(error) = spawned {
            tracing::warn!(name: "producer_ended_here", %error, "a producer was ended on the calling thread");
        }
    }
}

/// Sends a message again, alone, after its request was turned down. It is copied from the report.
pub(super) fn send_alone(
    generation: &Arc<Generation>,
    message: &BorrowedMessage<'_>,
    key: usize,
) -> Result<(), KafkaError> {
    let mut lone = generation.lock_lone();
    // Under the lock: a purge marks the ending first, so it either sees this message or stops it here.
    if generation.ending().is_some() {
        return Err(KafkaError::Canceled);
    }
    if let Lone::NotNeeded = *lone {
        let reports = Reports::new(Arc::clone(generation), true);
        *lone = Lone::Made(Polled::start(&generation.config.lone_producer(), reports)?);
    }
    let Lone::Made(producer) = &*lone else {
        return Err(KafkaError::Canceled);
    };
    let record = BaseRecord {
        topic: message.topic(),
        // The partition it was meant for, so that a keyless message does not move.
        partition: Some(message.partition()).filter(|partition| *partition >= 0),
        payload: message.payload(),
        key: message.key(),
        timestamp: message.timestamp().to_millis(),
        headers: message.headers().map(|headers| headers.detach()),
        delivery_opaque: key,
    };
    producer.send(record).map_err(|(error, _)| error)
}

/// Copies headers into the library's own form.
pub(super) fn to_headers(headers: &Headers) -> Option<OwnedHeaders> {
    if headers.is_empty() {
        return None;
    }
    let empty = OwnedHeaders::new_with_capacity(headers.len());
    Some(headers.iter().fold(empty, |made, (key, value)| {
        made.insert(rdkafka::message::Header {
            key,
            value: Some(value),
        })
    }))
}

/// A sink that panics must not take the reporting thread, and so everybody's messages, with it.
fn settle_ticket(ticket: Ticket, outcome: Outcome) {
    let index = ticket.index;
    if catch_unwind(AssertUnwindSafe(move || ticket.sink.settle(ticket.index, outcome))).is_err() {
        tracing::error!(name: "sink_panicked", index, "whoever is told of outcomes panicked: this outcome is lost here");
    }
}

//! The seam to the message broker.
//!
//! The engine hands a [`Message`] and a [`Ticket`] to a [`Publisher`]; the publisher settles every
//! ticket it accepted exactly once, from a thread of its own. Nothing here names Kafka.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;

use super::headers::Headers;

/// One message, ready to go: bytes only, nothing of the item it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The topic.
    pub topic: Arc<str>,
    /// The partitioning key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub payload: Vec<u8>,
    /// Headers in the order in which they are written.
    pub headers: Headers,
}

/// What became of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The broker acknowledged it.
    Delivered {
        /// The partition it is in.
        partition: i32,
        /// Its offset there.
        offset: i64,
    },
    /// It can never go as it is: retrying it would fail the same way.
    Refused(Failure),
    /// It may or may not be in the log.
    Unknown(Failure),
}

/// Why a message was not delivered. Holds no part of the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A code from a closed set, such as `too_large`; safe as a metric label.
    pub code: &'static str,
    /// One line for people, without payload, key or header values.
    pub detail: String,
}

/// Where the outcomes of a batch arrive. Called on the publisher's threads: must not block.
pub trait OutcomeSink: Send + Sync + 'static {
    /// Records what became of the message with this index. Called once for each accepted message.
    fn settle(&self, index: u32, outcome: Outcome);
}

/// The right to be told once what became of one message.
pub struct Ticket {
    /// Who is told.
    pub sink: Arc<dyn OutcomeSink>,
    /// Which of the sink's messages it is.
    pub index: u32,
}

/// Why a message was not accepted; its ticket will not be settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejected {
    /// The publisher's queue is full: wait with [`Publisher::capacity`] and offer it again.
    Full,
    /// The message itself cannot be sent; it is settled by whoever offered it.
    Refused(Failure),
    /// The publisher cannot take it now (between two producers, its topic in trouble, shut down):
    /// offer it again later.
    Unavailable,
}

/// What is wrong with a topic as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicTrouble {
    /// The brokers have no such topic.
    Missing,
    /// The brokers do not let this client write to it.
    NotAuthorised,
}

/// Who is told of troubles that are not one message's fault, such as the breakers of the topics.
///
/// Called on the publisher's threads, perhaps many times for one trouble: must not block.
pub trait PublisherEvents: Send + Sync + 'static {
    /// A message could not go because of its topic.
    fn topic_trouble(&self, topic: &str, trouble: TopicTrouble);

    /// No broker can be reached.
    fn all_brokers_down(&self);

    /// The producer is of no more use and is being replaced.
    fn fatal(&self);
}

/// For those who have no use for the events.
impl PublisherEvents for () {
    fn topic_trouble(&self, _topic: &str, _trouble: TopicTrouble) {}
    fn all_brokers_down(&self) {}
    fn fatal(&self) {}
}

/// What is known of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    /// How many partitions it has.
    pub partitions: usize,
    /// The largest record batch it takes, where the broker lets us read its configuration.
    pub max_message_bytes: Option<usize>,
}

/// Why a topic cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// The broker answered that there is no such topic.
    #[error("topic {topic} does not exist")]
    Missing {
        /// The topic.
        topic: String,
    },
    /// The broker does not let this client use it.
    #[error("not authorised for topic {topic}: {detail}")]
    NotAuthorised {
        /// The topic.
        topic: String,
        /// What the broker said.
        detail: String,
    },
    /// No broker answered in time.
    #[error("no broker answered within the deadline: {detail}")]
    Unreachable {
        /// What the client library said.
        detail: String,
    },
}

/// Hands messages to a broker. One per process, shared by all workers.
pub trait Publisher: Send + Sync + 'static {
    /// Offers a message. `Ok` means its ticket will be settled; the message is copied.
    ///
    /// # Errors
    /// The message was not accepted and its ticket is dropped unsettled; [`Rejected`] says what to do.
    fn publish(&self, message: &Message, ticket: Ticket) -> Result<(), Rejected>;

    /// Waits until the queue has room again (or a short time has passed).
    fn capacity(&self) -> BoxFuture<'_, ()>;

    /// Connects and learns the topic's partitions, so that the first message does not wait for it. Whatever fails here only
    /// costs time.
    fn warm_up<'a>(&'a self, _topic: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    /// Asks the broker about a topic.
    fn check_topic<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<TopicInfo, TopicError>>;

    /// What the brokers were last in trouble over, for people: why nobody answers.
    fn complaint(&self) -> Option<String> {
        None
    }

    /// Stops: waits until everything accepted is settled or the time is over, then settles the rest
    /// as unknown. Later offers are answered [`Rejected::Unavailable`].
    fn shutdown(&self, within: std::time::Duration) -> BoxFuture<'_, ()>;
}

/// One record read back from the broker.
#[derive(Debug, Clone)]
pub struct Record {
    /// The partition it was read from.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// When the broker or producer stamped it.
    pub timestamp: Option<DateTime<Utc>>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub payload: Vec<u8>,
    /// Its headers.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// Reads a topic back: from the first record at or after an instant to its end as of the call.
pub trait TopicReader: Send + Sync + 'static {
    /// Calls `each` for every record, in offset order within a partition. Blocking: run it on a
    /// thread of its own. Returns how many records were read.
    ///
    /// # Errors
    /// The topic or the brokers cannot be read.
    fn read_since(
        &self,
        topic: &str,
        since: DateTime<Utc>,
        each: &mut dyn FnMut(Record) -> anyhow::Result<()>,
    ) -> anyhow::Result<u64>;
}

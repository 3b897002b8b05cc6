//! Consuming with each effect once: records come in pages, each page is settled in one transaction of the database of
//! its effects, and only then its offsets are committed.
//!
//! A page that was settled and is read again (its offsets were not committed, or its partitions changed hands) finds its
//! ids remembered and does nothing. So the offsets are a bookmark, never the truth.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::spans::PageSpans;
use super::publisher::Record;
use crate::telemetry::closed::{InboxEnd, ProcessTrouble};
use crate::telemetry::{TraceContext, meters, within};

/// First and last pause before a page that could not be settled is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Reasons are for people: one line of bounded length.
const LONGEST_REASON: usize = 300;

/// Why nothing can be done with a record, now and whenever it is read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// From a closed set, such as `not_json`.
    pub code: &'static str,
    /// In words, without the record's data.
    pub reason: String,
}

impl Rejection {
    /// A rejection; the reason is cut to one line.
    #[must_use]
    pub fn new(code: &'static str, reason: impl AsRef<str>) -> Self {
        let printable = reason.as_ref().chars().filter(|character| !character.is_control());
        Self {
            code,
            reason: printable.take(LONGEST_REASON).collect(),
        }
    }
}

/// The id by which copies of a record are known, when the record is whole.
///
/// # Errors
/// It has no `message-id` that is a UUID, or its value is not what its `crc32c` was made of.
pub fn identify(record: &Record) -> Result<Uuid, Rejection> {
    let header = |name: &str| record.headers.iter().find(|(other, _)| other == name);
    if let Some((_, written)) = header("crc32c") {
        let made = format!("{:08x}", crc32c::crc32c(&record.payload));
        if !written.eq_ignore_ascii_case(made.as_bytes()) {
            return Err(Rejection::new(
                "wrong_crc32c",
                "its value is not what its header crc32c says",
            ));
        }
    }
    let (_, id) = header("message-id").ok_or_else(|| Rejection::new("no_message_id", "it has no header message-id"))?;
    Uuid::try_parse_ascii(id).map_err(|_| Rejection::new("bad_message_id", "its header message-id is not a UUID"))
}

/// The trace context of whoever sent a record, as W3C writes it.
#[must_use]
pub fn traceparent_of(record: &Record) -> Option<&str> {
    given_traceparent(record).filter(|given| TraceContext::parse(given).is_some())
}

/// The same, whatever it is.
fn given_traceparent(record: &Record) -> Option<&str> {
    let mut headers = record.headers.iter();
    let (_, value) = headers.find(|(name, _)| name == "traceparent")?;
    std::str::from_utf8(value).ok()
}

/// How far a page goes: for each partition the hold under which it was read, and the offset behind its last record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageEnd(pub(crate) Vec<(i32, u64, i64)>);

/// Records of a topic as they came, those of a partition in their order.
#[derive(Debug, Clone)]
pub struct InboundPage {
    /// The topic.
    pub topic: Arc<str>,
    /// The records, at least one.
    pub records: Arc<Vec<Record>>,
    /// To be given back when they are settled.
    pub end: PageEnd,
}

/// Nothing more will come; a new consumer must be made.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the consumer ended: {0}")]
pub struct InflowEnded(pub String);

/// Where pages come from.
#[async_trait]
pub trait Inflow: Send + 'static {
    /// The group of consumers that it belongs to; empty where there is none.
    fn group(&self) -> &str {
        ""
    }

    /// The next page. May be dropped while it waits, and nothing is lost.
    ///
    /// # Errors
    /// Nothing more will come.
    async fn next_page(&mut self) -> Result<InboundPage, InflowEnded>;

    /// Says that everything up to there is settled for good.
    fn settled(&self, end: &PageEnd);

    /// Commits what is settled and leaves.
    async fn close(self: Box<Self>);
}

/// What became of records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Taken {
    /// Had their effect now.
    pub new: u64,
    /// Were copies of messages that had theirs.
    pub repeated: u64,
    /// Were put aside.
    pub dead: u64,
}

impl std::ops::AddAssign for Taken {
    fn add_assign(&mut self, other: Self) {
        self.new += other.new;
        self.repeated += other.repeated;
        self.dead += other.dead;
    }
}

/// Why a page is not settled yet. Parts of it may be: taking it again skips those.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TakeError {
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(String),
    /// Too many records are dead.
    #[error(
        "{most} records of consumer {consumer} are dead: find out why, and delete what is of no use from lockgate.inbox_dead"
    )]
    TooManyDead {
        /// Whose.
        consumer: String,
        /// How many may be.
        most: u32,
    },
}

impl TakeError {
    fn trouble(&self) -> ProcessTrouble {
        match self {
            Self::Database(_) => ProcessTrouble::Database,
            Self::TooManyDead { .. } => ProcessTrouble::TooManyDead,
        }
    }
}

/// Settles pages, as `postgres::Inbox` does.
#[async_trait]
pub trait Settler: Send + Sync + 'static {
    /// Gives each new message its effect and each hopeless record its place, and remembers them.
    ///
    /// # Errors
    /// Not all of the page is settled; take it again later.
    async fn take(&self, page: &InboundPage) -> Result<Taken, TakeError>;
}

/// Consumes until told to stop, then settles the page at hand, commits its offsets and leaves. A page that cannot be
/// settled is tried again with growing pauses for as long as it takes: nothing is passed over.
///
/// # Errors
/// The inflow ended by itself.
pub async fn consume(
    mut inflow: Box<dyn Inflow>,
    inbox: Arc<dyn Settler>,
    stop: CancellationToken,
) -> Result<Taken, InflowEnded> {
    let mut all = Taken::default();
    let ended = loop {
        let page = tokio::select! {
            biased;
            () = stop.cancelled() => break None,
            page = inflow.next_page() => page,
        };
        let page = match page {
            Ok(page) => page,
            Err(ended) => break Some(ended),
        };
        let group = inflow.group();
        meters().consumed(&page.topic, group, page.records.len() as u64);
        let spans = PageSpans::begin(&page, group);
        let taken = within(spans.context(), settle(inbox.as_ref(), &page, group, &stop)).await;
        spans.end(taken);
        let Some(taken) = taken else {
            break None;
        };
        tell(group, taken);
        inflow.settled(&page.end);
        all += taken;
        tracing::debug!(topic = %page.topic, new = taken.new, repeated = taken.repeated, dead = taken.dead, "page settled");
    };
    inflow.close().await;
    tracing::info!(
        name: "consumer_stopped", new = all.new, repeated = all.repeated, dead = all.dead,
        "a consumer has ended"
    );
    ended.map_or(Ok(all), Err)
}

/// Counts what became of messages.
fn tell(group: &str, taken: Taken) {
    for (end, messages) in [
        (InboxEnd::New, taken.new),
        (InboxEnd::Repeated, taken.repeated),
        (InboxEnd::Dead, taken.dead),
    ] {
        meters().inbox(group, end, messages);
    }
}

/// Takes the page until it is settled; `None`: told to stop before it was.
async fn settle(inbox: &dyn Settler, page: &InboundPage, group: &str, stop: &CancellationToken) -> Option<Taken> {
    let mut pause = PAUSES.0;
    let mut said = String::new();
    loop {
        let begin = Instant::now();
        let taken = inbox.take(page).await;
        let trouble = taken.as_ref().err().map(TakeError::trouble);
        meters().page_processed(&page.topic, group, begin.elapsed(), trouble);
        let failed = match taken {
            Ok(taken) => {
                if !said.is_empty() {
                    tracing::info!(name: "page_settled_again", topic = %page.topic, "pages of messages are settled again");
                }
                return Some(taken);
            }
            Err(error) => error.to_string(),
        };
        if failed != said {
            tracing::error!(name: "page_not_settled", topic = %page.topic, error = failed, "a page of messages is not settled and is tried again");
            said = failed;
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

mod spans;
#[cfg(test)]
mod tests;

//! A consumer in a group, on a thread of its own that never stops polling: whoever settles its pages may take as long as
//! a database takes to come back, and the group does not notice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::TopicPartitionList;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

use super::assignment::{Assignment, Holder};
use super::config::{KafkaConfig, KafkaConfigError};
use super::publisher::StartError;
use super::reader::to_record;
use super::sight::{Lost, Sight};
use crate::delivery::{InboundPage, Inflow, InflowEnded, PageEnd, Record};
use crate::telemetry::catalogue::CONSUMER_LAG;
use crate::telemetry::{Watching, meters};

/// Pages read ahead of the one that is being settled.
const PAGES_AHEAD: usize = 2;
/// How long one poll waits for a first record.
const POLL: Duration = Duration::from_millis(100);
/// How long a full page waits for its turn before fetching is paused and polling goes on without records.
const STALL: Duration = Duration::from_secs(1);
/// How often the brokers are told what is settled: so seldom that they have answered the last time. While a commit is under way
/// the library neither gives nor takes partitions.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How often they are told once more what they were told once.
const DOUBT_EVERY: Duration = Duration::from_secs(5);
/// How long leaving may take; what is not committed then is read again.
const LEAVE: Duration = Duration::from_secs(10);

/// What to consume, and in which portions.
#[derive(Debug, Clone)]
pub struct ConsumerSettings {
    /// The topic.
    pub topic: String,
    /// The group whose members share the topic's partitions.
    pub group: String,
    /// Most records of a page.
    pub page_records: usize,
    /// Most bytes of a page's values, but for its last record.
    pub page_bytes: usize,
}

impl ConsumerSettings {
    /// Pages of up to 1,000 records or 4 MiB.
    #[must_use]
    pub fn new(topic: &str, group: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            group: group.to_owned(),
            page_records: 1_000,
            page_bytes: 4 << 20,
        }
    }
}

/// Reads a topic in pages, for [`crate::delivery::consume`].
pub struct KafkaConsumer {
    pages: Receiver<InboundPage>,
    assignment: Arc<Assignment>,
    leave: CancellationToken,
    /// Cancelled when the thread is over.
    left: CancellationToken,
    why: Arc<Mutex<String>>,
    group: String,
}

impl KafkaConsumer {
    /// Joins the group; brokers need not be reachable yet.
    ///
    /// # Errors
    /// The configuration is refused, or this is not inside a tokio runtime.
    pub fn start(config: &KafkaConfig, settings: ConsumerSettings) -> Result<Self, StartError> {
        config.validate()?;
        let runtime = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let assignment = Arc::<Assignment>::default();
        let client = subscribed(config, &settings, assignment.clone()).map_err(KafkaConfigError::from)?;
        let (sender, pages) = channel(PAGES_AHEAD);
        let consumer = Self {
            pages,
            assignment: assignment.clone(),
            leave: CancellationToken::new(),
            left: CancellationToken::new(),
            why: Arc::default(),
            group: settings.group.clone(),
        };
        let told = assignment.clone();
        let lag = meters().watch(&CONSUMER_LAG, &[&settings.topic, &settings.group], move || told.lag());
        let mut reading = Reading {
            _lag: lag,
            client,
            config: config.clone(),
            topic: settings.topic.as_str().into(),
            settings,
            runtime,
            sender,
            page: Filling::default(),
            committed_at: Instant::now(),
            doubted_at: Instant::now(),
            trouble: None,
        };
        let (leave, left, why) = (consumer.leave.clone(), consumer.left.clone(), consumer.why.clone());
        let thread = std::thread::Builder::new().name("kafka-consumer".to_owned());
        let spawned = thread.spawn(move || {
            let _left = left.drop_guard();
            if let Err(error) = reading.read(&leave) {
                *why.lock().unwrap_or_else(PoisonError::into_inner) = error;
            }
        });
        spawned.map_err(|error| KafkaConfigError::Client {
            detail: format!("no thread for it: {error}"),
        })?;
        Ok(consumer)
    }
}

#[async_trait]
impl Inflow for KafkaConsumer {
    fn group(&self) -> &str {
        &self.group
    }

    async fn next_page(&mut self) -> Result<InboundPage, InflowEnded> {
        match self.pages.recv().await {
            Some(page) => Ok(page),
            None => {
                let why = self.why.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Err(InflowEnded(if why.is_empty() {
                    "its thread panicked".to_owned()
                } else {
                    why
                }))
            }
        }
    }

    fn settled(&self, end: &PageEnd) {
        for (partition, hold, next) in &end.0 {
            self.assignment.settle(*partition, *hold, *next);
        }
    }

    async fn close(mut self: Box<Self>) {
        self.leave.cancel();
        // A page that waits for its turn is let go.
        self.pages.close();
        if tokio::time::timeout(LEAVE, self.left.cancelled()).await.is_err() {
            let waited_ms = LEAVE.as_millis() as u64;
            tracing::warn!(name: "group_not_left", waited_ms, "a consumer did not leave its group in time");
        }
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        self.leave.cancel();
    }
}

/// A client that asks to join the group.
fn subscribed(
    config: &KafkaConfig,
    settings: &ConsumerSettings,
    assignment: Arc<Assignment>,
) -> Result<BaseConsumer<Holder>, KafkaError> {
    let holder = Holder {
        topic: settings.topic.clone(),
        assignment,
        sight: Sight::default(),
        retired: AtomicBool::new(false),
    };
    let client = BaseConsumer::from_config_and_context(&config.consumer(&settings.group), holder)?;
    client.subscribe(&[&settings.topic])?;
    Ok(client)
}

/// A page that is being filled.
#[derive(Default)]
struct Filling {
    records: Vec<Record>,
    bytes: usize,
    end: Vec<(i32, u64, i64)>,
}

/// What the thread works with.
struct Reading {
    /// Ends before the client, whose end may take a while.
    _lag: Watching,
    client: BaseConsumer<Holder>,
    /// To make another one.
    config: KafkaConfig,
    topic: Arc<str>,
    settings: ConsumerSettings,
    runtime: Handle,
    sender: Sender<InboundPage>,
    page: Filling,
    committed_at: Instant,
    doubted_at: Instant,
    /// The last error that was said, so that each is said once.
    trouble: Option<String>,
}

impl Reading {
    /// Reads until told to leave, then commits what is settled.
    fn read(&mut self, leave: &CancellationToken) -> Result<(), String> {
        while !leave.is_cancelled() {
            if let Some(lost) = self.lost() {
                self.begin_anew(lost)?;
            }
            self.commit_now_and_then();
            let wait = if self.page.records.is_empty() {
                POLL
            } else {
                Duration::ZERO
            };
            if !self.is_full() && self.poll(wait)? {
                continue;
            }
            self.hand_over(leave)?;
        }
        self.assignment()
            .commit_all(&self.client, &self.topic, CommitMode::Sync);
        Ok(())
    }

    /// Another client joins the group in the place of one that is of no more use. What was read and is not committed is read
    /// again.
    fn begin_anew(&mut self, why: Lost) -> Result<(), String> {
        let reason = why.text();
        tracing::warn!(name: "consumer_replaced", topic = %self.topic, reason, "a consumer is of no more use and is replaced");
        let assignment = self.assignment();
        let anew = subscribed(&self.config, &self.settings, assignment.clone()).map_err(|error| error.to_string())?;
        let lost = std::mem::replace(&mut self.client, anew);
        lost.context().retired.store(true, Ordering::Relaxed);
        assignment.revoke_all();
        self.page = Filling::default();
        // Its end waits for its brokers, which it may never find.
        let end = std::thread::Builder::new().name("kafka-consumer-end".to_owned());
        end.spawn(move || drop(lost))
            .map(drop)
            .map_err(|error| format!("no thread to end a consumer: {error}"))
    }

    /// Why its client is of no more use, if it is not.
    fn lost(&self) -> Option<Lost> {
        self.client.context().sight.lost()
    }

    fn assignment(&self) -> Arc<Assignment> {
        self.client.context().assignment.clone()
    }

    fn is_full(&self) -> bool {
        self.page.records.len() >= self.settings.page_records || self.page.bytes >= self.settings.page_bytes
    }

    fn commit_now_and_then(&mut self) {
        if self.doubted_at.elapsed() >= DOUBT_EVERY {
            self.assignment().doubt_commits();
            self.doubted_at = Instant::now();
        }
        if self.committed_at.elapsed() >= COMMIT_EVERY {
            self.assignment().commit(&self.client, &self.topic, CommitMode::Async);
            self.committed_at = Instant::now();
        }
    }

    /// Takes in one event; tells whether it was a record.
    fn poll(&mut self, wait: Duration) -> Result<bool, String> {
        let record = match self.client.poll(wait) {
            None => return Ok(false),
            Some(Ok(message)) => to_record(&message),
            Some(Err(error)) => {
                self.trouble(&error)?;
                return Ok(false);
            }
        };
        if self.trouble.take().is_some() {
            tracing::info!(name: "records_read_again", topic = %self.topic, "messages are read again");
        }
        self.page.add(&self.client.context().assignment, record);
        Ok(true)
    }

    /// The library goes on trying, whatever it met, unless it failed for good.
    fn trouble(&mut self, error: &KafkaError) -> Result<(), String> {
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            return Err(error.to_string());
        }
        let text = error.to_string();
        if self.trouble.as_ref() != Some(&text) {
            tracing::warn!(name: "records_unreadable", topic = %self.topic, error = text, "messages cannot be read at the moment");
            self.trouble = Some(text);
        }
        Ok(())
    }

    /// Gives the page away when there is one and its turn has come; when it is full, waits for that.
    fn hand_over(&mut self, leave: &CancellationToken) -> Result<(), String> {
        if self.page.records.is_empty() {
            return Ok(());
        }
        if let Ok(permit) = self.sender.try_reserve() {
            permit.send(self.page.take(&self.topic));
            return Ok(());
        }
        if !self.is_full() {
            // More may come while it waits.
            self.poll(Duration::from_millis(5))?;
            return Ok(());
        }
        if self.wait_for_turn(STALL) {
            return Ok(());
        }
        self.pause(true);
        while !leave.is_cancelled() && !self.sender.is_closed() && self.sender.capacity() == 0 && self.lost().is_none()
        {
            self.commit_now_and_then();
            self.poll(POLL)?;
        }
        self.pause(false);
        Ok(())
    }

    /// Whether the page's turn came, or nobody wants it any more.
    fn wait_for_turn(&self, within: Duration) -> bool {
        let reserved = async { tokio::time::timeout(within, self.sender.reserve()).await.map(drop) };
        self.runtime.block_on(reserved).is_ok()
    }

    fn pause(&self, paused: bool) {
        self.assignment().set_paused(paused);
        let changed = self.client.assignment().and_then(|held: TopicPartitionList| {
            if paused {
                self.client.pause(&held)
            } else {
                self.client.resume(&held)
            }
        });
        if let Err(error) = changed {
            tracing::debug!(%error, paused, "partitions were not paused or resumed");
        }
    }
}

impl Filling {
    fn add(&mut self, assignment: &Assignment, record: Record) {
        self.bytes += record.payload.len();
        let (partition, next) = (record.partition, record.offset + 1);
        let hold = assignment.reads(partition, record.offset);
        match self.end.iter_mut().find(|(other, ..)| *other == partition) {
            Some(end) => (end.1, end.2) = (hold, next),
            None => self.end.push((partition, hold, next)),
        }
        self.records.push(record);
    }

    fn take(&mut self, topic: &Arc<str>) -> InboundPage {
        let filled = std::mem::take(self);
        InboundPage {
            topic: topic.clone(),
            records: Arc::new(filled.records),
            end: PageEnd(filled.end),
        }
    }
}

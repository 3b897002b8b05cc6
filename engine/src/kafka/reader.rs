//! Reads a topic back to its end, for verification: every record, in bounded memory.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use chrono::{DateTime, Utc};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers as _, Message as _};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::config::KafkaConfig;
use super::reports::{LogOnly, describe};
use super::verdict::{Verdict, verdict};
use crate::delivery::{Record, TopicReader};

/// How long the brokers may take to answer one question.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nothing may arrive before reading is given up; brokers that restart need some seconds.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the stall is looked at.
const POLL: Duration = Duration::from_millis(250);

type Reader = BaseConsumer<LogOnly>;

/// Reads topics of one cluster. Each reading makes a consumer of its own and stores no offsets.
pub struct KafkaTopicReader {
    config: KafkaConfig,
    stall_timeout: Duration,
}

impl KafkaTopicReader {
    /// A reader for this cluster; it connects when it reads.
    pub fn new(config: KafkaConfig) -> KafkaTopicReader {
        KafkaTopicReader {
            config,
            stall_timeout: STALL_TIMEOUT,
        }
    }

    /// Sets how long nothing may arrive before reading is given up.
    #[must_use]
    pub fn stall_timeout(mut self, stall_timeout: Duration) -> KafkaTopicReader {
        self.stall_timeout = stall_timeout;
        self
    }
}

impl TopicReader for KafkaTopicReader {
    fn read_since(&self, topic: &str, since: DateTime<Utc>, each: &mut dyn FnMut(Record) -> Result<()>) -> Result<u64> {
        self.config.validate()?;
        let consumer =
            Reader::from_config_and_context(&self.config.reader(), LogOnly).context("cannot make a kafka consumer")?;
        let mut reading = Reading::begin(&consumer, topic, since)?;
        while reading.unfinished > 0 {
            reading.step(self.stall_timeout, each)?;
        }
        Ok(reading.count)
    }
}

/// One pass over a topic.
struct Reading<'a> {
    consumer: &'a Reader,
    topic: &'a str,
    /// By partition: where it ended when the reading began, or `None` once that is reached.
    ends: Vec<Option<i64>>,
    unfinished: usize,
    count: u64,
    last_arrival: Instant,
    last_error: Option<KafkaError>,
}

impl<'a> Reading<'a> {
    /// Finds where to begin and to end in each partition, and begins.
    fn begin(consumer: &'a Reader, topic: &'a str, since: DateTime<Utc>) -> Result<Reading<'a>> {
        let partitions = partition_count(consumer, topic)?;
        let starts = starts(consumer, topic, partitions, since)?;
        let mut assignment = TopicPartitionList::new();
        let mut ends = vec![None; usize::try_from(partitions).unwrap_or(0)];
        for (number, end) in (0..partitions).zip(ends.iter_mut()) {
            let watermarks = consumer.fetch_watermarks(topic, number, ASK_TIMEOUT);
            let (low, high) = watermarks.with_context(|| format!("cannot read the end of {topic}[{number}]"))?;
            let start = match starts.find_partition(topic, number).map(|found| found.offset()) {
                Some(Offset::Offset(offset)) => offset.max(low),
                // No record is that young.
                _ => high,
            };
            if start < high {
                *end = Some(high);
                assignment.add_partition_offset(topic, number, Offset::Offset(start))?;
            }
        }
        let unfinished = ends.iter().flatten().count();
        consumer
            .assign(&assignment)
            .with_context(|| format!("cannot begin to read {topic}"))?;
        Ok(Reading {
            consumer,
            topic,
            ends,
            unfinished,
            count: 0,
            last_arrival: Instant::now(),
            last_error: None,
        })
    }

    /// Takes in one event.
    fn step(&mut self, stall_timeout: Duration, each: &mut dyn FnMut(Record) -> Result<()>) -> Result<()> {
        match self.consumer.poll(POLL) {
            Some(Ok(message)) => self.record(&message, each),
            Some(Err(KafkaError::PartitionEOF(partition))) => self.finish(partition),
            Some(Err(error)) => self.trouble(error),
            None if self.last_arrival.elapsed() > stall_timeout => self.stalled(stall_timeout),
            None => Ok(()),
        }
    }

    /// Nothing came for too long. The client may not have noticed yet that the topic is gone: ask.
    fn stalled(&self, stall_timeout: Duration) -> Result<()> {
        partition_count(self.consumer, self.topic).context("the topic vanished while it was read")?;
        let last_error = self.last_error.as_ref().map(|error| format!(": {error}"));
        bail!(
            "reading {} stalled for {stall_timeout:?} with {} partitions unfinished{}",
            self.topic,
            self.unfinished,
            last_error.unwrap_or_default(),
        )
    }

    fn record(&mut self, message: &BorrowedMessage<'_>, each: &mut dyn FnMut(Record) -> Result<()>) -> Result<()> {
        self.last_arrival = Instant::now();
        let end = usize::try_from(message.partition())
            .ok()
            .and_then(|number| self.ends.get(number).copied().flatten());
        let Some(end) = end else {
            // Fetched ahead before the partition was paused; it came after the reading began.
            return Ok(());
        };
        if message.offset() < end {
            self.count += 1;
            each(to_record(message))?;
        }
        if message.offset() + 1 >= end {
            self.finish(message.partition())
        } else {
            Ok(())
        }
    }

    /// The partition is read to its end; what is written later is not asked for.
    fn finish(&mut self, partition: i32) -> Result<()> {
        self.last_arrival = Instant::now();
        let end = usize::try_from(partition)
            .ok()
            .and_then(|number| self.ends.get_mut(number));
        if end.and_then(Option::take).is_some() {
            self.unfinished -= 1;
            let mut paused = TopicPartitionList::new();
            paused.add_partition(self.topic, partition);
            self.consumer
                .pause(&paused)
                .with_context(|| format!("cannot pause {}[{partition}]", self.topic))?;
        }
        Ok(())
    }

    /// Gives up on what will not pass; the library retries the rest and the stall bounds it.
    fn trouble(&mut self, error: KafkaError) -> Result<()> {
        let code = error.rdkafka_error_code();
        let lasting = matches!(code.map(verdict), Some(Verdict::Topic(_)))
            || matches!(
                code,
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)
            )
            || matches!(error, KafkaError::MessageConsumptionFatal(_));
        if lasting {
            bail!(
                "cannot read {} to its end, {} records were read: {error}",
                self.topic,
                self.count
            );
        }
        self.last_error = Some(error);
        Ok(())
    }
}

/// How many partitions the topic has; an error if it cannot be used.
fn partition_count(consumer: &Reader, topic: &str) -> Result<i32> {
    let metadata = consumer.fetch_metadata(Some(topic), ASK_TIMEOUT);
    let metadata = metadata.with_context(|| format!("no kafka broker answered for topic {topic}"))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let found = found.ok_or_else(|| anyhow!("topic {topic} does not exist"))?;
    if let Some(code) = found.error().map(RDKafkaErrorCode::from) {
        bail!("topic {topic} cannot be read: {}", describe(code));
    }
    if found.partitions().is_empty() {
        bail!("topic {topic} does not exist");
    }
    Ok(i32::try_from(found.partitions().len())?)
}

/// The first offset at or after the instant in each partition.
fn starts(consumer: &Reader, topic: &str, partitions: i32, since: DateTime<Utc>) -> Result<TopicPartitionList> {
    let mut wanted = TopicPartitionList::new();
    for number in 0..partitions {
        // Negative numbers have a meaning of their own in the protocol.
        wanted.add_partition_offset(topic, number, Offset::Offset(since.timestamp_millis().max(0)))?;
    }
    let found = consumer.offsets_for_times(wanted, ASK_TIMEOUT);
    let found = found.with_context(|| format!("cannot find the offsets of {topic} at {since}"))?;
    for partition in found.elements() {
        let number = partition.partition();
        partition
            .error()
            .with_context(|| format!("cannot find the offset of {topic}[{number}] at {since}"))?;
    }
    Ok(found)
}

/// A copy that outlives the library's.
pub(super) fn to_record(message: &BorrowedMessage<'_>) -> Record {
    let headers = message
        .headers()
        .map(|headers| (0..headers.count()).map(|at| to_header(headers, at)).collect());
    Record {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message
            .timestamp()
            .to_millis()
            .and_then(DateTime::from_timestamp_millis),
        key: message.key().map(<[u8]>::to_vec),
        payload: message.payload().unwrap_or_default().to_vec(),
        headers: headers.unwrap_or_default(),
    }
}

/// A header; the library panics at a name that is not UTF-8, and one such record must not end all reading.
fn to_header(headers: &BorrowedHeaders, at: usize) -> (String, Vec<u8>) {
    let copy = || {
        let header = headers.get(at);
        (header.key.to_owned(), header.value.unwrap_or_default().to_vec())
    };
    std::panic::catch_unwind(AssertUnwindSafe(copy)).unwrap_or_else(|_| ("(not UTF-8)".to_owned(), Vec::new()))
}

//! A topic for a test, and what is in it, read by a client that shares nothing with the engine.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::metadata::MetadataPartition;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use uuid::Uuid;

const PARTITIONS: i32 = 4;
const TIMEOUT: Duration = Duration::from_secs(60);

/// A record, as far as tests look at it.
#[derive(Debug, Clone)]
pub struct Copy {
    /// Where it is.
    pub partition: i32,
    /// Where it is.
    pub offset: i64,
    /// When its producer made it, in milliseconds since 1970.
    pub made_at: i64,
    /// The run it names.
    pub run: Uuid,
    /// The batch it names.
    pub batch_seq: i32,
    /// The claim it was sent under.
    pub token: i64,
    /// Its stable id.
    pub message_id: Uuid,
    /// Whether its checksum is that of its value.
    pub intact: bool,
}

/// A record of a direct command, as far as tests look at it.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Where it is.
    pub partition: i32,
    /// Where it is.
    pub offset: i64,
    /// Its stable id.
    pub message_id: Uuid,
    /// Its partitioning key.
    pub key: Option<Vec<u8>>,
    /// Names of its headers.
    pub headers: Vec<(String, String)>,
    /// Its value.
    pub payload: Vec<u8>,
    /// Whether its checksum is that of its value.
    pub intact: bool,
}

/// A topic of its own for one test.
#[derive(Debug, Clone)]
pub struct Topic {
    brokers: String,
    name: String,
}

impl Topic {
    /// Makes it, with these settings.
    ///
    /// # Panics
    /// The brokers refuse.
    pub async fn new(brokers: &str, settings: &[(&str, &str)]) -> Self {
        let topic = Self {
            brokers: brokers.to_owned(),
            name: format!("chaos-{}", Uuid::new_v4().simple()),
        };
        let new = NewTopic::new(&topic.name, PARTITIONS, TopicReplication::Fixed(1));
        let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
        let admin: AdminClient<DefaultClientContext> = topic.client().create().unwrap();
        let options = AdminOptions::new()
            .operation_timeout(Some(TIMEOUT))
            .request_timeout(Some(TIMEOUT));
        for made in admin.create_topics([&new], &options).await.unwrap() {
            made.unwrap_or_else(|(name, code)| panic!("topic {name} cannot be made: {code}"));
        }
        topic.is_known(PARTITIONS).await;
        topic
    }

    /// Waits until the brokers tell of it and its leaders answer: they answer that it was made, and hear of it themselves a
    /// moment later. Of two requests in that moment the first may be refused and the second taken.
    ///
    /// # Panics
    /// They do not.
    pub async fn is_known(&self, partitions: i32) {
        let topic = self.clone();
        let known = tokio::task::spawn_blocking(move || {
            let client: BaseConsumer = topic.client().create().unwrap();
            let until = Instant::now() + TIMEOUT;
            let is_led = |partition: &MetadataPartition| partition.error().is_none() && partition.leader() >= 0;
            loop {
                let told = client.fetch_metadata(Some(&topic.name), TIMEOUT).unwrap();
                let known = &told.topics()[0];
                // Whoever leads a partition answers for its ends, and nobody else does.
                let answers = |one: &MetadataPartition| client.fetch_watermarks(&topic.name, one.id(), TIMEOUT).is_ok();
                let led = known.partitions().iter().filter(|one| is_led(one) && answers(one));
                if led.count() == usize::try_from(partitions).unwrap() {
                    return;
                }
                assert!(
                    Instant::now() < until,
                    "nobody tells of {}: {:?}",
                    topic.name,
                    known.error()
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        known.await.unwrap();
    }

    /// Changes a setting of it.
    ///
    /// # Panics
    /// The brokers refuse.
    pub async fn set(&self, key: &str, value: &str) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let change = AlterConfig::new(ResourceSpecifier::Topic(&self.name)).set(key, value);
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        for changed in admin.alter_configs([&change], &options).await.unwrap() {
            changed.unwrap_or_else(|(_, code)| panic!("topic {} cannot be changed: {code}", self.name));
        }
    }

    /// One that somebody else has made.
    #[must_use]
    pub fn existing(brokers: &str, name: &str) -> Self {
        Self {
            brokers: brokers.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its brokers.
    #[must_use]
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    /// Everything in it now, by run.
    ///
    /// # Panics
    /// It cannot be read, or a record is not one of Lockgate's.
    pub async fn read(&self) -> HashMap<Uuid, Vec<Copy>> {
        let topic = self.clone();
        let read = tokio::task::spawn_blocking(move || topic.read_all(copy));
        let mut runs: HashMap<Uuid, Vec<Copy>> = HashMap::new();
        for copy in read.await.unwrap() {
            runs.entry(copy.run).or_default().push(copy);
        }
        runs
    }

    /// Every direct command in it now.
    ///
    /// # Panics
    /// It cannot be read, or a record is not one of Lockgate's.
    pub async fn sent(&self) -> Vec<Sent> {
        let topic = self.clone();
        let read = tokio::task::spawn_blocking(move || topic.read_all(sent));
        read.await.unwrap()
    }

    fn read_all<T>(&self, each: fn(&BorrowedMessage<'_>) -> T) -> Vec<T> {
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", "chaos")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("check.crcs", "true")
            .create()
            .unwrap();
        let metadata = consumer.fetch_metadata(Some(&self.name), TIMEOUT).unwrap();
        let partitions = metadata.topics()[0].partitions().len();
        let mut all = TopicPartitionList::new();
        for partition in 0..i32::try_from(partitions).unwrap() {
            all.add_partition_offset(&self.name, partition, Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&all).unwrap();
        // A topic that grows has more than one end in a partition. What a broker complains of may pass: the client asks again.
        let (mut copies, mut ended, mut heard) = (Vec::new(), HashSet::new(), Instant::now());
        let mut trouble = None;
        while ended.len() < partitions {
            match consumer.poll(Duration::from_secs(1)) {
                Some(Err(error)) if !matches!(error, KafkaError::PartitionEOF(_)) => trouble = Some(error),
                Some(read) => {
                    heard = Instant::now();
                    match read {
                        Ok(message) => copies.push(each(&message)),
                        Err(KafkaError::PartitionEOF(partition)) => drop(ended.insert(partition)),
                        Err(_) => {}
                    }
                }
                None => {}
            }
            let waits = heard.elapsed();
            assert!(waits < TIMEOUT, "topic {} cannot be read: {trouble:?}", self.name);
        }
        copies
    }
}

fn headers_of(message: &BorrowedMessage<'_>) -> Vec<(String, String)> {
    let headers = message.headers().expect("every message has headers");
    let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap_or_default().to_vec()).unwrap();
    headers
        .iter()
        .map(|header| (header.key.to_owned(), text(header.value)))
        .collect()
}

fn text(headers: &[(String, String)], name: &str) -> String {
    let header = headers.iter().find(|(other, _)| other == name);
    header.unwrap_or_else(|| panic!("no header {name}")).1.clone()
}

fn checksum(message: &BorrowedMessage<'_>) -> String {
    format!("{:08x}", crc32c::crc32c(message.payload().unwrap_or_default()))
}

fn sent(message: &BorrowedMessage<'_>) -> Sent {
    let headers = headers_of(message);
    Sent {
        partition: message.partition(),
        offset: message.offset(),
        message_id: text(&headers, "message-id").parse().unwrap(),
        key: message.key().map(<[u8]>::to_vec),
        intact: text(&headers, "crc32c") == checksum(message),
        payload: message.payload().unwrap_or_default().to_vec(),
        headers,
    }
}

fn copy(message: &BorrowedMessage<'_>) -> Copy {
    let headers = headers_of(message);
    let text = |name: &str| text(&headers, name);
    Copy {
        partition: message.partition(),
        offset: message.offset(),
        made_at: message.timestamp().to_millis().unwrap(),
        run: text("run-id").parse().unwrap(),
        batch_seq: text("batch-seq").parse().unwrap(),
        token: text("claim-token").parse().unwrap(),
        message_id: text("message-id").parse().unwrap(),
        intact: text("crc32c") == checksum(message),
    }
}

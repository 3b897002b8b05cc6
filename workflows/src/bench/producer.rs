//! A producer as one would write it by hand: the library's own, with one counter for each batch of messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use lockgate::kafka::KafkaConfig;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::Notify;

/// Before a message is offered again that found the library's queue full.
const QUEUE_PAUSE: Duration = Duration::from_millis(1);
/// How long the brokers may take to describe the topic.
const METADATA_WAIT: Duration = Duration::from_secs(10);

/// The messages of a batch that are not confirmed yet.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    open: AtomicUsize,
    failed: AtomicUsize,
    none: Notify,
}

impl Unconfirmed {
    fn confirm(&self, delivered: bool) {
        if !delivered {
            self.failed.fetch_add(1, Ordering::AcqRel);
        }
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.none.notify_one();
        }
    }

    /// How many are not confirmed.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Waits until every message is confirmed.
    pub(super) async fn all(&self) -> anyhow::Result<()> {
        while self.open.load(Ordering::Acquire) > 0 {
            self.none.notified().await;
        }
        let failed = self.failed.load(Ordering::Acquire);
        anyhow::ensure!(failed == 0, "{failed} messages of a batch were not delivered");
        Ok(())
    }
}

struct Confirmations;

impl ClientContext for Confirmations {}

impl ProducerContext for Confirmations {
    type DeliveryOpaque = Arc<Unconfirmed>;

    fn delivery(&self, result: &DeliveryResult<'_>, unconfirmed: Arc<Unconfirmed>) {
        unconfirmed.confirm(result.is_ok());
    }
}

/// Sends to one topic.
pub(super) struct HandProducer {
    producer: ThreadedProducer<Confirmations>,
    topic: String,
}

impl HandProducer {
    /// A producer with the engine's properties, connected and warm.
    pub(super) async fn start(config: &KafkaConfig, topic: &str) -> anyhow::Result<Arc<Self>> {
        let mut client = ClientConfig::new();
        for (key, value) in config.producer_properties() {
            client.set(key, value);
        }
        let producer = ThreadedProducer::from_config_and_context(&client, Confirmations)?;
        let this = Arc::new(Self {
            producer,
            topic: topic.to_owned(),
        });
        let asking = this.clone();
        tokio::task::spawn_blocking(move || {
            let topic = Some(asking.topic.as_str());
            asking
                .producer
                .client()
                .fetch_metadata(topic, METADATA_WAIT)
                .map(|_| ())
        })
        .await?
        .with_context(|| format!("topic {topic}"))?;
        // The first message waits half a second for the producer's id: not the others' fault.
        let first = Arc::new(Unconfirmed::default());
        this.send(b"warm", b"{}", OwnedHeaders::new(), &first).await?;
        first.all().await?;
        Ok(this)
    }

    /// Hands a message over for which the library's queue has room.
    pub(super) fn send_now(
        &self,
        key: &[u8],
        payload: &[u8],
        headers: OwnedHeaders,
        unconfirmed: &Arc<Unconfirmed>,
    ) -> anyhow::Result<()> {
        unconfirmed.open.fetch_add(1, Ordering::AcqRel);
        let record = BaseRecord::with_opaque_to(&self.topic, unconfirmed.clone())
            .key(key)
            .payload(payload)
            .headers(headers);
        let sent = self.producer.send(record).map_err(|(error, _)| error);
        sent.context("a message was not accepted")
    }

    /// Hands a message over, waiting only while the library's queue is full.
    pub(super) async fn send(
        &self,
        key: &[u8],
        payload: &[u8],
        headers: OwnedHeaders,
        unconfirmed: &Arc<Unconfirmed>,
    ) -> anyhow::Result<()> {
        unconfirmed.open.fetch_add(1, Ordering::AcqRel);
        let mut record = BaseRecord::with_opaque_to(&self.topic, unconfirmed.clone())
            .key(key)
            .payload(payload)
            .headers(headers);
        loop {
            record = match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => back,
                Err((error, _)) => return Err(error).context("a message was not accepted"),
            };
            tokio::time::sleep(QUEUE_PAUSE).await;
        }
    }
}

/// Headers from names and values.
pub(super) fn headers(pairs: &[(&str, &[u8])]) -> OwnedHeaders {
    let empty = OwnedHeaders::new_with_capacity(pairs.len());
    pairs.iter().fold(empty, |headers, (key, value)| {
        headers.insert(Header {
            key,
            value: Some(*value),
        })
    })
}

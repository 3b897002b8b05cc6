//! How a process reaches its brokers; and what it does without any, which is a deliberate state: what is to be sent
//! waits in its tables for a replica that has some.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::config::Config;
use crate::delivery::{BreakerPolicy, Message, Publisher, PublisherEvents, Rejected, Ticket, TopicError, TopicInfo};
use crate::kafka::{KafkaConfig, KafkaPublisher};

/// What health and the doctor say of a process without brokers.
pub(crate) const NO_BROKERS: &str =
    "not configured: fan-outs, the outbox and redelivery wait for a replica with KAFKA_BROKERS";
/// Nobody should ask a publisher that takes nothing for room; who does is not to spin.
const NO_ROOM: Duration = Duration::from_millis(100);

/// Whether this process sends anything at all.
pub(crate) fn has_brokers(config: &Config) -> bool {
    config.kafka.brokers.is_some()
}

/// How this process reaches the brokers.
///
/// # Errors
/// No brokers are configured.
pub fn kafka_config(config: &Config) -> anyhow::Result<KafkaConfig> {
    let brokers = config
        .kafka
        .brokers
        .clone()
        .context("no brokers: set KAFKA_BROKERS or kafka.brokers")?;
    let mut kafka = KafkaConfig::new(brokers);
    kafka.message_timeout = config.kafka.message_timeout;
    kafka.client_id.clone_from(&config.kafka.client_id);
    kafka.properties = config.kafka.properties.clone();
    Ok(kafka)
}

/// When the breakers of this process open.
pub(crate) fn breaker_policy(config: &Config) -> BreakerPolicy {
    BreakerPolicy {
        window: config.kafka.window.min(1000),
        ..BreakerPolicy::default()
    }
}

/// A producer, or without brokers a publisher that takes nothing.
///
/// # Errors
/// The configuration of the brokers is refused.
pub(crate) fn publisher(config: &Config, events: Arc<dyn PublisherEvents>) -> anyhow::Result<Arc<dyn Publisher>> {
    match has_brokers(config) {
        true => Ok(Arc::new(KafkaPublisher::start(kafka_config(config)?, events)?)),
        false => Ok(Arc::new(NoBrokers)),
    }
}

/// Whatever is offered to it is to be stored.
struct NoBrokers;

impl Publisher for NoBrokers {
    fn publish(&self, _: &Message, _: Ticket) -> Result<(), Rejected> {
        Err(Rejected::Unavailable)
    }

    fn capacity(&self) -> BoxFuture<'_, ()> {
        tokio::time::sleep(NO_ROOM).boxed()
    }

    fn check_topic<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<TopicInfo, TopicError>> {
        let detail = NO_BROKERS.to_owned();
        async { Err(TopicError::Unreachable { detail }) }.boxed()
    }

    fn shutdown(&self, _: Duration) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

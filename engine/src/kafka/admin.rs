//! Creates and deletes topics, for demonstrations, benchmarks and tests; a run never does.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::types::RDKafkaErrorCode;

use super::config::KafkaConfig;
use super::reports::{LogOnly, describe};

/// How long the brokers may take to carry out a change.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Creates a topic with the brokers' default replication. `false` means that it was there already.
///
/// # Errors
/// The brokers cannot be reached or refuse.
pub async fn create_topic(
    config: &KafkaConfig,
    topic: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) -> Result<bool> {
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
    let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
    let answers = client(config)?.create_topics([&new], &options()).await;
    match answers
        .with_context(|| format!("cannot create topic {topic}"))?
        .into_iter()
        .next()
    {
        Some(Ok(_)) => Ok(true),
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
        Some(Err((_, code))) => bail!("cannot create topic {topic}: {}", describe(code)),
        None => bail!("cannot create topic {topic}: the brokers did not answer for it"),
    }
}

/// Deletes a topic. `false` means that there was none.
///
/// # Errors
/// The brokers cannot be reached or refuse.
pub async fn delete_topic(config: &KafkaConfig, topic: &str) -> Result<bool> {
    let answers = client(config)?.delete_topics(&[topic], &options()).await;
    match answers
        .with_context(|| format!("cannot delete topic {topic}"))?
        .into_iter()
        .next()
    {
        Some(Ok(_)) => Ok(true),
        Some(Err((_, RDKafkaErrorCode::UnknownTopicOrPartition))) => Ok(false),
        Some(Err((_, code))) => bail!("cannot delete topic {topic}: {}", describe(code)),
        None => bail!("cannot delete topic {topic}: the brokers did not answer for it"),
    }
}

fn client(config: &KafkaConfig) -> Result<AdminClient<LogOnly>> {
    config.validate()?;
    AdminClient::from_config_and_context(&config.connection(), LogOnly).context("cannot make a kafka admin client")
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ADMIN_TIMEOUT))
        .operation_timeout(Some(ADMIN_TIMEOUT))
}

//! Asks the brokers about a topic without creating it.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::metadata::MetadataTopic;
use rdkafka::types::RDKafkaErrorCode;

use super::config::KafkaConfig;
use super::generation::Complaint;
use super::reports::{LogOnly, describe};
use super::verdict::{Verdict, verdict};
use crate::delivery::{TopicError, TopicInfo, TopicTrouble};

/// How long the brokers may take to answer one question.
pub(super) const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// Brokers that do not know the question never answer it. A busy one needs time: the connection to it may be new.
const CONFIG_TIMEOUT: Duration = Duration::from_secs(4);

/// What the brokers say of the topic. Blocking. `complaint` tells what the running producer last
/// complained of, which explains better than a timeout why nobody answers.
pub(super) fn ask(
    config: &KafkaConfig,
    topic: &str,
    complaint: impl FnOnce() -> Option<Complaint>,
) -> Result<TopicInfo, TopicError> {
    let unreachable = |detail: String| TopicError::Unreachable { detail };
    let client = AdminClient::from_config_and_context(&config.connection(), LogOnly)
        .map_err(|error| unreachable(error.to_string()))?;
    let metadata = client
        .inner()
        .fetch_metadata(Some(topic), CHECK_TIMEOUT)
        .map_err(|error| match complaint() {
            Some(complaint) if is_of_credentials(complaint.code) => TopicError::NotAuthorised {
                topic: topic.to_owned(),
                detail: complaint.reason,
            },
            Some(complaint) => unreachable(format!("{error} ({})", complaint.reason)),
            None => unreachable(error.to_string()),
        })?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let partitions = found.map_or_else(|| Err(missing(topic)), |found| partitions(topic, found))?;
    Ok(TopicInfo {
        partitions,
        max_message_bytes: max_message_bytes(&client, topic),
    })
}

fn is_of_credentials(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed
    )
}

/// The number of partitions, or why the topic cannot be used.
fn partitions(topic: &str, found: &MetadataTopic) -> Result<usize, TopicError> {
    let code = found.error().map_or(RDKafkaErrorCode::NoError, RDKafkaErrorCode::from);
    match verdict(code) {
        Verdict::Topic(TopicTrouble::Missing) => Err(missing(topic)),
        Verdict::Topic(TopicTrouble::NotAuthorised) => Err(TopicError::NotAuthorised {
            topic: topic.to_owned(),
            detail: describe(code),
        }),
        Verdict::Delivered if found.partitions().is_empty() => Err(missing(topic)),
        Verdict::Delivered => Ok(found.partitions().len()),
        _ => Err(TopicError::Unreachable { detail: describe(code) }),
    }
}

fn missing(topic: &str) -> TopicError {
    TopicError::Missing {
        topic: topic.to_owned(),
    }
}

/// The topic's `max.message.bytes`, or `None` where the broker does not let us read it.
fn max_message_bytes(client: &AdminClient<LogOnly>, topic: &str) -> Option<usize> {
    let options = AdminOptions::new().request_timeout(Some(CONFIG_TIMEOUT));
    let resource = ResourceSpecifier::Topic(topic);
    let described = client.describe_configs([&resource], &options);
    let resources = futures::executor::block_on(described).ok()?;
    let resource = resources.into_iter().next()?.ok()?;
    resource.get("max.message.bytes")?.value.as_deref()?.parse().ok()
}

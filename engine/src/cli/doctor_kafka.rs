//! The doctor's look at Kafka: configuration accepted, brokers reachable, each topic there, large enough.

use std::time::Duration;

use super::Context;
use super::connect::topic_fix;
use super::doctor::{Check, tls};
use crate::brokers::{NO_BROKERS, has_brokers};
use crate::config::Config;
use crate::delivery::{TopicError, TopicInfo};
use crate::secured;

/// What librdkafka takes for its largest message unless told otherwise.
const LARGEST_BY_DEFAULT: usize = 1_000_000;

pub(super) async fn checks(context: &Context, checks: &mut Vec<Check>) {
    let config = context.config();
    if !has_brokers(config) {
        return checks.push(Check::skip("kafka.config", NO_BROKERS));
    }
    let publisher = match context.host.publisher(config) {
        Ok(publisher) => publisher,
        Err(error) => {
            checks.push(Check::fail(
                "kafka.config",
                format!("{error:#}"),
                "look at KAFKA_BROKERS and kafka.properties",
            ));
            return;
        }
    };
    checks.push(Check::ok("kafka.config", "the client takes the configuration"));
    checks.push(tls("kafka.tls", secured::kafka(config)));
    for topic in config.topics.values() {
        let id = format!("kafka.topic.{topic}");
        match publisher.check_topic(topic).await {
            Ok(info) => checks.push(size(config, &id, &info)),
            Err(error @ TopicError::Unreachable { .. }) => {
                checks.push(Check::fail("kafka.reachable", error.to_string(), topic_fix(&error)));
                break;
            }
            Err(error) => checks.push(Check::fail(id, error.to_string(), topic_fix(&error))),
        }
    }
    publisher.shutdown(Duration::from_secs(1)).await;
}

fn size(config: &Config, id: &str, info: &TopicInfo) -> Check {
    let ours = config
        .kafka
        .properties
        .get("message.max.bytes")
        .and_then(|text| text.parse().ok())
        .unwrap_or(LARGEST_BY_DEFAULT);
    let evidence = format!("{} partitions", info.partitions);
    match info.max_message_bytes {
        Some(theirs) if theirs < ours => Check::warn(
            id,
            format!("{evidence}; it takes {theirs} bytes, this client sends up to {ours}"),
            "raise max.message.bytes of the topic or lower message.max.bytes in kafka.properties",
        ),
        Some(theirs) => Check::ok(id, format!("{evidence}; it takes messages of {theirs} bytes")),
        None => Check::ok(id, format!("{evidence}; its largest message is not known")),
    }
}

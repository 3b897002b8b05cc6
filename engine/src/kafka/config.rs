//! What a user may say about the broker, and what is refused because it would break a promise.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

/// How long a message may take by default, tries included; kept well under the lease.
pub const DEFAULT_MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Debug contexts of librdkafka that never print credentials or message bytes.
const HARMLESS_DEBUG: &[&str] = &[
    "generic",
    "broker",
    "topic",
    "metadata",
    "feature",
    "queue",
    "msg",
    "eos",
    "fetch",
    "admin",
    "interceptor",
];

/// Why others are refused.
static SECRET_DEBUG: LazyLock<String> = LazyLock::new(|| {
    let harmless = HARMLESS_DEBUG.join(", ");
    format!("it may log secrets: use only {harmless}")
});

/// Defaults that a user may override, each with its reason.
const DEFAULTS: &[(&str, &str)] = &[
    // Long enough to fill requests under load, short enough not to be felt by a single message.
    ("linger.ms", "5"),
    // Memory is bounded by bytes and by count: a dead broker must not fill the process.
    ("queue.buffering.max.kbytes", "65536"),
    ("queue.buffering.max.messages", "100000"),
    // A missing topic is reported in 5 s instead of 30.
    ("topic.metadata.propagation.max.ms", "5000"),
    ("reconnect.backoff.max.ms", RECONNECT_AT_MOST_MS),
    ("socket.keepalive.enable", "true"),
    ("statistics.interval.ms", STATISTICS_EVERY_MS),
];

const RECONNECT_AT_MOST_MS: &str = "2000";
/// As often as metrics are exported by default. Without statistics a client that is of no more use is not seen.
const STATISTICS_EVERY_MS: &str = "15000";

/// How to reach the brokers. Its `Debug` form shows the names of properties but not their values.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    /// Bootstrap servers, `host:port` separated by commas.
    pub brokers: String,
    /// How long a message may take, tries included, before its outcome is unknown.
    pub message_timeout: Duration,
    /// The name under which brokers see this client.
    pub client_id: String,
    /// Properties handed to librdkafka as they are.
    pub properties: BTreeMap<String, String>,
}

/// What is wrong with a [`KafkaConfig`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KafkaConfigError {
    /// No broker is named.
    #[error("no kafka brokers given: set KAFKA_BROKERS to host:port[,host:port]")]
    NoBrokers,
    /// The message timeout is outside what the library can do.
    #[error("kafka message timeout {given:?} is out of range: set it between 100 ms and 15 min, below the lease")]
    MessageTimeout {
        /// What was given.
        given: Duration,
    },
    /// The property would break a promise.
    #[error("kafka property {key} is refused: {why}")]
    Refused {
        /// The property.
        key: String,
        /// The promise it would break and what to do instead.
        why: &'static str,
    },
    /// The library does not know the property or does not take its value.
    #[error("kafka property {key} is not accepted by librdkafka: {detail}")]
    Invalid {
        /// The property.
        key: String,
        /// What the library said, without the value.
        detail: String,
    },
    /// The properties do not go together.
    #[error("kafka client cannot be made: {detail}")]
    Client {
        /// What the library said.
        detail: String,
    },
}

impl KafkaConfig {
    /// The configuration with defaults for everything but the brokers.
    pub fn new(brokers: impl Into<String>) -> KafkaConfig {
        KafkaConfig {
            brokers: brokers.into(),
            message_timeout: DEFAULT_MESSAGE_TIMEOUT,
            client_id: "lockgate".to_owned(),
            properties: BTreeMap::new(),
        }
    }

    /// Sets one librdkafka property.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> KafkaConfig {
        self.properties.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Checks everything that can be checked without a broker.
    ///
    /// # Errors
    /// The first property that breaks a promise or that librdkafka does not know.
    pub fn validate(&self) -> Result<(), KafkaConfigError> {
        if self.brokers.split(',').all(|broker| broker.trim().is_empty()) {
            return Err(KafkaConfigError::NoBrokers);
        }
        let range = Duration::from_millis(100)..=Duration::from_secs(15 * 60);
        if !range.contains(&self.message_timeout) {
            return Err(KafkaConfigError::MessageTimeout {
                given: self.message_timeout,
            });
        }
        for (key, value) in &self.properties {
            if let Some(why) = broken_promise(key, value.trim(), self.message_timeout) {
                return Err(KafkaConfigError::Refused { key: key.clone(), why });
            }
        }
        self.producer()
            .create_native_config()
            .map(|_| ())
            .map_err(KafkaConfigError::from)
    }

    /// The properties of the producer that everything goes through, as they are handed to librdkafka.
    #[must_use]
    pub fn producer_properties(&self) -> BTreeMap<String, String> {
        let config = self.producer();
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        config.config_map().into_iter().map(owned).collect()
    }

    /// The idempotent producer that everything goes through.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.connection();
        for (key, value) in DEFAULTS {
            if !self.properties.contains_key(*key) {
                config.set(*key, *value);
            }
        }
        let timed = ["message.timeout.ms", "delivery.timeout.ms"]
            .iter()
            .any(|key| self.properties.contains_key(*key));
        if !timed {
            config.set("message.timeout.ms", self.message_timeout.as_millis().to_string());
        }
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2_random");
        config
    }

    /// The producer that sends one message per request, for those that may be to blame for their batch.
    pub(super) fn lone_producer(&self) -> ClientConfig {
        let mut config = self.producer();
        config.set("batch.num.messages", "1").set("linger.ms", "0");
        config
    }

    /// A consumer that reads whole topics and belongs to no group's offsets.
    pub(super) fn reader(&self) -> ClientConfig {
        let mut config = self.connection();
        config
            .set("group.id", "lockgate-reader")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            // A record that retention took away while reading must be an error, not a gap.
            .set("auto.offset.reset", "error")
            // Everything that is in the log, whoever wrote it.
            .set("isolation.level", "read_uncommitted")
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.max.bytes", "8388608")
            .set("fetch.message.max.bytes", "1048576");
        config
    }

    /// A member of a group, whose offsets are committed by hand and follow what is settled.
    pub(super) fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.connection();
        for (key, value) in [
            // A group that is new must not pass over what is there.
            ("auto.offset.reset", "earliest"),
            // Only the partitions that move stand still while they do.
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("queued.max.messages.kbytes", "16384"),
            ("fetch.max.bytes", "8388608"),
            // A member whose question for its topic was lost waits for the next look, as new partitions do.
            ("topic.metadata.refresh.interval.ms", "30000"),
            ("reconnect.backoff.max.ms", RECONNECT_AT_MOST_MS),
            ("socket.keepalive.enable", "true"),
            ("statistics.interval.ms", STATISTICS_EVERY_MS),
        ] {
            if !self.properties.contains_key(key) {
                config.set(key, value);
            }
        }
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "false");
        config
    }

    /// What every client shares: where the brokers are, who we are, the user's properties.
    pub(super) fn connection(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Info);
        for (key, value) in &self.properties {
            config.set(key, value);
        }
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id)
            // Asking for a topic must not create it, even where the broker would.
            .set("allow.auto.create.topics", "false");
        config
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("message_timeout", &self.message_timeout)
            .field("client_id", &self.client_id)
            .field("properties", &self.properties.keys())
            .finish()
    }
}

impl From<KafkaError> for KafkaConfigError {
    fn from(error: KafkaError) -> KafkaConfigError {
        match error {
            // The library quotes the value in its text, which may be a password.
            KafkaError::ClientConfig(_, detail, key, value) => {
                let detail = if value.is_empty() {
                    detail
                } else {
                    detail.replace(&value, "…")
                };
                KafkaConfigError::Invalid { key, detail }
            }
            other => KafkaConfigError::Client {
                detail: other.to_string(),
            },
        }
    }
}

/// Why this property cannot be had, or `None`.
fn broken_promise(key: &str, value: &str, message_timeout: Duration) -> Option<&'static str> {
    let truth = matches!(value, "true" | "t" | "1");
    let zero = value.parse::<f64>().is_ok_and(|number| number == 0.0);
    match key {
        "bootstrap.servers" | "metadata.broker.list" => Some("name the brokers in KAFKA_BROKERS"),
        "client.id" => Some("set kafka.client_id instead"),
        "group.id" => Some("name the group in EMAIL_GROUP, or where the consumer is made (ConsumerSettings)"),
        "enable.auto.commit" | "enable.auto.offset.store" if truth => {
            Some("a consumer's offsets follow what is settled: committed by themselves, they would lose messages")
        }
        "auto.offset.reset" if value == "error" => Some("a consumer that does not know where to begin would stand"),
        "enable.partition.eof" if truth => Some("a consumer does not ask for the end of a partition"),
        "enable.idempotence" if !truth => Some("without idempotence a retry inside the client duplicates messages"),
        "acks" | "request.required.acks" if !matches!(value, "all" | "-1") => {
            Some("only acks=all means that a delivered message survives the loss of a broker")
        }
        "partitioner" | "partitioner_cb" if value != "murmur2_random" => {
            Some("the same key must go to the same partition as from Java clients (murmur2_random)")
        }
        "message.timeout.ms" | "delivery.timeout.ms" => over_timeout(value, message_timeout),
        "message.send.max.retries" | "retries" if zero => Some("an idempotent producer must be able to retry"),
        "delivery.report.only.error" if truth => Some("without reports of success nothing could be proved delivered"),
        "enable.gapless.guarantee" if truth => Some("one message timing out would stop the whole producer"),
        "queue.buffering.max.messages" | "queue.buffering.max.kbytes" if zero => {
            Some("0 means no bound, and a dead broker would fill the memory")
        }
        "transactional.id" => {
            Some("a kafka transaction and a postgres commit cannot be one; delivery is at least once")
        }
        "allow.auto.create.topics" if truth => Some("asking for a topic must not create it: create it beforehand"),
        "test.mock.num.brokers" => Some("it would replace the brokers by ones in this process's memory"),
        "plugin.library.paths" => Some("it would load foreign code into this process"),
        "debug" => secret_debug(value),
        _ => None,
    }
}

/// A message that outlives our own timeout could arrive after its lease is lost.
fn over_timeout(value: &str, message_timeout: Duration) -> Option<&'static str> {
    // 0 stands for "for ever" in librdkafka.
    let fits = value
        .parse::<u128>()
        .is_ok_and(|ms| ms > 0 && ms <= message_timeout.as_millis());
    (!fits).then_some("it must be a number of ms above 0 and not above the message timeout of the kafka section")
}

/// Some debug contexts print configuration values or authentication exchanges.
fn secret_debug(value: &str) -> Option<&'static str> {
    let harmless = |context: &str| context.is_empty() || HARMLESS_DEBUG.contains(&context);
    if value.split(',').all(|context| harmless(context.trim())) {
        return None;
    }
    Some(SECRET_DEBUG.as_str())
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;

//! The adapter to Kafka: the only place that names rdkafka.
//!
//! [`KafkaPublisher`] sends, [`KafkaConsumer`] consumes, [`KafkaTopicReader`] reads back, [`KafkaReach`] asks
//! whether brokers answer, [`create_topic`] and [`delete_topic`]
//! manage topics for demonstrations, benchmarks and tests, [`MockBroker`] stands in for a broker.

mod admin;
mod assignment;
mod config;
mod consumer;
mod generation;
mod lag;
mod mock;
mod polled;
mod probe;
mod publisher;
mod reach;
mod reader;
mod report;
mod reports;
mod service;
mod sight;
mod statistics;
mod tickets;
mod verdict;
mod wake;

pub use admin::{create_topic, delete_topic};
pub use config::{DEFAULT_MESSAGE_TIMEOUT, KafkaConfig, KafkaConfigError};
pub use consumer::{ConsumerSettings, KafkaConsumer};
pub use mock::{MockBroker, MockRequest};
pub use publisher::{KafkaPublisher, StartError};
pub use reach::KafkaReach;
pub use reader::KafkaTopicReader;

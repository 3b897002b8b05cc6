//! The publisher on Kafka: an idempotent producer that is replaced when it fails for good.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::config::{KafkaConfig, KafkaConfigError};
use super::service::{Service, State};
use crate::delivery::{Message, Publisher, PublisherEvents, Rejected, Ticket, TopicError, TopicInfo};
use crate::telemetry::Watching;

/// The longest that a full queue keeps a caller waiting before it may try again.
const CAPACITY_WAIT: Duration = Duration::from_millis(100);
/// Idempotent producers of older versions never recover from some broker failures.
const OLDEST_LIBRDKAFKA: i32 = 0x0205_00ff;

/// Why a publisher cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is at fault.
    #[error(transparent)]
    Config(#[from] KafkaConfigError),
    /// It was started outside a tokio runtime.
    #[error("the kafka publisher must be started inside a tokio runtime")]
    NoRuntime,
    /// The client library is too old.
    #[error("librdkafka {found} is too old: link 2.5.0 or newer")]
    OldLibrary {
        /// Its version.
        found: String,
    },
}

/// Hands messages to Kafka. Dropping it settles whatever is outstanding as unknown, code `purged`.
pub struct KafkaPublisher {
    service: Arc<Service>,
    _watching: Watching,
}

impl KafkaPublisher {
    /// Starts the producer; brokers need not be reachable yet.
    ///
    /// # Errors
    /// The configuration is refused, or this is not inside a tokio runtime.
    pub fn start(config: KafkaConfig, events: Arc<dyn PublisherEvents>) -> Result<KafkaPublisher, StartError> {
        let (number, found) = rdkafka::util::get_rdkafka_version();
        if number < OLDEST_LIBRDKAFKA {
            return Err(StartError::OldLibrary { found });
        }
        config.validate()?;
        let runtime = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let service = Service::new(config, events, runtime);
        service.begin().map_err(KafkaConfigError::from)?;
        let watching = service.watch();
        Ok(KafkaPublisher {
            service,
            _watching: watching,
        })
    }

    /// How many accepted messages are not settled yet.
    pub fn outstanding(&self) -> usize {
        self.service.outstanding()
    }
}

impl Publisher for KafkaPublisher {
    fn publish(&self, message: &Message, ticket: Ticket) -> Result<(), Rejected> {
        let state = self.service.read();
        let State::Running(running) = &*state else {
            return Err(Rejected::Unavailable);
        };
        let Err(error) = running.send(message, ticket) else {
            return Ok(());
        };
        let number = running.generation.number;
        drop(state);
        Err(self.service.rejected(&error, number, &message.topic))
    }

    fn capacity(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.service.wake.next(Instant::now() + CAPACITY_WAIT))
    }

    fn warm_up<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, ()> {
        let (service, topic) = (Arc::clone(&self.service), topic.to_owned());
        Box::pin(async move {
            // What fails is reported by the first message.
            let _ = tokio::task::spawn_blocking(move || service.warm_up(&topic)).await;
        })
    }

    fn check_topic<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<TopicInfo, TopicError>> {
        let (service, topic) = (Arc::clone(&self.service), topic.to_owned());
        Box::pin(async move {
            let check = tokio::task::spawn_blocking(move || service.check_topic(&topic)).await;
            check.unwrap_or_else(|_| {
                Err(TopicError::Unreachable {
                    detail: "the check was cut off".to_owned(),
                })
            })
        })
    }

    fn complaint(&self) -> Option<String> {
        self.service.complaint().map(|complaint| complaint.reason)
    }

    fn shutdown(&self, within: Duration) -> BoxFuture<'_, ()> {
        Box::pin(self.service.shutdown(Instant::now() + within))
    }
}

impl Drop for KafkaPublisher {
    fn drop(&mut self) {
        self.service.abandon();
    }
}

//! A broker in this process's memory, for a demonstration without services and for injected faults.
//! What it holds is gone on exit, so it proves nothing about durability.

use anyhow::{Context, Result};
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer as _};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

/// librdkafka's mock cluster of one broker. Other clients of this machine can use it too.
pub struct MockBroker {
    /// The client that owns the cluster; it produces nothing.
    owner: BaseProducer,
}

impl MockBroker {
    /// Starts it on a free local port.
    ///
    /// # Errors
    /// No port or thread is to be had.
    pub fn start() -> Result<MockBroker> {
        let owner: BaseProducer = ClientConfig::new()
            .set("test.mock.num.brokers", "1")
            .create()
            .context("cannot start the mock broker")?;
        Ok(MockBroker { owner })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The library gave no cluster.
    pub fn brokers(&self) -> Result<String> {
        Ok(self.cluster()?.bootstrap_servers())
    }

    /// Creates a topic. Unlike a well-kept cluster it also creates those that are merely asked for.
    ///
    /// # Errors
    /// The topic exists or its name is not valid.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<()> {
        let created = self.cluster()?.create_topic(topic, partitions, 1);
        created.with_context(|| format!("cannot create topic {topic} in the mock broker"))
    }

    /// Has the next requests of one kind (its number in the Kafka protocol) fail, one per code.
    ///
    /// # Errors
    /// The kind or a code is not known to the library.
    pub fn fail_next(&self, request: MockRequest, codes: &[i32]) -> Result<()> {
        let codes: Result<Vec<_>, _> = codes.iter().map(|code| RDKafkaRespErr::try_from(*code)).collect();
        let codes = codes.map_err(|error| anyhow::anyhow!("not an error code of kafka: {error:?}"))?;
        self.cluster()?.request_errors(request.key(), &codes);
        Ok(())
    }

    /// Has every question about the topic answered with this error of the protocol.
    ///
    /// # Errors
    /// The code is not known to the library.
    pub fn fail_topic(&self, topic: &str, code: i32) -> Result<()> {
        let code = RDKafkaRespErr::try_from(code).map_err(|error| anyhow::anyhow!("not an error code: {error:?}"))?;
        Ok(self.cluster()?.topic_error(topic, code)?)
    }

    /// Breaks all connections and takes no new ones, or takes them again.
    ///
    /// # Errors
    /// The library refused.
    pub fn set_down(&self, down: bool) -> Result<()> {
        let cluster = self.cluster()?;
        let changed = if down {
            cluster.broker_down(-1)
        } else {
            cluster.broker_up(-1)
        };
        changed.map_err(|error| anyhow::anyhow!("cannot switch the mock broker: {error}"))
    }

    fn cluster(&self) -> Result<MockCluster<'_, DefaultProducerContext>> {
        self.owner
            .client()
            .mock_cluster()
            .context("the client library gave no mock cluster")
    }
}

/// The requests that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MockRequest {
    /// Writing messages.
    Produce,
    /// Asking for the id of an idempotent producer.
    InitProducerId,
    /// Asking a group's coordinator where to begin.
    OffsetFetch,
    /// Telling it how far a member is.
    OffsetCommit,
}

impl MockRequest {
    fn key(self) -> RDKafkaApiKey {
        match self {
            MockRequest::Produce => RDKafkaApiKey::Produce,
            MockRequest::InitProducerId => RDKafkaApiKey::InitProducerId,
            MockRequest::OffsetFetch => RDKafkaApiKey::OffsetFetch,
            MockRequest::OffsetCommit => RDKafkaApiKey::OffsetCommit,
        }
    }
}

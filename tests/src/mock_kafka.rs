//! A broker in the test's memory that can stand still, for tests that would disturb others on a shared one.

use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::topic::Topic;

const TOPIC: &str = "chaos";
const BROKER: i32 = 1;

/// One broker with one topic.
pub struct MockKafka(MockCluster<'static, DefaultProducerContext>);

impl MockKafka {
    /// Starts it on a free port.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn start() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, 4, 1).unwrap();
        Self(cluster)
    }

    /// Its topic.
    #[must_use]
    pub fn topic(&self) -> Topic {
        Topic::existing(&self.0.bootstrap_servers(), TOPIC)
    }

    /// Answers nothing for so long after each request, though it does what it is asked.
    pub fn answer_after(&self, delay: Duration) {
        self.0.broker_round_trip_time(BROKER, delay).unwrap();
    }

    /// Has the next so many writes fail for a reason that leaves their fate unknown or can be tried again.
    pub fn fail_writes(&self, count: usize, code: RDKafkaRespErr) {
        self.0.request_errors(RDKafkaApiKey::Produce, &vec![code; count]);
    }
}

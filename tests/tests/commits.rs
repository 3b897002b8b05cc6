//! What a consumer has settled is known to its group, also when a commit was refused.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use lockgate::delivery::{Headers, Inflow, Message, Outcome, OutcomeSink, Publisher as _, Ticket};
use lockgate::kafka::{ConsumerSettings, KafkaConfig, KafkaConsumer, KafkaPublisher, MockBroker, MockRequest};
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::wait_until;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// Number of the Kafka protocol.
const REBALANCE_IN_PROGRESS: i32 = 27;
const TOPIC: &str = "t";
const GROUP: &str = "group";

struct Ignored;

impl OutcomeSink for Ignored {
    fn settle(&self, _: u32, _: Outcome) {}
}

fn is_committed(asking: &BaseConsumer) -> bool {
    let mut wanted = TopicPartitionList::new();
    wanted.add_partition(TOPIC, 0);
    let committed = asking.committed_offsets(wanted, PATIENCE).unwrap();
    committed.elements()[0].offset() == Offset::Offset(1)
}

/// Nobody says that it was refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_refused_is_made_again() {
    let broker = MockBroker::start().unwrap();
    broker.create_topic(TOPIC, 1).unwrap();
    let config = KafkaConfig::new(broker.brokers().unwrap());
    let publisher = KafkaPublisher::start(config.clone(), Arc::new(())).unwrap();
    let message = Message {
        topic: TOPIC.into(),
        key: None,
        payload: b"payload".to_vec(),
        headers: Headers::default(),
    };
    wait_until(PATIENCE, "it is taken", async || {
        let sink = Arc::new(Ignored);
        publisher.publish(&message, Ticket { sink, index: 0 }).is_ok()
    })
    .await;
    broker
        .fail_next(MockRequest::OffsetCommit, &[REBALANCE_IN_PROGRESS])
        .unwrap();
    let mut consumer = KafkaConsumer::start(&config, ConsumerSettings::new(TOPIC, GROUP)).unwrap();
    let page = tokio::time::timeout(PATIENCE, consumer.next_page()).await;
    consumer.settled(&page.unwrap().unwrap().end);
    let mut asking = ClientConfig::new();
    asking.set("bootstrap.servers", &config.brokers).set("group.id", GROUP);
    let asking: BaseConsumer = asking.create().unwrap();
    wait_until(PATIENCE, "it is made again", async || {
        tokio::time::sleep(Duration::from_millis(100)).await;
        tokio::task::block_in_place(|| is_committed(&asking))
    })
    .await;
    Box::new(consumer).close().await;
}

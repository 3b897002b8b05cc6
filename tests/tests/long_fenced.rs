//! A broker that was frozen for longer than its session says for a moment that there are no brokers. The client library may
//! then forget all of them for good; who reads, who sends and who asks goes on all the same.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lockgate::delivery::{Headers, Inflow, Message, Outcome, OutcomeSink, Publisher as _, Ticket};
use lockgate::kafka::{ConsumerSettings, KafkaConfig, KafkaConsumer, KafkaPublisher, KafkaReach};
use lockgate_tests::own_servers::OwnServers;
use lockgate_tests::topic::Topic;
use lockgate_tests::wait_until;

/// So many that some of them forget their broker in most rounds.
const CLIENTS: usize = 24;
const ROUNDS: usize = 3;
const SESSION: (&str, &str) = ("KAFKA_PROPERTIES", "broker.session.timeout.ms=3000");
const FROZEN: Duration = Duration::from_secs(7);
const PATIENCE: Duration = Duration::from_secs(90);

/// How many records of the last round a consumer has read.
type Read = Arc<AtomicUsize>;

fn config(brokers: &str) -> KafkaConfig {
    KafkaConfig::new(brokers)
        .with("statistics.interval.ms", "1000")
        .with("session.timeout.ms", "6000")
}

/// Reads on for as long as it lives; what it has read of a round is said by that round's number.
fn reading(brokers: &str, topic: &str) -> Read {
    let settings = ConsumerSettings::new(topic, &format!("group-{}", uuid::Uuid::now_v7()));
    let mut consumer = KafkaConsumer::start(&config(brokers), settings).unwrap();
    let newest = Read::default();
    let told = newest.clone();
    tokio::spawn(async move {
        loop {
            match consumer.next_page().await {
                Ok(page) => {
                    let rounds = page.records.iter().map(|record| usize::from(record.payload[0]));
                    told.fetch_max(rounds.max().unwrap_or(0), Ordering::SeqCst);
                    consumer.settled(&page.end);
                }
                Err(ended) => panic!("a consumer ended: {ended}"),
            }
        }
    });
    newest
}

#[derive(Default)]
struct Delivered(AtomicUsize);

impl OutcomeSink for Delivered {
    fn settle(&self, _: u32, outcome: Outcome) {
        if matches!(outcome, Outcome::Delivered { .. }) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Sends until one message of this round is acknowledged.
async fn sends(publisher: &KafkaPublisher, topic: &str, round: usize) {
    let delivered = Arc::<Delivered>::default();
    let message = Message {
        topic: topic.into(),
        key: None,
        payload: vec![u8::try_from(round).unwrap()],
        headers: Headers::default(),
    };
    wait_until(PATIENCE, "somebody to send", async || {
        let sink = delivered.clone() as Arc<dyn OutcomeSink>;
        let _ = publisher.publish(&message, Ticket { sink, index: 0 });
        tokio::time::sleep(Duration::from_millis(500)).await;
        delivered.0.load(Ordering::SeqCst) > 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_told_that_there_are_no_brokers_goes_on() {
    let servers = OwnServers::up_with(&["kafka"], &[SESSION]);
    let brokers = servers.brokers();
    let topic = Topic::new(&brokers, &[]).await;
    let readers: Vec<Read> = (0..CLIENTS).map(|_| reading(&brokers, topic.name())).collect();
    let start = |_| KafkaPublisher::start(config(&brokers), Arc::new(())).unwrap();
    let publishers: Vec<KafkaPublisher> = (0..CLIENTS / 4).map(start).collect();
    let asking = |_| KafkaReach::new(&config(&brokers), topic.name()).unwrap();
    let asking: Vec<KafkaReach> = (0..CLIENTS / 4).map(asking).collect();
    for round in 1..=ROUNDS {
        for publisher in &publishers {
            sends(publisher, topic.name(), round).await;
        }
        let read = || readers.iter().map(|read| read.load(Ordering::SeqCst));
        let all = async {
            while !read().all(|newest| newest == round) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let all = tokio::time::timeout(PATIENCE, all).await;
        assert!(all.is_ok(), "round {round}: {:?}", read().collect::<Vec<_>>());
        for reach in &asking {
            let answers = async || reach.reach(Duration::from_secs(2)).await.is_ok();
            wait_until(PATIENCE, "the broker to answer", answers).await;
        }
        if round < ROUNDS {
            servers.act("freeze", "kafka");
            let until = tokio::time::Instant::now() + FROZEN;
            // Questions that wait are answered in the moment that matters.
            let looks = asking.iter().map(|reach| reach.reach(FROZEN + Duration::from_secs(2)));
            let looks = futures::future::join_all(looks);
            let thaw = async {
                tokio::time::sleep_until(until).await;
                servers.act("thaw", "kafka");
            };
            futures::join!(looks, thaw);
        }
    }
}

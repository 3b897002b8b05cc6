//! A client that forgot all brokers is made anew, and what it had to do goes on. A fail point has its statistics say so, and
//! is this process's: the two parts are one test.
#![cfg(feature = "failpoints")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod kafka_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kafka_support::{PATIENCE, Sink, config, delivered, message, offer, publisher, topic};
use lockgate::delivery::{Inflow, Publisher as _, PublisherEvents, TopicTrouble};
use lockgate::kafka::{ConsumerSettings, KafkaConfig, KafkaConsumer, KafkaPublisher};

const FIRST: usize = 50;
/// As many reports in a row as make a client lost; those behind them are as they are.
const TWICE_BLIND: &str = "2*return";

/// Looks at itself so often; 0: never, so that it takes none of the reports that are meant for another client.
fn looking_each(ms: &str) -> KafkaConfig {
    config().with("statistics.interval.ms", ms)
}

/// Counts producers that were of no more use.
#[derive(Default)]
struct Replaced(AtomicUsize);

impl PublisherEvents for Replaced {
    fn topic_trouble(&self, _: &str, _: TopicTrouble) {}
    fn all_brokers_down(&self) {}
    fn fatal(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

async fn send(publisher: &KafkaPublisher, topic: &Arc<str>, numbers: std::ops::Range<usize>) {
    let (sink, count) = (Sink::new(), numbers.len());
    for (index, number) in numbers.enumerate() {
        offer(publisher, &message(topic, "key", number.to_string()), &sink, index).await;
    }
    assert_eq!(delivered(&sink.outcomes(count).await), count);
}

/// Reads until the last of these was read; which were, with copies.
async fn read(consumer: &mut KafkaConsumer, last: usize, settles: bool) -> Vec<usize> {
    let mut read = Vec::new();
    while read.last() != Some(&last) {
        let page = tokio::time::timeout(PATIENCE, consumer.next_page()).await;
        let page = page.unwrap_or_else(|_| panic!("nothing behind {read:?}")).unwrap();
        let number = |payload: &[u8]| std::str::from_utf8(payload).unwrap().parse::<usize>().unwrap();
        read.extend(page.records.iter().map(|record| number(&record.payload)));
        if settles {
            consumer.settled(&page.end);
        }
    }
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn who_forgot_all_brokers_is_made_anew() {
    let topic = topic(1, &[]).await;
    let steady = publisher(looking_each("0"));
    send(&steady, &topic, 0..FIRST).await;

    let settings = ConsumerSettings::new(&topic, &format!("group-{}", uuid::Uuid::now_v7()));
    let mut consumer = KafkaConsumer::start(&looking_each("200"), settings).unwrap();
    assert_eq!(read(&mut consumer, FIRST - 1, false).await.len(), FIRST);
    fail::cfg("kafka.blind", TWICE_BLIND).unwrap();
    let again = read(&mut consumer, FIRST - 1, true).await;
    assert_eq!(
        again.len(),
        FIRST,
        "what was not settled is read again, by another client"
    );
    send(&steady, &topic, FIRST..2 * FIRST).await;
    let rest = read(&mut consumer, 2 * FIRST - 1, true).await;
    assert_eq!(rest, (FIRST..2 * FIRST).collect::<Vec<_>>());
    Box::new(consumer).close().await;

    let events = Arc::<Replaced>::default();
    let own = KafkaPublisher::start(looking_each("200"), events.clone()).unwrap();
    send(&own, &topic, 0..FIRST).await;
    fail::cfg("kafka.blind", TWICE_BLIND).unwrap();
    let replaced = async {
        while events.0.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, replaced)
        .await
        .expect("nobody replaced it");
    let sink = Sink::new();
    let sent = async {
        // Between two producers nothing is taken.
        while own.publish(&message(&topic, "key", "0"), sink.ticket(0)).is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, sent)
        .await
        .expect("no producer came in its place");
    assert_eq!(delivered(&sink.outcomes(1).await), 1);
}

//! The publisher's promises when the broker, the way to it or the producer fails: every accepted
//! message is settled exactly once, in time, and nothing hangs (R36.2). And a consumer's: it reads on.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod kafka_support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kafka_support::{PATIENCE, Sink, brokers_in, codes, delivered, message, offer, publisher, services};
use lockgate::delivery::{
    Inflow, Message, Outcome, OutcomeSink, Publisher, PublisherEvents, Rejected, Ticket, TopicError, TopicTrouble,
};
use lockgate::kafka::{
    ConsumerSettings, KafkaConfig, KafkaConsumer, KafkaPublisher, MockBroker, MockRequest, create_topic,
};
use tokio::sync::Notify;

/// Numbers of the Kafka protocol.
const COORDINATOR_NOT_AVAILABLE: i32 = 15;
const NOT_COORDINATOR: i32 = 16;
const GROUP_AUTHORIZATION_FAILED: i32 = 30;
const OUT_OF_ORDER_SEQUENCE: i32 = 45;
const CLUSTER_AUTHORIZATION_FAILED: i32 = 31;
const TOPIC_AUTHORIZATION_FAILED: i32 = 29;

/// Counts the events and wakes who waits for one.
#[derive(Default)]
struct Events {
    fatal: AtomicUsize,
    down: AtomicUsize,
    not_authorised: AtomicUsize,
    changed: Notify,
}

impl Events {
    fn count(&self, counter: &AtomicUsize) {
        counter.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_one();
    }

    async fn wait_for(&self, counter: &AtomicUsize, count: usize) {
        let waiting = async {
            while counter.load(Ordering::SeqCst) < count {
                self.changed.notified().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    }
}

impl PublisherEvents for Events {
    fn topic_trouble(&self, _: &str, trouble: TopicTrouble) {
        assert_eq!(trouble, TopicTrouble::NotAuthorised);
        self.count(&self.not_authorised);
    }
    fn all_brokers_down(&self) {
        self.count(&self.down);
    }
    fn fatal(&self) {
        self.count(&self.fatal);
    }
}

fn mock() -> (MockBroker, KafkaConfig, Arc<str>) {
    let broker = MockBroker::start().unwrap();
    broker.create_topic("t", 4).unwrap();
    let config = KafkaConfig::new(broker.brokers().unwrap());
    (broker, config, "t".into())
}

fn watched(config: KafkaConfig) -> (KafkaPublisher, Arc<Events>) {
    let events = Arc::new(Events::default());
    let publisher = KafkaPublisher::start(config, Arc::clone(&events) as Arc<dyn PublisherEvents>).unwrap();
    (publisher, events)
}

/// Offers a message until a producer takes it, also over the change of producers.
async fn offer_over_rebuild(publisher: &KafkaPublisher, body: &Message, sink: &Arc<Sink>, index: usize) {
    let offering = async {
        while let Err(rejected) = publisher.publish(body, sink.ticket(index)) {
            assert!(
                matches!(rejected, Rejected::Full | Rejected::Unavailable),
                "{rejected:?}"
            );
            publisher.capacity().await;
        }
    };
    tokio::time::timeout(PATIENCE, offering).await.unwrap();
}

/// A broker of this test's own; ended and removed with the guard.
struct OwnBroker<'a>(&'a Path);

impl Drop for OwnBroker<'_> {
    fn drop(&mut self) {
        services(Some(self.0), &["down"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_returns_in_time_with_everything_settled_while_the_broker_is_frozen() {
    let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kafka-frozen-{}", std::process::id()));
    let own = OwnBroker(&state);
    services(Some(own.0), &["up", "kafka"]);
    let config = KafkaConfig::new(brokers_in(&services(Some(own.0), &["env"])));
    create_topic(&config, "frozen", 4, &[]).await.unwrap();
    let topic: Arc<str> = "frozen".into();
    let mut impatient = config.clone();
    impatient.message_timeout = Duration::from_millis(1500);
    let (patient, impatient) = (publisher(config), publisher(impatient));
    let (sink, timed) = (Sink::new(), Sink::new());
    // Both have met the broker: what follows is about the freeze and not about a slow first meeting.
    patient.warm_up("frozen").await;
    impatient.warm_up("frozen").await;
    // Only the patient one has time for the first message of a server that has just started.
    offer(&patient, &message(&topic, "k", "p"), &sink, 0).await;
    assert_eq!(delivered(&sink.outcomes(1).await), 1);

    services(Some(own.0), &["freeze", "kafka"]);
    let frozen = Instant::now();
    for index in 1..=2000 {
        offer(&patient, &message(&topic, &index.to_string(), "p"), &sink, index).await;
    }
    for index in 0..100 {
        offer(&impatient, &message(&topic, &index.to_string(), "p"), &timed, index).await;
    }
    assert_eq!(codes(&timed.outcomes(100).await), ["timed_out"; 100]);
    // Before the broker's session is over, and long before the patient one gives up.
    assert!(frozen.elapsed() < Duration::from_secs(25), "{:?}", frozen.elapsed());
    assert_eq!(patient.outstanding(), 2000);
    let started = Instant::now();
    patient.shutdown(Duration::from_secs(1)).await;
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    let outcomes = sink.outcomes(2001).await;
    assert_eq!(codes(&outcomes), ["purged"; 2000]);
    let reported = |outcome: &Outcome| matches!(outcome, Outcome::Unknown(failure) if failure.detail.contains("Purge"));
    assert_eq!(
        outcomes.iter().filter(|outcome| reported(outcome)).count(),
        2000,
        "by reports, not for want of them"
    );
    assert_eq!(
        patient.publish(&message(&topic, "k", "p"), sink.ticket(9999)),
        Err(Rejected::Unavailable)
    );
    services(Some(own.0), &["thaw", "kafka"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_error_settles_what_is_outstanding_and_the_producer_is_replaced() {
    let (broker, config, topic) = mock();
    let (publisher, events) = watched(config);
    let sink = Sink::new();
    offer(&publisher, &message(&topic, "k", "p"), &sink, 0).await;
    assert_eq!(delivered(&sink.outcomes(1).await), 1);
    broker
        .fail_next(MockRequest::Produce, &[OUT_OF_ORDER_SEQUENCE])
        .unwrap();
    for index in 1..50 {
        offer_over_rebuild(&publisher, &message(&topic, "k", "p"), &sink, index).await;
    }
    events.wait_for(&events.fatal, 1).await;
    for index in 50..100 {
        offer_over_rebuild(&publisher, &message(&topic, "k", "p"), &sink, index).await;
    }
    let outcomes = sink.outcomes(100).await;
    assert_eq!(
        delivered(&outcomes[50..]),
        50,
        "the new producer delivers: {:?}",
        codes(&outcomes)
    );
    let lost = codes(&outcomes);
    assert!(
        !lost.is_empty()
            && lost
                .iter()
                .all(|code| ["producer_fatal", "broker_error"].contains(code)),
        "{lost:?}"
    );
    assert_eq!((events.fatal.load(Ordering::SeqCst), publisher.outstanding()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_is_refused_its_id_is_replaced_until_it_gets_one() {
    let (broker, config, topic) = mock();
    broker
        .fail_next(MockRequest::InitProducerId, &[CLUSTER_AUTHORIZATION_FAILED; 3])
        .unwrap();
    let (publisher, events) = watched(config);
    events.wait_for(&events.fatal, 3).await;
    let sink = Sink::new();
    offer_over_rebuild(&publisher, &message(&topic, "k", "p"), &sink, 0).await;
    assert_eq!(delivered(&sink.outcomes(1).await), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_down_are_told_and_messages_wait_for_them() {
    let (broker, config, topic) = mock();
    let (publisher, events) = watched(config);
    let sink = Sink::new();
    offer(&publisher, &message(&topic, "k", "p"), &sink, 0).await;
    sink.outcomes(1).await;
    broker.set_down(true).unwrap();
    offer(&publisher, &message(&topic, "k", "p"), &sink, 1).await;
    events.wait_for(&events.down, 1).await;
    assert_eq!(sink.settled(), 1);
    broker.set_down(false).unwrap();
    assert_eq!(delivered(&sink.outcomes(2).await), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_ours_to_write_is_told_apart_from_a_missing_one() {
    let (broker, config, topic) = mock();
    broker.fail_topic(&topic, TOPIC_AUTHORIZATION_FAILED).unwrap();
    let (publisher, events) = watched(config);
    let checked = publisher.check_topic(&topic).await;
    assert!(matches!(checked, Err(TopicError::NotAuthorised { .. })), "{checked:?}");
    let sink = Sink::new();
    let offered = publisher.publish(&message(&topic, "k", "p"), sink.ticket(0));
    if offered.is_ok() {
        assert_eq!(codes(&sink.outcomes(1).await), ["not_authorised"]);
    }
    events.wait_for(&events.not_authorised, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_for_or_writing_to_a_topic_never_creates_it_even_where_brokers_would() {
    let (_broker, config, _) = mock();
    let publisher = publisher(config.with("topic.metadata.propagation.max.ms", "300"));
    let (absent, sink): (Arc<str>, _) = ("absent".into(), Sink::new());
    let missing = Err(TopicError::Missing {
        topic: absent.to_string(),
    });
    assert_eq!(publisher.check_topic(&absent).await, missing);
    offer(&publisher, &message(&absent, "k", "p"), &sink, 0).await;
    assert_eq!(codes(&sink.outcomes(1).await), ["topic_missing"]);
    publisher.warm_up(&absent).await;
    assert_eq!(publisher.check_topic(&absent).await, missing);
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_do_not_answer_are_unreachable_and_not_a_missing_topic() {
    // Bound and never accepted from: connections are made and nothing is ever said.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let publisher = publisher(KafkaConfig::new(silent.local_addr().unwrap().to_string()));
    let started = Instant::now();
    let checked = publisher.check_topic("t").await;
    assert!(matches!(checked, Err(TopicError::Unreachable { .. })), "{checked:?}");
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_publisher_settles_everything_at_once() {
    let (broker, config, topic) = mock();
    let (publisher, sink) = (publisher(config), Sink::new());
    broker.set_down(true).unwrap();
    for index in 0..1000 {
        offer(&publisher, &message(&topic, "k", "p"), &sink, index).await;
    }
    drop(publisher);
    assert_eq!(sink.settled(), 1000);
    assert_eq!(codes(&sink.outcomes(1000).await), ["purged"; 1000]);
}

struct PanickingSink;

impl OutcomeSink for PanickingSink {
    fn settle(&self, _: u32, _: Outcome) {
        panic!("a sink of the test panics");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_panics_does_not_stop_the_reports_of_others() {
    let (_broker, config, topic) = mock();
    let (publisher, sink) = (publisher(config), Sink::new());
    let panicking = Ticket {
        sink: Arc::new(PanickingSink),
        index: 0,
    };
    publisher.publish(&message(&topic, "k", "p"), panicking).unwrap();
    offer(&publisher, &message(&topic, "k", "p"), &sink, 0).await;
    assert_eq!(delivered(&sink.outcomes(1).await), 1);
    assert_eq!(publisher.outstanding(), 0);
}

/// Publishes as fast as it can until the publisher closes; returns how many messages were accepted.
async fn flood(publisher: Arc<KafkaPublisher>, topic: Arc<str>, sink: Arc<Sink>, closing: Arc<AtomicBool>) -> usize {
    let mut accepted = 0;
    loop {
        match publisher.publish(&message(&topic, &accepted.to_string(), "p"), sink.ticket(accepted)) {
            Ok(()) => accepted += 1,
            Err(Rejected::Unavailable) if closing.load(Ordering::SeqCst) => return accepted,
            Err(Rejected::Full | Rejected::Unavailable) => publisher.capacity().await,
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_accepted_message_is_settled_once_over_fatal_errors_and_a_shutdown_under_load() {
    let (broker, mut config, topic) = mock();
    // A probe stands behind all that the floods have queued.
    config.message_timeout = Duration::from_secs(120);
    let (publisher, events) = watched(config);
    let (publisher, closing) = (Arc::new(publisher), Arc::new(AtomicBool::new(false)));
    let flood_into = |sink: &Arc<Sink>| {
        tokio::spawn(flood(
            Arc::clone(&publisher),
            Arc::clone(&topic),
            Arc::clone(sink),
            Arc::clone(&closing),
        ))
    };
    let sinks: Vec<_> = (0..4).map(|_| Sink::new()).collect();
    let floods: Vec<_> = sinks.iter().map(flood_into).collect();
    for fatals in 1..=3 {
        // The producer in service must be the one that meets the error, not requests of the one before.
        let probe = Sink::new();
        offer_over_rebuild(&publisher, &message(&topic, "k", "p"), &probe, 0).await;
        assert_eq!(delivered(&probe.outcomes(1).await), 1);
        broker
            .fail_next(MockRequest::Produce, &[OUT_OF_ORDER_SEQUENCE])
            .unwrap();
        events.wait_for(&events.fatal, fatals).await;
    }
    closing.store(true, Ordering::SeqCst);
    publisher.shutdown(Duration::ZERO).await;
    let mut ends = std::collections::BTreeSet::new();
    for (flood, sink) in floods.into_iter().zip(sinks) {
        let accepted = flood.await.unwrap();
        // Settled when shutdown returned, not some time later.
        assert_eq!(sink.settled(), accepted);
        ends.extend(codes(&sink.outcomes(accepted).await));
    }
    assert!(ends.contains("producer_fatal"), "{ends:?}");
    assert_eq!(publisher.outstanding(), 0);
}

/// Its partitions are its own from then on, and nothing would ever fetch them: nobody is asked again where to begin.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_was_refused_where_to_begin_is_made_anew() {
    let refusals = [NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE, GROUP_AUTHORIZATION_FAILED];
    futures::future::join_all(refusals.map(reads_though_refused)).await;
}

async fn reads_though_refused(code: i32) {
    let (broker, config, topic) = mock();
    send_one(&config, &topic).await;
    broker.fail_next(MockRequest::OffsetFetch, &[code]).unwrap();
    // For so long the mock broker waits for more members when the first one is replaced.
    let config = config.with("session.timeout.ms", "6000");
    let config = config.with("statistics.interval.ms", "500");
    let mut consumer = KafkaConsumer::start(&config, ConsumerSettings::new(&topic, "group")).unwrap();
    let page = tokio::time::timeout(PATIENCE, consumer.next_page()).await;
    let page = page.unwrap_or_else(|_| panic!("it stands after error {code}")).unwrap();
    assert_eq!(page.records[0].payload, b"payload");
    Box::new(consumer).close().await;
}

async fn send_one(config: &KafkaConfig, topic: &Arc<str>) {
    let (publisher, sink) = (publisher(config.clone()), Sink::new());
    offer(&publisher, &message(topic, "key", "payload"), &sink, 0).await;
    assert_eq!(delivered(&sink.outcomes(1).await), 1);
}

/// Between two tries that are refused, a producer looks as one that tries nobody.
#[tokio::test]
async fn brokers_that_refuse_connections_replace_no_producer() {
    let mut config = KafkaConfig::new("127.0.0.1:1").with("statistics.interval.ms", "200");
    // Longer than one that tries nobody is put up with.
    config.message_timeout = Duration::from_secs(15);
    let events = Arc::<Events>::default();
    let publisher = KafkaPublisher::start(config, events.clone()).unwrap();
    let sink = Sink::new();
    offer(&publisher, &message(&"nowhere".into(), "key", "0"), &sink, 0).await;
    assert_eq!(codes(&sink.outcomes(1).await), ["timed_out"]);
    assert_eq!(events.fatal.load(Ordering::SeqCst), 0);
}

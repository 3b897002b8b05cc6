//! The publisher's promises against a real broker (R36.2).
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod kafka_support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::Utc;
use kafka_support::{Sink, all_know, codes, config, delivered, message, offer, publisher, topic};
use lockgate::delivery::{
    Failure, Message, Outcome, Publisher, PublisherEvents, Rejected, TopicError, TopicReader, TopicTrouble,
};
use lockgate::kafka::{KafkaPublisher, KafkaTopicReader, delete_topic};

#[tokio::test(flavor = "multi_thread")]
async fn every_message_is_delivered_once_and_reads_back_whole() {
    const COUNT: usize = 100_000;
    let topic = topic(12, &[]).await;
    let (publisher, sink, since) = (publisher(config()), Sink::new(), Utc::now());
    for index in 0..COUNT {
        let headers = [("message-id", index.to_string()), ("empty", String::new())];
        let body = Message {
            headers: headers.into_iter().collect(),
            ..message(&topic, &format!("k{}", index % 977), format!("payload {index}"))
        };
        offer(&publisher, &body, &sink, index).await;
    }
    let outcomes = sink.outcomes(COUNT).await;
    assert_eq!(publisher.outstanding(), 0);
    let mut places = BTreeMap::new();
    for (index, outcome) in outcomes.into_iter().enumerate() {
        let Outcome::Delivered { partition, offset } = outcome else {
            panic!("{index}: {outcome:?}")
        };
        assert_eq!(
            places.insert((partition, offset), index),
            None,
            "two messages at one place"
        );
    }
    let reader_topic = topic.clone();
    let (count, left) = tokio::task::spawn_blocking(move || {
        let count = KafkaTopicReader::new(config()).read_since(&reader_topic, since, &mut |record| {
            let index = places.remove(&(record.partition, record.offset)).unwrap();
            assert_eq!(record.payload, format!("payload {index}").into_bytes());
            assert_eq!(record.key, Some(format!("k{}", index % 977).into_bytes()));
            let headers = [
                ("message-id".to_owned(), index.to_string().into_bytes()),
                ("empty".to_owned(), vec![]),
            ];
            assert_eq!(record.headers, headers);
            Ok(())
        });
        (count.unwrap(), places.len())
    })
    .await
    .unwrap();
    assert_eq!((count, left), (COUNT as u64, 0));
    assert!(delete_topic(&config(), &topic).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_too_large_for_the_topic_takes_none_of_its_neighbours_down() {
    let topic = topic(1, &[("max.message.bytes", "20000")]).await;
    // A long linger puts all of them into one request.
    let (publisher, sink) = (publisher(config().with("linger.ms", "200")), Sink::new());
    for index in 0..100 {
        let size = if index == 50 { 50_000 } else { 100 };
        offer(&publisher, &message(&topic, "k", vec![b'x'; size]), &sink, index).await;
    }
    let outcomes = sink.outcomes(100).await;
    assert_eq!(delivered(&outcomes), 99);
    assert!(
        matches!(&outcomes[50], Outcome::Refused(Failure { code: "too_large", .. })),
        "{:?}",
        outcomes[50]
    );
    assert_eq!(
        publisher.check_topic(&topic).await.unwrap().max_message_bytes,
        Some(20_000)
    );
    publisher.shutdown(Duration::from_secs(5)).await;
    assert_eq!(publisher.outstanding(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_too_large_for_the_client_is_refused_at_the_offer() {
    let topic = topic(1, &[]).await;
    let (publisher, sink) = (publisher(config()), Sink::new());
    let refused = publisher.publish(&message(&topic, "k", vec![b'x'; 1_100_000]), sink.ticket(0));
    let Err(Rejected::Refused(Failure { code, detail })) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(code, "too_large");
    assert!(!detail.contains("xxx"), "{detail}");
    assert_eq!(
        (publisher.outstanding(), sink.settled()),
        (0, 0),
        "a rejected ticket is not settled"
    );
}

#[derive(Default)]
struct Troubles {
    missing: AtomicUsize,
}

impl PublisherEvents for Troubles {
    fn topic_trouble(&self, _: &str, trouble: TopicTrouble) {
        assert_eq!(trouble, TopicTrouble::Missing);
        self.missing.fetch_add(1, Ordering::Relaxed);
    }
    fn all_brokers_down(&self) {}
    fn fatal(&self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_told_clearly_soon_and_is_not_created() {
    let troubles = Arc::new(Troubles::default());
    let fast = config().with("topic.metadata.propagation.max.ms", "1000");
    let publisher = KafkaPublisher::start(fast, Arc::clone(&troubles) as Arc<dyn PublisherEvents>).unwrap();
    let name: Arc<str> = format!("test-{}", uuid::Uuid::now_v7()).into();
    let started = Instant::now();
    let checked = publisher.check_topic(&name).await;
    assert_eq!(
        checked,
        Err(TopicError::Missing {
            topic: name.to_string()
        })
    );
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    let sink = Sink::new();
    offer(&publisher, &message(&name, "k", "p"), &sink, 0).await;
    assert_eq!(codes(&sink.outcomes(1).await), ["topic_missing"]);
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    assert_eq!(troubles.missing.load(Ordering::Relaxed), 1);
    // Known to be missing by now: turned down at the offer, and told again.
    assert_eq!(
        publisher.publish(&message(&name, "k", "p"), sink.ticket(1)),
        Err(Rejected::Unavailable)
    );
    assert_eq!(troubles.missing.load(Ordering::Relaxed), 2);
    // Once it is there and was checked, messages go at once.
    assert!(
        lockgate::kafka::create_topic(&config(), &name, 3, &[]).await.unwrap(),
        "somebody created it"
    );
    all_know(&name, 3).await;
    assert_eq!(publisher.check_topic(&name).await.unwrap().partitions, 3);
    offer(&publisher, &message(&name, "k", "p"), &sink, 1).await;
    assert_eq!(delivered(&sink.outcomes(2).await), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_says_so_and_wakes_when_there_is_room() {
    let topic = topic(1, &[]).await;
    let small = config()
        .with("queue.buffering.max.messages", "10")
        .with("linger.ms", "1000");
    let (publisher, sink) = (publisher(small), Sink::new());
    let body = message(&topic, "k", "p");
    let accepted = (0..100)
        .take_while(|index| publisher.publish(&body, sink.ticket(*index)).is_ok())
        .count();
    assert_eq!(accepted, 10);
    assert_eq!(publisher.publish(&body, sink.ticket(10)), Err(Rejected::Full));
    // Waiting for capacity is enough to get everything through.
    for index in 10..100 {
        offer(&publisher, &body, &sink, index).await;
    }
    assert_eq!(delivered(&sink.outcomes(100).await), 100);
}

/// `Utils.murmur2` of the Java client, written from its definition.
fn java_murmur2(data: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0, |tail, byte| tail << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    (hash ^ (hash >> 15)) as i32
}

#[test]
fn our_murmur2_agrees_with_the_vectors_of_the_java_client() {
    let vectors: [(&str, i32); 6] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ];
    for (text, hash) in vectors {
        assert_eq!(java_murmur2(text.as_bytes()), hash, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_goes_to_the_partition_that_java_clients_choose() {
    const PARTITIONS: i32 = 7;
    let topic = topic(PARTITIONS, &[]).await;
    let (publisher, sink) = (publisher(config()), Sink::new());
    let mut keys: Vec<String> = (0..500).map(|n| format!("{}", n * 7919)).collect();
    keys.extend(
        [
            "",
            "21",
            "foobar",
            "a-little-bit-longer-string",
            "żółw",
            "a",
            "ab",
            "abc",
        ]
        .map(str::to_owned),
    );
    for (index, key) in keys.iter().enumerate() {
        offer(&publisher, &message(&topic, key, "p"), &sink, index).await;
    }
    for (key, outcome) in keys.iter().zip(sink.outcomes(keys.len()).await) {
        let java = (java_murmur2(key.as_bytes()) & 0x7fff_ffff) % PARTITIONS;
        assert!(
            matches!(outcome, Outcome::Delivered { partition, .. } if partition == java),
            "{key}: {outcome:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_warm_up_the_first_message_does_not_wait_for_the_producer_id() {
    let topic = topic(12, &[]).await;
    // The quickest of five: the wait that is left out is the producer's own, a busy broker's is no wait of it.
    let mut quickest = Duration::MAX;
    for _ in 0..5 {
        let (publisher, sink) = (publisher(config()), Sink::new());
        publisher.warm_up(&topic).await;
        let started = Instant::now();
        offer(&publisher, &message(&topic, "k", "p"), &sink, 0).await;
        assert_eq!(delivered(&sink.outcomes(1).await), 1);
        quickest = quickest.min(started.elapsed());
    }
    assert!(quickest < Duration::from_millis(400), "{quickest:?}");
}

//! Reading a topic back: from an instant, to its end as of the call, everything, or an error.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod kafka_support;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use kafka_support::{Sink, config, delivered, message, offer, publisher, topic};
use lockgate::delivery::{Message, Record, TopicReader};
use lockgate::kafka::{KafkaPublisher, KafkaTopicReader, create_topic, delete_topic};

/// Reads on a thread of its own and hands the records back with the count.
async fn read(topic: &Arc<str>, since: DateTime<Utc>) -> anyhow::Result<(u64, Vec<Record>)> {
    let topic = Arc::clone(topic);
    let reading = tokio::task::spawn_blocking(move || {
        let mut records = Vec::new();
        let reader = KafkaTopicReader::new(config()).stall_timeout(Duration::from_secs(10));
        let count = reader.read_since(&topic, since, &mut |record| {
            records.push(record);
            Ok(())
        })?;
        Ok((count, records))
    });
    reading.await.unwrap()
}

async fn send(publisher: &KafkaPublisher, topic: &Arc<str>, words: &[&str]) {
    let sink = Sink::new();
    for (index, word) in words.iter().enumerate() {
        offer(publisher, &message(topic, word, *word), &sink, index).await;
    }
    assert_eq!(delivered(&sink.outcomes(words.len()).await), words.len());
}

fn words(records: &[Record]) -> Vec<String> {
    let mut words: Vec<_> = records
        .iter()
        .map(|record| String::from_utf8(record.payload.clone()).unwrap())
        .collect();
    words.sort();
    words
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_starts_at_the_instant_and_skips_nothing_after_it() {
    let topic = topic(5, &[]).await;
    let publisher = publisher(config());
    send(&publisher, &topic, &["a", "b", "c", "d"]).await;
    let (_, first) = read(&topic, DateTime::UNIX_EPOCH).await.unwrap();
    assert_eq!(words(&first), ["a", "b", "c", "d"]);
    let last = first.iter().map(|record| record.timestamp.unwrap()).max().unwrap();
    // The next record must carry a later millisecond than those before.
    while Utc::now().timestamp_millis() <= last.timestamp_millis() {
        tokio::task::yield_now().await;
    }
    send(&publisher, &topic, &["e", "f"]).await;
    let (count, later) = read(&topic, last + chrono::Duration::milliseconds(1)).await.unwrap();
    assert_eq!((count, words(&later)), (2, vec!["e".to_owned(), "f".to_owned()]));
    assert_eq!(
        read(&topic, Utc::now() + chrono::Duration::hours(1)).await.unwrap().0,
        0
    );
}

/// Whoever owns the topic decides: the broker compresses what it is sent plain, and readers take it as it is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_read_however_its_broker_compresses_it() {
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let topic = topic(1, &[("compression.type", codec)]).await;
        let plain = publisher(config());
        send(&plain, &topic, &["a", "b"]).await;
        send(&publisher(config().with("compression.type", codec)), &topic, &["c"]).await;
        let (_, records) = read(&topic, DateTime::UNIX_EPOCH).await.unwrap();
        assert_eq!(words(&records), ["a", "b", "c"], "{codec}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_topic_reads_as_empty_and_a_keyless_message_reads_back() {
    let topic = topic(3, &[]).await;
    assert_eq!(read(&topic, DateTime::UNIX_EPOCH).await.unwrap().0, 0);
    let (publisher, sink) = (publisher(config()), Sink::new());
    offer(
        &publisher,
        &Message {
            key: None,
            ..message(&topic, "", "")
        },
        &sink,
        0,
    )
    .await;
    assert_eq!(delivered(&sink.outcomes(1).await), 1);
    let (_, records) = read(&topic, DateTime::UNIX_EPOCH).await.unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(
        (&records[0].key, records[0].payload.len(), records[0].headers.len()),
        (&None, 0, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_ends_at_the_end_as_of_the_call_while_others_write_on() {
    let topic = topic(2, &[]).await;
    let publisher = publisher(config());
    send(&publisher, &topic, &["a", "b", "c"]).await;
    let (runtime, read_topic) = (tokio::runtime::Handle::current(), Arc::clone(&topic));
    let (count, publisher) = tokio::task::spawn_blocking(move || {
        let count = KafkaTopicReader::new(config()).read_since(&read_topic, DateTime::UNIX_EPOCH, &mut |_| {
            // Each record read makes two more: a reader that followed the end would never come to it.
            runtime.block_on(send(&publisher, &read_topic, &["x", "y"]));
            Ok(())
        });
        (count.unwrap(), publisher)
    })
    .await
    .unwrap();
    assert_eq!(count, 3);
    assert_eq!(publisher.outstanding(), 0);
    assert_eq!(read(&topic, DateTime::UNIX_EPOCH).await.unwrap().0, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vanished_topic_is_an_error_at_the_start_and_in_the_middle() {
    let missing: Arc<str> = format!("test-{}", uuid::Uuid::now_v7()).into();
    let error = read(&missing, DateTime::UNIX_EPOCH).await.unwrap_err();
    assert!(format!("{error:#}").contains(&*missing), "{error:#}");

    let topic = topic(1, &[]).await;
    let publisher = publisher(config());
    // More than the reader may fetch ahead, so that it must ask again after the topic is gone.
    let (body, sink) = (message(&topic, "k", vec![7; 900_000]), Sink::new());
    for index in 0..40 {
        offer(&publisher, &body, &sink, index).await;
    }
    assert_eq!(delivered(&sink.outcomes(40).await), 40);
    let (runtime, read_topic) = (tokio::runtime::Handle::current(), Arc::clone(&topic));
    let (error, seen) = tokio::task::spawn_blocking(move || {
        let (mut seen, reader) = (
            0,
            KafkaTopicReader::new(config()).stall_timeout(Duration::from_secs(60)),
        );
        let error = reader.read_since(&read_topic, DateTime::UNIX_EPOCH, &mut |_| {
            seen += 1;
            if seen == 1 {
                assert!(runtime.block_on(delete_topic(&config(), &read_topic))?);
            }
            Ok(())
        });
        (error.unwrap_err(), seen)
    })
    .await
    .unwrap();
    let error = format!("{error:#}");
    assert!(error.contains(&*topic) && !error.contains("stalled"), "{error}");
    assert!(seen < 40, "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_caller_ends_the_reading() {
    let topic = topic(1, &[]).await;
    send(&publisher(config()), &topic, &["a", "b"]).await;
    let read_topic = Arc::clone(&topic);
    let read = tokio::task::spawn_blocking(move || {
        let reader = KafkaTopicReader::new(config());
        reader.read_since(&read_topic, DateTime::UNIX_EPOCH, &mut |_| anyhow::bail!("enough"))
    });
    assert_eq!(read.await.unwrap().unwrap_err().to_string(), "enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn creating_and_deleting_a_topic_tells_whether_it_was_there() {
    let topic = topic(2, &[("retention.ms", "60000")]).await;
    assert!(!create_topic(&config(), &topic, 2, &[]).await.unwrap());
    assert!(delete_topic(&config(), &topic).await.unwrap());
    assert!(!delete_topic(&config(), &topic).await.unwrap());
    let error = create_topic(&config(), &topic, 2, &[("no.such.setting", "1")])
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&*topic), "{error:#}");
}

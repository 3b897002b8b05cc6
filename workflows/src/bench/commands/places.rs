//! Where commands are in the end: the topic, the table, both or neither, joined by message id.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use lockgate::delivery::TopicReader as _;
use lockgate::kafka::KafkaTopicReader;
use uuid::Uuid;

use super::super::place::Place;
use super::caller::Submitted;

/// How long a topic may be unreadable after its broker was away.
const READABLE_WITHIN: Duration = Duration::from_secs(60);

/// Where the commands are.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) delivered: u64,
    pub(super) stored: u64,
    pub(super) both: u64,
    pub(super) missing: u64,
    /// Records of the topic that nobody submitted, or that are there more than once.
    pub(super) extra_records: u64,
    /// Seconds from each stored command's submit to its row, ascending.
    pub(super) stored_after_s: Vec<f64>,
}

/// Joins what was submitted with the topic and the table.
pub(super) async fn join(place: &Place, topic: &str, submitted: &Submitted) -> anyhow::Result<Places> {
    let (records, in_topic) = read_when_possible(place, topic).await?;
    let rows: Vec<(Uuid, DateTime<Utc>)> = sqlx::query_as(
        "select message_id, created_at from lockgate.undelivered_messages where topic = $1 and run_id is null",
    )
    .bind(topic)
    .fetch_all(&place.pool)
    .await?;
    let in_table: HashMap<Uuid, DateTime<Utc>> = rows.into_iter().collect();
    let mut places = Places::default();
    let mut known = 0;
    for (id, at) in &submitted.accepted {
        let sent = in_topic.contains(id);
        known += u64::from(sent);
        match (sent, in_table.get(id)) {
            (true, None) => places.delivered += 1,
            (true, Some(_)) => places.both += 1,
            (false, Some(_)) => places.stored += 1,
            (false, None) => places.missing += 1,
        }
        if let Some(created) = in_table.get(id) {
            let after = *created - (submitted.begun + *at);
            places.stored_after_s.push(after.as_seconds_f64());
        }
    }
    places.extra_records = records - known;
    places.stored_after_s.sort_by(f64::total_cmp);
    Ok(places)
}

/// A broker that was away takes a while until its partitions have leaders again.
pub(super) async fn read_when_possible(place: &Place, topic: &str) -> anyhow::Result<(u64, HashSet<Uuid>)> {
    let until = Instant::now() + READABLE_WITHIN;
    loop {
        match read_topic(place, topic).await {
            Err(_) if Instant::now() < until => tokio::time::sleep(Duration::from_millis(500)).await,
            read => return read,
        }
    }
}

async fn read_topic(place: &Place, topic: &str) -> anyhow::Result<(u64, HashSet<Uuid>)> {
    let (reader, topic) = (KafkaTopicReader::new(place.kafka.clone()), topic.to_owned());
    let reading = tokio::task::spawn_blocking(move || {
        let mut ids = HashSet::new();
        let records = reader.read_since(&topic, DateTime::<Utc>::UNIX_EPOCH, &mut |record| {
            let id = record.headers.iter().find(|(name, _)| name == "message-id");
            let id = id.context("a record without a message-id")?;
            ids.insert(std::str::from_utf8(&id.1)?.parse()?);
            Ok(())
        })?;
        anyhow::Ok((records, ids))
    });
    reading.await?
}

//! `lockgate bench sender`: how fast email-sender takes commands of a topic into its table, with the pages, statements
//! and commits that it has in service.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use lockgate::delivery::{EmailTriggerCommand, InboundPage, Settler, TakeError, Taken, consume};
use lockgate::kafka::{ConsumerSettings, KafkaConsumer};
use lockgate::postgres::{Database, DatabaseSettings, Inbox};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde::Serialize;
use serde_json::json;
use sqlx::Executor;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::place::Place;
use super::report::median;
use crate::email_sender::{SendEmails, Templates, create};

/// Of so many messages one comes a second time.
const COPY_EVERY: u32 = 50;
/// How long the brokers may take to confirm the last messages.
const FLUSH: Duration = Duration::from_secs(60);

/// What to measure.
#[derive(Debug, Clone)]
pub struct SenderSettings {
    /// A server on which the benchmark may make a database.
    pub database_url: String,
    /// The brokers.
    pub brokers: String,
    /// Messages with an id of their own.
    pub messages: u32,
    /// Times it is measured.
    pub times: usize,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct SenderReport {
    /// E-mails a second, the median.
    pub sender_per_s: f64,
    /// Messages of each run.
    pub messages: u32,
    /// Records that were copies.
    pub copies: u32,
    /// Every run.
    pub runs: Vec<SenderRun>,
}

/// One run, from the first page to the last commit.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct SenderRun {
    /// E-mails a second.
    pub emails_per_s: f64,
    /// Records in a page and transaction, on average.
    pub page_records: f64,
    /// What the inbox said.
    pub taken: Taken,
}

impl SenderReport {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "email-sender: {:.0} e-mails/s, the median of {} runs of {} messages and {} copies\n",
            self.sender_per_s,
            self.runs.len(),
            self.messages,
            self.copies
        );
        for run in &self.runs {
            text += &format!("  {:.0}/s, {:.0} records a page\n", run.emails_per_s, run.page_records);
        }
        text
    }
}

/// Measures email-sender with its table as the effect.
///
/// # Errors
/// A server cannot be used, or a message was not taken exactly once.
pub async fn sender(
    settings: &SenderSettings,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<SenderReport> {
    let work = async |place: &Place| measure_all(place, settings, progress).await;
    Place::lent(&settings.database_url, &settings.brokers, work).await
}

async fn measure_all(
    place: &Place,
    settings: &SenderSettings,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<SenderReport> {
    create(&place.pool).await?;
    let topic = place.make_topic().await?;
    let (brokers, messages, into) = (settings.brokers.clone(), settings.messages, topic.clone());
    progress("filling the topic");
    tokio::task::spawn_blocking(move || fill(&brokers, &into, messages)).await??;
    let mut runs = Vec::new();
    for number in 0..settings.times.max(1) {
        let run = measure(place, &topic, number, settings.messages).await?;
        progress(&format!("run {}: {:.0} e-mails/s", number + 1, run.emails_per_s));
        runs.push(run);
    }
    place.remove_topic(&topic).await?;
    Ok(SenderReport {
        sender_per_s: median(runs.iter().map(|run| run.emails_per_s).collect()),
        messages: settings.messages,
        copies: settings.messages.div_ceil(COPY_EVERY),
        runs,
    })
}

/// An inbox that says when it began and when all is taken.
struct Timed {
    inbox: Inbox<SendEmails>,
    wanted: u64,
    began: OnceLock<Instant>,
    records: AtomicU64,
    pages: AtomicU64,
    all: Notify,
}

#[async_trait]
impl Settler for Timed {
    async fn take(&self, page: &InboundPage) -> Result<Taken, TakeError> {
        self.began.get_or_init(Instant::now);
        let taken = self.inbox.take(page).await?;
        self.pages.fetch_add(1, Ordering::Relaxed);
        let records = page.records.len() as u64;
        if self.records.fetch_add(records, Ordering::Relaxed) + records >= self.wanted {
            self.all.notify_one();
        }
        Ok(taken)
    }
}

async fn measure(place: &Place, topic: &str, number: usize, messages: u32) -> anyhow::Result<SenderRun> {
    place
        .pool
        .execute("truncate lockgate.inbox, lockgate_mail.sent_emails")
        .await?;
    place.pool.execute("checkpoint").await?;
    let database = Database::new(&DatabaseSettings::new(&place.url))?;
    let effect = Arc::new(SendEmails::recorded(Arc::new(Templates::shipped("en")?)));
    let timed = Arc::new(Timed {
        inbox: Inbox::new(database.clone(), "email-sender", effect),
        wanted: u64::from(messages + messages.div_ceil(COPY_EVERY)),
        began: OnceLock::new(),
        records: AtomicU64::new(0),
        pages: AtomicU64::new(0),
        all: Notify::new(),
    });
    // A group of its own reads the topic from its beginning.
    let group = format!("{topic}_{number}");
    let consumer = KafkaConsumer::start(&place.kafka, ConsumerSettings::new(topic, &group))?;
    let stop = CancellationToken::new();
    let consuming = tokio::spawn(consume(Box::new(consumer), timed.clone(), stop.clone()));
    timed.all.notified().await;
    let took = timed.began.get().context("nothing was taken")?.elapsed();
    stop.cancel();
    let taken = consuming.await??;
    database.close().await;
    let emails: i64 = sqlx::query_scalar("select count(*) from lockgate_mail.sent_emails")
        .fetch_one(&place.pool)
        .await?;
    ensure!(
        emails == i64::from(messages) && taken.dead == 0,
        "{emails} e-mails of {messages} messages, {} dead",
        taken.dead
    );
    let (records, pages) = (
        timed.records.load(Ordering::Relaxed),
        timed.pages.load(Ordering::Relaxed),
    );
    Ok(SenderRun {
        emails_per_s: f64::from(messages) / took.as_secs_f64(),
        page_records: records as f64 / pages as f64,
        taken,
    })
}

/// Writes the messages and their copies.
fn fill(brokers: &str, topic: &str, messages: u32) -> anyhow::Result<()> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "5")
        .create()?;
    for user in 0..messages {
        let copies = if user.is_multiple_of(COPY_EVERY) { 2 } else { 1 };
        for _ in 0..copies {
            send(&producer, topic, user)?;
        }
    }
    producer.flush(FLUSH)?;
    ensure!(producer.in_flight_count() == 0, "the brokers did not take all messages");
    Ok(())
}

fn send(producer: &BaseProducer, topic: &str, user: u32) -> anyhow::Result<()> {
    let command = EmailTriggerCommand {
        recipient_email: format!("user-{user}@example.org").into(),
        template_id: "daily-task-report".into(),
        template_context: json!({"name": format!("User {user}"), "day": "2026-07-01", "done": user % 7, "open": user % 5}),
        locale: if user.is_multiple_of(2) { "de" } else { "en" }.into(),
        correlation_id: "bench".into(),
        user_id: Some(user.into()),
    };
    let made = command.into_command()?;
    let (id, checksum) = (
        Uuid::new_v5(&Uuid::NAMESPACE_OID, &user.to_le_bytes()).to_string(),
        format!("{:08x}", crc32c::crc32c(&made.payload)),
    );
    let header = |key, value| Header {
        key,
        value: Some(value),
    };
    let headers = OwnedHeaders::new()
        .insert(header("message-id", &id))
        .insert(header("crc32c", &checksum));
    let mut record = BaseRecord::to(topic)
        .key(made.key.as_deref().unwrap_or_default())
        .payload(&made.payload)
        .headers(headers);
    loop {
        match producer.send(record) {
            Ok(()) => break,
            // Full: there is room again once some are confirmed.
            Err((_, back)) => {
                record = back;
                producer.poll(Duration::from_millis(10));
            }
        }
    }
    producer.poll(Duration::ZERO);
    Ok(())
}

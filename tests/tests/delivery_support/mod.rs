//! What the tests of redelivery and verification share: a run in the tables, topics, messages as the engine makes them.
#![allow(clippy::unwrap_used, dead_code)]

pub mod scripted;
pub mod story;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use lockgate::delivery::{
    BreakerPolicy, Breakers, Message, Outcome, OutcomeSink, Publisher, Record, RedeliveryLoop, RedeliveryParts,
    RedeliverySettings, Ticket, TopicReader, message_id,
};
use lockgate::kafka::{KafkaConfig, KafkaPublisher, KafkaTopicReader, create_topic};
use lockgate::lifecycle::{Batch, BatchOutcome, Ended, Fleet, ItemIds, UndeliveredItem};
use lockgate::postgres::{Database, FleetSettings, PostgresFleet, PostgresUndelivered};
use lockgate_tests::topic::Topic;
use lockgate_tests::{TestDatabase, kafka_brokers, wait_until};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub const STEP: &str = "0:reports";
pub const SOON: Duration = Duration::from_secs(60);

/// A database, a topic of its own on a real broker, and a run whose batches the test plans.
pub struct World {
    pub tables: TestDatabase,
    pub kafka: KafkaConfig,
    pub topic: String,
    pub run: Uuid,
}

impl World {
    pub async fn new(batches: &[Vec<i64>]) -> Self {
        Self::with_topic(batches, &[]).await
    }

    pub async fn with_topic(batches: &[Vec<i64>], settings: &[(&str, &str)]) -> Self {
        let tables = TestDatabase::new().await;
        let kafka = KafkaConfig::new(kafka_brokers());
        let topic = format!("t{}", Uuid::new_v4().simple());
        create_topic(&kafka, &topic, 3, settings).await.unwrap();
        Topic::existing(kafka_brokers(), &topic).is_known(3).await;
        let run = plan(&tables, batches).await;
        Self {
            tables,
            kafka,
            topic,
            run,
        }
    }

    pub fn database(&self) -> Database {
        self.tables.database()
    }

    pub fn fleet(&self) -> PostgresFleet {
        let settings = FleetSettings {
            replica: Uuid::new_v4(),
            lease: Duration::from_secs(60),
            max_deaths: 3,
            stale_after: Duration::from_secs(60),
            first_redelivery: Duration::ZERO,
        };
        PostgresFleet::new(self.database(), settings)
    }

    pub async fn publisher(&self, breakers: &Arc<Breakers>) -> Arc<dyn Publisher> {
        let publisher = KafkaPublisher::start(self.kafka.clone(), breakers.clone()).unwrap();
        publisher.check_topic(&self.topic).await.unwrap();
        Arc::new(publisher)
    }

    pub async fn claim(&self, fleet: &PostgresFleet) -> Batch {
        fleet.claim_next_batch(self.run, Uuid::new_v4()).await.unwrap().unwrap()
    }

    /// Finishes every batch with all its items undelivered, as a worker does whose messages got no answer.
    pub async fn finish_all_unknown(&self) {
        let fleet = self.fleet();
        while let Some(batch) = fleet.claim_next_batch(self.run, Uuid::new_v4()).await.unwrap() {
            let items = batch.ids.as_slice().iter();
            let undelivered = items.map(|item| self.undelivered(&batch, *item, false)).collect();
            finish(&fleet, &batch, 0, undelivered).await;
        }
        self.complete().await;
    }

    pub async fn complete(&self) {
        sqlx::query(
            "update lockgate.task_runs set status = 'completed', finished_at = clock_timestamp() where id = $1",
        )
        .bind(self.run)
        .execute(self.tables.pool())
        .await
        .unwrap();
    }

    pub fn message(&self, batch: &Batch, item: i64) -> Message {
        message(&self.topic, self.run, batch.claim.seq, batch.claim.token, item)
    }

    pub fn undelivered(&self, batch: &Batch, item: i64, refused: bool) -> UndeliveredItem {
        let message = self.message(batch, item);
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        let headers = message.headers.iter();
        UndeliveredItem {
            item,
            message_id: message_id(self.run, STEP, item),
            refused,
            code: if refused { "too_large" } else { "timed_out" }.to_owned(),
            reason: "planted".to_owned(),
            command_type: "email".to_owned(),
            topic: self.topic.clone(),
            key: message.key.clone(),
            headers: headers.map(|(name, value)| (name.to_owned(), text(value))).collect(),
            payload: Some(message.payload),
        }
    }

    /// All records of the topic.
    pub async fn records(&self) -> Vec<Record> {
        let (reader, topic) = (KafkaTopicReader::new(self.kafka.clone()), self.topic.clone());
        tokio::task::spawn_blocking(move || {
            let mut records = Vec::new();
            let mut keep = |record| {
                records.push(record);
                Ok(())
            };
            reader
                .read_since(&topic, DateTime::<Utc>::UNIX_EPOCH, &mut keep)
                .unwrap();
            records
        })
        .await
        .unwrap()
    }

    pub async fn value<T>(&self, sql: &'static str) -> T
    where
        T: Send + Unpin,
        (T,): for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow>,
    {
        sqlx::query_scalar(sql).fetch_one(self.tables.pool()).await.unwrap()
    }

    pub async fn execute(&self, sql: &'static str) -> u64 {
        sqlx::query(sql)
            .execute(self.tables.pool())
            .await
            .unwrap()
            .rows_affected()
    }

    /// Waits until no undelivered row has another state than this one.
    pub async fn all_rows_are(&self, status: &'static str) {
        wait_until(SOON, &format!("all rows are {status}"), async || {
            let others = "select count(*) from lockgate.undelivered_messages where status <> $1";
            let others: i64 = sqlx::query_scalar(others)
                .bind(status)
                .fetch_one(self.tables.pool())
                .await
                .unwrap();
            others == 0
        })
        .await;
    }

    /// What the proof finds, each as problem and item.
    pub async fn problems(&self) -> Vec<(String, Option<i64>)> {
        sqlx::query_as("select problem, item_id from lockgate.proof_problems($1) order by 1, 2")
            .bind(self.run)
            .fetch_all(self.tables.pool())
            .await
            .unwrap()
    }
}

/// A running run with a planned fan-out of these batches.
pub async fn plan(tables: &TestDatabase, batches: &[Vec<i64>]) -> Uuid {
    let (run, pool) = (Uuid::now_v7(), tables.pool());
    sqlx::query(
        "insert into lockgate.task_runs (id, workflow, status, origin_id, started_at, last_batch_seq)
         values ($1, 'reports', 'running', $1, clock_timestamp(), $2)",
    )
    .bind(run)
    .bind(batches.len() as i32)
    .execute(pool)
    .await
    .unwrap();
    sqlx::query(
        "insert into lockgate.run_steps (run_id, path, kind, planned_items, planned_batches, planned_at)
         values ($1, $2, 'fan_out', $3, $4, clock_timestamp())",
    )
    .bind(run)
    .bind(STEP)
    .bind(batches.iter().map(Vec::len).sum::<usize>() as i64)
    .bind(batches.len() as i32)
    .execute(pool)
    .await
    .unwrap();
    for (at, ids) in batches.iter().enumerate() {
        let ids = ItemIds::new(ids.clone()).unwrap();
        sqlx::query(
            "with batch as (
                insert into lockgate.run_batches (run_id, seq, step, first_id, last_id, n_items) values ($1, $2, $3, $4, $5, $6)
             ) insert into lockgate.run_batch_ids (run_id, seq, ids) select $1, $2, $7 where $7 is not null",
        )
        .bind(run)
        .bind(at as i32 + 1)
        .bind(STEP)
        .bind(ids.first())
        .bind(ids.last())
        .bind(ids.len() as i32)
        .bind(ids.packed())
        .execute(pool)
        .await
        .unwrap();
    }
    run
}

pub async fn finish(fleet: &PostgresFleet, batch: &Batch, delivered: usize, undelivered: Vec<UndeliveredItem>) {
    let outcome = BatchOutcome {
        delivered,
        undelivered,
        ..BatchOutcome::default()
    };
    let ended = fleet.finish_batch(&batch.claim, &batch.ids, &outcome).await.unwrap();
    assert_eq!(ended, Ended::Done);
}

/// The message of an item, as the engine makes it.
pub fn message(topic: &str, run: Uuid, seq: i32, token: i64, item: i64) -> Message {
    let payload = format!("{{\"item\":{item}}}").into_bytes();
    let headers = [
        ("message-id", message_id(run, STEP, item).to_string()),
        ("correlation-id", format!("c-{item}")),
        ("run-id", run.to_string()),
        ("batch-seq", seq.to_string()),
        ("claim-token", token.to_string()),
        ("crc32c", format!("{:08x}", crc32c(&payload))),
    ];
    Message {
        topic: topic.into(),
        key: Some(item.to_string().into_bytes()),
        headers: headers.into_iter().collect(),
        payload,
    }
}

/// Bit by bit, so that it shares nothing with the engine.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
    })
}

/// Publishes and waits for all outcomes.
pub async fn publish_all(publisher: &dyn Publisher, messages: &[Message]) -> Vec<Outcome> {
    let sink = Arc::new(Collected::default());
    for (index, message) in messages.iter().enumerate() {
        let ticket = Ticket {
            sink: sink.clone(),
            index: index as u32,
        };
        publisher.publish(message, ticket).unwrap();
    }
    wait_until(SOON, "everything is settled", async || {
        sink.0.lock().unwrap().len() == messages.len()
    })
    .await;
    sink.0.lock().unwrap().values().cloned().collect()
}

#[derive(Default)]
struct Collected(Mutex<BTreeMap<u32, Outcome>>);

impl OutcomeSink for Collected {
    fn settle(&self, index: u32, outcome: Outcome) {
        self.0.lock().unwrap().insert(index, outcome);
    }
}

/// Settings quick enough for tests.
pub fn quick() -> RedeliverySettings {
    RedeliverySettings {
        poll: Duration::from_millis(20),
        first_delay: Duration::from_millis(40),
        lease: Duration::from_secs(30),
        ..RedeliverySettings::default()
    }
}

pub fn breakers() -> Arc<Breakers> {
    Arc::new(Breakers::new(BreakerPolicy::default()))
}

/// Breakers that let no probe through for as long as a test lasts.
pub fn shut_breakers() -> Arc<Breakers> {
    let pause = Duration::from_secs(600);
    Arc::new(Breakers::new(BreakerPolicy {
        first_pause: pause,
        last_pause: pause,
        ..BreakerPolicy::default()
    }))
}

/// A redelivery loop that runs until it is stopped.
pub struct Running {
    pub replica: Uuid,
    stop: CancellationToken,
    task: JoinHandle<bool>,
}

impl Running {
    pub fn start(
        database: Database,
        publisher: Arc<dyn Publisher>,
        breakers: &Arc<Breakers>,
        settings: RedeliverySettings,
    ) -> Self {
        let (replica, stop) = (Uuid::new_v4(), CancellationToken::new());
        let redelivery = RedeliveryLoop::new(RedeliveryParts {
            store: Arc::new(PostgresUndelivered::new(database, replica)),
            publisher,
            breakers: breakers.clone(),
            settings,
            hint: Arc::new(Notify::new()),
        });
        let stopped = stop.clone();
        let task = tokio::spawn(async move { redelivery.run(stopped).await });
        Self { replica, stop, task }
    }

    /// Whether everything was written in time.
    pub async fn stop(self) -> bool {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

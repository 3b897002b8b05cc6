//! What the engine is compared with: a loop as one would write it by hand, and a producer without a database.
//!
//! The loop keeps its cursor in memory, has no leases, no exact ids, no per-item outcomes and no audit. It shares page
//! SQL, rows, message bytes, headers, window (16 batches of 1,000) and producer properties with the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use lockgate::delivery::message_id;
use sqlx::PgPool;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::producer::{HandProducer, Unconfirmed, headers};
use super::workload::{Density, User, command};

/// Batches in flight, as the engine's default.
pub(super) const WORKERS: i32 = 16;
/// Items of a batch.
const BATCH: usize = 1000;

const RECORD_PROGRESS: &str = "update bench.progress set last_id = $2, sent = sent + $3 where worker = $1";

struct Loop {
    producer: Arc<HandProducer>,
    pool: PgPool,
    density: Density,
    last_id: i64,
    cursor: AtomicI64,
    run: Uuid,
}

/// Runs the loop to its end; answers how many items it sent and how long it took.
pub(super) async fn run(
    pool: PgPool,
    producer: Arc<HandProducer>,
    density: Density,
    last_id: i64,
) -> anyhow::Result<(i64, Duration)> {
    let this = Arc::new(Loop {
        producer,
        pool,
        density,
        last_id,
        cursor: AtomicI64::new(0),
        run: Uuid::now_v7(),
    });
    let begun = Instant::now();
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        workers.spawn(this.clone().work(worker));
    }
    let mut sent = 0;
    while let Some(ended) = workers.join_next().await {
        sent += ended??;
    }
    Ok((sent, begun.elapsed()))
}

impl Loop {
    async fn work(self: Arc<Self>, worker: i32) -> anyhow::Result<i64> {
        let mut connection = self.pool.acquire().await?;
        let stretch = self.density.stretch();
        let mut sent = 0;
        loop {
            let from = self.cursor.fetch_add(stretch, Ordering::Relaxed);
            if from >= self.last_id {
                return Ok(sent);
            }
            let to = (from + stretch).min(self.last_id);
            let users: Vec<User> = sqlx::query_as(self.density.rows_between())
                .bind(from + 1)
                .bind(to)
                .bind(self.last_id)
                .fetch_all(&mut *connection)
                .await?;
            self.send(&users, from / stretch).await?;
            sqlx::query(RECORD_PROGRESS)
                .bind(worker)
                .bind(to)
                .bind(users.len() as i64)
                .execute(&mut *connection)
                .await?;
            sent += users.len() as i64;
        }
    }

    async fn send(&self, users: &[User], batch: i64) -> anyhow::Result<()> {
        let run = self.run.to_string();
        let batch = batch.to_string();
        let unconfirmed = Arc::new(Unconfirmed::default());
        for user in users {
            let command = command(user, &run)?;
            let id = message_id(self.run, "0:users", user.id);
            let mut id_text = Uuid::encode_buffer();
            let id_text = id.hyphenated().encode_lower(&mut id_text);
            let checksum = format!("{:08x}", crc32c::crc32c(&command.payload));
            let headers = headers(&[
                ("message-id", id_text.as_bytes()),
                ("correlation-id", run.as_bytes()),
                ("run-id", run.as_bytes()),
                ("batch-seq", batch.as_bytes()),
                ("claim-token", b"1"),
                ("crc32c", checksum.as_bytes()),
            ]);
            let key = command.key.unwrap_or_default();
            self.producer
                .send(&key, &command.payload, headers, &unconfirmed)
                .await?;
        }
        unconfirmed.all().await
    }
}

/// A message that is ready to go.
struct Ready {
    key: Vec<u8>,
    payload: Vec<u8>,
    message_id: String,
    checksum: String,
}

/// Sends as many messages of the same form and size from memory, with as many in flight.
pub(super) async fn raw(pool: &PgPool, producer: Arc<HandProducer>, items: i64) -> anyhow::Result<Duration> {
    let users: Vec<User> = sqlx::query_as(Density::Dense.rows_between())
        .bind(1_i64)
        .bind(i64::from(WORKERS) * BATCH as i64)
        .bind(i64::MAX)
        .fetch_all(pool)
        .await?;
    let run = Uuid::now_v7();
    let ready: Vec<Ready> = users
        .iter()
        .map(|user| {
            let command = command(user, &run.to_string())?;
            Ok(Ready {
                message_id: message_id(run, "0:users", user.id).to_string(),
                checksum: format!("{:08x}", crc32c::crc32c(&command.payload)),
                key: command.key.unwrap_or_default(),
                payload: command.payload,
            })
        })
        .collect::<anyhow::Result<_>>()?;
    let shared = Arc::new((ready, run.to_string(), AtomicI64::new(0)));
    let begun = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        workers.spawn(raw_worker(shared.clone(), producer.clone(), items));
    }
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    Ok(begun.elapsed())
}

async fn raw_worker(
    shared: Arc<(Vec<Ready>, String, AtomicI64)>,
    producer: Arc<HandProducer>,
    items: i64,
) -> anyhow::Result<()> {
    let (ready, run, cursor) = &*shared;
    loop {
        let from = cursor.fetch_add(BATCH as i64, Ordering::Relaxed);
        if from >= items {
            return Ok(());
        }
        let (batch, unconfirmed) = ((from / BATCH as i64).to_string(), Arc::new(Unconfirmed::default()));
        for at in from..(from + BATCH as i64).min(items) {
            let message = &ready[usize::try_from(at)? % ready.len()];
            let headers = headers(&[
                ("message-id", message.message_id.as_bytes()),
                ("correlation-id", run.as_bytes()),
                ("run-id", run.as_bytes()),
                ("batch-seq", batch.as_bytes()),
                ("claim-token", b"1"),
                ("crc32c", message.checksum.as_bytes()),
            ]);
            producer
                .send(&message.key, &message.payload, headers, &unconfirmed)
                .await?;
        }
        unconfirmed.all().await?;
    }
}

//! What the engine is compared with: the bare statements, with as many rows each and as many connections.

use std::time::{Duration, Instant};

use lockgate::delivery::{Command, KeyHash, keyed_id};
use sqlx::{Connection, Executor, Row};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::engine::{IN_ONE_TRANSACTION, command};
use crate::bench::place::Place;

const INSERT: &str = include_str!("../../../sql/bench/outbox/insert.sql");
const CLAIM_AND_DELETE: &str = include_str!("../../../sql/bench/outbox/claim_and_delete.sql");
const STORE: &str = include_str!("../../../sql/bench/outbox/store.sql");
const CLAIM: &str = include_str!("../../../sql/bench/outbox/claim.sql");
const UPDATE: &str = include_str!("../../../sql/bench/outbox/update.sql");

/// Rows of an insert, as of the engine's pages.
const INSERTED: i64 = 1000;
/// Rows of a claim, and loops at once: the engine's defaults.
const CLAIMED: i64 = 500;
const LOOPS: usize = 4;

/// The columns of rows to insert.
#[derive(Default, Clone)]
struct Columns {
    ids: Vec<Uuid>,
    keys: Vec<Vec<u8>>,
    headers: Vec<String>,
    payloads: Vec<Vec<u8>>,
}

fn columns(from: i64, to: i64) -> anyhow::Result<Columns> {
    let mut columns = Columns::default();
    for n in from..to {
        let made = Command::of(&command(n), &KeyHash::none())?;
        let checksum = format!("{:08x}", crc32c::crc32c(&made.payload));
        let correlation = made.correlation_id.unwrap_or_default();
        columns.ids.push(keyed_id("bench", &Uuid::now_v7().to_string()));
        columns.keys.push(made.key.unwrap_or_default());
        columns
            .headers
            .push(serde_json::json!([["correlation-id", correlation], ["crc32c", checksum]]).to_string());
        columns.payloads.push(made.payload);
    }
    // As the engine's: made in the order of time.
    columns.ids.iter_mut().for_each(|id| *id = Uuid::now_v7());
    Ok(columns)
}

/// Inserts rows that were made before, in pages and transactions of the engine's size.
pub(super) async fn insert(place: &Place, commands: i64) -> anyhow::Result<Duration> {
    let mut connection = place.pool.acquire().await?;
    let mut took = Duration::ZERO;
    let mut from = 0;
    while from < commands {
        let to = (from + IN_ONE_TRANSACTION).min(commands);
        let mut pages = Vec::new();
        for at in (from..to).step_by(INSERTED as usize) {
            pages.push(columns(at, (at + INSERTED).min(to))?);
        }
        let begun = Instant::now();
        let mut transaction = connection.begin().await?;
        for page in pages {
            sqlx::query(INSERT)
                .bind(page.ids)
                .bind(page.keys)
                .bind(page.headers)
                .bind(page.payloads)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        took += begun.elapsed();
        from = to;
    }
    Ok(took)
}

/// Claims and deletes all rows of the outbox, reading each.
pub(super) async fn claim_and_delete(place: &Place, commands: i64) -> anyhow::Result<Duration> {
    let pool = place.loop_pool().await?;
    let begun = Instant::now();
    let mut loops = JoinSet::new();
    for _ in 0..LOOPS {
        let pool = pool.clone();
        loops.spawn(async move {
            let mut connection = pool.acquire().await?;
            let mut gone = 0;
            loop {
                let rows = sqlx::query(CLAIM_AND_DELETE)
                    .bind(CLAIMED)
                    .fetch_all(&mut *connection)
                    .await?;
                if rows.is_empty() {
                    return anyhow::Ok(gone);
                }
                gone += rows.len() as i64;
            }
        });
    }
    ended(loops, commands).await?;
    let took = begun.elapsed();
    pool.close().await;
    Ok(took)
}

/// Stores rows that are due, in place of those that were there.
pub(in crate::bench) async fn store(place: &Place, topic: &str, commands: i64) -> anyhow::Result<()> {
    place.pool.execute("truncate lockgate.undelivered_messages").await?;
    let mut from = 0;
    while from < commands {
        let to = (from + INSERTED).min(commands);
        let page = columns(from, to)?;
        sqlx::query(STORE)
            .bind(page.ids)
            .bind(page.keys)
            .bind(page.headers)
            .bind(page.payloads)
            .bind(topic)
            .execute(&place.pool)
            .await?;
        from = to;
    }
    place
        .pool
        .execute("vacuum analyze lockgate.undelivered_messages")
        .await?;
    Ok(())
}

/// Claims all rows that are due, reading each, and marks them delivered.
pub(in crate::bench) async fn claim_and_update(place: &Place, commands: i64) -> anyhow::Result<Duration> {
    let pool = place.loop_pool().await?;
    let begun = Instant::now();
    let mut loops = JoinSet::new();
    for _ in 0..LOOPS {
        let pool = pool.clone();
        loops.spawn(async move {
            let mut connection = pool.acquire().await?;
            let mut done = 0;
            loop {
                let rows = sqlx::query(CLAIM).bind(CLAIMED).fetch_all(&mut *connection).await?;
                if rows.is_empty() {
                    return anyhow::Ok(done);
                }
                let ids: Vec<Uuid> = rows.iter().map(|row| row.try_get("id")).collect::<Result<_, _>>()?;
                done += sqlx::query(UPDATE)
                    .bind(ids)
                    .execute(&mut *connection)
                    .await?
                    .rows_affected() as i64;
            }
        });
    }
    ended(loops, commands).await?;
    let took = begun.elapsed();
    pool.close().await;
    Ok(took)
}

async fn ended(mut loops: JoinSet<anyhow::Result<i64>>, commands: i64) -> anyhow::Result<()> {
    let mut sum = 0;
    while let Some(ended) = loops.join_next().await {
        sum += ended??;
    }
    anyhow::ensure!(sum == commands, "the loops found {sum} of {commands} rows");
    Ok(())
}

//! Claims in tables that are large: a million runs that sleep, ten million that are over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockgate::client::Client;
use lockgate::lifecycle::{ClaimPage, RunStore, Runnable, Share};
use lockgate::postgres::{Database, DatabaseSettings, PostgresRunStore};
use lockgate::workflow::Workflow;
use serde::Serialize;
use sqlx::Executor;
use uuid::Uuid;

use super::super::place::Place;
use super::load::Fleet;
use super::report::LatencyMs;
use super::shapes::Nothing;

/// Claims that are timed.
const CLAIMS: usize = 500;
/// Rows written by one statement.
const PAGE: i64 = 250_000;
/// Runs that are due at the same instant.
const DUE: i64 = 10_000;

/// How much stands in the tables.
#[derive(Debug, Clone, Copy)]
pub struct BigSettings {
    /// Runs that sleep.
    pub sleeping: i64,
    /// Runs that are over.
    pub finished: i64,
}

/// What claims cost in them.
#[derive(Debug, Clone, Serialize)]
pub struct BigReport {
    /// Runs that slept, and that were over.
    pub rows: (i64, i64),
    /// A claim of one run, in empty tables.
    pub claim_empty: Option<LatencyMs>,
    /// The same in these.
    pub claim_big: Option<LatencyMs>,
    /// Runs due at once, from that instant to their claim.
    pub due_at_once: Option<LatencyMs>,
}

pub(super) async fn measure(
    place: &Place,
    topic: &str,
    settings: BigSettings,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<BigReport> {
    let database = Database::new(&DatabaseSettings::new(&place.url))?;
    let client = Client::new(database);
    place.pool.execute("vacuum analyze lockgate.task_runs").await?;
    let claim_empty = claims(place, &client).await?;
    progress(&format!("{} runs that are over", settings.finished));
    fill(place, FINISHED, settings.finished).await?;
    progress(&format!("{} runs that sleep", settings.sleeping));
    fill(place, SLEEPING, settings.sleeping).await?;
    place.pool.execute("vacuum analyze lockgate.task_runs").await?;
    progress("claims of one run");
    let claim_big = claims(place, &client).await?;
    progress(&format!("{DUE} runs due at once"));
    let due_at_once = due_at_once(place, topic).await?;
    Ok(BigReport {
        rows: (settings.sleeping, settings.finished),
        claim_empty,
        claim_big,
        due_at_once,
    })
}

// Ids that ascend, as those of runs do.
const FINISHED: &str = "insert into lockgate.task_runs (id, workflow, status, params, origin_id, claim_token, output, created_at, \
    started_at, finished_at) \
    select r.id, 'bench-nothing', 'completed', 'null', r.id, 1, 'null', r.at, r.at, r.at \
      from generate_series(1, $1) n \
     cross join lateral (select (lpad(to_hex((extract(epoch from statement_timestamp()) * 1e6)::bigint), 16, '0') || lpad(to_hex(n), 16, '0'))::uuid as id, \
                                clock_timestamp() - n * interval '1 second' as at) r";
const SLEEPING: &str = "insert into lockgate.task_runs (id, workflow, status, params, origin_id, claim_token, wake_at, created_at, \
    started_at) \
    select r.id, 'bench-nothing', 'suspended', 'null', r.id, 1, r.at + n * interval '1 second' + interval '1 day', r.at, r.at \
      from generate_series(1, $1) n \
     cross join lateral (select (lpad(to_hex((extract(epoch from statement_timestamp()) * 1e6)::bigint), 16, '0') || lpad(to_hex(n), 16, '0'))::uuid as id, \
                                clock_timestamp() as at) r";

async fn fill(place: &Place, rows: &'static str, count: i64) -> anyhow::Result<()> {
    let mut left = count;
    while left > 0 {
        sqlx::query(rows).bind(left.min(PAGE)).execute(&place.pool).await?;
        left -= PAGE;
    }
    Ok(())
}

/// One run is started and claimed, again and again; only the claim is timed.
async fn claims(place: &Place, client: &Client) -> anyhow::Result<Option<LatencyMs>> {
    let database = Database::for_groups(&DatabaseSettings::new(&place.url))?;
    let store: Arc<dyn RunStore> = Arc::new(PostgresRunStore::new(
        database.clone(),
        Uuid::new_v4(),
        Duration::from_secs(600),
    ));
    let mut times = Vec::new();
    for _ in 0..CLAIMS {
        client.start_all::<Nothing>([()]).await?;
        let page = page();
        let begun = Instant::now();
        let claimed = store.claim_runs(&page).await?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        anyhow::ensure!(claimed.len() == 1, "{} runs were claimed", claimed.len());
    }
    database.close().await;
    place
        .pool
        .execute("delete from lockgate.task_runs where claim_id is not null")
        .await?;
    Ok(LatencyMs::of(times))
}

fn page() -> ClaimPage {
    ClaimPage {
        claim_id: Uuid::new_v4(),
        shares: vec![Share {
            queue: Nothing::NAME.to_owned(),
            take: 64,
        }],
        runnable: vec![Runnable {
            workflow: Nothing::NAME.to_owned(),
            version: 1,
            replays: 1..=1,
        }],
        suspects: false,
    }
}

/// They are started for an instant to come, which a replica waits for.
async fn due_at_once(place: &Place, topic: &str) -> anyhow::Result<Option<LatencyMs>> {
    let start = "insert into lockgate.task_runs (id, workflow, status, params, origin_id, wake_at) \
        select r.id, 'bench-nothing', 'queued', 'null', r.id, date_trunc('second', clock_timestamp()) + interval '8 seconds' \
          from generate_series(1, $1) n \
         cross join lateral (select (lpad(to_hex((extract(epoch from statement_timestamp()) * 1e6)::bigint), 16, '0') || lpad(to_hex(n), 16, '0'))::uuid as id) r \
         returning id, wake_at";
    let due: Vec<(Uuid, chrono::DateTime<chrono::Utc>)> =
        sqlx::query_as(start).bind(DUE).fetch_all(&place.pool).await?;
    let fleet = Fleet::start(place, topic, |_| {}).await?;
    let (ids, at): (Vec<_>, Vec<_>) = due.into_iter().unzip();
    let late = "select extract(epoch from r.started_at - m.at)::float8 * 1000 from lockgate.task_runs r \
        join unnest($1::uuid[], $2::timestamptz[]) m (id, at) on m.id = r.id where r.finished_at is not null";
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let late: Vec<f64> = sqlx::query_scalar(late)
            .bind(&ids)
            .bind(&at)
            .fetch_all(&place.pool)
            .await?;
        if late.len() == ids.len() {
            fleet.stop().await?;
            return Ok(LatencyMs::of(late));
        }
        anyhow::ensure!(Instant::now() < deadline, "{} of {DUE} were run", late.len());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

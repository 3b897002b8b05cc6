//! The engine's side: a replica with default settings, in this process, and the runs it is given.

use std::time::Duration;

use anyhow::Context as _;
use lockgate::Engine;
use lockgate::cli::Roles;
use lockgate::config::Config;
use sqlx::{PgPool, Row};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::place::Place;
use super::workload::{BenchFanOut, Density, FanOutInput};

/// How often to look whether a run is over. What is measured is taken from the row, not from the look.
const LOOK: Duration = Duration::from_millis(20);

/// A replica at work.
pub(super) struct Replica {
    pool: PgPool,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

/// A run that is over.
pub(super) struct Ended {
    /// From its start to its completion, planning included.
    pub(super) took: Duration,
    /// From its start to the end of its first batch, which comes after its first message was acknowledged.
    pub(super) first_batch: Duration,
    pub(super) batches: i64,
}

impl Replica {
    /// Starts a replica that writes to this topic, and warms it up with a run of one item.
    pub(super) async fn start(place: &Place, topic: &str) -> anyhow::Result<Self> {
        Self::start_with(place.config(topic), place).await
    }

    /// The same with a configuration of its own.
    pub(super) async fn start_with(config: Config, place: &Place) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let engine = Engine::builder().workflow(BenchFanOut);
        let stopped = stop.clone();
        let roles = Roles {
            leader: false,
            ..Roles::USUAL
        };
        let running = tokio::spawn(async move { engine.run(config, roles, stopped).await });
        let this = Self {
            pool: place.pool.clone(),
            stop,
            running,
        };
        this.run(Density::Dense, 1, 1).await?;
        Ok(this)
    }

    /// Runs the workflow over the items up to this id and checks that each was delivered.
    pub(super) async fn run(&self, density: Density, last_id: i64, items: i64) -> anyhow::Result<Ended> {
        fan_out(&self.pool, (density, last_id, items), || !self.running.is_finished()).await
    }

    /// Drains it.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.running.await?.context("the replica did not stop well")
    }
}

/// Runs the workflow over the items up to an id, by whatever replicas there are, and checks that each was delivered.
pub(super) async fn fan_out(
    pool: &PgPool,
    (density, last_id, items): (Density, i64, i64),
    alive: impl Fn() -> bool,
) -> anyhow::Result<Ended> {
    let input = serde_json::to_value(FanOutInput { density, last_id })?;
    let run: Uuid = sqlx::query_scalar("select lockgate.start_run('bench-fan-out', $1)")
        .bind(input)
        .fetch_one(pool)
        .await?;
    loop {
        let status: String = sqlx::query_scalar("select status from lockgate.task_runs where id = $1")
            .bind(run)
            .fetch_one(pool)
            .await?;
        match status.as_str() {
            "completed" => break,
            "failed" | "cancelled" | "quarantined" => anyhow::bail!("run {run} is {status}"),
            _ => anyhow::ensure!(alive(), "the replica ended before run {run}"),
        }
        tokio::time::sleep(LOOK).await;
    }
    ended(pool, run, items).await
}

async fn ended(pool: &PgPool, run: Uuid, items: i64) -> anyhow::Result<Ended> {
    let row = sqlx::query(
        "select extract(epoch from r.finished_at - r.created_at)::float8,
                extract(epoch from min(b.finished_at) - r.created_at)::float8,
                count(*), sum(b.delivered)::bigint
           from lockgate.task_runs r join lockgate.run_batches b on b.run_id = r.id
          where r.id = $1 group by r.id",
    )
    .bind(run)
    .fetch_one(pool)
    .await?;
    let delivered: i64 = row.try_get(3)?;
    anyhow::ensure!(delivered == items, "run {run} delivered {delivered} of {items} items");
    Ok(Ended {
        took: Duration::from_secs_f64(row.try_get(0)?),
        first_batch: Duration::from_secs_f64(row.try_get(1)?),
        batches: row.try_get(2)?,
    })
}

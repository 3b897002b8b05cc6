//! The replica that works, and the clients that start runs on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use lockgate::Engine;
use lockgate::cli::Roles;
use lockgate::client::Client;
use lockgate::config::Config;
use lockgate::postgres::{Database, DatabaseSettings};
use sqlx::{Executor, PgPool};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::super::place::Place;
use super::report::LatencyMs;
use super::shapes::{LargeSteps, Nothing, Parent, ThreeSteps};

/// How often to look whether all is done.
const LOOK: Duration = Duration::from_millis(20);
/// Runs before those that are measured: the first waits until the replica is up, and connections are made.
const WARM: usize = 10;

/// A replica with default settings.
pub(super) struct Fleet {
    pool: PgPool,
    /// In the process of the replica.
    pub(super) client: Client,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Fleet {
    pub(super) async fn start(place: &Place, topic: &str, change: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        let mut config = place.config(topic);
        change(&mut config);
        let stop = CancellationToken::new();
        let engine = Engine::builder()
            .workflow(Nothing)
            .workflow(ThreeSteps)
            .workflow(LargeSteps)
            .workflow(Parent);
        let roles = Roles {
            leader: false,
            ..Roles::USUAL
        };
        let client = engine.client(Database::new(&DatabaseSettings::new(&place.url))?);
        let stopped = stop.clone();
        let running = tokio::spawn(async move { engine.run(config, roles, stopped).await });
        Ok(Self {
            pool: place.pool.clone(),
            client,
            stop,
            running,
        })
    }

    /// Waits until no run is ready or held.
    pub(super) async fn idle(&self) -> anyhow::Result<()> {
        // As the indexes say it: a look through all of the table would be what is measured.
        let busy = "select exists (select from lockgate.task_runs where claim_id is not null)
                        or exists (select from lockgate.task_runs where wake_at is not null and claim_id is null
                                      and status in ('queued', 'running', 'suspended'))";
        let mut looks = self.pool.acquire().await?;
        looks.execute("set enable_seqscan = off").await?;
        while sqlx::query_scalar::<_, bool>(busy).fetch_one(&mut *looks).await? {
            anyhow::ensure!(!self.running.is_finished(), "the replica ended before the runs");
            tokio::time::sleep(LOOK).await;
        }
        looks.execute("reset enable_seqscan").await?;
        Ok(())
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.running.await?.context("the replica did not stop well")
    }
}

pub(super) async fn completed(place: &Place) -> anyhow::Result<i64> {
    let completed = sqlx::query_scalar("select count(*) from lockgate.task_runs where status = 'completed'");
    Ok(completed.fetch_one(&place.pool).await?)
}

pub(super) async fn unfinished(place: &Place) -> anyhow::Result<i64> {
    let left = sqlx::query_scalar("select count(*) from lockgate.task_runs where status <> 'completed'");
    Ok(left.fetch_one(&place.pool).await?)
}

/// Runs of three steps on a system that has gone idle: from start to result, and from start to claim.
pub(super) async fn one_by_one(
    place: &Place,
    client: &Client,
    singles: usize,
) -> anyhow::Result<(Option<LatencyMs>, Option<LatencyMs>)> {
    for _ in 0..WARM {
        client.start::<ThreeSteps>(&()).send().await?.result().await?;
    }
    let (mut whole, mut ids) = (Vec::new(), Vec::new());
    for number in 0..singles {
        // Out of step with every poll.
        tokio::time::sleep(Duration::from_millis(5 + (number as u64 * 37) % 50)).await;
        let begun = Instant::now();
        let run = client.start::<ThreeSteps>(&()).send().await?;
        run.result().await?;
        whole.push(begun.elapsed().as_secs_f64() * 1e3);
        ids.push(run.id());
    }
    let picked = "select extract(epoch from started_at - created_at)::float8 * 1000 from lockgate.task_runs \
                  where id = any ($1)";
    let picked: Vec<f64> = sqlx::query_scalar(picked).bind(ids).fetch_all(&place.pool).await?;
    Ok((LatencyMs::of(whole), LatencyMs::of(picked)))
}

/// Clients that each start a run, wait for its result, and start the next; runs a second.
pub(super) async fn closed_loop(client: &Client, clients: usize, time: Duration) -> anyhow::Result<f64> {
    let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut loops = JoinSet::new();
    for _ in 0..clients {
        let (client, over, done) = (client.clone(), over.clone(), done.clone());
        loops.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                client.start::<ThreeSteps>(&()).send().await?.result().await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    // Warm first.
    tokio::time::sleep(time / 4).await;
    let (before, begun) = (done.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(time).await;
    let per_s = (done.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = loops.join_next().await {
        ended??;
    }
    Ok(per_s)
}

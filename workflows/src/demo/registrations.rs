//! Registers users over HTTP while Kafka is up and while it is frozen, and shows what became of their welcomes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use lockgate::config::Config;
use lockgate::delivery::NotificationOrchestrator;
use sqlx::PgPool;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::registration::Registration;

/// Users registered in each weather, one after the other.
const USERS: usize = 200;
/// How long the welcomes may take to be sent once Kafka goes again.
const PATIENCE: Duration = Duration::from_secs(120);
const NOT_SENT: &str =
    "select count(*) from lockgate.undelivered_email_commands where status <> 'delivered' and run_id is null";

/// Registers users in both weathers; the second only where the servers are the demo's own and may be frozen.
pub(super) async fn show(config: &Config, pool: &PgPool, services: Option<&Path>) -> anyhow::Result<()> {
    println!("\nregistrations over HTTP, each with a welcome e-mail:");
    let orchestrator = lockgate::orchestrator(config, None)?;
    let stop = CancellationToken::new();
    let registration = Registration::new(pool.clone(), orchestrator.clone());
    let (address, server) = registration.serve(([127, 0, 0, 1], 0).into(), stop.clone()).await?;
    let url = format!("http://{address}/users");
    register("Kafka up", &url).await?;
    wait_until_placed(&orchestrator, USERS).await?;
    if let Some(script) = services {
        kafka(script, "freeze").await?;
        let frozen = register("Kafka frozen", &url).await;
        let stored = wait_until_placed(&orchestrator, USERS * 2).await;
        kafka(script, "thaw").await?;
        frozen?;
        stored?;
    }
    wait_until_placed(&orchestrator, 0).await?;
    stop.cancel();
    server.await??;
    let stopped = orchestrator.stop(PATIENCE).await;
    ensure!(stopped.unplaced == 0, "{} welcomes were lost", stopped.unplaced);
    let stats = orchestrator.stats();
    let stored: u64 = stats.stored.values().sum();
    wait_until_sent(pool).await?;
    println!(
        "  welcomes: {} acknowledged at once, {stored} stored and redelivered",
        stats.delivered
    );
    Ok(())
}

async fn register(weather: &str, url: &str) -> anyhow::Result<()> {
    let client = reqwest::Client::new();
    let mut times = Vec::with_capacity(USERS);
    for number in 0..USERS {
        let user = serde_json::json!({"email": format!("new{number}@example.org"), "name": "Ada", "locale": "en"});
        let begun = Instant::now();
        let request = client
            .post(url)
            .header("content-type", "application/json")
            .body(user.to_string());
        let answer = request.send().await?;
        ensure!(
            answer.status() == 201,
            "a registration was answered {}",
            answer.status()
        );
        answer.bytes().await?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "  {weather:<14}{USERS} registered, p50 {:.1} ms, p99 {:.1} ms",
        times[USERS / 2],
        times[USERS * 99 / 100]
    );
    Ok(())
}

/// Waits until nothing is in memory only: acknowledged or stored, of so many at least.
async fn wait_until_placed(orchestrator: &NotificationOrchestrator, at_least: usize) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let stats = orchestrator.stats();
        let placed = stats.delivered + stats.stored.values().sum::<u64>();
        if placed >= at_least as u64 && stats.queued + stats.spilled == 0 {
            return Ok(());
        }
        ensure!(Instant::now() < until, "welcomes found no place: {stats:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the replicas have redelivered all that was stored.
async fn wait_until_sent(pool: &PgPool) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let left: i64 = sqlx::query_scalar(NOT_SENT).fetch_one(pool).await?;
        if left == 0 {
            return Ok(());
        }
        ensure!(Instant::now() < until, "{left} welcomes are still stored");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn kafka(script: &Path, verb: &str) -> anyhow::Result<()> {
    let done = Command::new(script)
        .args([verb, "kafka"])
        .output()
        .await
        .context("services.sh")?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "services.sh {verb} kafka: {said}");
    Ok(())
}

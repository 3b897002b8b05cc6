//! An outage of the brokers, and what redelivery makes of it: every command stored meanwhile goes once they are back.

use std::time::Instant;

use serde::Serialize;

use super::super::outbox::{Engine, hand};
use super::super::place::Place;
use super::STOP_WITHIN;
use super::caller::{Pace, submit};
use super::places::read_when_possible;
use super::weather::{Services, placed};

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Outage {
    /// Seconds without brokers.
    pub seconds: u64,
    /// Commands submitted meanwhile, all of them accepted.
    pub commands: u64,
    /// Of those, in the table when the brokers came back.
    pub stored: i64,
    /// From the first redelivery to the last settled row, with every row due.
    pub redelivered_in_s: f64,
    /// Redelivered a second.
    pub redelivered_per_s: f64,
    /// The same by a bare claim-and-update loop without Kafka.
    pub bare_loop_per_s: f64,
    /// The one by the other.
    pub ratio: f64,
    /// Commands that are not in the topic.
    pub missing: u64,
    /// Records of a command that has another one.
    pub duplicates: u64,
}

/// Stops the broker, submits for so many seconds, starts it, and redelivers.
pub(super) async fn outage(place: &Place, services: &Services, seconds: u64, per_s: u64) -> anyhow::Result<Outage> {
    // Rows of topics that are gone would be looked at too.
    sqlx::query("truncate lockgate.undelivered_messages")
        .execute(&place.pool)
        .await?;
    let topic = place.make_topic().await?;
    services.kafka("stop").await?;
    let submitted = submit_meanwhile(place, &topic, Pace::new(per_s, per_s * seconds)).await;
    services.kafka("start").await?;
    let submitted = submitted?;
    let stored = sqlx::query_scalar(
        "select count(*) from lockgate.undelivered_messages where topic = $1 and run_id is null and status = 'due'",
    )
    .bind(&topic)
    .fetch_one(&place.pool)
    .await?;
    // As a table that has been there for a while: the planner knows of the rows, and none of them is new.
    sqlx::query("vacuum analyze lockgate.undelivered_messages")
        .execute(&place.pool)
        .await?;
    wait_until_due(place, &topic).await?;
    // Its partitions have leaders again.
    read_when_possible(place, &topic).await?;
    let engine = Engine::start(place, &topic).await?;
    let took = engine.redeliver(stored).await?;
    engine.stop().await;
    let (records, in_topic) = read_when_possible(place, &topic).await?;
    let missing = submitted.iter().filter(|id| !in_topic.contains(id)).count() as u64;
    hand::store(place, &topic, stored).await?;
    let bare = hand::claim_and_update(place, stored).await?;
    place.remove_topic(&topic).await?;
    let (ours, bare) = (stored as f64 / took.as_secs_f64(), stored as f64 / bare.as_secs_f64());
    Ok(Outage {
        seconds,
        commands: per_s * seconds,
        stored,
        redelivered_in_s: took.as_secs_f64(),
        redelivered_per_s: ours,
        bare_loop_per_s: bare,
        ratio: ours / bare,
        missing,
        duplicates: records - in_topic.len() as u64,
    })
}

async fn submit_meanwhile(place: &Place, topic: &str, pace: Pace) -> anyhow::Result<Vec<uuid::Uuid>> {
    let orchestrator = lockgate::orchestrator(&place.config(topic), None)?;
    let caller = orchestrator.clone();
    let submitted = tokio::task::spawn_blocking(move || submit(&caller, pace)).await??;
    placed(&orchestrator).await;
    let stopped = orchestrator.stop(STOP_WITHIN).await;
    anyhow::ensure!(stopped.unplaced == 0, "{} commands were not placed", stopped.unplaced);
    anyhow::ensure!(submitted.not_accepted == 0, "commands were given back to the caller");
    Ok(submitted.accepted.into_iter().map(|(id, _)| id).collect())
}

async fn wait_until_due(place: &Place, topic: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    let not_due = "select exists (select from lockgate.undelivered_messages \
                   where topic = $1 and status = 'due' and next_attempt_at > clock_timestamp())";
    while sqlx::query_scalar::<_, bool>(not_due)
        .bind(topic)
        .fetch_one(&place.pool)
        .await?
    {
        anyhow::ensure!(begun.elapsed() < STOP_WITHIN, "rows are still not due");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    Ok(())
}

impl Outage {
    /// One line for people.
    pub(super) fn line(&self) -> String {
        format!(
            "outage of {} s: {} submitted, {} stored, redelivered in {:.1} s ({:.0}/s, bare loop {:.0}/s, ratio {:.2}), \
             missing {}, duplicates {}",
            self.seconds,
            self.commands,
            self.stored,
            self.redelivered_in_s,
            self.redelivered_per_s,
            self.bare_loop_per_s,
            self.ratio,
            self.missing,
            self.duplicates
        )
    }
}

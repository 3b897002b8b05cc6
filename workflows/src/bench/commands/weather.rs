//! One stretch of submits in one weather: Kafka up, down before the orchestrator starts, or frozen under way.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use lockgate::delivery::{Direct, Handover, NotificationOrchestrator};
use serde::Serialize;
use tokio::process::Command;

use super::super::place::Place;
use super::caller::{Pace, Submitted, per_mille_us, submit};
use super::places::{Places, join};
use super::report::Stretch;
use super::{STOP_WITHIN, welcome};

/// Commands before the measured ones: code and memory are warm, the producer is connected.
const WARM_UP: u64 = 2_000;

/// What the brokers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Weather {
    Up,
    Down,
    Frozen,
}

/// The development servers' script.
pub(super) struct Services(PathBuf);

impl Services {
    pub(super) fn new(script: PathBuf) -> Self {
        Self(script)
    }

    pub(super) async fn kafka(&self, verb: &str) -> anyhow::Result<()> {
        let done = Command::new(&self.0).args([verb, "kafka"]).output().await?;
        let said = String::from_utf8_lossy(&done.stderr);
        anyhow::ensure!(done.status.success(), "services.sh {verb} kafka: {said}");
        Ok(())
    }
}

/// Submits at this pace in this weather, then finds every command again.
pub(super) async fn stretch(
    place: &Place,
    services: Option<&Services>,
    weather: Weather,
    pace: Pace,
) -> anyhow::Result<Stretch> {
    let topic = place.make_topic().await?;
    act(services, weather, Weather::Down, "stop").await?;
    let begun = run(place, services, weather, &topic, pace).await;
    act(services, weather, Weather::Frozen, "thaw").await?;
    act(services, weather, Weather::Down, "start").await?;
    let (orchestrator, submitted) = begun?;
    let stopping = Instant::now();
    let stopped = orchestrator.stop(STOP_WITHIN).await;
    let stats = orchestrator.stats();
    let places = join(place, &topic, &submitted).await?;
    place.remove_topic(&topic).await?;
    anyhow::ensure!(stopped.unplaced == 0, "{} commands were not placed", stopped.unplaced);
    let name = format!("{weather:?}").to_ascii_lowercase();
    Ok(told(&name, pace, &submitted, places, stats, stopping.elapsed()))
}

async fn act(services: Option<&Services>, weather: Weather, of: Weather, verb: &str) -> anyhow::Result<()> {
    match services {
        Some(services) if weather == of => services.kafka(verb).await,
        _ => Ok(()),
    }
}

async fn run(
    place: &Place,
    services: Option<&Services>,
    weather: Weather,
    topic: &str,
    pace: Pace,
) -> anyhow::Result<(NotificationOrchestrator, Submitted)> {
    let orchestrator = lockgate::orchestrator(&place.config(topic), None)?;
    warm_up(&orchestrator, weather).await?;
    act(services, weather, Weather::Frozen, "freeze").await?;
    let caller = orchestrator.clone();
    let submitted = tokio::task::spawn_blocking(move || submit(&caller, pace)).await??;
    if weather != Weather::Up {
        // Until what was accepted is in the table, as it must be while Kafka is away.
        placed(&orchestrator).await;
    }
    Ok((orchestrator, submitted))
}

async fn warm_up(orchestrator: &NotificationOrchestrator, weather: Weather) -> anyhow::Result<()> {
    for number in 0..WARM_UP {
        let handover = orchestrator.submit(Direct::new(welcome(number)));
        anyhow::ensure!(
            matches!(handover, Handover::Accepted),
            "a first command was not accepted"
        );
    }
    if weather != Weather::Down {
        placed(orchestrator).await;
    }
    Ok(())
}

/// Waits until every command is acknowledged or stored.
pub(super) async fn placed(orchestrator: &NotificationOrchestrator) {
    loop {
        let stats = orchestrator.stats();
        if stats.delivered + stats.stored.values().sum::<u64>() >= stats.accepted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn told(
    weather: &str,
    pace: Pace,
    submitted: &Submitted,
    places: Places,
    stats: lockgate::delivery::DirectStats,
    stop: Duration,
) -> Stretch {
    let after = |per_mille: usize| {
        let seconds = &places.stored_after_s;
        let at = (seconds.len() * per_mille / 1000).min(seconds.len().saturating_sub(1));
        seconds.get(at).copied()
    };
    Stretch {
        weather: weather.to_owned(),
        per_s: pace.per_s,
        commands: pace.commands,
        p50_us: per_mille_us(&submitted.nanos, 500),
        p99_us: per_mille_us(&submitted.nanos, 990),
        p999_us: per_mille_us(&submitted.nanos, 999),
        max_us: per_mille_us(&submitted.nanos, 1000),
        with_id_p50_us: per_mille_us(&submitted.nanos_with_id, 500),
        with_id_p99_us: per_mille_us(&submitted.nanos_with_id, 990),
        not_accepted: submitted.not_accepted,
        delivered: places.delivered,
        stored: places.stored,
        both: places.both,
        missing: places.missing,
        // The commands of the warm-up are not among those that were submitted.
        extra_records: places.extra_records.saturating_sub(WARM_UP),
        stored_after_p50_s: after(500),
        stored_after_p99_s: after(990),
        stored_after_max_s: after(1000),
        stored_by_reason: stats
            .stored
            .iter()
            .map(|(code, rows)| ((*code).to_owned(), *rows))
            .collect(),
        confirmed: stats.confirmed,
        stop_s: stop.as_secs_f64(),
    }
}

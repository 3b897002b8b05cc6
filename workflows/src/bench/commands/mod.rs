//! `lockgate bench commands`: what handing a command over costs the caller in any weather, where the commands are
//! afterwards, and how fast outbox, redelivery and HTTP are.

mod caller;
mod outage;
mod places;
mod report;
mod sustained;
mod weather;

use std::path::PathBuf;
use std::time::Duration;

use lockgate::delivery::EmailTriggerCommand;

pub use outage::Outage;
pub use report::{CommandsParts, CommandsReport, Stretch, SubmitPair};

use self::caller::Pace;
use self::weather::{Services, Weather};
use super::http::{HttpSettings, http};
use super::meters::processors;
use super::outbox::{OutboxSettings, outbox};
use super::place::Place;

/// What to measure.
#[derive(Debug, Clone)]
pub struct CommandsSettings {
    /// A server on which the benchmark may make a database.
    pub database_url: String,
    /// The brokers.
    pub brokers: String,
    /// Commands of each throughput loop.
    pub commands: u64,
    /// Pairs of orchestrator and producer alone.
    pub pairs: usize,
    /// Shorter stretches.
    pub brief: bool,
    /// What stops and freezes the broker; none: it is left alone.
    pub services: Option<PathBuf>,
    /// The outbox and redelivery.
    pub outbox: OutboxSettings,
    /// Commands over HTTP.
    pub http: HttpSettings,
}

/// Measures it, telling `progress` where it is.
///
/// # Errors
/// A server cannot be used, or a stretch cannot be counted.
pub async fn commands(
    settings: &CommandsSettings,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<CommandsReport> {
    let work = async |place: &Place| measure(place, settings, progress).await;
    let mut parts = Place::lent(&settings.database_url, &settings.brokers, work).await?;
    parts.outbox = Some(outbox(&settings.outbox, progress).await?);
    parts.http = Some(http(&settings.http, progress).await?);
    Ok(CommandsReport::of(parts))
}

async fn measure(
    place: &Place,
    settings: &CommandsSettings,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<CommandsParts> {
    let mut parts = CommandsParts {
        processors: processors(),
        ..CommandsParts::default()
    };
    let services = settings.services.clone().map(Services::new);
    for (weather, pace) in stretches(settings) {
        if weather != Weather::Up && services.is_none() {
            continue;
        }
        progress(&format!(
            "{weather:?}, {} commands at {} a second",
            pace.commands, pace.per_s
        ));
        let stretch = weather::stretch(place, services.as_ref(), weather, pace).await?;
        progress(&stretch.line());
        parts.stretches.push(stretch);
    }
    if let Some(services) = &services {
        let seconds = if settings.brief { 5 } else { 60 };
        progress(&format!("an outage of {seconds} s at {STEADY} commands a second"));
        let outage = outage::outage(place, services, seconds, STEADY).await?;
        progress(&outage.line());
        parts.outage = Some(outage);
    }
    for number in 0..settings.pairs {
        let pair = sustained::pair(place, settings.commands, number).await?;
        progress(&format!(
            "sustained {} of {}: ratio {:.2}",
            number + 1,
            settings.pairs,
            pair.ratio
        ));
        parts.sustained.push(pair);
    }
    Ok(parts)
}

/// Kafka up, down from the start, and frozen, at both rates; and a burst into a frozen broker.
fn stretches(settings: &CommandsSettings) -> Vec<(Weather, Pace)> {
    let (long, short) = if settings.brief { (4, 2) } else { (20, 3) };
    let mut stretches = Vec::new();
    for weather in [Weather::Up, Weather::Down, Weather::Frozen] {
        stretches.push((weather, Pace::new(STEADY, STEADY * long)));
        stretches.push((weather, Pace::new(80_000, 80_000 * short)));
    }
    stretches.push((Weather::Frozen, Pace::new(30_000, 60_000)));
    stretches
}

/// A welcome command as a service makes it: about 280 bytes of JSON.
fn welcome(number: u64) -> EmailTriggerCommand<'static> {
    EmailTriggerCommand {
        recipient_email: format!("user-{number}@example.org").into(),
        template_id: "welcome".into(),
        template_context: serde_json::json!({
            "name": format!("User number {number}"),
            "title": "Your account is ready, and here is what you can do with it",
        }),
        locale: "de".into(),
        correlation_id: format!("registration-{number}").into(),
        user_id: i64::try_from(number).ok(),
    }
}

/// Commands a second of a busy service.
const STEADY: u64 = 5_000;
/// How long an orchestrator may take to place what it holds.
const STOP_WITHIN: Duration = Duration::from_secs(120);

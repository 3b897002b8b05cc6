//! Looks at the servers now and then, and says how they are.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use super::{Health, Part};
use crate::brokers::{NO_BROKERS, has_brokers, kafka_config};
use crate::config::Config;
use crate::kafka::KafkaReach;
use crate::postgres::{Database, Migrator, SchemaError};
use crate::secured;

/// A server that is silent for so long does not answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Looks at the servers until told to stop. Stops the process when the schema and this binary no longer go together, as
/// after a migration that only newer binaries may write under; its end answers why.
///
/// # Errors
/// The configuration of the brokers is refused.
pub fn watch(
    config: &Config,
    with_kafka: bool,
    database: &Database,
    health: &Health,
    stop: &CancellationToken,
) -> anyhow::Result<JoinHandle<Option<SchemaError>>> {
    let period = period(config);
    secured::warn(config, with_kafka);
    if !with_kafka {
        health.say(Part::Kafka, Ok::<_, String>("not used by these roles"));
    } else if has_brokers(config) {
        // Any name does: what the brokers say of it is not asked for.
        let topic = config.topics.values().next().map_or("lockgate", String::as_str);
        let kafka = KafkaReach::new(&kafka_config(config)?, topic)?;
        tokio::spawn(watch_kafka(kafka, health.clone(), period, stop.clone()));
    } else {
        tracing::info!(name: "no_brokers", "no brokers are configured: this replica sends nothing, which waits for one that has KAFKA_BROKERS");
        health.does_without(Part::Kafka, NO_BROKERS);
    }
    let schema = watch_schema(database.clone(), health.clone(), period, stop.clone());
    let (health, stop) = (health.clone(), stop.clone());
    Ok(tokio::spawn(async move {
        let running = async {
            health.say(Part::Replica, Ok::<_, String>("running"));
            stop.cancelled().await;
            health.say(Part::Replica, Err::<&str, _>("draining"));
        };
        tokio::join!(schema, running).0
    }))
}

/// Where nobody can ask, what is looked after is that the schema and this binary still go together.
fn period(config: &Config) -> Duration {
    let can_be_asked = config.health.listen.is_some() || config.api.listen.is_some();
    match can_be_asked {
        true => config.health.every,
        false => config.health.every.max(config.lease.renew),
    }
}

/// A database that does not answer says nothing of its schema.
async fn watch_schema(
    database: Database,
    health: Health,
    period: Duration,
    stop: CancellationToken,
) -> Option<SchemaError> {
    let migrator = Migrator::new(database);
    let mut looks = every(period);
    loop {
        tokio::select! {
            () = stop.cancelled() => return None,
            _ = looks.tick() => {}
        }
        let silent = || health.say(Part::Postgres, Err::<&str, _>(no_answer()));
        match within_patience(Box::pin(migrator.check()), silent).await {
            Ok(()) => {
                health.say(Part::Postgres, Ok::<_, String>("answers"));
                health.say(Part::Schema, Ok::<_, String>("of this binary"));
            }
            Err(SchemaError::Database(error)) => health.say(Part::Postgres, Err::<&str, _>(error.to_string())),
            Err(error) => {
                health.say(Part::Schema, Err::<&str, _>(error.to_string()));
                tracing::error!(name: "replica_unfit", %error, "this replica stops");
                stop.cancel();
                return Some(error);
            }
        }
    }
}

/// Asks the brokers until told to stop.
async fn watch_kafka(kafka: KafkaReach, health: Health, period: Duration, stop: CancellationToken) {
    let mut looks = every(period);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = looks.tick() => {}
        }
        let answer = kafka.reach(PATIENCE).await;
        health.say(Part::Kafka, answer.map(|()| "answers"));
    }
}

/// Waits for an answer to its end, so that there is one look at a time; says so when it takes too long.
async fn within_patience<T>(mut look: BoxFuture<'_, T>, silent: impl FnOnce()) -> T {
    match timeout(PATIENCE, &mut look).await {
        Ok(answer) => answer,
        Err(_) => {
            silent();
            look.await
        }
    }
}

fn no_answer() -> String {
    format!("no answer within {}", humantime::format_duration(PATIENCE))
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut looks = tokio::time::interval(period);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

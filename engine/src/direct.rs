//! An orchestrator of direct commands, put together with Postgres and Kafka.

use std::sync::Arc;

use uuid::Uuid;

use crate::brokers::{breaker_policy, publisher};
use crate::config::Config;
use crate::delivery::{
    Breakers, DirectSettings, FallbackStore, KeyHash, NotificationOrchestrator, OrchestratorParts, OutcomeHandler,
    OwnRuntime, Topics,
};
use crate::postgres::{Database, DatabaseSettings, PostgresFallback};
use crate::telemetry::Timed;
use crate::telemetry::closed::Pool;

/// Storing is done by two threads; the third connection is for a call that was given up and has not ended.
pub(crate) const CONNECTIONS: u32 = 3;

/// Starts an orchestrator with a producer, connections and threads of its own, in a replica or in any service. Neither
/// Kafka nor Postgres need be reachable yet; without brokers in the configuration all commands are stored, and sent by
/// replicas that have some. The handler, if any, is told what became of commands.
///
/// # Errors
/// The configuration cannot be used, or the system has no more threads.
pub fn orchestrator(
    config: &Config,
    handler: Option<Arc<dyn OutcomeHandler>>,
) -> anyhow::Result<NotificationOrchestrator> {
    let runtime = OwnRuntime::new()?;
    let breakers = Arc::new(Breakers::new(breaker_policy(config)));
    let database = DatabaseSettings {
        max_connections: CONNECTIONS,
        ..config.database_settings()?
    };
    let topics = Topics::new(&config.topics);
    let (database, publisher) = {
        let _on_own_threads = runtime.enter();
        (
            Database::new(&database)?.named(Pool::Direct),
            publisher(config, breakers.clone())?,
        )
    };
    for topic in topics.all().cloned().collect::<Vec<_>>() {
        let publisher = publisher.clone();
        runtime.spawn(async move { publisher.warm_up(&topic).await });
    }
    let namespace = database.namespace();
    let store: Arc<dyn FallbackStore> = Arc::new(PostgresFallback::new(database, Uuid::new_v4()));
    let parts = OrchestratorParts {
        publisher,
        breakers,
        store: Timed::new(store, namespace),
        topics,
        key_hash: key_hash(config),
        settings: direct_settings(config),
        handler,
    };
    Ok(NotificationOrchestrator::start_on(runtime, parts)?)
}

/// Makes keys with the configured secret.
pub(crate) fn key_hash(config: &Config) -> KeyHash {
    match &config.direct.key_secret {
        Some(secret) => KeyHash::with_secret(secret.expose().as_bytes()),
        None => KeyHash::none(),
    }
}

fn direct_settings(config: &Config) -> DirectSettings {
    DirectSettings {
        queue: config.direct.queue as usize,
        spill: config.direct.spill as usize,
        window: config.direct.window as usize,
        patience: config.direct.patience,
        message_timeout: config.kafka.message_timeout,
        first_delay: config.redelivery.first_delay,
        ..DirectSettings::default()
    }
}

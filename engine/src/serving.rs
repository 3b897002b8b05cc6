//! The HTTP side of a replica: the server, and the orchestrator that its commands are handed to.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::api::{ApiParts, ApiServer, ApiSettings};
use crate::config::Config;
use crate::delivery::{Breakers, CommandDoor, NotificationOrchestrator, Topics};
use crate::direct::{key_hash, orchestrator};
use crate::health::Health;
use crate::postgres::{Database, DatabaseSettings};
use crate::telemetry::closed::Pool;
use crate::workflow::Registry;

/// Tokens and runs, so that clients take none of the workers' connections.
const CONNECTIONS: u32 = 4;
/// What serving takes in all, commands that Kafka does not take included.
pub(crate) const CONNECTIONS_TO_SERVE: u32 = CONNECTIONS + crate::direct::CONNECTIONS;

/// A server that listens.
pub(crate) struct Serving {
    server: ApiServer,
    /// The one started for it; none when the binary brought a door of its own.
    orchestrator: Option<NotificationOrchestrator>,
    breakers: Option<Arc<Breakers>>,
    drain: Duration,
}

impl Serving {
    /// Listens where the configuration says; nobody is answered yet.
    ///
    /// # Errors
    /// The configuration cannot be used, or the address is taken.
    pub(crate) async fn bind(
        config: &Config,
        registry: &Registry,
        door: Option<Arc<dyn CommandDoor>>,
        health: Health,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let listen = config.api.listen.as_deref().context("api.listen is not set")?;
        let own = DatabaseSettings {
            max_connections: CONNECTIONS,
            ..config.database_settings()?
        };
        let started = match door {
            Some(_) => None,
            None => Some(orchestrator(config, None)?),
        };
        let made = started.clone().map(|started| Arc::new(started) as Arc<dyn CommandDoor>);
        let door = door.or(made).context("there is no door for commands")?;
        let breakers = door.breakers();
        let parts = ApiParts {
            door,
            topics: Topics::new(&config.topics),
            key_hash: key_hash(config),
            database: Database::new(&own)?.named(Pool::Api),
            registry: Some(registry.clone()),
            token: config.api.token.clone(),
            health,
            settings: ApiSettings {
                connections: config.api.connections as usize,
                requests_per_s: config.api.requests_per_s,
                bulk_requests: config.api.bulk_requests as usize,
                // The other half is for what they had handed over.
                drain: config.drain.deadline / 2,
                ..ApiSettings::default()
            },
        };
        let server = ApiServer::bind(listen, parts, stop).await?;
        tracing::info!(name: "api_listens", address = %server.address()?, "the HTTP API listens");
        Ok(Self {
            server,
            orchestrator: started,
            breakers,
            drain: config.drain.deadline,
        })
    }

    /// What its door goes by when it sends.
    pub(crate) fn breakers(&self) -> Option<Arc<Breakers>> {
        self.breakers.clone()
    }

    /// Answers until told to stop, then drains: first the requests, then what they had handed over. False: not in time.
    pub(crate) async fn serve(self) -> bool {
        let answered = self.server.serve().await;
        let Some(orchestrator) = self.orchestrator else {
            return answered;
        };
        let stopped = orchestrator.stop(self.drain / 2).await;
        if stopped.unplaced > 0 {
            let count = stopped.unplaced;
            tracing::error!(name: "commands_unplaced", count, "commands were neither sent nor stored in time");
        }
        answered && stopped.unplaced == 0
    }
}

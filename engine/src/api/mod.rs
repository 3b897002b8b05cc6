//! The HTTP API: commands handed over, runs started and looked at. HTTP only: what it asks for is done by the door, and by
//! the functions that the command line uses.

mod body;
mod bulk;
mod commands;
mod gate;
mod health;
mod lines;
mod openapi;
mod outbox;
mod problem;
mod queues;
mod routes;
mod run_acts;
mod run_steps;
mod runs;
mod schedules;
mod server;
mod token;
mod trace;

use std::num::NonZeroU32;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use governor::Quota;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use server::ApiServer;
pub(crate) use server::serve_router;
pub(crate) use token::{ROLES, fresh_token, token_hash};

use self::gate::Gate;
use crate::config::Secret;
use crate::delivery::{CommandDoor, HandedOver, KeyHash, ReadyCommand, Topics};
use crate::health::Health;
use crate::postgres::{ApiTokens, Database};
use crate::workflow::Registry;

/// What the HTTP API is made of.
pub struct ApiParts {
    /// Takes the commands.
    pub door: Arc<dyn CommandDoor>,
    /// Where each kind of command goes.
    pub topics: Topics,
    /// Makes keys of what is personal.
    pub key_hash: KeyHash,
    /// For tokens and runs.
    pub database: Database,
    /// The workflows that may be started; none: any.
    pub registry: Option<Registry>,
    /// A token with all roles.
    pub token: Option<Secret>,
    /// What is known of this replica's health.
    pub health: Health,
    /// Its bounds.
    pub settings: ApiSettings,
}

/// Bounds of the HTTP API.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// Most connections at once.
    pub connections: usize,
    /// Requests a second that one token may make.
    pub requests_per_s: u32,
    /// Bulk requests worked on at once.
    pub bulk_requests: usize,
    /// How long requests may take to end when it stops.
    pub drain: Duration,
    /// How long a whole document, or the next piece of a stream, may take to arrive.
    pub arrival: Duration,
    /// How long the door may take until the client is told that the outcome is not known.
    pub outcome: Duration,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            connections: 1024,
            requests_per_s: 1000,
            bulk_requests: 16,
            drain: Duration::from_secs(25),
            arrival: Duration::from_secs(30),
            outcome: Duration::from_secs(30),
        }
    }
}

/// What every handler is given.
#[derive(Clone)]
pub(crate) struct Api(Arc<Inner>);

pub(crate) struct Inner {
    door: Arc<dyn CommandDoor>,
    topics: Topics,
    key_hash: KeyHash,
    database: Database,
    registry: Option<Registry>,
    gate: Gate,
    bulk: Arc<Semaphore>,
    arrival: Duration,
    outcome: Duration,
    health: Health,
    stop: CancellationToken,
}

impl Deref for Api {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Api {
    fn new(parts: ApiParts, stop: CancellationToken) -> Self {
        let per_second = NonZeroU32::new(parts.settings.requests_per_s).unwrap_or(NonZeroU32::MIN);
        let tokens = ApiTokens::new(parts.database.clone(), None);
        Self(Arc::new(Inner {
            gate: Gate::new(tokens, parts.token.as_ref(), Quota::per_second(per_second)),
            door: parts.door,
            topics: parts.topics,
            key_hash: parts.key_hash,
            database: parts.database,
            registry: parts.registry,
            bulk: Arc::new(Semaphore::new(parts.settings.bulk_requests)),
            arrival: parts.settings.arrival,
            outcome: parts.settings.outcome,
            health: parts.health,
            stop,
        }))
    }

    /// Hands commands over; none: their outcome is not known in time. A task of its own: a client that goes away must
    /// not stop the door half way.
    async fn hand_over(&self, commands: Vec<ReadyCommand>) -> Option<Vec<HandedOver>> {
        let door = self.door.clone();
        let outcomes = tokio::spawn(async move { door.hand_over(commands).await });
        match tokio::time::timeout(self.outcome, outcomes).await {
            Ok(Ok(outcomes)) => Some(outcomes),
            Ok(Err(error)) => {
                tracing::error!(name: "door_broken", %error, "the door of commands ended early");
                None
            }
            Err(_) => None,
        }
    }
}

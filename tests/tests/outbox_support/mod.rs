//! What the tests of the outbox share: a relay in this process, and what is waited for.
#![allow(clippy::unwrap_used, dead_code)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lockgate::delivery::{Breakers, OutboxParts, OutboxRelay, OutboxSettings, Publisher, Topics};
use lockgate::postgres::{Database, PostgresOutbox};
use lockgate_tests::topic::Topic;
use lockgate_tests::{kafka_brokers, wait_until};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::delivery_support::{SOON, World};

pub const WAITING: &str = "select count(*) from lockgate.outbox";
pub const HELD: &str = "select count(*) from lockgate.outbox_lanes where claim_id is not null";
pub const TAKEN: &str = "select count(*) from lockgate.outbox_lanes where claim_token > 0";

/// A relay that runs until it is stopped.
pub struct Relaying {
    stop: CancellationToken,
    task: JoinHandle<bool>,
}

impl Relaying {
    pub fn start(
        database: Database,
        publisher: Arc<dyn Publisher>,
        breakers: &Arc<Breakers>,
        settings: OutboxSettings,
    ) -> Self {
        let stop = CancellationToken::new();
        let relay = OutboxRelay::new(OutboxParts {
            store: Arc::new(PostgresOutbox::new(database, Uuid::new_v4())),
            publisher,
            breakers: breakers.clone(),
            topics: Topics::new(&BTreeMap::from([("email".to_owned(), "email_commands".to_owned())])),
            settings,
        });
        let stopped = stop.clone();
        let task = tokio::spawn(async move { relay.run(stopped).await });
        Self { stop, task }
    }

    /// Whether everything was written in time.
    pub async fn stop(self) -> bool {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

pub fn quick() -> OutboxSettings {
    OutboxSettings {
        poll: Duration::from_millis(10),
        lease: Duration::from_secs(30),
        ..OutboxSettings::default()
    }
}

pub async fn is_empty(world: &World) {
    wait_until(SOON, "the outbox is empty", async || {
        world.value::<i64>(WAITING).await == 0
    })
    .await;
}

pub async fn all_lanes_are_free(world: &World) {
    wait_until(SOON, "all lanes are free", async || world.value::<i64>(HELD).await == 0).await;
}

pub fn topic(world: &World) -> Topic {
    Topic::existing(kafka_brokers(), &world.topic)
}

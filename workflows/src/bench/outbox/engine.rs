//! The engine's side: the outbox as a service writes it, relay and redelivery with the settings of a replica.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockgate::delivery::{
    BreakerPolicy, Breakers, Direct, EmailTriggerCommand, KeyHash, OutboxParts, OutboxRelay, Publisher, RedeliveryLoop,
    RedeliveryParts, Topics,
};
use lockgate::kafka::KafkaPublisher;
use lockgate::postgres::{Database, DatabaseSettings, Outbox, PostgresOutbox, PostgresUndelivered};
use serde::Serialize;
use sqlx::Connection;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::counted::{Counted, Left};
use crate::bench::place::Place;

/// Commands a transaction of the measured service enqueues.
pub(super) const IN_ONE_TRANSACTION: i64 = 10_000;
/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// A publisher and a pool, warm.
pub(in crate::bench) struct Engine {
    publisher: Arc<KafkaPublisher>,
    breakers: Arc<Breakers>,
    database: Database,
    topics: Topics,
    left: Arc<Left>,
}

#[derive(Serialize)]
struct Summary {
    name: String,
    title: String,
}

/// The n-th command of a service: about 280 bytes of JSON.
pub(super) fn command(n: i64) -> EmailTriggerCommand<'static, impl Serialize> {
    EmailTriggerCommand {
        recipient_email: format!("user{n:09}@example.com").into(),
        template_id: "welcome".into(),
        template_context: Summary {
            name: format!("User number {n:09}"),
            title: format!("You are welcome, user number {n:08}"),
        },
        locale: "en".into(),
        correlation_id: format!("registration-{n:012}").into(),
        user_id: Some(n),
    }
}

impl Engine {
    pub(in crate::bench) async fn start(place: &Place, topic: &str) -> anyhow::Result<Self> {
        let breakers = Arc::new(Breakers::new(BreakerPolicy::default()));
        let publisher = Arc::new(KafkaPublisher::start(place.kafka.clone(), breakers.clone())?);
        publisher.check_topic(topic).await?;
        Ok(Self {
            publisher,
            breakers,
            database: Database::new(&DatabaseSettings::new(&place.url))?,
            topics: topics(topic),
            left: Arc::new(Left::default()),
        })
    }

    /// As a service would: makes each command and enqueues it in its own transaction, in pages.
    pub(super) async fn enqueue(&self, place: &Place, commands: i64) -> anyhow::Result<Duration> {
        let outbox = Outbox::new(self.topics.clone(), KeyHash::none());
        let mut connection = place.pool.acquire().await?;
        let begun = Instant::now();
        let mut from = 0;
        while from < commands {
            let to = (from + IN_ONE_TRANSACTION).min(commands);
            let mut transaction = connection.begin().await?;
            outbox
                .enqueue_all_in(&mut transaction, (from..to).map(|n| Direct::new(command(n))))
                .await?;
            transaction.commit().await?;
            from = to;
        }
        Ok(begun.elapsed())
    }

    /// Relays all that is in the outbox.
    pub(super) async fn drain(&self, commands: i64) -> anyhow::Result<Duration> {
        let relay = OutboxRelay::new(OutboxParts {
            store: Arc::new(Counted {
                store: PostgresOutbox::new(self.database.clone(), Uuid::new_v4()),
                left: self.left.clone(),
            }),
            publisher: self.publisher.clone(),
            breakers: self.breakers.clone(),
            topics: self.topics.clone(),
            settings: Default::default(),
        });
        self.until_done(commands, async move |stop| relay.run(stop).await).await
    }

    /// Redelivers all that is stored.
    pub(in crate::bench) async fn redeliver(&self, commands: i64) -> anyhow::Result<Duration> {
        let redelivery = RedeliveryLoop::new(RedeliveryParts {
            store: Arc::new(Counted {
                store: PostgresUndelivered::new(self.database.clone(), Uuid::new_v4()),
                left: self.left.clone(),
            }),
            publisher: self.publisher.clone(),
            breakers: self.breakers.clone(),
            settings: Default::default(),
            hint: Arc::new(Notify::new()),
        });
        self.until_done(commands, async move |stop| redelivery.run(stop).await)
            .await
    }

    async fn until_done(
        &self,
        commands: i64,
        run: impl AsyncFnOnce(CancellationToken) -> bool,
    ) -> anyhow::Result<Duration> {
        self.left.set(commands);
        let stop = CancellationToken::new();
        let begun = Instant::now();
        let done = async {
            let waited = tokio::time::timeout(PATIENCE, self.left.nothing()).await;
            let took = begun.elapsed();
            stop.cancel();
            waited.map(|()| took)
        };
        let (drained, took) = tokio::join!(run(stop.clone()), done);
        anyhow::ensure!(drained, "it did not stop in time");
        Ok(took?)
    }

    pub(in crate::bench) async fn stop(self) {
        self.publisher.shutdown(Duration::from_secs(2)).await;
        self.database.close().await;
    }
}

fn topics(topic: &str) -> Topics {
    Topics::new(&BTreeMap::from([("email".to_owned(), topic.to_owned())]))
}

//! What the tests of direct commands share: orchestrators on real servers or with a publisher that the test decides
//! about, and where commands are afterwards.
#![allow(clippy::unwrap_used, dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lockgate::config::{Config, Secret};
use lockgate::delivery::{
    BreakerPolicy, Breakers, Direct, DirectSettings, EmailTriggerCommand, FallbackStore, Handover, KeyHash,
    NotificationOrchestrator, OrchestratorParts, Publisher, Record, TopicReader, Topics,
};
use lockgate::kafka::{KafkaConfig, KafkaTopicReader};
use lockgate::postgres::PostgresFallback;
use lockgate_tests::TestDatabase;
use sqlx::PgPool;
use uuid::Uuid;

pub const SOON: Duration = Duration::from_secs(60);
pub const TOPIC: &str = "email_commands";

pub type Email = EmailTriggerCommand<'static>;

pub fn email(number: usize) -> Email {
    EmailTriggerCommand {
        recipient_email: format!("user-{number}@example.org").into(),
        template_id: "welcome".into(),
        template_context: serde_json::json!({"number": number}),
        locale: "de".into(),
        correlation_id: format!("c-{number}").into(),
        user_id: None,
    }
}

/// A command whose JSON is larger than its kind allows.
pub fn too_large(number: usize) -> Email {
    EmailTriggerCommand {
        template_context: serde_json::json!({"text": "x".repeat(70_000)}),
        ..email(number)
    }
}

/// Submits so many; every one of them must be accepted.
pub fn submit_all(orchestrator: &NotificationOrchestrator, count: usize) -> BTreeSet<Uuid> {
    (0..count)
        .map(|number| {
            let command = Direct::new(email(number));
            let id = command.message_id;
            assert!(
                matches!(orchestrator.submit(command), Handover::Accepted),
                "command {number}"
            );
            id
        })
        .collect()
}

/// Quick enough for tests: what a script settles or rejects at once never waits for the patience.
pub fn quick() -> DirectSettings {
    DirectSettings {
        patience: SOON,
        message_timeout: Duration::from_secs(3),
        first_delay: Duration::from_millis(50),
        ..DirectSettings::default()
    }
}

/// The same, and commands without an answer are soon given up.
pub fn hasty() -> DirectSettings {
    DirectSettings {
        patience: Duration::from_millis(300),
        ..quick()
    }
}

pub fn breakers() -> Arc<Breakers> {
    Arc::new(Breakers::new(BreakerPolicy::default()))
}

/// The parts of one that sends to this publisher and stores in this database.
pub fn parts(tables: &TestDatabase, publisher: Arc<dyn Publisher>, settings: DirectSettings) -> OrchestratorParts {
    with_store(
        Arc::new(PostgresFallback::new(tables.database(), Uuid::new_v4())),
        publisher,
        settings,
    )
}

pub fn with_store(
    store: Arc<dyn FallbackStore>,
    publisher: Arc<dyn Publisher>,
    settings: DirectSettings,
) -> OrchestratorParts {
    OrchestratorParts {
        publisher,
        breakers: breakers(),
        store,
        topics: Topics::new(&BTreeMap::from([("email".to_owned(), TOPIC.to_owned())])),
        key_hash: KeyHash::with_secret(b"secret"),
        settings,
        handler: None,
    }
}

/// The configuration of one on real servers.
pub fn config(url: &str, brokers: &str, topic: &str) -> Config {
    let mut config = Config::default();
    config.database.url = Some(Secret::new(url));
    config.kafka.brokers = Some(brokers.to_owned());
    config.topics.insert("email".to_owned(), topic.to_owned());
    config
}

/// Records of a topic by message id.
pub async fn records(brokers: &str, topic: &str) -> BTreeMap<Uuid, Vec<Record>> {
    let (reader, topic) = (KafkaTopicReader::new(KafkaConfig::new(brokers)), topic.to_owned());
    tokio::task::spawn_blocking(move || {
        let mut found: BTreeMap<Uuid, Vec<Record>> = BTreeMap::new();
        let mut keep = |record: Record| {
            found.entry(message_id(&record)).or_default().push(record);
            Ok(())
        };
        reader
            .read_since(&topic, DateTime::<Utc>::UNIX_EPOCH, &mut keep)
            .unwrap();
        found
    })
    .await
    .unwrap()
}

fn message_id(record: &Record) -> Uuid {
    let header = record.headers.iter().find(|(name, _)| name == "message-id").unwrap();
    std::str::from_utf8(&header.1).unwrap().parse().unwrap()
}

/// Message ids of the rows with this status; of all rows when none is given.
pub async fn rows(pool: &PgPool, status: Option<&str>) -> BTreeSet<Uuid> {
    let sql =
        "select message_id from lockgate.undelivered_messages where run_id is null and status = coalesce($1, status)";
    let ids: Vec<Uuid> = sqlx::query_scalar(sql).bind(status).fetch_all(pool).await.unwrap();
    ids.into_iter().collect()
}

/// How many rows there are for each reason.
pub async fn reasons(pool: &PgPool) -> BTreeMap<String, i64> {
    let sql = "select reason_code, count(*) from lockgate.undelivered_messages where run_id is null group by 1";
    let found: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(pool).await.unwrap();
    found.into_iter().collect()
}

/// Commands that are acknowledged or stored so far.
pub fn placed(orchestrator: &NotificationOrchestrator) -> u64 {
    let stats = orchestrator.stats();
    stats.delivered + stats.stored.values().sum::<u64>()
}

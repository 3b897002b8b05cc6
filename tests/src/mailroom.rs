//! The shipped `email-sender` as processes of their own, on a database and a topic made for a test, and the commands
//! that a test puts there: whole ones, copies of them, and such as nobody can do anything with.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lockgate::postgres::{Database, DatabaseSettings};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor, PgPool};
use uuid::Uuid;

use crate::replica::{Killed, PATIENCE, Replica};
use crate::topic::Topic;
use crate::{TestDatabase, kafka_brokers, wait_until};

/// Consumer and group, when nothing else is said.
pub const GROUP: &str = "email-sender";

const SETTINGS: &[(&str, &str)] = &[
    ("EMAIL_PAGE", "200"),
    // A mail server has a third of it for each answer, on a machine that may be busy.
    ("EMAIL_LEASE", "30s"),
    ("LOCKGATE_DATABASE_DEADLINE", "5s"),
    // A member that was killed is missed after the shortest time that the broker takes.
    ("LOCKGATE_KAFKA_PROPERTIES_SESSION_TIMEOUT_MS", "6000"),
    ("LOCKGATE_KAFKA_PROPERTIES_HEARTBEAT_INTERVAL_MS", "500"),
    ("RUST_LOG", "info,lockgate=debug"),
    ("NO_COLOR", "1"),
    ("RUST_BACKTRACE", "1"),
];

/// A record to be put into the topic.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Header `message-id`; none: it has no such header.
    pub id: Option<String>,
    /// Header `crc32c`; none: that of the value.
    pub crc32c: Option<String>,
    /// The value.
    pub payload: Vec<u8>,
    /// Partition, when it matters.
    pub partition: Option<i32>,
}

impl Letter {
    /// A whole command to this user: a welcome in German for even ones, in English for odd ones.
    #[must_use]
    pub fn to_user(user: u32) -> Self {
        let locale = if user.is_multiple_of(2) { "de" } else { "en" };
        Self::saying(user, "welcome", locale)
    }

    /// A whole command to this user.
    #[must_use]
    pub fn saying(user: u32, template: &str, locale: &str) -> Self {
        let command = json!({
            "recipientEmail": format!("user-{user}@example.org"),
            "templateId": template,
            "templateContext": {"name": format!("User {user}")},
            "locale": locale,
            "correlationId": format!("correlation-{user}"),
            "userId": user,
        });
        Self {
            id: Some(id_of(user).to_string()),
            crc32c: None,
            payload: command.to_string().into_bytes(),
            partition: None,
        }
    }
}

/// The message id of the command to a user.
#[must_use]
pub fn id_of(user: u32) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, &user.to_le_bytes())
}

/// A database, a topic, and email-senders that work on them.
pub struct Mailroom {
    /// For looking.
    pub pool: PgPool,
    /// Where the commands are.
    pub topic: Topic,
    url: String,
    settings: Vec<(String, String)>,
    logs: PathBuf,
    started: AtomicUsize,
    _database: Option<TestDatabase>,
}

impl Mailroom {
    /// On the shared servers.
    pub async fn new() -> Self {
        let database = TestDatabase::new().await;
        let (url, pool) = (database.url().to_owned(), database.pool().clone());
        let topic = Topic::new(kafka_brokers(), &[]).await;
        Self::on(&url, pool, topic, Some(database))
    }

    /// On a migrated database and a topic of any servers.
    #[must_use]
    pub fn on(url: &str, pool: PgPool, topic: Topic, database: Option<TestDatabase>) -> Self {
        let logs = std::env::temp_dir().join(format!("lockgate-mails-{}", Uuid::new_v4().simple()));
        std::fs::create_dir(&logs).unwrap();
        let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workflows/templates");
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let own = [
            ("DATABASE_URL", url),
            ("KAFKA_BROKERS", topic.brokers()),
            ("EMAIL_TOPIC", topic.name()),
            // Groups are the cluster's, not the topic's.
            ("EMAIL_GROUP", topic.name()),
            ("EMAIL_TEMPLATES", templates.to_str().unwrap()),
        ];
        Self {
            settings: SETTINGS.iter().copied().chain(own).map(owned).collect(),
            pool,
            topic,
            url: url.to_owned(),
            logs,
            started: AtomicUsize::new(0),
            _database: database,
        }
    }

    /// Changes a setting of all senders from now on.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Changes these settings of all senders from now on.
    #[must_use]
    pub fn with_all(self, settings: &[(&str, String)]) -> Self {
        settings.iter().fold(self, |room, (name, value)| room.with(name, value))
    }

    /// Starts a sender.
    #[must_use]
    pub fn sender(&self) -> Replica {
        self.sender_with(&[])
    }

    /// Starts one with settings of its own.
    #[must_use]
    pub fn sender_with(&self, env: &[(&str, &str)]) -> Replica {
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        let mut all = self.settings.clone();
        all.extend(
            env.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let log = self.logs.join(format!("sender-{number}.log"));
        Replica::start(&program(), &[], &all, log, Killed::default())
    }

    /// Runs the program to its end; gives its exit code and all it said.
    ///
    /// # Panics
    /// It cannot be run.
    #[must_use]
    pub fn runs(&self, args: &[&str]) -> (Option<i32>, String) {
        let mut command = std::process::Command::new(program());
        command.args(args).env_clear();
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Name of the group and the consumer.
    #[must_use]
    pub fn group(&self) -> &str {
        self.topic.name()
    }

    /// The engine's way to the database.
    #[must_use]
    pub fn database(&self) -> Database {
        Database::new(&DatabaseSettings::new(&self.url)).unwrap()
    }

    /// Puts records into the topic, in this order within a partition.
    ///
    /// # Panics
    /// The brokers do not take one.
    pub async fn post(&self, letters: Vec<Letter>) {
        let topic = self.topic.clone();
        let posted = tokio::task::spawn_blocking(move || post_all(&topic, &letters));
        posted.await.unwrap();
    }

    /// A number read from the tables; -1 while they do not answer or are not there yet.
    pub async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap_or(-1)
    }

    /// E-mails that are there.
    pub async fn mails(&self) -> i64 {
        self.number("select count(*) from lockgate_mail.sent_emails").await
    }

    /// Waits until there are so many e-mails.
    pub async fn has_mails(&self, mails: i64) {
        self.reaches(mails, "select count(*) from lockgate_mail.sent_emails")
            .await;
    }

    /// Waits until a query gives this number.
    pub async fn reaches(&self, number: i64, sql: &'static str) {
        wait_until(PATIENCE, &format!("{sql} gives {number}"), async || {
            self.number(sql).await == number
        })
        .await;
    }

    /// Makes so many e-mails that wait for a mail server, with nothing left to read.
    ///
    /// # Panics
    /// The servers do not answer.
    pub async fn queues(&self, mails: u32) {
        self.post((0..mails).map(Letter::to_user).collect()).await;
        let mut sender = self.sender_with(&[("EMAIL_SMTP_URL", "smtp://127.0.0.1:1")]);
        self.has_mails(i64::from(mails)).await;
        self.is_read().await;
        sender.terminate();
        assert!(sender.ends().await.success());
        let queued = "select count(*) from lockgate_mail.sent_emails where state = 'queued'";
        assert_eq!(self.number(queued).await, i64::from(mails));
    }

    /// The database takes claims of e-mails to these addresses and nothing that is written about them afterwards, as one
    /// that was demoted.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn forbid_marks(&self, addresses: &str) {
        let sql = format!(
            "create function public.demoted() returns trigger language plpgsql as $$
             begin raise exception 'demoted' using errcode = 'read_only_sql_transaction'; end $$;
             create trigger demoted before update on lockgate_mail.sent_emails for each row
                when (new.state <> 'sending' and new.recipient like '{addresses}') execute function public.demoted()"
        );
        self.pool.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
    }

    /// It takes them again.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn allow_marks(&self) {
        self.pool
            .execute("drop function public.demoted() cascade")
            .await
            .unwrap();
    }

    /// Waits until the group has committed all that is in the topic now.
    ///
    /// # Panics
    /// It does not.
    pub async fn is_read(&self) {
        let (topic, group) = (self.topic.clone(), self.group().to_owned());
        let read = tokio::task::spawn_blocking(move || wait_for_commits(&topic, &group));
        read.await.unwrap();
    }
}

impl Drop for Mailroom {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.logs);
        }
    }
}

fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(|deps| deps.parent()).unwrap();
    folder.join("lockgate-email-sender")
}

fn post_all(topic: &Topic, letters: &[Letter]) {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", topic.brokers())
        .set("partitioner", "murmur2_random")
        .set("enable.idempotence", "true");
    let producer: BaseProducer = config.create().unwrap();
    for letter in letters {
        let checksum = format!("{:08x}", crc32c::crc32c(&letter.payload));
        let mut headers = OwnedHeaders::new().insert(Header {
            key: "crc32c",
            value: Some(letter.crc32c.as_ref().unwrap_or(&checksum)),
        });
        if let Some(id) = &letter.id {
            headers = headers.insert(Header {
                key: "message-id",
                value: Some(id),
            });
        }
        let mut record = BaseRecord::to(topic.name())
            .payload(&letter.payload)
            .key("")
            .headers(headers);
        record.partition = letter.partition;
        let mut offered = producer.send(record);
        // A full queue has room again once some are acknowledged.
        while let Err((error, back)) = offered {
            assert!(error.to_string().contains("Queue full"), "{error}");
            producer.poll(Duration::from_millis(100));
            offered = producer.send(back);
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(PATIENCE).unwrap();
}

fn wait_for_commits(topic: &Topic, group: &str) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", topic.brokers()).set("group.id", group);
    let asker: BaseConsumer = config.create().unwrap();
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        // Brokers that were killed say for a while that they do not lead.
        let behind = match unread(&asker, topic) {
            Ok(behind) if behind.is_empty() => return,
            behind => format!("{behind:?}"),
        };
        assert!(std::time::Instant::now() < until, "not read: {behind}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Partitions with their committed offset and their end, where they differ.
fn unread(asker: &BaseConsumer, topic: &Topic) -> KafkaResult<Vec<(i32, Offset, i64)>> {
    let metadata = asker.fetch_metadata(Some(topic.name()), PATIENCE)?;
    let mut behind = Vec::new();
    for partition in metadata.topics()[0].partitions() {
        let (low, high) = asker.fetch_watermarks(topic.name(), partition.id(), PATIENCE)?;
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition(topic.name(), partition.id());
        let committed = asker.committed_offsets(wanted, PATIENCE)?.elements()[0].offset();
        if high > low && committed != Offset::Offset(high) {
            behind.push((partition.id(), committed, high));
        }
    }
    // A topic that is not known yet has no partitions; a test's has some.
    match metadata.topics()[0].error() {
        Some(error) => Err(KafkaError::MetadataFetch(error.into())),
        None => Ok(behind),
    }
}

//! The set-up scripts hold what the crash tests build on: an address that outlives a crash, data that outlives it too,
//! instances that leave each other alone, and nothing left behind.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use sqlx::{Connection, PgConnection};

/// Far above what a server takes, for a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough for an answer that is on its way to arrive.
const SILENCE: Duration = Duration::from_secs(2);

/// One state directory of `services.sh`, taken down when dropped.
struct Instance {
    state: PathBuf,
}

impl Instance {
    fn up(name: &str, services: &[&str]) -> Result<Self> {
        let instance = Self {
            state: Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", uuid::Uuid::new_v4().simple())),
        };
        instance.run(&["down"])?;
        instance.run(&[&["up"], services].concat())?;
        Ok(instance)
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/dev/services.sh");
        let output = Command::new(script)
            .args(arguments)
            .env("LOCKGATE_SERVICES_DIR", &self.state)
            // One that was killed is let back in soon.
            .env("KAFKA_SESSION_MS", "3000")
            .output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "services.sh {arguments:?}: {}: {errors}",
            output.status
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    fn address(&self, name: &str) -> Result<String> {
        let printed = self.run(&["env"])?;
        let prefix = format!("export {name}=");
        let found = printed.lines().find_map(|line| line.strip_prefix(&prefix));
        found
            .map(str::to_owned)
            .with_context(|| format!("no {name} in {printed}"))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Err(error) = self.run(&["down"]) {
            eprintln!("{error}");
        }
    }
}

async fn count_rows(url: &str) -> Result<i64> {
    let mut connection = PgConnection::connect(url).await?;
    Ok(sqlx::query_scalar("select count(*) from kept")
        .fetch_one(&mut connection)
        .await?)
}

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

async fn create_topic(brokers: &str) -> Result<()> {
    let admin: AdminClient<_> = client(brokers).create()?;
    let topic = NewTopic::new("kept", 1, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    for result in admin.create_topics(&[topic], &options).await? {
        result.map_err(|(name, code)| anyhow::anyhow!("topic {name}: {code}"))?;
    }
    Ok(())
}

/// Is one message acknowledged within the time?
async fn produce(brokers: &str, within: Duration) -> Result<bool> {
    let milliseconds = within.as_millis().to_string();
    let producer: FutureProducer = client(brokers).set("message.timeout.ms", milliseconds).create()?;
    Ok(producer
        .send(FutureRecord::<(), _>::to("kept").payload("x"), within)
        .await
        .is_ok())
}

fn end_of_topic(brokers: &str) -> Result<i64> {
    let consumer: BaseConsumer = client(brokers).create()?;
    Ok(consumer.fetch_watermarks("kept", 0, PATIENCE)?.1)
}

#[tokio::test]
async fn postgres_keeps_its_address_and_its_data_through_a_crash() -> Result<()> {
    let instance = Instance::up("services-postgres", &["postgres"])?;
    let url = instance.address("DATABASE_URL")?;
    let mut connection = PgConnection::connect(&url).await?;
    sqlx::raw_sql("create table kept as select generate_series(1, 1000)")
        .execute(&mut connection)
        .await?;
    for end in ["kill", "stop"] {
        instance.run(&[end, "postgres"])?;
        assert!(
            PgConnection::connect(&url).await.is_err(),
            "postgres still answers after {end}"
        );
        instance.run(&["start", "postgres"])?;
        assert_eq!(instance.address("DATABASE_URL")?, url);
        assert_eq!(count_rows(&url).await?, 1000);
    }
    instance.run(&["freeze", "postgres"])?;
    assert!(
        tokio::time::timeout(SILENCE, count_rows(&url)).await.is_err(),
        "a frozen postgres answers"
    );
    instance.run(&["thaw", "postgres"])?;
    assert_eq!(count_rows(&url).await?, 1000);
    Ok(())
}

#[tokio::test]
async fn kafka_keeps_its_address_and_its_data_through_a_crash() -> Result<()> {
    let instance = Instance::up("services-kafka", &["kafka"])?;
    let brokers = instance.address("KAFKA_BROKERS")?;
    assert!(!produce(&brokers, SILENCE).await?, "a topic came into being by itself");
    create_topic(&brokers).await?;
    for (round, end) in (1..).zip(["kill", "stop"]) {
        assert!(produce(&brokers, PATIENCE).await?);
        instance.run(&[end, "kafka"])?;
        assert!(!produce(&brokers, SILENCE).await?, "kafka still answers after {end}");
        instance.run(&["start", "kafka"])?;
        assert_eq!(instance.address("KAFKA_BROKERS")?, brokers);
        assert_eq!(end_of_topic(&brokers)?, round);
    }
    instance.run(&["freeze", "kafka"])?;
    assert!(!produce(&brokers, SILENCE).await?, "a frozen kafka answers");
    instance.run(&["thaw", "kafka"])?;
    assert!(produce(&brokers, PATIENCE).await?);
    Ok(())
}

#[tokio::test]
async fn pgbouncer_hands_out_few_connections_to_many_clients() -> Result<()> {
    const CLIENTS: usize = 100;
    let instance = Instance::up("services-pgbouncer", &["postgres", "pgbouncer"])?;
    let mut direct = PgConnection::connect(&instance.address("DATABASE_URL")?).await?;
    sqlx::raw_sql("create role visitor login").execute(&mut direct).await?;
    let url = instance.address("PGBOUNCER_URL")?.replace("postgres@", "visitor@");
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(PgConnection::connect(&url).await?);
    }
    for connection in &mut clients {
        sqlx::raw_sql("select 1").execute(connection).await?;
    }
    let servers: i64 = sqlx::query_scalar("select count(*) from pg_stat_activity where usename = 'visitor'")
        .fetch_one(&mut direct)
        .await?;
    assert!(
        (1..=8).contains(&servers),
        "{CLIENTS} clients took {servers} connections"
    );
    Ok(())
}

#[test]
fn two_instances_leave_each_other_alone_and_nothing_behind() -> Result<()> {
    let start = |name: &'static str| thread::spawn(move || Instance::up(name, &[]));
    let (first, second) = (start("services-first"), start("services-second"));
    let (first, second) = (first.join().unwrap()?, second.join().unwrap()?);
    for name in ["DATABASE_URL", "KAFKA_BROKERS"] {
        assert_ne!(first.address(name)?, second.address(name)?);
    }
    let before = second.run(&["status"])?;
    first.run(&["up"])?;
    first.run(&["down"])?;
    assert!(!first.state.exists(), "{} is still there", first.state.display());
    assert_eq!(
        second.run(&["status"])?,
        before,
        "taking one instance down changed the other"
    );
    second.run(&["down"])?;
    for pid in before.lines().filter_map(|line| line.split_whitespace().nth(3)) {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(command.is_empty(), "pid {pid} still runs");
    }
    Ok(())
}

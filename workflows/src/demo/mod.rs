//! `lockgate demo`: the whole path on real input, from seeding to proof, by the same commands a person would use.

mod place;
mod registrations;
mod replicas;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;

use anyhow::Context as _;
use chrono::Utc;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use lockgate::cli::{Changed, Context, Execute, Exit, Failure, Outcome};
use lockgate::config::{Config, Secret};
use lockgate::delivery::TopicReader;
use lockgate::kafka::{KafkaConfig, KafkaTopicReader, MockBroker, create_topic};
use lockgate::postgres::{Database, DatabaseSettings, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgPool};

use self::place::{Place, create_database};
use self::replicas::Replicas;
use crate::tracker;

const WORKFLOW: &str = "daily-task-reports";
/// Who hears how it went.
const TEAM: &str = r#"{"summary_to": "team@example.org"}"#;
const PARTITIONS: i32 = 12;
/// Messages shown at the end.
const SHOWN: usize = 3;

/// Show the whole path: seed users, start two replicas, send reports, prove the delivery
#[derive(Args)]
pub struct DemoArgs {
    #[command(subcommand)]
    command: Option<DemoCommand>,
    /// Users to seed; one in ten is inactive and gets no report
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(i64).range(1..=50_000_000))]
    users: i64,
    /// Topic to write to
    #[arg(long, default_value = "email_commands")]
    topic: String,
    /// Leave the replicas running at the end
    #[arg(long)]
    keep: bool,
    /// Use a broker in this process's memory instead of a real one
    #[arg(long)]
    mock_broker: bool,
    /// The script that may freeze the brokers, when they are there for the demo alone
    #[arg(long, value_name = "SCRIPT")]
    services: Option<PathBuf>,
}

#[derive(Subcommand)]
enum DemoCommand {
    /// Make the demo's tables in the configured database and bring the number of users up
    Seed {
        /// How many users there shall be
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(i64).range(1..=50_000_000))]
        users: i64,
    },
    /// Make a topic on the configured brokers, if it is not there
    Topic {
        /// Its name
        name: String,
    },
}

impl Execute for DemoArgs {
    const NAME: &'static str = "demo";

    async fn execute(self, context: &Context) -> Outcome {
        match &self.command {
            Some(DemoCommand::Seed { users }) => {
                let pool = pool(&context.config().database_settings()?.url).await?;
                seed(&pool, *users).await?;
                Ok(Exit::Ok)
            }
            Some(DemoCommand::Topic { name }) => {
                let brokers = context.config().kafka.brokers.clone().ok_or_else(no_brokers)?;
                make_topic(&brokers, name, None).await?;
                Ok(Exit::Ok)
            }
            None => self.demo(context).await,
        }
    }
}

impl DemoArgs {
    async fn demo(self, context: &Context) -> Outcome {
        let place = create_database(&context.config().database_settings()?.url).await?;
        println!("database  {}", place.shown);
        let database = Database::new(&DatabaseSettings::new(place.url.clone()))?;
        let applied = Migrator::new(database.clone()).up(None).await?;
        println!("schema    {} migrations applied", applied.len());
        let pool = pool(&place.url).await?;
        seed(&pool, self.users).await?;

        let mock = if self.mock_broker {
            Some(MockBroker::start().map_err(broken)?)
        } else {
            None
        };
        let brokers = match &mock {
            Some(mock) => mock.brokers().map_err(broken)?,
            None => context.config().kafka.brokers.clone().ok_or_else(no_brokers)?,
        };
        make_topic(&brokers, &self.topic, mock.as_ref()).await?;
        println!(
            "topic     {} on {brokers}{}",
            self.topic,
            if mock.is_some() { " (mock broker)" } else { "" }
        );

        let unset = |name: &str| (name.to_owned(), String::new());
        let environment = [
            ("DATABASE_URL".to_owned(), place.url.clone()),
            // What else may say where the database is would contradict it, or lead elsewhere.
            unset("DATABASE_URL_FILE"),
            unset("DATABASE_URL_DIRECT"),
            unset("DATABASE_URL_DIRECT_FILE"),
            // Two cannot listen at one address.
            unset("LOCKGATE_HEALTH_LISTEN"),
            unset("LOCKGATE_API_LISTEN"),
            ("KAFKA_BROKERS".to_owned(), brokers.clone()),
            ("LOCKGATE_TOPICS_EMAIL".to_owned(), self.topic.clone()),
        ];
        let replicas = Replicas::start(2, &environment, &log_folder()).map_err(broken)?;
        println!("replicas  {}", replicas.describe());
        let shown = async {
            self.show(&place, &brokers, &environment, &pool).await?;
            let config = self.config(context, &place, &brokers);
            registrations::show(&config, &pool, self.services.as_deref()).await
        };
        let shown = shown.await;
        // The mock broker ends with this process: replicas without it would only complain.
        let stopped = if self.keep && mock.is_none() && shown.is_ok() {
            replicas.leave();
            Ok(())
        } else {
            replicas.stop().await
        };
        if let (Err(_), Err(stopped)) = (&shown, &stopped) {
            eprintln!("{stopped:#}");
        }
        shown.and(stopped).map_err(broken)?;
        further(&place, &brokers, &self.topic, self.keep && mock.is_none());
        Ok(Exit::Ok)
    }

    /// That of the demo's own database and topic.
    fn config(&self, context: &Context, place: &Place, brokers: &str) -> Config {
        let mut config = context.config().clone();
        config.database.url = Some(Secret::new(&place.url));
        config.kafka.brokers = Some(brokers.to_owned());
        config.topics.insert("email".to_owned(), self.topic.clone());
        config
    }

    async fn show(
        &self,
        place: &Place,
        brokers: &str,
        environment: &[(String, String)],
        pool: &PgPool,
    ) -> anyhow::Result<()> {
        let since = Utc::now();
        command(environment, &["start", WORKFLOW, "--params", TEAM, "--wait"]).await?;
        let run: uuid::Uuid = sqlx::query_scalar("select id from lockgate.task_runs order by id desc limit 1")
            .fetch_one(pool)
            .await
            .with_context(|| format!("the run in {}", place.shown))?;
        let run = run.to_string();
        command(environment, &["runs", "show", &run]).await?;
        command(environment, &["runs", "proof", &run]).await?;
        println!("\nsome of its messages in topic {}:", self.topic);
        let (reader, topic) = (KafkaTopicReader::new(KafkaConfig::new(brokers)), self.topic.clone());
        tokio::task::spawn_blocking(move || show_messages(&reader, &topic, since)).await?
    }
}

async fn make_topic(brokers: &str, topic: &str, mock: Option<&MockBroker>) -> Result<(), Failure> {
    let made = match mock {
        Some(mock) => mock.create_topic(topic, PARTITIONS),
        None => create_topic(&KafkaConfig::new(brokers), topic, PARTITIONS, &[])
            .await
            .map(|_| ()),
    };
    made.map_err(|error| Failure::new(Exit::Unreachable, format!("topic {topic}: {error:#}")))
}

fn show_messages(reader: &impl TopicReader, topic: &str, since: chrono::DateTime<Utc>) -> anyhow::Result<()> {
    let mut shown = 0;
    reader.read_since(topic, since, &mut |record| {
        shown += 1;
        if shown <= SHOWN {
            let header = |name: &str| {
                record
                    .headers
                    .iter()
                    .find(|(key, _)| key == name)
                    .map(|(_, value)| value.clone())
            };
            let text = |bytes: Option<Vec<u8>>| String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
            println!(
                "  partition {} offset {} key {} message-id {}\n    {}",
                record.partition,
                record.offset,
                text(record.key.clone()),
                text(header("message-id")),
                String::from_utf8_lossy(&record.payload)
            );
        }
        Ok(())
    })?;
    println!("  … {shown} records in all");
    anyhow::ensure!(shown > 0, "no message of the run is in topic {topic}");
    Ok(())
}

fn further(place: &Place, brokers: &str, topic: &str, kept: bool) {
    println!("\nIn Postgres:  select * from lockgate.v_run_proof;   select * from lockgate.transitions order by id;");
    println!(
        "A start in your own transaction:  select lockgate.start_run('{WORKFLOW}', '{{\"day\": \"2026-11-20\"}}');"
    );
    if kept {
        println!("Left running. To look further:");
        println!(
            "  export DATABASE_URL={} KAFKA_BROKERS={brokers} LOCKGATE_TOPICS_EMAIL={topic}",
            place.url
        );
        println!("  lockgate runs list; lockgate replicas list; lockgate doctor");
    } else {
        println!("`make demo KEEP=1` leaves everything running, to look further.");
    }
}

/// Runs this very binary, showing what was asked.
async fn command(environment: &[(String, String)], arguments: &[&str]) -> anyhow::Result<()> {
    println!("\n$ lockgate {}", arguments.join(" "));
    let status = tokio::process::Command::new(std::env::current_exe()?)
        .args(arguments)
        .envs(environment.iter().cloned())
        .stdin(Stdio::null())
        .status()
        .await?;
    anyhow::ensure!(
        status.success(),
        "`lockgate {}` ended with {status}",
        arguments.join(" ")
    );
    Ok(())
}

async fn pool(url: &str) -> Result<PgPool, Failure> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|_| Failure::new(Exit::Usage, "DATABASE_URL is not a Postgres URL"))?
        .disable_statement_logging();
    let unreachable = |error| Failure::new(Exit::Unreachable, format!("no connection: {error}"));
    PgPool::connect_with(options).await.map_err(unreachable)
}

async fn seed(pool: &PgPool, users: i64) -> Result<(), Failure> {
    let style = ProgressStyle::with_template("seeding   {bar:40} {pos}/{len} users").map_err(broken)?;
    let bar = ProgressBar::new(u64::try_from(users).unwrap_or_default()).with_style(style);
    let seeded = async {
        tracker::create(pool).await?;
        tracker::seed(pool, users, |done| {
            bar.set_position(u64::try_from(done).unwrap_or_default())
        })
        .await
    };
    seeded
        .await
        .map_err(|error| Failure::new(Exit::Failed, format!("seeding: {error}")).changed(Changed::Unknown))?;
    bar.finish_and_clear();
    println!("users     {users} seeded");
    Ok(())
}

fn log_folder() -> PathBuf {
    std::env::var_os("LOCKGATE_SERVICES_DIR").map_or_else(std::env::temp_dir, |dir| Path::new(&dir).to_path_buf())
}

fn no_brokers() -> Failure {
    Failure::new(Exit::Usage, "no brokers are configured").hint("set KAFKA_BROKERS, or use --mock-broker")
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format!("the demo did not come to its end: {error:#}")).changed(Changed::Said)
}

/// The command, for [`lockgate::EngineBuilder::command`].
#[must_use]
pub fn demo() -> Box<dyn lockgate::cli::ExtraCommand> {
    lockgate::cli::extra::<DemoArgs>()
}

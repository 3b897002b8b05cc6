//! `email-sender`: the reference consumer of `email_commands`. Each message becomes one e-mail in its table, in the
//! transaction in which its id is remembered; with a mail server set, the e-mails of the table are then sent.

mod command_line;
mod conversation;
mod effect;
mod mails;
mod page;
mod requeue;
mod smtp;
mod templates;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use lockgate::config::{Config, warn_if_open};
use lockgate::delivery::consume;
use lockgate::health::{Health, Part, tell, watch};
use lockgate::kafka::{ConsumerSettings, KafkaConsumer};
use lockgate::postgres::{Database, Inbox, Migrator, SchemaError};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Executor, PgPool};
use tokio_util::sync::CancellationToken;

pub use command_line::main;
pub use effect::{Email, SendEmails};
pub use mails::Mails;
pub use requeue::Requeue;
pub use smtp::Sender;
pub use templates::{Templates, Text};

/// Before a database that did not answer is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// One maker of the table at a time.
const CREATE_LOCK: &str = "select pg_advisory_xact_lock(7163384699216396291)";

/// Is the table there, with all its columns?
const WHOLE: &str = "select exists (select from pg_attribute
    where attrelid = to_regclass('lockgate_mail.sent_emails') and attname = 'traceparent' and not attisdropped)";

/// What the server answers to whoever lacks a right.
const DENIED: &str = "42501";

/// Consumes e-mail commands, each once, into the table lockgate_mail.sent_emails, and sends them when a server is set
#[derive(Parser)]
#[command(name = "email-sender", version)]
pub struct Args {
    /// What else it is to do, and nothing beyond it
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// Configuration file; without it ./lockgate.toml when there is one
    #[arg(long, env = "LOCKGATE_CONFIG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Topic; without it the one of e-mail commands
    #[arg(long, env = "EMAIL_TOPIC")]
    pub topic: Option<String>,
    /// Group of consumers, and name of their common memory
    #[arg(long, env = "EMAIL_GROUP", default_value = "email-sender")]
    pub group: String,
    /// Directory of TEMPLATE/LOCALE.txt; without it the templates of the shipped workflows
    #[arg(long, env = "EMAIL_TEMPLATES", value_name = "DIRECTORY")]
    pub templates: Option<PathBuf>,
    /// Locale of those whose own has no template
    #[arg(long, env = "EMAIL_DEFAULT_LOCALE", default_value = "en")]
    pub default_locale: String,
    /// Mail server, such as smtp://user:password@host:587?tls=required; without it e-mails are only recorded
    #[arg(long, env = "EMAIL_SMTP_URL", hide_env_values = true, value_name = "URL")]
    pub smtp_url: Option<String>,
    /// File that holds the mail server's URL, for it holds a password
    #[arg(long, env = "EMAIL_SMTP_URL_FILE", value_name = "FILE", conflicts_with = "smtp_url")]
    pub smtp_url_file: Option<PathBuf>,
    /// Sender's address
    #[arg(long, env = "EMAIL_FROM", default_value = "tracker@localhost.localdomain")]
    pub from: String,
    /// How long a sender owns an e-mail it is sending
    #[arg(long, env = "EMAIL_LEASE", default_value = "60s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub lease: Duration,
    /// How long an e-mail is tried again that the server puts off, from its first attempt on
    #[arg(long, env = "EMAIL_GIVE_UP", default_value = "3days", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub give_up: Duration,
    /// How long e-mails are kept that are over
    #[arg(long, env = "EMAIL_KEEP", default_value = "30days", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub keep: Duration,
    /// Records settled in one transaction
    #[arg(long, env = "EMAIL_PAGE", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub page: u32,
}

impl Args {
    fn mail_server(&self) -> anyhow::Result<Option<String>> {
        let Some(file) = &self.smtp_url_file else {
            return Ok(self.smtp_url.clone());
        };
        let text = std::fs::read_to_string(file);
        let text = text.with_context(|| format!("{} cannot be read (EMAIL_SMTP_URL_FILE)", file.display()))?;
        warn_if_open("EMAIL_SMTP_URL_FILE", file);
        Ok(Some(text.trim().to_owned()))
    }
}

/// What an operator does.
#[derive(Subcommand)]
pub enum Verb {
    /// Queues failed e-mails again, with their attempts anew
    Requeue(Requeue),
}

/// Queues failed e-mails again and answers what is to be said.
///
/// # Errors
/// What is asked for makes no sense, or the database refused or did not answer.
pub async fn requeue(verb: &Requeue, config: &Config) -> anyhow::Result<String> {
    let settings = config.database_settings()?;
    let pool = mail_pool(&settings.url, config.database.deadline)?;
    verb.execute(&Mails::new(pool, Duration::ZERO)).await
}

/// Consumes and sends until told to stop, then drains.
///
/// # Errors
/// What is configured cannot be used, or the consumer ended for good.
pub async fn run(args: Args, config: &Config, stop: CancellationToken) -> anyhow::Result<()> {
    let templates = Arc::new(match &args.templates {
        Some(directory) => Templates::read(directory, &args.default_locale)?,
        None => Templates::shipped(&args.default_locale)?,
    });
    let settings = config.database_settings()?;
    let database = Database::new(&settings)?;
    let pool = mail_pool(&settings.url, config.database.deadline)?;
    let health = Health::default();
    let ended = CancellationToken::new();
    let _ended = ended.clone().drop_guard();
    tell(config.health.listen.as_deref(), &health, ended).await?;
    if !prepare(&database, &pool, &health, &stop).await? {
        return Ok(());
    }
    let mails = Mails::new(pool.clone(), args.give_up);
    let sender = match args.mail_server()? {
        Some(url) => Some(Sender::new(mails.clone(), &url, &args.from, args.lease)?),
        None => None,
    };
    let effect = match sender {
        Some(_) => SendEmails::queued(templates),
        None => SendEmails::recorded(templates),
    };
    let inbox = Arc::new(Inbox::new(database.clone(), &args.group, Arc::new(effect)));
    let topic = match &args.topic {
        Some(topic) => topic,
        None => config
            .topics
            .get("email")
            .context("no topic is configured for e-mail commands")?,
    };
    let consumer = KafkaConsumer::start(
        &lockgate::kafka_config(config)?,
        ConsumerSettings {
            page_records: args.page as usize,
            ..ConsumerSettings::new(topic, &args.group)
        },
    )?;
    tracing::info!(
        name: "sender_started", topic, group = args.group, sends = sender.is_some(),
        "email-sender started"
    );
    // What ends the one ends the others.
    let over = stop.child_token();
    let watching = watch(config, true, &database, &health, &over)?;
    let sending = async {
        if let Some(sender) = &sender {
            sender.run(over.clone()).await;
        }
    };
    let consuming = async {
        let ended = consume(Box::new(consumer), inbox, over.clone()).await;
        over.cancel();
        ended
    };
    let pruning = Sender::prune(mails, args.keep, over.clone());
    let (consumed, (), ()) = tokio::join!(consuming, sending, pruning);
    database.close().await;
    // A connection that a statement is still waiting on is closed by the process's end.
    let _ = tokio::time::timeout(PAUSE, pool.close()).await;
    consumed?;
    if let Some(unfit) = watching.await.context("the watch over the servers panicked")? {
        return Err(unfit.into());
    }
    tracing::info!(name: "sender_stopped", "email-sender stopped");
    Ok(())
}

fn mail_pool(url: &str, deadline: Duration) -> anyhow::Result<PgPool> {
    let options: PgConnectOptions = url
        .parse()
        .map_err(|_| anyhow::anyhow!("DATABASE_URL is not a Postgres URL"))?;
    // A statement that the server ends by itself needs no cancelling from here.
    let timeout = deadline.as_millis().to_string();
    let options = options
        .disable_statement_logging()
        .options([("statement_timeout", timeout.as_str())]);
    let pool = PgPoolOptions::new().max_connections(4).acquire_timeout(deadline);
    Ok(pool.connect_lazy_with(options))
}

/// Waits for a database with a schema that fits, and makes the table of e-mails where it is missing. False: told to stop.
async fn prepare(
    database: &Database,
    pool: &PgPool,
    health: &Health,
    stop: &CancellationToken,
) -> anyhow::Result<bool> {
    let migrator = Migrator::new(database.clone());
    loop {
        match migrator.check().await {
            Ok(()) => break,
            Err(SchemaError::Database(error)) if error.code().is_none() => {
                tracing::warn!(name: "waiting_for_postgres", %error, "waiting for Postgres");
                health.say(Part::Replica, Err::<&str, _>(format!("waiting for Postgres: {error}")));
            }
            Err(error) => return Err(error.into()),
        }
        if stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
            return Ok(false);
        }
    }
    if let Err(error) = create(pool).await {
        let lacks = lacks(&error, pool).await;
        return Err(error).context(format!("the table of e-mails is not there and cannot be made{lacks}"));
    }
    Ok(true)
}

/// The statement by which an administrator gives us what we were denied.
async fn lacks(error: &sqlx::Error, pool: &PgPool) -> String {
    let code = match error {
        sqlx::Error::Database(error) => error.code(),
        _ => None,
    };
    if code.as_deref() != Some(DENIED) {
        return String::new();
    }
    let asked = "select quote_ident(current_user), to_regnamespace('lockgate_mail') is null";
    let known: Result<(String, bool), _> = sqlx::query_as(asked).fetch_one(pool).await;
    let (login, missing) = known.unwrap_or_else(|_| ("lockgate_engine".to_owned(), true));
    if missing {
        return format!("; an administrator runs, once: create schema lockgate_mail authorization {login}");
    }
    // Made by an earlier login.
    let statements = format!(
        "alter schema lockgate_mail owner to {login}; alter table if exists lockgate_mail.sent_emails owner to {login}"
    );
    format!("; schema lockgate_mail is there and not ours: an administrator runs, once: {statements}")
}

/// Makes the table of e-mails where it is missing.
///
/// # Errors
/// The database refused or did not answer.
pub async fn create(pool: &PgPool) -> Result<(), sqlx::Error> {
    let there: bool = sqlx::query_scalar(WHOLE).fetch_one(pool).await?;
    if there {
        return Ok(());
    }
    let mut transaction = pool.begin().await?;
    transaction.execute(CREATE_LOCK).await?;
    transaction
        .execute(sqlx::raw_sql(include_str!("../../sql/mail/create.sql")))
        .await?;
    transaction.commit().await
}

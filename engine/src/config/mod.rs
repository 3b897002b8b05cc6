//! Configuration: built-in defaults, then one TOML file, then the environment, then flags.

mod headers;
mod keys;
mod load;
mod nearest;
mod sample;
mod secret;
mod setting;
mod show;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

pub(crate) use headers::Header;
pub use headers::OtlpHeaders;
pub use load::{ConfigError, Loaded, Origin, Sources, warn_if_open};
pub use nearest::nearest;
pub use sample::{reference, sample};
pub use secret::{Endpoint, Opaque, Secret, without_password};
pub use show::ShownValue;
pub use validate::Problem;

use crate::postgres::DatabaseSettings;

/// Everything that can be set. Its `Debug` form hides secrets.
#[derive(Clone, PartialEq)]
pub struct Config {
    /// Postgres.
    pub database: DatabaseConfig,
    /// The brokers.
    pub kafka: KafkaSection,
    /// Command type → topic.
    pub topics: BTreeMap<String, String>,
    /// Leases of runs and batches.
    pub lease: LeaseConfig,
    /// The leader's lease.
    pub leader: LeaderConfig,
    /// Execution of batches.
    pub worker: WorkerConfig,
    /// The code of workflows.
    pub workflows: WorkflowsConfig,
    /// Undelivered messages.
    pub redelivery: RedeliveryConfig,
    /// Commands that come without a run.
    pub direct: DirectConfig,
    /// Commands that were committed with their caller's rows.
    pub outbox: OutboxConfig,
    /// What is told of how a replica is.
    pub health: HealthConfig,
    /// Stopping.
    pub drain: DrainConfig,
    /// What is deleted when.
    pub retention: RetentionConfig,
    /// The HTTP API.
    pub api: ApiConfig,
    /// What is told of a process.
    pub telemetry: TelemetryConfig,
}

/// Section `database`.
#[derive(Clone, PartialEq)]
pub struct DatabaseConfig {
    /// Where the database is; may hold a password.
    pub url: Option<Secret>,
    /// The same past any pooler, for listening and migrations.
    pub url_direct: Option<Secret>,
    /// Most connections of this process.
    pub max_connections: u32,
    /// How long one call may take.
    pub deadline: Duration,
    /// The server is behind a transaction pooler that does not track prepared statements.
    pub pooler_mode: bool,
    /// The server ends our transaction when it idles this long.
    pub idle_in_transaction: Duration,
}

/// Section `kafka`.
#[derive(Clone, PartialEq)]
pub struct KafkaSection {
    /// Bootstrap servers, `host:port` separated by commas.
    pub brokers: Option<String>,
    /// How long a message may take, tries included.
    pub message_timeout: Duration,
    /// The name under which brokers see this process.
    pub client_id: String,
    /// Items sent whose outcome is not committed, per replica.
    pub window: u32,
    /// Properties handed to librdkafka as they are.
    pub properties: BTreeMap<String, String>,
}

/// Section `lease`.
#[derive(Clone, PartialEq)]
pub struct LeaseConfig {
    /// How long a claim lasts without renewal.
    pub duration: Duration,
    /// How often claims are renewed.
    pub renew: Duration,
    /// How often stale claims are looked for.
    pub sweep: Duration,
    /// How many holders a batch may kill before it is split.
    pub max_deaths: u32,
}

/// Section `leader`.
#[derive(Clone, PartialEq)]
pub struct LeaderConfig {
    /// How long leadership lasts without renewal.
    pub lease: Duration,
    /// How often it is renewed.
    pub renew: Duration,
}

/// Section `worker`.
#[derive(Clone, PartialEq)]
pub struct WorkerConfig {
    /// Batches in flight per replica.
    pub batches: u32,
    /// Items per batch.
    pub batch_size: u32,
    /// How often work is looked for when no hint comes.
    pub poll: Duration,
    /// Unclaimed batches planned ahead.
    pub plan_ahead: u32,
}

/// Section `workflows`.
#[derive(Clone, PartialEq)]
pub struct WorkflowsConfig {
    /// Runs whose code runs at once per replica.
    pub in_flight: u32,
    /// Largest result of a step, in bytes.
    pub max_result: u32,
    /// How long the code of a cancelled run may take to come to its end.
    pub cancel_grace: Duration,
}

/// Section `redelivery`.
#[derive(Clone, PartialEq)]
pub struct RedeliveryConfig {
    /// Rows claimed at once.
    pub page: u32,
    /// Attempts before a message is dead.
    pub max_attempts: u32,
    /// Delay after the first attempt.
    pub first_delay: Duration,
    /// Longest delay.
    pub max_delay: Duration,
}

/// Section `direct`.
#[derive(Clone, PartialEq)]
pub struct DirectConfig {
    /// Commands that wait to be sent.
    pub queue: u32,
    /// Commands that wait to be stored.
    pub spill: u32,
    /// Commands sent whose outcome is not known.
    pub window: u32,
    /// How long a command may go without an answer before it is stored.
    pub patience: Duration,
    /// Secret of the hash that makes keys of what is personal.
    pub key_secret: Option<Opaque>,
}

/// Section `outbox`.
#[derive(Clone, PartialEq)]
pub struct OutboxConfig {
    /// Rows sent and deleted at once.
    pub page: u32,
    /// Lanes held at once, of sixteen.
    pub lanes: u32,
    /// How often it is looked into while there is something in it.
    pub poll: Duration,
}

/// Section `health`.
#[derive(Clone, PartialEq)]
pub struct HealthConfig {
    /// Where it is told; none: nowhere.
    pub listen: Option<String>,
    /// How often the servers are looked at.
    pub every: Duration,
}

/// Section `drain`.
#[derive(Clone, PartialEq)]
pub struct DrainConfig {
    /// How long a stopping replica may take to finish or hand back.
    pub deadline: Duration,
}

/// Section `retention`.
#[derive(Clone, PartialEq)]
pub struct RetentionConfig {
    /// Finished runs with all that belongs to them.
    pub runs: Duration,
    /// Audit rows that belong to no run.
    pub transitions: Duration,
    /// Settled direct commands.
    pub undelivered: Duration,
    /// Replicas that are gone.
    pub replicas: Duration,
    /// Messages that consumers remember, and their dead records.
    pub inbox: Duration,
    /// What replicas counted, minute by minute.
    pub measures: Duration,
    /// Rows deleted at once.
    pub page: u32,
}

/// Section `api`.
#[derive(Clone, PartialEq)]
pub struct ApiConfig {
    /// Where it listens; none: nowhere.
    pub listen: Option<String>,
    /// A token with all roles.
    pub token: Option<Secret>,
    /// Most connections at once.
    pub connections: u32,
    /// Requests a second that one token may make.
    pub requests_per_s: u32,
    /// Bulk requests worked on at once.
    pub bulk_requests: u32,
}

/// Section `telemetry`.
#[derive(Clone, PartialEq)]
pub struct TelemetryConfig {
    /// The collector; none: nothing is sent.
    pub otlp_endpoint: Option<Endpoint>,
    /// What the collector is told beside, as far as files say it: of a variable the exporters read the rest.
    pub headers: OtlpHeaders,
    /// Which share of traces is recorded: `auto`, or from 0 to 1.
    pub sample: String,
    /// Between two exports of metrics.
    pub interval: Duration,
    /// How often the leader measures the fleet; none: never.
    pub fleet_interval: Duration,
    /// How long a stop waits for what is left to be exported.
    pub flush: Duration,
    /// Whether metrics can be scraped where health is told.
    pub scrape: bool,
    /// How log lines are written.
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// As JSON.
    Json,
}

const fn days(days: u64) -> Duration {
    Duration::from_secs(days * 86_400)
}

impl Default for DirectConfig {
    fn default() -> Self {
        Self {
            queue: 65_536,
            spill: 65_536,
            window: 8_192,
            patience: Duration::from_secs(2),
            key_secret: None,
        }
    }
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            listen: None,
            every: Duration::from_secs(5),
        }
    }
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            headers: OtlpHeaders::default(),
            sample: "auto".to_owned(),
            interval: Duration::from_secs(15),
            fleet_interval: Duration::from_secs(15),
            flush: Duration::from_secs(2),
            scrape: true,
            log_format: LogFormat::Human,
        }
    }
}

impl Default for WorkflowsConfig {
    fn default() -> Self {
        Self {
            in_flight: 1024,
            max_result: 256 * 1024,
            cancel_grace: Duration::from_secs(30),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            database: DatabaseConfig {
                url: None,
                url_direct: None,
                max_connections: 12,
                deadline: seconds(20),
                pooler_mode: false,
                idle_in_transaction: seconds(10),
            },
            kafka: KafkaSection {
                brokers: None,
                message_timeout: seconds(30),
                client_id: "lockgate".to_owned(),
                window: 16_000,
                properties: BTreeMap::new(),
            },
            topics: BTreeMap::from([("email".to_owned(), "email_commands".to_owned())]),
            lease: LeaseConfig {
                duration: seconds(60),
                renew: seconds(20),
                sweep: seconds(10),
                max_deaths: 3,
            },
            leader: LeaderConfig {
                lease: seconds(15),
                renew: seconds(5),
            },
            worker: WorkerConfig {
                batches: 16,
                batch_size: 1000,
                poll: seconds(1),
                plan_ahead: 512,
            },
            workflows: WorkflowsConfig::default(),
            redelivery: RedeliveryConfig {
                page: 1000,
                max_attempts: 20,
                first_delay: seconds(5),
                max_delay: seconds(600),
            },
            direct: DirectConfig::default(),
            outbox: OutboxConfig {
                page: 1000,
                lanes: 8,
                poll: Duration::from_millis(250),
            },
            health: HealthConfig::default(),
            drain: DrainConfig { deadline: seconds(25) },
            retention: RetentionConfig {
                runs: days(30),
                transitions: days(90),
                undelivered: days(30),
                replicas: days(1),
                inbox: days(14),
                measures: days(14),
                page: 1000,
            },
            api: ApiConfig {
                listen: None,
                token: None,
                connections: 1024,
                requests_per_s: 1000,
                bulk_requests: 16,
            },
            telemetry: TelemetryConfig::default(),
        }
    }
}

impl Config {
    /// Reads all layers and checks what each key takes; see [`Config::validate`] for what must hold between them.
    ///
    /// # Errors
    /// A file cannot be read, a key is unknown, or a value is not of its kind.
    pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
        load::load(sources)
    }

    /// How to reach the database.
    ///
    /// # Errors
    /// No URL is set.
    pub fn database_settings(&self) -> Result<DatabaseSettings, ConfigError> {
        let url = self.database.url.as_ref().ok_or(ConfigError::NoDatabase)?;
        Ok(self.settings_for(url, self.database.pooler_mode))
    }

    /// How to reach the database past any pooler, for listening and migrations.
    ///
    /// # Errors
    /// No URL is set.
    pub fn direct_settings(&self) -> Result<DatabaseSettings, ConfigError> {
        match &self.database.url_direct {
            Some(url) => Ok(self.settings_for(url, false)),
            None => self.database_settings(),
        }
    }

    fn settings_for(&self, url: &Secret, pooler_mode: bool) -> DatabaseSettings {
        DatabaseSettings {
            url: url.expose().to_owned(),
            max_connections: self.database.max_connections,
            deadline: self.database.deadline,
            pooler_mode,
            idle_in_transaction: self.database.idle_in_transaction,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.values().into_iter().map(|value| (value.key, value.value)))
            .finish()
    }
}

//! Every key there is, once: how it is read, written, named in the environment and explained.

use super::Config;
use super::setting::Setting;

/// One key.
pub(super) struct Key {
    /// `section.name`.
    pub(super) path: &'static str,
    /// One line for people.
    pub(super) about: &'static str,
    /// Names in the environment besides `LOCKGATE_SECTION_NAME`, the strongest first.
    pub(super) env: &'static [&'static str],
    /// Never printed in an error.
    pub(super) secret: bool,
    /// What kind of value it takes.
    pub(super) kind: &'static str,
    pub(super) show: fn(&Config) -> String,
    pub(super) write: fn(&mut Config, &str) -> Result<(), String>,
}

const fn kind_of<T: Setting>(_: fn(&Config) -> &T) -> &'static str {
    T::KIND
}

macro_rules! keys {
    ($($section:ident . $name:ident $(secret $secret:literal)? $(env $env:expr)? => $about:literal;)*) => {
        &[$(Key {
            path: concat!(stringify!($section), ".", stringify!($name)),
            about: $about,
            env: keys!(@env $($env)?),
            secret: keys!(@secret $($secret)?),
            kind: kind_of(|config| &config.$section.$name),
            show: |config| Setting::show(&config.$section.$name),
            write: |config, text| {
                config.$section.$name = Setting::parse(text)?;
                Ok(())
            },
        }),*]
    };
    (@env) => { &[] };
    (@env $env:expr) => { $env };
    (@secret) => { false };
    (@secret $secret:literal) => { $secret };
}

pub(super) static KEYS: &[Key] = keys! {
    database.url secret true env &["DATABASE_URL"] => "where Postgres is";
    database.url_direct secret true env &["DATABASE_URL_DIRECT"] => "the same past any pooler, for listening and migrations";
    database.max_connections => "most connections of the main pool; see docs/deployment.md for the others";
    database.deadline => "how long one call may take";
    database.pooler_mode => "unnamed statements in explicit transactions, for poolers that do not track prepared statements";
    database.idle_in_transaction => "the server ends our transaction when it idles this long";
    kafka.brokers env &["KAFKA_BROKERS", "KAFKA_BOOTSTRAP_SERVERS"] => "bootstrap servers, host:port separated by commas; without any this replica sends nothing";
    kafka.message_timeout => "how long a message may take, tries included";
    kafka.client_id => "the name under which brokers see this process, for their quotas and logs";
    kafka.window => "items sent whose outcome is not committed, per replica";
    lease.duration => "how long a claim lasts without renewal";
    lease.renew => "how often claims are renewed";
    lease.sweep => "how often stale claims are looked for";
    lease.max_deaths => "how many holders a batch may kill before it is split";
    leader.lease => "how long leadership lasts without renewal";
    leader.renew => "how often leadership is renewed";
    worker.batches => "batches in flight per replica";
    worker.batch_size => "items per batch";
    worker.poll => "how often work is looked for when no hint comes; a fifth as often by an idle replica that hears hints";
    worker.plan_ahead => "unclaimed batches planned ahead";
    workflows.in_flight => "runs whose code runs at once per replica";
    workflows.max_result => "largest result of a step in bytes";
    workflows.cancel_grace => "how long the code of a cancelled run may take to come to its end";
    redelivery.page => "undelivered rows claimed at once";
    redelivery.max_attempts => "attempts before a message is dead";
    redelivery.first_delay => "delay after the first attempt";
    redelivery.max_delay => "longest delay between attempts";
    direct.queue => "direct commands that wait to be sent; more go to the table";
    direct.spill => "direct commands that wait to be stored; more are given back";
    direct.window => "direct commands sent whose outcome is not known, per process";
    direct.patience => "how long a direct command may go without an answer before it is stored";
    direct.key_secret secret true => "secret of the hash that makes keys of addresses; none: commands without a user id have no key";
    outbox.page => "commands of the outbox sent and deleted at once";
    outbox.lanes => "lanes of the outbox held at once per replica, of sixteen";
    outbox.poll => "how often the outbox is polled while it holds something; an empty one is polled down to eight times less often";
    health.listen => "where /health/live, /health/ready and /metrics are told to whoever asks, host:port; not set: nowhere";
    health.every => "how often Postgres, the schema and the brokers are looked at";
    drain.deadline => "how long a stopping replica may take";
    retention.runs => "how long finished runs are kept";
    retention.transitions => "how long audit rows that belong to no run are kept";
    retention.undelivered => "how long settled direct commands are kept";
    retention.replicas => "how long replicas that are gone are kept";
    retention.inbox => "how long consumers remember messages and keep dead records";
    retention.measures => "how long is kept what replicas counted, minute by minute";
    retention.page => "rows deleted at once";
    api.listen => "where the HTTP API listens, host:port; not set: nowhere";
    api.token secret true => "a token with all roles, beside those that `tokens create` makes";
    api.connections => "most connections of the HTTP API at once";
    api.requests_per_s => "requests a second that one token may make";
    api.bulk_requests => "bulk requests worked on at once";
    telemetry.otlp_endpoint env &["OTEL_EXPORTER_OTLP_ENDPOINT"] => "collector that takes http/protobuf, such as http://collector:4318; not set: nothing is sent";
    telemetry.sample => "which share of traces is recorded: auto (all, as long as those are few), or from 0 to 1; OTEL_TRACES_SAMPLER is stronger";
    telemetry.interval => "how often metrics are sent; OTEL_METRIC_EXPORT_INTERVAL is stronger";
    telemetry.fleet_interval => "how often the leader measures the whole fleet; 0s: never";
    telemetry.flush => "how long a stop waits for the collector";
    telemetry.scrape => "whether /metrics is told at health.listen";
    telemetry.log_format => "how log lines are written: human or json";
};

/// Every section, in the order in which people meet them, and what it is about.
pub(super) const SECTIONS: &[(&str, &str)] = &[
    (
        "database",
        "Postgres. TLS is part of the URL: ?sslmode=verify-full&sslrootcert=/path/ca.pem",
    ),
    ("kafka", "The brokers."),
    (
        "kafka.properties",
        "Handed to librdkafka as they are; what would break a promise is refused. In the environment LOCKGATE_KAFKA_PROPERTIES_ and the name with underscores for dots; with _FILE behind it for those that hold a secret.",
    ),
    (
        "topics",
        "Command type to topic. In the environment LOCKGATE_TOPICS_ and the type.",
    ),
    ("worker", "Execution of batches."),
    ("workflows", "The code of workflows."),
    ("lease", "Leases of runs and batches."),
    ("leader", "The leader's lease."),
    ("redelivery", "Undelivered messages."),
    ("direct", "Commands that come without a run."),
    ("outbox", "Commands that were committed with their caller's rows."),
    ("health", "What probes are told."),
    (
        "drain",
        "Stopping. Whoever stops the process must wait a little longer than this before killing it.",
    ),
    ("retention", "What is deleted when."),
    ("api", "The HTTP API."),
    (
        "telemetry",
        "Traces, metrics and logs. The standard OTEL_ variables are heeded, see docs/telemetry.md.",
    ),
];

/// Keys whose last part the user chooses.
pub(super) const OPEN: &[&str] = &["topics.", "kafka.properties."];

/// The name of a key in the environment.
pub(super) fn env_name(path: &str) -> String {
    format!("LOCKGATE_{}", path.replace('.', "_").to_ascii_uppercase())
}

pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Writes one value of either sort of key. `None`: there is no such key.
pub(super) fn write(config: &mut Config, path: &str, text: &str) -> Option<Result<(), String>> {
    if let Some(name) = path.strip_prefix("topics.").filter(|name| !name.is_empty()) {
        config.topics.insert(name.to_owned(), text.to_owned());
        return Some(Ok(()));
    }
    if let Some(name) = path.strip_prefix("kafka.properties.").filter(|name| !name.is_empty()) {
        config.kafka.properties.insert(name.to_owned(), text.to_owned());
        return Some(Ok(()));
    }
    find(path).map(|key| (key.write)(config, text))
}

//! The variables that the binaries read.

use std::collections::{BTreeMap, BTreeSet};

use clap::CommandFactory;
use lockgate::config::{Config, Sources, reference};
use lockgate_workflows::email_sender::Args;

/// Read by every binary, beside those of the configuration.
const OF_THE_COMMAND_LINE: [&str; 3] = ["LOCKGATE_CONFIG", "LOCKGATE_ACTOR", "RUST_LOG"];

/// Files of secrets that are no key's.
const FILES_OF_HEADERS: [&str; 4] = [
    "OTEL_EXPORTER_OTLP_HEADERS_FILE",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS_FILE",
    "OTEL_EXPORTER_OTLP_METRICS_HEADERS_FILE",
    "OTEL_EXPORTER_OTLP_LOGS_HEADERS_FILE",
];

/// All names there are, as the reference lists them.
fn known() -> BTreeSet<String> {
    let reference = reference();
    let tokens = reference.split(|c: char| !(c == '$' || c == '_' || c.is_ascii_alphanumeric()));
    let of_config = tokens.filter_map(|token| token.strip_prefix('$')).map(str::to_owned);
    let command = Args::command();
    let of_sender = command.get_arguments().filter_map(|argument| argument.get_env());
    let of_sender = of_sender.map(|name| name.to_string_lossy().into_owned());
    let all = OF_THE_COMMAND_LINE.map(str::to_owned).into_iter();
    all.chain(of_config).chain(of_sender).collect()
}

/// `EMAIL_LEASE` where nobody says anything else.
pub fn lease_of_sender() -> String {
    let command = Args::command();
    let mut arguments = command.get_arguments();
    let lease = arguments.find(|argument| argument.get_env().is_some_and(|name| name == "EMAIL_LEASE"));
    let default = lease.unwrap().get_default_values().first().unwrap();
    default.to_string_lossy().into_owned()
}

/// Is there somebody who reads it?
pub fn is_known(name: &str) -> bool {
    // Of all others the exporters know no file, and what it holds would stay where it is.
    if name.starts_with("OTEL_") && name.ends_with("_FILE") {
        return FILES_OF_HEADERS.contains(&name);
    }
    // The standard variables of OpenTelemetry: docs/telemetry.md says what becomes of each.
    let open = ["LOCKGATE_TOPICS_", "LOCKGATE_KAFKA_PROPERTIES_", "OTEL_"];
    known().contains(name)
        || open
            .iter()
            .any(|open| name.starts_with(open) && name.len() > open.len())
}

/// Holds an environment to what the binaries read, and to what they take.
pub fn hold(what: &str, env: &BTreeMap<String, String>) -> Config {
    for name in env.keys() {
        assert!(is_known(name), "{what}: nobody reads {name}");
    }
    let sources = Sources {
        // Files are where the container has them, not here.
        env: env
            .iter()
            .filter(|(name, _)| !name.ends_with("_FILE"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        ..Sources::default()
    };
    let loaded = Config::load(&sources).unwrap_or_else(|error| panic!("{what}: {error}"));
    loaded
        .config
        .validate()
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    loaded.config
}

#[test]
fn names_that_nobody_reads_are_found() {
    for name in [
        "DATABASE_URL",
        "DATABASE_URL_FILE",
        "LOCKGATE_HEALTH_LISTEN",
        "KAFKA_BROKERS",
        "EMAIL_SMTP_URL_FILE",
        "LOCKGATE_TOPICS_EMAIL",
        "LOCKGATE_CONFIG",
        "OTEL_SERVICE_NAME",
        "OTEL_EXPORTER_OTLP_LOGS_HEADERS_FILE",
    ] {
        assert!(is_known(name), "{name}");
    }
    for name in [
        "LOCKGATE_HEALTH_LISTENS",
        "LOCKGATE_HEALTH_LISTEN_FILE",
        "KAFKA_BROKER",
        "LOCKGATE_TOPICS_",
        "EMAIL_URL",
        "OTEL_EXPORTER_OTLP_ENDPOINT_FILE",
    ] {
        assert!(!is_known(name), "{name}");
    }
}

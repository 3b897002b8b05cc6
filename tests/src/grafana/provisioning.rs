//! How Grafana finds its data sources and dashboards.

use yaml_rust2::Yaml;

use super::panel::Source;
use super::yaml::{document, list, map, text};

/// Addresses and the password come from the environment, which Grafana fills in.
#[must_use]
pub fn datasources() -> String {
    let metrics = map([
        ("name", text("Lockgate metrics")),
        ("uid", text(Source::Prometheus.uid())),
        ("type", text(Source::Prometheus.plugin())),
        ("access", text("proxy")),
        ("url", text("$LOCKGATE_PROMETHEUS_URL")),
        ("isDefault", Yaml::Boolean(true)),
        // What $__rate_interval is made of: between two exports of metrics.
        ("jsonData", map([("timeInterval", text("15s"))])),
    ]);
    let views = map([
        ("name", text("Lockgate views")),
        ("uid", text(Source::Postgres.uid())),
        ("type", text(Source::Postgres.plugin())),
        ("access", text("proxy")),
        ("url", text("$LOCKGATE_POSTGRES_ADDRESS")),
        ("user", text("lockgate_reader")),
        (
            "jsonData",
            map([
                ("database", text("$LOCKGATE_POSTGRES_DATABASE")),
                ("sslmode", text("$LOCKGATE_POSTGRES_SSLMODE")),
                ("postgresVersion", Yaml::Integer(1500)),
                ("timescaledb", Yaml::Boolean(false)),
                ("maxOpenConns", Yaml::Integer(5)),
            ]),
        ),
        ("secureJsonData", map([("password", text("$LOCKGATE_READER_PASSWORD"))])),
    ]);
    let about = "The two places where Grafana reads: metrics, and the views of the database.";
    document(
        about,
        &map([
            ("apiVersion", Yaml::Integer(1)),
            ("datasources", list([metrics, views])),
        ]),
    )
}

/// Where the files of the dashboards are mounted.
pub const MOUNTED: &str = "/var/lib/grafana/dashboards/lockgate";

/// The folder that Grafana reads dashboards from.
#[must_use]
pub fn dashboards() -> String {
    let provider = map([
        ("name", text("lockgate")),
        ("orgId", Yaml::Integer(1)),
        ("folder", text("Lockgate")),
        ("type", text("file")),
        ("disableDeletion", Yaml::Boolean(true)),
        ("allowUiUpdates", Yaml::Boolean(false)),
        ("updateIntervalSeconds", Yaml::Integer(30)),
        ("options", map([("path", text(MOUNTED))])),
    ]);
    let about = "Where Grafana finds the dashboards of Lockgate.";
    document(
        about,
        &map([("apiVersion", Yaml::Integer(1)), ("providers", list([provider]))]),
    )
}

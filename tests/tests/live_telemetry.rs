//! What replicas tell, read back from a real Prometheus behind a real OpenTelemetry Collector: every panel has data, every
//! rule is evaluated, and alerts fire when they should. `make test-telemetry` builds the two; without them this skips (RC.6).
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use lockgate::telemetry::catalogue::When;
use lockgate_tests::cluster::Cluster;
use lockgate_tests::demo_load::DemoLoad;
use lockgate_tests::grafana::dashboard::DASHBOARDS;
use lockgate_tests::grafana::panel::Panel;
use lockgate_tests::grafana::promql::{filled_in, written_out};
use lockgate_tests::grafana::{alerts, catalogue};
use lockgate_tests::replica::{PATIENCE, Replica};
use lockgate_tests::telemetry_servers::TelemetryServers;
use lockgate_tests::{skipped, wait_until};
use serde_json::{Value, json};

/// Exports come soon, and the leader measures soon.
const SOON: [(&str, &str); 6] = [
    ("OTEL_METRIC_EXPORT_INTERVAL", "500"),
    ("OTEL_BSP_SCHEDULE_DELAY", "200"),
    ("OTEL_BLRP_SCHEDULE_DELAY", "200"),
    ("OTEL_TRACES_SAMPLER", "always_on"),
    ("OTEL_SERVICE_NAME", "lockgate"),
    ("LOCKGATE_TELEMETRY_FLEET_INTERVAL", "500ms"),
];
/// Panels that this trouble may have nothing for: nobody consumes here, no job of the leader fails, and the run that failed
/// may have done so too long ago.
const NOT_IN_TROUBLE: [&str; 3] = ["Consumers", "Failed and cancelled", "Jobs of the leader that failed"];

async fn scene() -> Option<(TelemetryServers, Cluster)> {
    let Some(servers) = TelemetryServers::start().await else {
        skipped("no Prometheus and no Collector are named; `make test-telemetry` builds them");
        return None;
    };
    let mut cluster = Cluster::new()
        .await
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", &servers.collector);
    for (name, value) in SOON {
        cluster = cluster.with(name, value);
    }
    Some((servers, cluster))
}

/// Does it read what is there only in trouble?
fn is_of_trouble(query: &str) -> bool {
    let mut of_trouble = catalogue::all().filter(|metric| metric.0.when == When::InTrouble);
    of_trouble.any(|metric| query.contains(&format!("<{}>", metric.0.name)))
}

/// Queries of these panels that have no series.
async fn empty(servers: &TelemetryServers, panels: impl Iterator<Item = &Panel>) -> Vec<String> {
    let mut empty = Vec::new();
    for panel in panels {
        for query in panel.prometheus.1.iter().filter(|query| !is_of_trouble(query.text)) {
            if servers.query(&filled_in(&written_out(query.text))).await.is_empty() {
                empty.push(format!("{}: {}", panel.title, query.text));
            }
        }
    }
    empty
}

/// A request, so that there is something to show of the HTTP API; the replica must be kept.
async fn ask_by_http(cluster: &Cluster) -> Replica {
    let mut replica = cluster.replica_called(&["run", "--roles", "api"], &[("LOCKGATE_API_LISTEN", "127.0.0.1:0")]);
    let address = replica.api().await;
    let answer = reqwest::get(format!("http://{address}/api/v1/runs")).await.unwrap();
    assert_eq!(answer.status(), 401);
    replica
}

/// Alerts that wait or fire.
async fn raised(servers: &TelemetryServers) -> BTreeSet<String> {
    let raised = servers.query("ALERTS").await;
    raised
        .iter()
        .map(|alert| alert["metric"]["alertname"].as_str().unwrap().to_owned())
        .collect()
}

/// Names of the spans of a trace that the collector has taken.
fn spans(servers: &TelemetryServers, trace: &str) -> BTreeSet<String> {
    let lines = std::fs::read_to_string(servers.traces()).unwrap_or_default();
    let mut names = BTreeSet::new();
    for page in lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
    {
        let resources = page["resourceSpans"].as_array().cloned().unwrap_or_default();
        let scopes = resources
            .iter()
            .flat_map(|resource| resource["scopeSpans"].as_array().cloned().unwrap_or_default());
        for scope in scopes {
            let spans = scope["spans"].as_array().cloned().unwrap_or_default();
            let of_it = spans.iter().filter(|span| span["traceId"] == trace);
            names.extend(of_it.map(|span| span["name"].as_str().unwrap().to_owned()));
        }
    }
    names
}

async fn trouble_raises_alerts(servers: &TelemetryServers, cluster: &Cluster) {
    // A message that was given up, and a replica whose topic is not there.
    sqlx::raw_sql(include_str!("../sql/trouble.sql"))
        .execute(&cluster.pool)
        .await
        .unwrap();
    let _astray = cluster.replica_with(&[("LOCKGATE_TOPICS_EMAIL", "nobody_made_this")]);
    cluster
        .start_paced("chaos-items", json!({"items": 50_000}), Some(1_000))
        .await;
    wait_until(PATIENCE, "the alerts are raised", async || {
        let raised = raised(servers).await;
        println!("raised: {raised:?}");
        ["LockgateBreakerOpen", "LockgateDeadLetters", "LockgateOutboxBehind"]
            .iter()
            .all(|name| raised.contains(*name))
    })
    .await;

    // Not for a moment only: the breaker of a topic that is not there tries again and again.
    let fires = "ALERTS{alertname=\"LockgateBreakerOpen\",alertstate=\"firing\"}";
    wait_until(2 * PATIENCE, "the alert of the breaker fires", async || {
        !servers.query(fires).await.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panels_have_data_and_alerts_fire() {
    let Some((servers, cluster)) = scene().await else {
        return;
    };
    let load = DemoLoad::run(&cluster).await;
    let panels = || DASHBOARDS.iter().flat_map(|board| board.panels);
    let shown = || panels().filter(|panel| !panel.empty_when_well);
    let _api = ask_by_http(&cluster).await;
    let mut missing = Vec::new();
    wait_until(PATIENCE, "every panel has data", async || {
        missing = empty(&servers, shown()).await;
        if !missing.is_empty() {
            println!("{} are empty yet, the first is {}", missing.len(), missing[0]);
        }
        missing.is_empty()
    })
    .await;
    let delivered =
        "sum(lockgate_items_total{lockgate_workflow=\"daily-task-reports\",lockgate_outcome=\"delivered\"})";
    let counted = servers.query(delivered).await;
    assert_eq!(counted[0]["value"][1], json!("2700"), "{counted:?}");
    let slow = servers
        .query("histogram_quantile(0.99, sum by (le) (rate(lockgate_batch_duration_seconds_bucket[1m])))")
        .await;
    assert!(
        slow[0]["value"][1].as_str().unwrap().parse::<f64>().unwrap() > 0.0,
        "{slow:?}"
    );

    wait_until(PATIENCE, "every rule was evaluated", async || {
        let rules = servers.rules().await;
        rules.len() == alerts::all().count() && rules.iter().all(|rule| rule["health"] == "ok")
    })
    .await;
    // Of the load, whose refused items each rule sees with its next look.
    let of_load = BTreeSet::from(["LockgateRefused".to_owned()]);
    wait_until(PATIENCE, "the load's own alert is raised, and no other", async || {
        raised(&servers).await == of_load
    })
    .await;

    trouble_raises_alerts(&servers, &cluster).await;
    wait_until(PATIENCE, "what is wrong is shown", async || {
        let silent = empty(&servers, panels().filter(|panel| panel.empty_when_well)).await;
        println!("{silent:?}");
        let titles: BTreeSet<&str> = silent
            .iter()
            .filter_map(|line| Some(line.split_once(": ")?.0))
            .collect();
        titles.is_subset(&BTreeSet::from(NOT_IN_TROUBLE))
    })
    .await;

    let trace = load.run.simple().to_string();
    wait_until(PATIENCE, "the run's trace has arrived", async || {
        let names = spans(&servers, &trace);
        println!("trace {trace}: {names:?}");
        names.iter().any(|name| name.starts_with("run ")) && names.iter().any(|name| name.starts_with("send "))
    })
    .await;
}

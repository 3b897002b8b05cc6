//! What replicas tell, read back from a real Prometheus behind a real OpenTelemetry Collector: every panel has data, every
//! rule is evaluated, and alerts fire when they should. `make test-telemetry` builds the two; without them this skips (RC.6).
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use lockgate::telemetry::catalogue::When;
use lockgate_tests::cluster::Cluster;
use lockgate_tests::demo_load::DemoLoad;
use lockgate_tests::grafana::dashboard::DASHBOARDS;
use lockgate_tests::grafana::panel::{Panel, Query};
use lockgate_tests::grafana::promql::{filled_in, written_out};
use lockgate_tests::grafana::{alerts, catalogue};
use lockgate_tests::mailroom::{Letter, Mailroom};
use lockgate_tests::replica::{PATIENCE, Replica};
use lockgate_tests::telemetry_servers::TelemetryServers;
use lockgate_tests::topic::Topic;
use lockgate_tests::{kafka_brokers, skipped, wait_until};
use serde_json::{Value, json};
use uuid::Uuid;

/// Exports come soon, and the leader measures soon.
const SOON: [(&str, &str); 6] = [
    ("OTEL_METRIC_EXPORT_INTERVAL", "500"),
    ("OTEL_BSP_SCHEDULE_DELAY", "200"),
    ("OTEL_BLRP_SCHEDULE_DELAY", "200"),
    ("OTEL_TRACES_SAMPLER", "always_on"),
    ("OTEL_SERVICE_NAME", "lockgate"),
    ("LOCKGATE_TELEMETRY_FLEET_INTERVAL", "500ms"),
];
/// Queries of what ends again when its cause does.
const WHAT_FAILS: [&str; 3] = [
    "lockgate_outcome=\"failed\"}[$__rate_interval]",
    "<lockgate.step.retries>",
    "<lockgate.batch.hand_backs>",
];
const HELD: &str = "select count(*) from lockgate.run_batches where run_id = $1 and status = 'claimed'";
const CANCEL: &str = "select lockgate.cancel_run($1, 'seen enough', 'mia')";

/// A query, and the panel that shows it.
type Shown = (&'static Panel, &'static Query);

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

/// All queries of metrics, of all dashboards.
fn all_shown() -> Vec<Shown> {
    let panels = DASHBOARDS.iter().flat_map(|board| board.panels);
    panels
        .flat_map(|panel| panel.prometheus.1.iter().map(move |query| (panel, query)))
        .collect()
}

/// Does it show, or read, what is there only in trouble?
fn is_of_trouble((panel, query): &Shown) -> bool {
    let mut of_trouble = catalogue::all().filter(|metric| metric.0.when == When::InTrouble);
    panel.empty_when_well || of_trouble.any(|metric| query.text.contains(&format!("<{}>", metric.0.name)))
}

/// Those of them that have no series; each is one that Prometheus takes.
async fn silent(servers: &TelemetryServers, shown: &[Shown]) -> Vec<Shown> {
    let mut silent = Vec::new();
    for &(panel, query) in shown {
        if servers.query(&filled_in(&written_out(query.text))).await.is_empty() {
            silent.push((panel, query));
        }
    }
    silent
}

fn names(shown: &[Shown]) -> Vec<String> {
    let name = |(panel, query): &Shown| format!("{}: {}", panel.title, query.text);
    shown.iter().map(name).collect()
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

/// A message that was given up, and a replica whose topic is not there; it is given.
async fn trouble_raises_alerts(servers: &TelemetryServers, cluster: &Cluster) -> Replica {
    execute(cluster, include_str!("../sql/trouble.sql")).await;
    let astray = cluster.replica_with(&[
        ("LOCKGATE_TOPICS_EMAIL", "nobody_made_this"),
        ("LOCKGATE_CHAOS_EFFECTS", cluster.url()),
    ]);
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
    astray
}

async fn execute(cluster: &Cluster, sql: &'static str) {
    sqlx::raw_sql(sql).execute(&cluster.pool).await.unwrap();
}

/// An e-mail sender at work, which must be kept.
async fn consumes(servers: &TelemetryServers, cluster: &Cluster) -> (Mailroom, Replica) {
    let topic = Topic::new(kafka_brokers(), &[]).await;
    let mut room = Mailroom::on(cluster.url(), cluster.pool.clone(), topic, None)
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", &servers.collector);
    for (name, value) in SOON.iter().filter(|(name, _)| *name != "OTEL_SERVICE_NAME") {
        room = room.with(name, value);
    }
    room.post((0..5).map(Letter::to_user).collect()).await;
    let sender = room.sender();
    room.has_mails(5).await;
    (room, sender)
}

/// Waits until each of these has had data.
async fn is_shown(servers: &TelemetryServers, unseen: &mut Vec<Shown>, what: &str) {
    wait_until(2 * PATIENCE, what, async || {
        *unseen = silent(servers, unseen).await;
        println!("{what}: not seen yet: {:?}", names(unseen));
        unseen.is_empty()
    })
    .await;
}

/// A run whose batches are held, and for long.
async fn is_held(cluster: &Cluster) -> Uuid {
    let slow = cluster
        .start_paced("chaos-items", json!({"items": 100_000}), Some(5))
        .await;
    wait_until(PATIENCE, "batches are held", async || {
        cluster.count(HELD, slow).await > 0
    })
    .await;
    slow
}

/// Everything that panels show only in trouble is shown while there is some.
async fn trouble_is_shown(servers: &TelemetryServers, cluster: &Cluster, load: DemoLoad) {
    let _sender = consumes(servers, cluster).await;
    // Batches of a run that is cancelled are handed back. Tables that are away for a while: a job of the leader fails, and so do
    // tries of a step.
    execute(cluster, "alter table lockgate.schedules rename to away").await;
    execute(cluster, "alter table effects rename to effects_away").await;
    cluster.start("chaos-steps", json!({"transactions": 1})).await;
    let (mut failing, others): (Vec<Shown>, Vec<Shown>) = all_shown()
        .into_iter()
        .filter(is_of_trouble)
        .partition(|shown| WHAT_FAILS.iter().any(|text| shown.1.text.contains(text)));
    assert_eq!(failing.len(), WHAT_FAILS.len(), "{:?}", names(&failing));
    let cancelled = is_held(cluster).await;
    sqlx::query(CANCEL)
        .bind(cancelled)
        .execute(&cluster.pool)
        .await
        .unwrap();
    is_shown(servers, &mut failing, "what fails is shown").await;
    execute(cluster, "alter table lockgate.away rename to schedules").await;
    execute(cluster, "alter table effects_away rename to effects").await;
    // A holder of batches dies, and the next leader takes them over.
    let mut unseen = silent(servers, &others).await;
    is_held(cluster).await;
    let mut next = cluster.replica();
    next.runs().await;
    let DemoLoad { mut replica, .. } = load;
    replica.kill();
    is_shown(servers, &mut unseen, "what is wrong is shown").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panels_have_data_and_alerts_fire() {
    let Some((servers, cluster)) = scene().await else {
        return;
    };
    let load = DemoLoad::run(&cluster).await;
    let _api = ask_by_http(&cluster).await;
    wait_until(PATIENCE, "every panel has data", async || {
        let mut missing = silent(&servers, &all_shown()).await;
        missing.retain(|shown| !is_of_trouble(shown));
        if !missing.is_empty() {
            println!("{} are empty yet, the first is {}", missing.len(), names(&missing)[0]);
        }
        missing.is_empty()
    })
    .await;
    let delivered =
        "sum(lockgate_items_total{lockgate_workflow=\"daily-task-reports\",lockgate_outcome=\"delivered\"})";
    let counted = servers.query(delivered).await;
    assert_eq!(counted[0]["value"][1], json!("2700"), "{counted:?}");
    let slow = servers
        .query("histogram_quantile(0.99, sum by (le) (lockgate_batch_duration_seconds_bucket))")
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
    // Of the load, whose refused items and failed run each rule sees with its next look.
    let of_load = BTreeSet::from(["LockgateRefused".to_owned(), "LockgateRunsFail".to_owned()]);
    wait_until(
        PATIENCE,
        "the load's own alerts are raised, and no others",
        async || {
            let mut raised = raised(&servers).await;
            println!("raised: {raised:?}");
            // A run of the load waits for code that nobody has, and at some time for too long.
            raised.remove("LockgateQueueBehind");
            raised == of_load
        },
    )
    .await;

    let trace = load.run.simple().to_string();
    wait_until(PATIENCE, "the run's trace has arrived", async || {
        let spans = spans(&servers, &trace);
        println!("trace {trace}: {spans:?}");
        spans.iter().any(|name| name.starts_with("run ")) && spans.iter().any(|name| name.starts_with("send "))
    })
    .await;

    let _astray = trouble_raises_alerts(&servers, &cluster).await;
    trouble_is_shown(&servers, &cluster, load).await;
}

//! Log lines: each is one event, in both forms and at the collector.

use std::collections::BTreeMap;

use lockgate::telemetry::catalogue::EVENTS;
use lockgate_tests::collector::Collector;
use serde_json::{Value, json};

use crate::support::cluster;

#[tokio::test(flavor = "multi_thread")]
async fn every_line_is_one_event_of_the_catalogue_and_reaches_the_collector() {
    let collector = Collector::start().await;
    let cluster = cluster(&collector).await.with("LOCKGATE_TELEMETRY_LOG_FORMAT", "json");
    // All of it is to come, on a busy machine, too.
    let cluster = cluster.with("LOCKGATE_TELEMETRY_FLUSH", "5s");
    let mut replica = cluster.replica();
    replica.says("\"replica_started\"").await;
    let run = cluster.start("chaos-items", json!({"items": 300})).await;
    cluster.completes(run).await;
    replica.terminate();
    assert!(replica.ends().await.success());
    let log = replica.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let mut said: BTreeMap<String, usize> = BTreeMap::new();
    for line in &lines {
        let text = |name: &str| line[name].as_str().unwrap_or_else(|| panic!("no {name}: {line}"));
        assert!(chrono::DateTime::parse_from_rfc3339(text("ts")).is_ok(), "{line}");
        let def = EVENTS.iter().find(|def| def.name == text("event"));
        let def = def.unwrap_or_else(|| panic!("not in the catalogue: {line}"));
        assert_eq!(def.level, text("level"));
        assert!(!text("msg").is_empty());
        *said.entry(def.name.to_owned()).or_default() += 1;
    }
    for event in ["replica_started", "health_told", "replica_stopped"] {
        assert_eq!(said.get(event), Some(&1), "{said:?}");
    }
    // Sent in the background: the stop waits for it.
    let seen = collector.seen();
    for (event, times) in &said {
        assert_eq!(seen.events(event).len(), *times, "{event}");
    }
    let started = seen.events("replica_started")[0];
    assert_eq!((started.service.as_str(), started.level.as_str()), ("lockgate", "INFO"));
    assert!(started.fields.contains_key("replica") && started.message == "replica started");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_logged_within_its_own_trace() {
    let collector = Collector::start().await;
    let cluster = cluster(&collector).await.with("LOCKGATE_API_LISTEN", "127.0.0.1:0");
    let cluster = cluster.with("LOCKGATE_TELEMETRY_LOG_FORMAT", "json");
    let mut replica = cluster.replica();
    replica.says("\"api_listens\"").await;
    let log = replica.log();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let listens = lines.into_iter().find(|line| line["event"] == "api_listens").unwrap();
    let address = listens["address"].as_str().unwrap();
    // What it asks for is away.
    sqlx::query("alter table lockgate.api_tokens rename to api_tokens_away")
        .execute(&cluster.pool)
        .await
        .unwrap();
    let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let request = reqwest::Client::new().get(format!("http://{address}/api/v1/runs"));
    let request = request.header("traceparent", format!("00-{trace}-{span}-01"));
    let token = format!("lockgate_{}", "0".repeat(64));
    let answer = request.bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    replica.says(&format!("\"trace_id\":\"{trace}\"")).await;
    collector
        .wait_for("the request and what it said have come", |seen| {
            let said = seen.events("token_not_checked");
            let spans = seen.spans_of(trace);
            said.iter().any(|log| log.trace == trace)
                && spans.iter().any(|own| own.parent == span && own.kind == "Server")
        })
        .await;
    let seen = collector.seen();
    let request = seen.spans_of(trace)[0];
    assert_eq!(request.name, "GET /api/v1/runs");
    assert!(
        request.failed && request.attributes["http.response.status_code"] == "503",
        "{request:?}"
    );
}

//! What really is told is in the catalogue, as it is there; and what is in the catalogue is really told: in a scenario with
//! a bit of everything, or in the test that is named for it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use lockgate::telemetry::catalogue::{Attribute, EVENTS, Kind, MetricDef, SPANS, SpanDef, Values, When, all_metrics};
use lockgate_tests::api::TOKEN;
use lockgate_tests::cluster::{Cluster, program};
use lockgate_tests::collector::{Attributes, Collector, Seen, Span};
use lockgate_tests::mailroom::Mailroom;
use lockgate_tests::smtp_sink::SmtpSink;
use serde_json::json;

use crate::attributes::Told;
use crate::support::cluster;

/// What only shows in troubles that this scenario has not, with the file and the test in which it is told.
pub const ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "lockgate.breaker.opened",
        "engine/src/delivery/breakers.rs",
        "a_topic_under_probe_is_in_trouble_though_its_breaker_is_not_open",
    ),
    (
        "lockgate.step.retries",
        "engine/src/execution/run_task_tests.rs",
        "a_step_is_tried_again_and_its_failure_recorded_in_the_same_words",
    ),
    (
        "lockgate.retention.rows",
        "engine/src/leader/tests.rs",
        "a_kind_that_cannot_be_pruned_does_not_keep_the_others_and_none_takes_more_than_its_pages",
    ),
    (
        "db.client.connection.timeouts",
        "engine/src/postgres/pool_meter.rs",
        "a_wait_for_a_connection_that_is_given_up_is_counted",
    ),
    (
        "lockgate.kafka.throttle",
        "engine/src/kafka/statistics.rs",
        "the_worst_broker_counts_and_what_was_not_measured_is_not_told",
    ),
];

/// Shorter than patience itself: who fails then says what was not told.
const WITHIN: Duration = Duration::from_secs(80);

fn bare(all: &Attributes, known: &[&'static Attribute], what: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, value) in all {
        match known.iter().find(|attribute| attribute.name == name) {
            None => wrong.push(format!("{what} has {name} = {value}, which it must not")),
            Some(Attribute {
                values: Values::Closed(closed),
                ..
            }) if !closed.contains(&value.as_str()) => {
                wrong.push(format!("{what} has {name} = {value}, which is none of {closed:?}"));
            }
            Some(Attribute {
                values: Values::Number, ..
            }) if value.parse::<f64>().is_err() => {
                wrong.push(format!("{what} has {name} = {value}, which is no number"));
            }
            Some(_) => {}
        }
    }
    wrong
}

/// Metrics that are not as the catalogue says.
fn wrong_metrics(seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, told) in seen.metrics.iter().filter(|(name, _)| !name.starts_with("otel.")) {
        let Some(def) = all_metrics().find(|def| def.name == name) else {
            wrong.push(format!("{name} is in no catalogue"));
            continue;
        };
        let kind = match def.kind {
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
            Kind::Gauge => "gauge",
        };
        if (told.unit.as_str(), told.kind) != (def.unit, kind) {
            wrong.push(format!("{name} is a {} in {}", told.kind, told.unit));
        }
        for point in told.points.values().flatten() {
            wrong.extend(bare(&point.attributes, def.attributes, name));
        }
    }
    wrong
}

/// What the catalogue has of it.
pub fn def_of(span: &Span) -> Option<&'static SpanDef> {
    let called = |name: &str| SPANS.iter().find(|def| def.name == name).copied();
    if span.attributes.contains_key("db.operation.name") {
        return called("{verb}");
    }
    if span.attributes.contains_key("http.route") {
        return called("{method} {route}");
    }
    let fixed = |def: &&&SpanDef| !def.name.starts_with('{') && def.is_of(&span.name);
    called(&span.name).or_else(|| SPANS.iter().find(fixed).copied())
}

/// Spans that are not as the catalogue says.
fn wrong_spans(seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    for span in seen.spans.iter().filter(|span| span.scope == "lockgate") {
        let Some(def) = def_of(span) else {
            wrong.push(format!("span {} is in no catalogue", span.name));
            continue;
        };
        if span.kind.to_lowercase() != def.kind {
            wrong.push(format!("span {} is of kind {}", span.name, span.kind));
        }
        if let Some(event) = span.events.iter().find(|event| !def.events.contains(&event.as_str())) {
            wrong.push(format!("span {} has event {event}", span.name));
        }
        wrong.extend(bare(&span.attributes, def.attributes, &span.name));
    }
    wrong
}

fn wrong_events(seen: &Seen) -> Vec<String> {
    let is_known = |event: &str, level: &str| EVENTS.iter().any(|def| (def.name, def.level) == (event, level));
    let logs = seen
        .logs
        .iter()
        .filter(|log| ["INFO", "WARN", "ERROR"].contains(&log.level.as_str()));
    let unknown = logs.filter(|log| !is_known(&log.event, &log.level));
    unknown
        .map(|log| format!("{} {}: {}", log.level, log.event, log.message))
        .collect()
}

/// What the catalogue has and nobody has told so far.
fn untold_metrics(seen: &Seen) -> Vec<&'static str> {
    let elsewhere = |name: &str| ELSEWHERE.iter().any(|(known, ..)| *known == name);
    // A total that is told as 0 from the start is to be counted, too, but for those of troubles that this scenario has not.
    let counts = |def: &MetricDef| def.kind == Kind::Counter && def.when != When::Always;
    let is_told = |def: &MetricDef| {
        let points = seen.points(def.name);
        points.iter().any(|point| point.value > 0.0 || !counts(def))
    };
    let metrics = all_metrics().filter(|def| !elsewhere(def.name) && !is_told(def));
    metrics.map(|def| def.name).collect()
}

fn untold(seen: &Seen) -> Vec<&'static str> {
    [untold_metrics(seen), untold_spans(seen)].concat()
}

fn untold_spans(seen: &Seen) -> Vec<&'static str> {
    let told: BTreeSet<&str> = seen.spans.iter().filter_map(def_of).map(|def| def.name).collect();
    let spans = SPANS
        .iter()
        .filter(|def| def.when != When::InTrouble)
        .map(|def| def.name);
    spans.filter(|name| !told.contains(name)).collect()
}

/// Work of every sort, with a bit of trouble.
async fn work(cluster: &Cluster, address: &str) {
    let program = cluster.settings().iter().fold(
        lockgate_tests::cli::Program::without_database(program().to_str().unwrap()),
        |program, (name, value)| program.env(name, value),
    );
    let schedule = [
        "schedules",
        "set",
        "often",
        "--workflow",
        "chaos-items",
        "--cron",
        "*/5 * * * * *",
        "--params",
        "{\"items\": 3}",
    ];
    assert_eq!(program.run(&schedule).await.code, 0);
    // The first reads of the process fail; two may be those of other runs, for which nothing does.
    let items = json!({"items": 40, "skipped": [3], "unserialisable": [5], "oversize": [7], "oversize_bytes": 3_000_000, "rows_fail": 3});
    let items = cluster.start("chaos-items", items).await;
    // Open while the fleet is measured, in a queue that has a limit: by whoever leads once the dead one's lease has ended.
    let slow = cluster.start_paced("chaos-items", json!({"items": 40}), Some(2)).await;
    let limit = ["queues", "set", "chaos-steps", "--max-running", "100"];
    assert_eq!(program.run(&limit).await.code, 0);
    let steps = json!({"steps": 1, "transactions": 1, "undoables": 1, "nap_ms": 1200, "race_ms": 50});
    let steps = cluster.start("chaos-steps", steps).await;
    let broken = cluster.start("chaos-steps", json!({"steps": 1, "breaks": 0})).await;
    let family = cluster
        .start("chaos-family", json!({"children": 2, "publish": 2, "rounds": 1}))
        .await;
    let mails = cluster.start("daily-task-reports", json!({})).await;
    let command = json!({
        "recipientEmail": "ada@example.org", "templateId": "welcome", "templateContext": {"name": "Ada"},
        "locale": "en", "correlationId": "c",
    });
    let request = reqwest::Client::new()
        .post(format!("http://{address}/api/v1/email-commands"))
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .header("content-type", "application/json")
        .body(command.to_string())
        .bearer_auth(TOKEN);
    assert_eq!(request.send().await.unwrap().status(), 202);
    for run in [items, steps, family, mails, slow] {
        cluster.reaches(run, "completed").await;
    }
    cluster.reaches(broken, "failed").await;
    // A message that was unknown once, and is due.
    sqlx::query("update lockgate.undelivered_messages set status = 'due', next_attempt_at = clock_timestamp() where status = 'refused'")
        .execute(&cluster.pool)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_and_what_is_told_are_the_same() {
    let collector = Collector::start().await;
    let cluster = cluster(&collector)
        .await
        // More rarely than metrics are exported, so that each interval is told.
        .with("LOCKGATE_KAFKA_PROPERTIES_STATISTICS_INTERVAL_MS", "1500")
        .with("LOCKGATE_API_TOKEN", TOKEN)
        // What has a span once is to have it, however many there are.
        .with("OTEL_TRACES_SAMPLER", "always_on");
    cluster.seed_users(40).await;
    // The one that dies leaves what the next leader takes over.
    let mut first = cluster.replica();
    first.runs().await;
    let napping = cluster
        .start("chaos-steps", json!({"steps": 1, "step_ms": 8_000}))
        .await;
    cluster.reaches(napping, "running").await;
    first.kill();
    let mut second = cluster.replica_with(&[("LOCKGATE_API_LISTEN", "127.0.0.1:0")]);
    let address = second.api().await;
    // One whose command comes of a fan-out, whose trace goes on, and one of another way.
    let sink = SmtpSink::new(|to| {
        ["user1@example.org", "user-1@example.org"]
            .contains(&to)
            .then_some("550 no such user")
    })
    .await;
    let room = Mailroom::on(cluster.url(), cluster.pool.clone(), cluster.topic.clone(), None)
        .with_all(&collector.env())
        // What is before it is told once the library has looked.
        .with("LOCKGATE_KAFKA_PROPERTIES_STATISTICS_INTERVAL_MS", "1500");
    let mut sender = room.sender_with(&[("EMAIL_SMTP_URL", &sink.url())]);
    work(&cluster, &address).await;
    let (mut last, mut attributes) = (untold(&Seen::default()), Told::default());
    let wait = lockgate_tests::wait_until(
        lockgate_tests::replica::PATIENCE,
        "all has been told but the drain",
        async || {
            // What was told once counts, though a gauge of what goes on may have gone since.
            let seen = collector.seen();
            let now = untold(&seen);
            last.retain(|name| now.contains(name));
            attributes.add(&seen);
            last == ["drain"] && attributes.missing().iter().all(|(of, _)| *of == "drain")
        },
    );
    let told = tokio::time::timeout(WITHIN, wait).await;
    let missing = attributes.missing();
    assert!(
        told.is_ok(),
        "nobody tells {last:?}, nor of these an attribute: {missing:#?}"
    );
    let wrong = wrong_metrics(&collector.seen());
    for process in [&mut second, &mut sender] {
        process.terminate();
        assert!(process.ends().await.success());
    }
    let seen = collector.seen();
    assert_eq!(untold_spans(&seen), Vec::<&str>::new());
    attributes.add(&seen);
    let missing = attributes.missing();
    assert!(missing.is_empty(), "nobody tells {missing:#?}");
    let wrong: Vec<String> = [wrong, wrong_metrics(&seen), wrong_spans(&seen), wrong_events(&seen)].concat();
    let wrong: BTreeSet<&String> = wrong.iter().collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The constant of the catalogue by which code names a metric.
fn constant(metric: &str) -> String {
    let table = include_str!("../../../engine/src/telemetry/catalogue/metrics.rs");
    let row = table.lines().find(|line| line.contains(&format!("\"{metric}\"")));
    row.unwrap().trim().split(' ').next().unwrap().to_owned()
}

#[test]
fn what_is_shown_elsewhere_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (metric, file, test) in ELSEWHERE {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let (before, after) = text.split_once(&format!("fn {test}()")).unwrap_or_else(|| {
            panic!("{file} has no test {test}, which is to show {metric}");
        });
        let marks = before.trim_end().trim_end_matches("async").trim_end();
        assert!(
            marks.ends_with("#[test]") || marks.ends_with("#[tokio::test]"),
            "{test} is no test"
        );
        let code = after
            .split("#[test]")
            .next()
            .unwrap()
            .split("#[tokio::test]")
            .next()
            .unwrap();
        let named = match *metric {
            "lockgate.kafka.throttle" => "Throttle".to_owned(),
            _ => constant(metric),
        };
        assert!(code.contains(&named), "{test} does not look at {metric}");
    }
}

//! What is scraped and what is sent are the same.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lockgate::telemetry::catalogue::{Kind, MetricDef, all_metrics};
use lockgate_tests::collector::{Attributes, Collector, Seen};
use lockgate_tests::probes::Probes;
use lockgate_tests::replica::PATIENCE;
use serde_json::json;

use crate::support::{cluster, parse};

/// These grow by being looked at.
fn is_at_rest(name: &str) -> bool {
    ![
        "process.",
        "lockgate.runtime.",
        "lockgate.telemetry.",
        "db.client.",
        "lockgate.leases.",
        "lockgate.leader.",
    ]
    .iter()
    .any(|restless| name.starts_with(restless))
}

/// A name in the alphabet of Prometheus.
fn sanitised(attributes: &Attributes) -> Attributes {
    let names = attributes.iter();
    names
        .map(|(name, value)| (name.replace('.', "_"), value.clone()))
        .collect()
}

/// How the totals of a metric are scraped: of a histogram how many values there were.
fn scraped_name(def: &MetricDef) -> String {
    let name = def.prometheus_name();
    if def.kind == Kind::Histogram {
        format!("{name}_count")
    } else {
        name
    }
}

/// The totals that differ between what was sent and what is scraped, and how many were compared.
fn differences(seen: &Seen, scraped: &str) -> (Vec<String>, usize) {
    let scraped = parse(scraped);
    let (mut different, mut compared) = (Vec::new(), 0);
    let totals = all_metrics().filter(|def| def.kind != Kind::Gauge && is_at_rest(def.name));
    for def in totals {
        for point in seen.points(def.name) {
            let labels = sanitised(&point.attributes);
            let same = scraped.iter().find(|(name, own, _)| {
                *name == scraped_name(def) && labels.iter().all(|(name, value)| own.get(name) == Some(value))
            });
            compared += 1;
            match same {
                Some((_, _, value)) if *value == point.value => {}
                Some((_, _, value)) => different.push(format!("{}: {point:?} but {value}", def.name)),
                None => different.push(format!("{}: {point:?} is not scraped", def.name)),
            }
        }
    }
    (different, compared)
}

/// Of each sort that grows or changes by being looked at: without them the comparison of names would show little.
const RESTLESS: &[&str] = &[
    "process.cpu.time",
    "process.memory.usage",
    "lockgate.runtime.tasks",
    "lockgate.telemetry.made",
    "db.client.operation.duration",
    "db.client.connection.count",
    "lockgate.leases.renewed",
    "lockgate.leases.lost",
    "lockgate.leader.elections",
    "lockgate.leading",
    "lockgate.replicas",
];

/// Metrics that are sent and not scraped under their name, whatever their values, and those that are not even sent.
fn names_apart(seen: &Seen, scraped: &str) -> Vec<String> {
    let scraped = parse(scraped);
    let scraped: BTreeSet<&str> = scraped.iter().map(|(name, ..)| name.as_str()).collect();
    let is_sent = |name: &str| !seen.points(name).is_empty();
    let sent = seen.metrics.keys().filter(|name| is_sent(name));
    let apart = sent.filter_map(|name| {
        // The SDK's own are in no catalogue; all others are.
        let def = all_metrics().find(|def| def.name == name)?;
        let wanted = scraped_name(def);
        (!scraped.contains(wanted.as_str())).then(|| format!("{name} is not scraped as {wanted}"))
    });
    let missing = RESTLESS.iter().filter(|name| !is_sent(name));
    let missing = missing.map(|name| format!("{name} is not sent"));
    apart.chain(missing).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_totals_are_scraped_and_sent() {
    let collector = Collector::start().await;
    let cluster = cluster(&collector).await.with("LOCKGATE_API_LISTEN", "127.0.0.1:0");
    let mut replica = cluster.replica();
    let probes = Probes::of(&mut replica).await;
    replica.runs().await;
    let run = cluster.start("chaos-items", json!({"items": 1_200})).await;
    cluster.completes(run).await;
    let address = replica.api().await;
    for path in ["/health", "/api/v1/runs"] {
        reqwest::get(format!("http://{address}{path}")).await.unwrap();
    }
    let mut last = (Vec::new(), 0);
    let until = Instant::now() + PATIENCE;
    while !last.0.is_empty() || last.1 < 2 {
        assert!(Instant::now() < until, "they differ: {last:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let scraped = probes.metrics().await;
        let seen = collector.seen();
        last = differences(&seen, &scraped);
        last.0.extend(names_apart(&seen, &scraped));
    }
    let scraped = probes.metrics().await;
    for line in scraped.lines() {
        assert!(!line.contains("otel_metric_overflow"), "{line}");
    }
}

//! What is scraped and what is sent are the same.

use lockgate::telemetry::catalogue::{Kind, all_metrics};
use lockgate_tests::collector::{Attributes, Collector, Seen};
use lockgate_tests::probes::Probes;
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::wait_until;
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

/// The totals that differ between what was sent and what is scraped, and how many were compared.
fn differences(seen: &Seen, scraped: &str) -> (Vec<String>, usize) {
    let scraped = parse(scraped);
    let (mut different, mut compared) = (Vec::new(), 0);
    let counters = all_metrics().filter(|def| def.kind == Kind::Counter && is_at_rest(def.name));
    for def in counters {
        for point in seen.points(def.name) {
            let labels = sanitised(&point.attributes);
            let same = scraped.iter().find(|(name, own, _)| {
                *name == def.prometheus_name() && labels.iter().all(|(name, value)| own.get(name) == Some(value))
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

#[tokio::test(flavor = "multi_thread")]
async fn the_same_totals_are_scraped_and_sent() {
    let collector = Collector::start().await;
    let cluster = cluster(&collector).await.with("LOCKGATE_API_LISTEN", "127.0.0.1:0");
    let mut replica = cluster.replica();
    let probes = Probes::of(&mut replica).await;
    replica.runs().await;
    let run = cluster.start("chaos-items", json!({"items": 1_200})).await;
    cluster.completes(run).await;
    let mut last = Vec::new();
    wait_until(PATIENCE, "both say the same", async || {
        let scraped = probes.metrics().await;
        let (different, compared) = differences(&collector.seen(), &scraped);
        last = different;
        last.is_empty() && compared > 0
    })
    .await;
    assert!(last.is_empty(), "{last:?}");
    let scraped = probes.metrics().await;
    for line in scraped.lines() {
        assert!(!line.contains("otel_metric_overflow"), "{line}");
    }
}

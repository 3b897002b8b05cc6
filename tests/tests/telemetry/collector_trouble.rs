//! A collector that is slow, frozen, broken or dead: work goes on as if there were none, and that is said once.

use std::time::{Duration, Instant};

use lockgate_tests::cluster::Cluster;
use lockgate_tests::collector::{Collector, Mode};
use lockgate_tests::probes::Probes;
use lockgate_tests::replica::{PATIENCE, Replica};
use lockgate_tests::wait_until;
use serde_json::json;

use crate::support::{cluster, parse, waiting};

/// Memory that all queues and what is being sent may take.
const MORE_MEMORY: f64 = 24.0 * 1024.0 * 1024.0;
/// How many times longer work may take while the collector is in trouble, and how much longer besides: generous for a
/// busy machine. Work that waits for some exports takes longer, as each of those may take twenty seconds.
const SLOWER: (u32, Duration) = (3, Duration::from_secs(10));
/// What a stop gives to the collector, and what it takes itself.
const FLUSH: Duration = Duration::from_secs(2);

/// How often a replica says that a signal is not taken.
fn complaints(replica: &Replica, signal: &str) -> usize {
    let log = replica.log();
    let said = log.lines().filter(|line| line.contains("telemetry_not_taken"));
    said.filter(|line| line.contains(&format!("signal=\"{signal}\"")))
        .count()
}

async fn failed_exports(probes: &Probes) -> f64 {
    let scraped = parse(&probes.metrics().await);
    let failed = scraped.iter().filter(|(name, labels, _)| {
        name == "lockgate_telemetry_exported_total" && labels["lockgate_outcome"] == "failed"
    });
    failed.map(|(_, _, value)| value).sum()
}

async fn memory(probes: &Probes) -> f64 {
    let scraped = parse(&probes.metrics().await);
    let memory = scraped.iter().find(|(name, _, _)| name == "process_memory_usage_bytes");
    memory.unwrap().2
}

/// Work whose every message and result is held against the tables and the topic; how long it took.
async fn works(cluster: &Cluster) -> Duration {
    let begin = Instant::now();
    let many = cluster.start("chaos-items", json!({"items": 20_000})).await;
    let mut runs = Vec::new();
    for _ in 0..20 {
        runs.push(cluster.start("chaos-steps", json!({"steps": 3})).await);
    }
    for run in runs {
        cluster.reaches(run, "completed").await;
    }
    cluster.reaches(many, "completed").await;
    let took = begin.elapsed();
    // What the test itself reads is more with each round, and is not timed.
    cluster.completes(many).await;
    took
}

async fn lost_leases(cluster: &Cluster) -> i64 {
    let sql = "select count(*) from lockgate.transitions where to_status in ('recoverable', 'split')";
    sqlx::query_scalar(sql).fetch_one(&cluster.pool).await.unwrap()
}

/// Stops a replica and holds it to its time, whatever the collector does.
async fn stops(mut replica: Replica) {
    let begin = Instant::now();
    replica.terminate();
    let status = replica.ends().await;
    assert!(status.success(), "{status}");
    let took = begin.elapsed();
    // It has nothing to drain; a busy machine has its time, far from the minute that a slow collector takes.
    assert!(took < FLUSH + Duration::from_secs(28), "the stop took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_freezes_and_resets_and_comes_back_costs_nobody_anything() {
    let collector = Collector::start().await;
    let cluster = cluster(&collector).await.with("OTEL_EXPORTER_OTLP_TIMEOUT", "20000");
    let mut replica = cluster.replica();
    let probes = Probes::of(&mut replica).await;
    replica.runs().await;
    let undisturbed = works(&cluster).await;
    collector
        .wait_for("metrics have come", |seen| seen.metric_exports > 0)
        .await;
    assert_eq!(failed_exports(&probes).await, 0.0);
    let before = memory(&probes).await;
    let mut outages = 0;
    for mode in [Mode::Freeze, Mode::Reset, Mode::Garbage, Mode::Dead, Mode::Refuse(503)] {
        collector.mode(mode);
        outages += 1;
        let took = works(&cluster).await;
        let bound = undisturbed * SLOWER.0 + SLOWER.1;
        assert!(took < bound, "{mode:?}: {took:?} instead of {undisturbed:?}");
        wait_until(PATIENCE, "the replica says that metrics are not taken", async || {
            complaints(&replica, "metrics") == outages
        })
        .await;
        assert!(failed_exports(&probes).await > 0.0);
        let exports = collector.seen().metric_exports;
        collector.mode(Mode::Answer);
        collector
            .wait_for("metrics come again", |seen| seen.metric_exports > exports)
            .await;
        wait_until(PATIENCE, "the replica says that they are taken again", async || {
            replica.log().matches("telemetry_taken_again").count() >= outages
        })
        .await;
        assert_eq!(complaints(&replica, "metrics"), outages, "{mode:?} is said once");
    }
    let after = memory(&probes).await;
    assert!(after < before + MORE_MEMORY, "{before} bytes became {after}");
    assert_eq!(lost_leases(&cluster).await, 0);
    assert_eq!(
        replica.log().matches("opentelemetry").count(),
        0,
        "the exporters' own lines"
    );
    stops(replica).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_no_longer_for_a_collector_than_it_is_told_to() {
    for mode in [Mode::Freeze, Mode::Slow(Duration::from_secs(60)), Mode::Dead] {
        let collector = Collector::start().await;
        let mut replica = waiting(&collector, &[]);
        Probes::of(&mut replica).await;
        collector
            .wait_for("metrics have come", |seen| seen.metric_exports > 0)
            .await;
        collector.mode(mode);
        stops(replica).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_was_never_there_is_said_once_a_signal() {
    let collector = Collector::start().await;
    collector.mode(Mode::Dead);
    let mut replica = waiting(&collector, &[("OTEL_PROPAGATORS", "b3")]);
    let probes = Probes::of(&mut replica).await;
    wait_until(PATIENCE, "many exports have failed", async || {
        failed_exports(&probes).await > 60.0
    })
    .await;
    assert_eq!((complaints(&replica, "metrics"), complaints(&replica, "logs")), (1, 1));
    collector.mode(Mode::Answer);
    replica.says("telemetry_taken_again").await;
    stops(replica).await;
    assert!(collector.seen().metric_exports > 0);
}

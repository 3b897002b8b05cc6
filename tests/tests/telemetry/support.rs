//! Processes that tell a collector.

use std::collections::BTreeMap;

use lockgate_tests::chaos_steps::create_effects;
use lockgate_tests::cluster::Cluster;
use lockgate_tests::collector::{Attributes, Collector};
use lockgate_tests::probes::LISTEN;
use lockgate_tests::replica::Replica;

/// A replica that waits for its servers, and tells a collector.
pub fn waiting(collector: &Collector, env: &[(&str, &str)]) -> Replica {
    let told = collector.env();
    let told = told.iter().map(|(name, value)| (*name, value.as_str()));
    let all: Vec<_> = told.chain([LISTEN]).chain(env.iter().copied()).collect();
    Replica::without_servers(&all)
}

/// A file of this content.
pub fn file(content: &str) -> String {
    let path = std::env::temp_dir().join(format!("lockgate-headers-{}", uuid::Uuid::new_v4().simple()));
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Replicas that tell a collector, in no hurry. What sqlx says of a slow server is no event of ours.
pub async fn cluster(collector: &Collector) -> Cluster {
    let told = collector.env();
    let cluster = Cluster::new().await.patient().with(LISTEN.0, LISTEN.1);
    let cluster = cluster.with("RUST_LOG", "info,sqlx=error");
    let url = cluster.url().to_owned();
    create_effects(&cluster.pool).await;
    let cluster = cluster.with("LOCKGATE_CHAOS_EFFECTS", &url);
    told.iter()
        .fold(cluster, |cluster, (name, value)| cluster.with(name, value))
}

/// Scraped metrics: name, labels and value of each series.
pub fn parse(text: &str) -> Vec<(String, Attributes, f64)> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(parse_line).collect()
}

fn parse_line(line: &str) -> (String, Attributes, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
        None => (series, ""),
    };
    let pairs = labels.split("\",").filter(|pair| !pair.is_empty());
    let labels: BTreeMap<_, _> = pairs
        .map(|pair| {
            let (name, value) = pair.split_once("=\"").unwrap();
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        })
        .collect();
    (name.to_owned(), labels, value.parse().unwrap())
}

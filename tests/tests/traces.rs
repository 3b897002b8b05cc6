//! Traces: one trace a run, through its batches into the messages' headers; and a collector that harms nothing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use chrono::DateTime;
use lockgate::delivery::TopicReader;
use lockgate::kafka::{KafkaConfig, KafkaTopicReader};
use lockgate_tests::cluster::Cluster;
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::wait_until;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

/// What was posted to the collector, all requests together.
type Posted = Arc<Mutex<Vec<u8>>>;

/// A collector that takes whatever is posted and answers that all is well.
async fn collector() -> (String, Posted) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let posted = Posted::default();
    let to = posted.clone();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(take(connection, to.clone()));
        }
    });
    (endpoint, posted)
}

async fn take(mut connection: TcpStream, posted: Posted) {
    let mut bytes = vec![0; 64 * 1024];
    let mut request = Vec::new();
    while let Ok(read @ 1..) = connection.read(&mut bytes).await {
        request.extend_from_slice(&bytes[..read]);
        let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        if request.len() < end + 4 + length.unwrap_or(0) {
            continue;
        }
        posted.lock().unwrap().append(&mut request);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        if connection.write_all(answer).await.is_err() {
            return;
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The traceparent headers of all messages of a topic.
async fn traceparents(cluster: &Cluster) -> Vec<Option<String>> {
    let (reader, topic) = (
        KafkaTopicReader::new(KafkaConfig::new(cluster.topic.brokers())),
        cluster.topic.name().to_owned(),
    );
    let read = tokio::task::spawn_blocking(move || {
        let mut found = Vec::new();
        reader
            .read_since(&topic, DateTime::UNIX_EPOCH, &mut |record| {
                let header = record.headers.iter().find(|(name, _)| name == "traceparent");
                found.push(header.map(|(_, value)| String::from_utf8(value.clone()).unwrap()));
                Ok(())
            })
            .unwrap();
        found
    });
    read.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_run_through_its_batches_into_the_messages() {
    let (endpoint, posted) = collector().await;
    let cluster = Cluster::new().await.with("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
    cluster.seed_users(1_200).await;
    let mut replicas = [cluster.replica(), cluster.replica()];
    for replica in &mut replicas {
        replica.runs().await;
    }
    let run = cluster.start("daily-task-reports", json!({})).await;
    cluster.completes(run).await;
    let found = traceparents(&cluster).await;
    assert_eq!(found.len(), 1_080, "nine in ten users are active");
    let traces: BTreeSet<String> = found
        .iter()
        .map(|header| header.as_ref().unwrap()[3..35].to_owned())
        .collect();
    // Nobody gave the start a context, so the run's own id names the trace.
    assert_eq!(traces, BTreeSet::from([run.simple().to_string()]));
    wait_until(PATIENCE, "spans of the run and its batches are exported", async || {
        let posted = posted.lock().unwrap();
        let trace: &[u8] = run.as_bytes();
        contains(&posted, b"/v1/traces")
            && contains(&posted, trace)
            && contains(&posted, b"batch")
            && contains(&posted, b"run")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_context_of_the_start_is_continued_and_a_dead_collector_harms_nothing() {
    // Nothing listens there any more.
    let dead = collector_that_died().await;
    let cluster = Cluster::new().await.with("OTEL_EXPORTER_OTLP_ENDPOINT", &dead);
    let trace = Uuid::new_v4().simple().to_string();
    let run = cluster.start("chaos-items", json!({"items": 20})).await;
    sqlx::query("update lockgate.task_runs set traceparent = $2 where id = $1")
        .bind(run)
        .bind(format!("00-{trace}-00f067aa0ba902b7-01"))
        .execute(&cluster.pool)
        .await
        .unwrap();
    let _replica = cluster.replica();
    cluster.completes(run).await;
    let found = traceparents(&cluster).await;
    assert_eq!(found.len(), 20);
    assert!(
        found
            .iter()
            .all(|header| header.as_ref().is_some_and(|header| header[3..35] == trace)),
        "{found:?}"
    );
}

async fn collector_that_died() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

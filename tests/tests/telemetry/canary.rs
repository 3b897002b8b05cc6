//! Secrets and personal data in all places where they may be, and in none of what is told.

use lockgate_tests::cli::Program;
use lockgate_tests::cluster::program;
use lockgate_tests::collector::Collector;
use lockgate_tests::mailroom::Mailroom;
use lockgate_tests::probes::{LISTEN, Probes};
use serde_json::json;

use crate::support::cluster;

/// In every secret and every personal value.
const MARK: &str = "CANARY";

fn hold(place: &str, text: &str) {
    let at = text.find(MARK).map(|at| {
        let from = text[..at].rfind('\n').map_or(0, |line| line + 1);
        text[from..].lines().next().unwrap_or_default().to_owned()
    });
    assert_eq!(at, None, "{place} tells it");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_nobodys_data_is_told_by_a_replica() {
    let collector = Collector::start().await;
    let cluster = cluster(&collector)
        .await
        .with("RUST_LOG", "trace")
        .with("LOCKGATE_API_LISTEN", "127.0.0.1:0")
        .with("LOCKGATE_API_TOKEN", &format!("{MARK}-TOKEN-0123456789"))
        .with("LOCKGATE_DIRECT_KEY_SECRET", &format!("{MARK}-KEY-0123456789abcdef"))
        .with("OTEL_EXPORTER_OTLP_HEADERS", &format!("authorization={MARK}-HEADER"))
        .with("OTEL_TRACES_SAMPLER", "always_on");
    // People whose names and addresses bear the mark.
    lockgate_workflows::tracker::create(&cluster.pool).await.unwrap();
    lockgate_workflows::tracker::seed(&cluster.pool, 200, |_| {})
        .await
        .unwrap();
    sqlx::query("update tracker.users set name = $1 || id, email = $1 || id || '@example.org'")
        .bind(MARK)
        .execute(&cluster.pool)
        .await
        .unwrap();
    let mut replica = cluster.replica();
    let probes = Probes::of(&mut replica).await;
    replica.runs().await;
    let run = cluster.start("daily-task-reports", json!({})).await;
    cluster.completes(run).await;
    collector
        .wait_for("metrics and logs have come", |seen| {
            seen.metric_exports > 1 && !seen.logs.is_empty()
        })
        .await;
    let scraped = probes.metrics().await;
    replica.terminate();
    assert!(replica.ends().await.success());
    hold("/metrics", &scraped);
    hold("the log", &replica.log());
    hold("what was exported", &String::from_utf8_lossy(&collector.seen().raw));
    let shown = cluster.settings().iter();
    let shown = shown.fold(
        Program::without_database(program().to_str().unwrap()),
        |program, (name, value)| program.env(name, value),
    );
    let shown = shown.run(&["config", "show"]).await;
    hold("config show", &format!("{}{}", shown.out, shown.err));
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_by_a_consumer() {
    let collector = Collector::start().await;
    let room = Mailroom::new().await.with(LISTEN.0, LISTEN.1).with("RUST_LOG", "trace");
    let room = room.with_all(&collector.env());
    let smtp = format!("smtp://user:{MARK}-PASSWORD@127.0.0.1:1");
    let mut sender = room.sender_with(&[("EMAIL_SMTP_URL", &smtp)]);
    let probes = Probes::of(&mut sender).await;
    collector
        .wait_for("metrics of the consumer have come", |seen| {
            seen.resources
                .iter()
                .any(|resource| resource["service.name"] == "email-sender")
        })
        .await;
    let scraped = probes.metrics().await;
    sender.terminate();
    assert!(sender.ends().await.success());
    hold("/metrics", &scraped);
    hold("the log", &sender.log());
    hold("what was exported", &String::from_utf8_lossy(&collector.seen().raw));
}

#[test]
#[should_panic(expected = "the log tells it")]
fn a_mark_is_found_where_it_is() {
    hold("the log", "nothing here\nmail to CANARY7@example.org failed\n");
}

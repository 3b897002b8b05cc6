//! One trace leads from whatever started a run through all that it did to the last of its effects.

use std::collections::BTreeSet;

use lockgate::delivery::TopicReader;
use lockgate::kafka::{KafkaConfig, KafkaTopicReader};
use lockgate_tests::api::TOKEN;
use lockgate_tests::cluster::Cluster;
use lockgate_tests::collector::{Collector, Seen, Span};
use lockgate_tests::mailroom::Mailroom;
use lockgate_tests::smtp_sink::SmtpSink;
use serde_json::json;
use uuid::Uuid;

use crate::support::cluster;

/// A client that has a trace already.
pub const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
pub const CLIENT: &str = "b7ad6b7169203331";
/// Of sixty users the active ones.
const MAILS: usize = 54;

pub fn traceparent() -> String {
    format!("00-{TRACE}-{CLIENT}-01")
}

/// Whether each span's parent is there, or is the client's.
fn is_whole(spans: &[&Span]) -> bool {
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    let resolves = |span: &&Span| span.parent.is_empty() || span.parent == CLIENT || ids.contains(span.parent.as_str());
    spans.iter().all(resolves)
}

pub fn called<'a>(spans: &[&'a Span], name: &str) -> Vec<&'a Span> {
    spans
        .iter()
        .filter(|span| span.name.starts_with(name))
        .copied()
        .collect()
}

/// The one span of this name.
pub fn only<'a>(spans: &[&'a Span], name: &str) -> &'a Span {
    let found = called(spans, name);
    assert_eq!(found.len(), 1, "{name}: {found:#?}");
    found[0]
}

fn number(span: &Span, attribute: &str) -> i64 {
    span.attributes[attribute].parse().unwrap()
}

/// The headers `traceparent` of all messages of a topic.
pub async fn headers(cluster: &Cluster) -> Vec<String> {
    let reader = KafkaTopicReader::new(KafkaConfig::new(cluster.topic.brokers()));
    let topic = cluster.topic.name().to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let mut found = Vec::new();
        reader
            .read_since(&topic, chrono::DateTime::UNIX_EPOCH, &mut |record| {
                let header = record.headers.iter().find(|(name, _)| name == "traceparent");
                found.push(String::from_utf8(header.unwrap().1.clone()).unwrap());
                Ok(())
            })
            .unwrap();
        found
    });
    read.await.unwrap()
}

/// So many messages of the run say that they come of its batch's span; those of other runs are in other traces.
async fn carries(cluster: &Cluster, run: &Span, batch: &Span, messages: usize) {
    let headers = headers(cluster).await;
    let own: Vec<&String> = headers.iter().filter(|header| header[3..35] == run.trace).collect();
    assert!(own.len() >= messages, "{own:?} of {headers:?}");
    let expected = format!("00-{}-{}-01", run.trace, batch.id);
    assert!(own.iter().all(|header| **header == expected), "{own:?}");
}

/// From the request to the pages in which its messages were consumed.
fn holds(seen: &Seen, topic: &str) {
    let spans = seen.spans_of(TRACE);
    let request = only(&spans, "POST /api/v1/runs");
    assert_eq!((request.parent.as_str(), request.kind.as_str()), (CLIENT, "Server"));
    let run = only(&spans, "run daily-task-reports");
    assert_eq!(run.parent, request.id);
    let plan = only(&spans, "plan ");
    assert_eq!(number(plan, "lockgate.items"), MAILS as i64);
    let executes = called(&spans, "execute daily-task-reports");
    assert!(
        executes.iter().all(|execute| execute.parent == run.id)
            && executes.iter().any(|execute| execute.id == plan.parent)
    );
    let batches = called(&spans, &format!("send {topic}"));
    assert_eq!(batches.len(), 6);
    assert_eq!(
        batches
            .iter()
            .map(|batch| number(batch, "lockgate.delivered"))
            .sum::<i64>(),
        MAILS as i64
    );
    assert!(
        batches
            .iter()
            .all(|batch| batch.parent == run.id && batch.kind == "Producer" && !batch.failed)
    );
    assert!(
        batches
            .iter()
            .all(|batch| batch.events == ["read", "sent", "settled", "finished"]),
        "{batches:#?}"
    );
    let of_batches: BTreeSet<&str> = batches.iter().map(|batch| batch.id.as_str()).collect();
    let processes = called(&spans, "process ");
    assert!(
        processes
            .iter()
            .all(|process| of_batches.contains(process.parent.as_str()) && process.kind == "Consumer")
    );
    let consumed = processes
        .iter()
        .map(|process| number(process, "messaging.batch.message_count"));
    assert_eq!(consumed.sum::<i64>(), MAILS as i64);
    let mails = called(&spans, "send mail");
    assert!(
        mails
            .iter()
            .all(|mail| of_batches.contains(mail.parent.as_str()) && mail.service == "email-sender")
    );
    // A page is a trace of its own, linked to those whose messages were in it; and they to it.
    let pages = seen.spans_called("poll ");
    let linked: BTreeSet<&str> = pages
        .iter()
        .flat_map(|page| &page.links)
        .map(|(_, span)| span.as_str())
        .collect();
    assert_eq!(linked, of_batches);
    assert!(pages.iter().all(|page| page.kind == "Client"));
    let pages: BTreeSet<&str> = pages.iter().map(|page| page.id.as_str()).collect();
    assert!(
        processes
            .iter()
            .all(|process| process.links.iter().all(|(_, page)| pages.contains(page.as_str())))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_request_through_two_replicas_to_the_mail() {
    let collector = Collector::start().await;
    let cluster = cluster(&collector)
        .await
        .with("LOCKGATE_WORKER_BATCH_SIZE", "10")
        .with("LOCKGATE_API_TOKEN", TOKEN);
    cluster.seed_users(60).await;
    let mut replicas = [
        cluster.replica_with(&[("LOCKGATE_API_LISTEN", "127.0.0.1:0")]),
        cluster.replica(),
    ];
    let address = replicas[0].api().await;
    for replica in &mut replicas {
        replica.runs().await;
    }
    let sink = SmtpSink::new(|_| None).await;
    let room =
        Mailroom::on(cluster.url(), cluster.pool.clone(), cluster.topic.clone(), None).with_all(&collector.env());
    let _sender = room.sender_with(&[("EMAIL_SMTP_URL", &sink.url())]);
    let request = reqwest::Client::new()
        .post(format!("http://{address}/api/v1/runs"))
        .header("traceparent", traceparent())
        .header("content-type", "application/json")
        .bearer_auth(TOKEN)
        .body(r#"{"workflow":"daily-task-reports"}"#);
    let answer: serde_json::Value =
        serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap();
    cluster
        .completes(answer["run_id"].as_str().unwrap().parse().unwrap())
        .await;
    collector
        .wait_for("the whole trace has come", |seen: &Seen| {
            let spans = seen.spans_of(TRACE);
            called(&spans, "send mail").len() == MAILS && called(&spans, "run ").len() == 1 && is_whole(&spans)
        })
        .await;
    holds(&collector.seen(), cluster.topic.name());
    for header in headers(&cluster).await {
        assert_eq!((&header[3..35], &header[53..]), (TRACE, "01"));
    }
}

/// The spans of a trace, once its run has ended and they are whole.
pub async fn whole(collector: &Collector, trace: &str, enough: impl Fn(&[&Span]) -> bool) -> Vec<Span> {
    collector
        .wait_for("the whole trace has come", |seen: &Seen| {
            let spans = seen.spans_of(trace);
            is_whole(&spans) && enough(&spans)
        })
        .await;
    collector.seen().spans_of(trace).into_iter().cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_start_in_sql_through_steps_transactions_and_waits() {
    let collector = Collector::start().await;
    let cluster = cluster(&collector).await;
    let _replica = cluster.replica();
    let mut transaction = cluster.pool.begin().await.unwrap();
    sqlx::query("select set_config('lockgate.traceparent', $1, true)")
        .bind(traceparent())
        .execute(&mut *transaction)
        .await
        .unwrap();
    let plan = json!({"steps": 2, "transactions": 1, "nap_ms": 20_000, "items": 20, "beside_ms": 10});
    let run: Uuid = sqlx::query_scalar("select lockgate.start_run('chaos-steps', $1)")
        .bind(plan)
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    cluster.completes(run).await;
    let spans = whole(&collector, TRACE, |spans| {
        called(spans, "run ").len() == 1 && called(spans, "execute ").len() > 1
    })
    .await;
    let spans: Vec<&Span> = spans.iter().collect();
    let run = only(&spans, "run chaos-steps");
    assert_eq!(run.parent, CLIENT);
    assert_eq!(run.attributes["lockgate.outcome"], "completed");
    let executes = called(&spans, "execute chaos-steps");
    let left: Vec<&str> = executes
        .iter()
        .map(|execute| execute.attributes["lockgate.left"].as_str())
        .collect();
    assert!(left.contains(&"suspended") && left.contains(&"completed"), "{left:?}");
    assert_eq!(called(&spans, "step work").len(), 2);
    let book = only(&spans, "step book");
    assert!(executes.iter().any(|execute| execute.id == book.parent));
    let transact = only(&spans, "transact");
    assert_eq!((&transact.parent, transact.kind.as_str()), (&book.id, "Client"));
    let database = sqlx::query_scalar::<_, String>("select current_database()::text");
    let database = database.fetch_one(&cluster.pool).await.unwrap();
    assert_eq!(transact.attributes["db.namespace"], database);
    let waits: BTreeSet<&str> = called(&spans, "wait ")
        .iter()
        .map(|wait| wait.attributes["lockgate.kind"].as_str())
        .collect();
    // The fan-out's is told though nobody ran the code when its last batch ended.
    assert_eq!(waits, BTreeSet::from(["fan_out", "sleep"]));
    assert!(called(&spans, "wait ").iter().all(|wait| wait.parent == run.id));
    let finish = called(&spans, "finish_");
    let batch = only(&spans, "send ");
    assert!(
        !finish.is_empty() && finish.iter().all(|verb| verb.parent == batch.id),
        "{finish:#?}"
    );
    carries(&cluster, run, batch, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_schedule_whose_run_names_the_trace() {
    let collector = Collector::start().await;
    let cluster = cluster(&collector).await;
    let set = [
        "schedules",
        "set",
        "often",
        "--workflow",
        "chaos-items",
        "--cron",
        "* * * * * *",
        "--params",
        "{\"items\": 3}",
    ];
    let program = cluster.settings().iter().fold(
        lockgate_tests::cli::Program::without_database(lockgate_tests::cluster::program().to_str().unwrap()),
        |program, (name, value)| program.env(name, value),
    );
    let set = program.run(&set).await;
    assert_eq!(set.code, 0, "{}{}", set.out, set.err);
    let _replica = cluster.replica();
    collector
        .wait_for("a schedule has fired", |seen: &Seen| {
            !seen.spans_called("fire often").is_empty()
        })
        .await;
    let fired = collector.seen().spans_called("fire often")[0].clone();
    let run: Uuid = fired.trace.parse().unwrap();
    cluster.completes(run).await;
    let spans = whole(&collector, &fired.trace, |spans| called(spans, "run ").len() == 1).await;
    let spans: Vec<&Span> = spans.iter().collect();
    let run = only(&spans, "run chaos-items");
    assert_eq!((run.parent.as_str(), run.id.as_str()), ("", &fired.trace[16..]));
    assert_eq!(fired.parent, run.id);
    carries(&cluster, run, only(&spans, "send "), 3).await;
}

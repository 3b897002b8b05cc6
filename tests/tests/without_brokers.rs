//! A replica without brokers does all but send, leads a fleet without holding it up, and what it leaves to be sent is sent
//! when one with brokers comes (RC.1).
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::time::Duration;

use lockgate_tests::api::Client;
use lockgate_tests::chaos_family::FamilyTold;
use lockgate_tests::chaos_steps::create_effects;
use lockgate_tests::cli::Program;
use lockgate_tests::cluster::{Cluster, RECOVERY, program};
use lockgate_tests::invariants::{liveness_violations, proof_problems, safety_violations};
use lockgate_tests::probes::{LISTEN, Probes};
use lockgate_tests::replica::{PATIENCE, Replica};
use lockgate_tests::wait_until;
use serde_json::{Value, json};
use uuid::Uuid;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const NO_BROKERS: (&str, &str) = ("KAFKA_BROKERS", "");
/// Twenty batches, of which a replica that sends none plans ten: two, and then eight.
const ITEMS: i64 = 1_000;
const PLANNED: i64 = 10;
const EMAIL: &str =
    r#"{"recipientEmail": "ada@example.org", "templateId": "welcome", "templateContext": {}, "locale": "de"}"#;

async fn cluster() -> Cluster {
    let cluster = Cluster::new().await;
    create_effects(&cluster.pool).await;
    let url = cluster.url().to_owned();
    cluster
        .with("LOCKGATE_CHAOS_EFFECTS", &url)
        .with("LOCKGATE_WORKER_BATCH_SIZE", "50")
        .with("LOCKGATE_WORKER_PLAN_AHEAD", "4")
        .with(LISTEN.0, LISTEN.1)
}

async fn client_of(replica: &mut Replica) -> Client {
    let address = replica.api().await;
    Client::new(address.parse().unwrap(), TOKEN).await
}

async fn number(cluster: &Cluster, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&cluster.pool).await.unwrap()
}

/// Steps, a transaction, a sleep and a signal; children; schedules: all of that needs nobody but Postgres.
async fn ends_without_brokers(cluster: &Cluster) -> Vec<Uuid> {
    sqlx::query(
        "insert into lockgate.schedules (name, workflow, cron, params, catch_up)
         values ('each-second', 'chaos-steps', '* * * * * *', '{\"steps\": 1}', 'last')",
    )
    .execute(&cluster.pool)
    .await
    .unwrap();
    let plan = json!({"steps": 2, "transactions": 1, "undoables": 1, "nap_ms": 1_200, "signal_ms": 600_000});
    let told = cluster.start("chaos-steps", plan).await;
    let family = cluster
        .start("chaos-family", json!({"children": 3, "publish": 2}))
        .await;
    let waits = "select count(*) from lockgate.task_runs r join lockgate.run_steps s on s.run_id = r.id
                  where r.id = $1 and r.status = 'suspended' and s.kind = 'signal' and s.status = 'open'";
    wait_until(PATIENCE, "it waits for its signal", async || {
        cluster.count(waits, told).await == 1
    })
    .await;
    sqlx::query("select lockgate.signal_run($1, 'go', '7')")
        .bind(told)
        .execute(&cluster.pool)
        .await
        .unwrap();
    cluster.reaches(told, "completed").await;
    cluster.reaches(family, "completed").await;
    let fired = "select count(*) from lockgate.task_runs where schedule = 'each-second' and status = 'completed'";
    wait_until(PATIENCE, "its schedule fires", async || {
        number(cluster, fired).await > 0
    })
    .await;
    sqlx::query("delete from lockgate.schedules")
        .execute(&cluster.pool)
        .await
        .unwrap();
    let output: Vec<u8> = sqlx::query_scalar("select output from lockgate.task_runs where id = $1")
        .bind(family)
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    let told: FamilyTold = serde_json::from_slice(&output).unwrap();
    assert_eq!((told.leaves, told.published.len()), (3, 2));
    told.published
}

/// It is planned as far as may be and let go of; how often its code was claimed is no more than its plan was looked at.
async fn waits_and_does_nothing(cluster: &Cluster, run: Uuid) {
    let asleep =
        "select count(*) from lockgate.task_runs r where r.id = $1 and r.status = 'running' and r.claim_id is null
                   and r.wake_at > clock_timestamp()
                   and (select count(*) from lockgate.run_batches b where b.run_id = r.id and b.status = 'free') = 10";
    wait_until(PATIENCE, "it is planned and let go of", async || {
        cluster.count(asleep, run).await == 1
    })
    .await;
    let claims = "select claim_token from lockgate.task_runs where id = $1";
    let before = cluster.count(claims, run).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(cluster.count(claims, run).await <= before + 1, "it spins");
    let batches = "select count(*) from lockgate.run_batches where run_id = $1 and claim_token = 0";
    assert_eq!(cluster.count(batches, run).await, PLANNED);
}

/// It says so in its health, its log, to the doctor and to whoever asks why.
async fn is_told(cluster: &Cluster, replica: &Replica, probes: &Probes, run: Uuid) {
    let (status, ready) = probes.get("/health/ready").await;
    let checks = ready["checks"].as_array().unwrap();
    let kafka = checks.iter().find(|check| check["name"] == "kafka").unwrap();
    let reason = kafka["reason"].as_str().unwrap();
    assert!(status == 200 && reason.contains("not configured"), "{ready}");
    let log = replica.log();
    assert_eq!(log.matches("no brokers are configured").count(), 1, "{log}");
    let asked = Program::new(program().to_str().unwrap(), cluster.url());
    let why = asked.run(&["runs", "why", &run.to_string()]).await.exits(0).out;
    assert!(
        why.contains("no live replica with workflow chaos-steps has brokers"),
        "{why}"
    );
    let doctor = asked.run(&["doctor", "--output", "json"]).await.exits(0).json();
    let said = |id: &str| {
        let check = doctor.as_array().unwrap().iter().find(|check| check["id"] == id);
        let evidence = check.map(|check| check["evidence"].as_str().unwrap().to_owned());
        evidence.unwrap_or_default()
    };
    assert!(said("kafka.config").contains("not configured"), "{doctor}");
    assert!(said("fleet.replicas").contains("none with brokers"), "{doctor}");
    let refused = asked.run(&["runs", "list"]).await;
    assert_eq!(refused.code, 0);
    let refused = asked.run(&["verify", &run.to_string()]).await;
    assert!(
        refused.code != 0 && refused.err.contains("KAFKA_BROKERS"),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_but_sending_is_done_and_what_waits_is_sent_when_brokers_come() {
    let cluster = cluster().await;
    let api = [
        NO_BROKERS,
        ("LOCKGATE_API_LISTEN", "127.0.0.1:0"),
        ("LOCKGATE_API_TOKEN", TOKEN),
    ];
    let mut without = cluster.replica_with(&api);
    let probes = Probes::of(&mut without).await;
    let first = without.runs().await;
    let sends = cluster
        .start("chaos-steps", json!({"steps": 1, "items": ITEMS, "beside_ms": 1}))
        .await;
    let mut ids = ends_without_brokers(&cluster).await;
    let answer = client_of(&mut without)
        .await
        .post("/api/v1/email-commands", EMAIL)
        .await
        .is(202);
    let stored: Value = answer.json();
    assert_eq!(stored["outcome"], "stored");
    ids.push(stored["messageId"].as_str().unwrap().parse().unwrap());
    waits_and_does_nothing(&cluster, sends).await;
    is_told(&cluster, &without, &probes, sends).await;
    let waiting = "select (select count(*) from lockgate.outbox) * 10
                        + (select count(*) from lockgate.undelivered_messages where status = 'due' and attempts = 0)";
    assert_eq!(
        number(&cluster, waiting).await,
        21,
        "two in the outbox, one undelivered"
    );

    let _with = cluster.replica();
    cluster.reaches(sends, "completed").await;
    let items = ITEMS as usize;
    wait_until(PATIENCE, "all that waited is sent", async || {
        let sent: HashSet<Uuid> = cluster.topic.sent().await.iter().map(|sent| sent.message_id).collect();
        sent.len() == items + ids.len() && ids.iter().all(|id| sent.contains(id))
    })
    .await;
    let mut problems = proof_problems(&cluster.pool, sends).await;
    problems.extend(safety_violations(&cluster.pool).await);
    problems.extend(liveness_violations(&cluster.pool, RECOVERY).await);
    assert!(problems.is_empty(), "{problems:?}");
    let led = "select count(*) from lockgate.leader_lease where holder = $1 and expires_at > clock_timestamp()";
    assert_eq!(cluster.count(led, first).await, 1, "who leads needs no brokers");
    assert!(!without.log().contains("loop_broken"));
    without.terminate();
    assert!(without.ends().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_only_serves_stores_what_it_is_given() {
    let cluster = Cluster::new().await;
    let mut server = cluster.replica_called(
        &["run", "--roles", "api"],
        &[
            NO_BROKERS,
            ("LOCKGATE_API_LISTEN", "127.0.0.1:0"),
            ("LOCKGATE_API_TOKEN", TOKEN),
        ],
    );
    let client = client_of(&mut server).await;
    for _ in 0..20 {
        let stored = client.post("/api/v1/email-commands", EMAIL).await.is(202).json();
        assert_eq!(stored["outcome"], "stored");
    }
    let reasons = "select count(*) from lockgate.undelivered_messages where reason_code = 'unavailable' and reason = 'no producer could take it'";
    assert_eq!(number(&cluster, reasons).await, 20);
    let _worker = cluster.replica();
    wait_until(PATIENCE, "all are sent", async || {
        cluster.topic.sent().await.len() >= 20
    })
    .await;
    server.terminate();
    assert!(server.ends().await.success());
}

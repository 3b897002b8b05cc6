//! Stopping: requests that are there end, new ones do not come; and a replica that only serves.

use std::time::Duration;

use futures::SinkExt;
use lockgate::delivery::HandedOver;
use lockgate_tests::api::{Client, TOKEN, TestApi, settings};
use lockgate_tests::cli::Program;
use lockgate_tests::cluster::{Cluster, program};
use lockgate_tests::doors::ScriptedDoor;
use lockgate_tests::replica::{PATIENCE, Replica};
use lockgate_tests::{TestDatabase, wait_until};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Body, Method};
use tokio::net::TcpStream;

use super::{COMMAND, SEND, serve, stored};

#[tokio::test]
async fn requests_that_are_there_end_and_no_new_ones_come() {
    let door = ScriptedDoor::closed(|_| HandedOver::Stored);
    let (_database, api, client) = serve(door.clone()).await;
    let asked = tokio::spawn(async move { client.post(SEND, COMMAND).await });
    door.awaited_by(1).await;
    let address = api.address;
    api.stop();
    wait_until(PATIENCE, "nobody listens", async || {
        TcpStream::connect(address).await.is_err()
    })
    .await;
    assert!(!asked.is_finished());
    door.open();
    let _ = asked.await.unwrap().is(202);
    assert!(api.stopped().await, "a request was cut off");
}

#[tokio::test]
async fn a_bulk_request_without_end_is_answered_up_to_the_stop() {
    let (_database, api, client) = serve(stored()).await;
    let (mut to_server, body) = futures::channel::mpsc::channel::<Result<String, std::convert::Infallible>>(1);
    let request = client
        .request(Method::POST, SEND)
        .header(CONTENT_TYPE, "application/x-ndjson");
    let mut response = request.body(Body::wrap_stream(body)).send().await.unwrap();
    to_server.send(Ok(format!("{COMMAND}\n"))).await.unwrap();
    let answer = response.chunk().await.unwrap().unwrap();
    assert!(answer.starts_with(br#"{"line":1,"status":202"#));
    api.stop();
    assert_eq!(
        response.chunk().await.unwrap(),
        None,
        "ended in order, with nothing half said"
    );
    assert!(api.stopped().await);
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_off_at_the_deadline() {
    let database = TestDatabase::new().await;
    let door = ScriptedDoor::closed(|_| HandedOver::Stored);
    let mut bounds = settings();
    bounds.drain = Duration::from_millis(300);
    let api = TestApi::start(door.clone(), database.database(), None, bounds).await;
    let client = api.client().await;
    let asked = tokio::spawn(async move {
        client
            .request(Method::POST, SEND)
            .header(CONTENT_TYPE, "application/json")
            .body(COMMAND)
            .send()
            .await
    });
    door.awaited_by(1).await;
    api.stop();
    assert!(!api.stopped().await, "it says that a request was cut off");
    asked.abort();
}

async fn client_of(replica: &mut Replica) -> Client {
    let address = replica.api().await;
    Client::new(address.parse().unwrap(), TOKEN).await
}

#[tokio::test]
async fn a_replica_that_only_serves_takes_commands_and_starts_runs_that_others_work_on() {
    let cluster = Cluster::new().await.patient();
    cluster.seed_users(10).await;
    let mut server = cluster.replica_called(
        &["run", "--roles", "api"],
        &[
            ("LOCKGATE_API_LISTEN", "127.0.0.1:0"),
            ("LOCKGATE_API_TOKEN", TOKEN),
            ("LOCKGATE_DIRECT_PATIENCE", "20s"),
        ],
    );
    let client = client_of(&mut server).await;
    let sent = client.post(SEND, COMMAND).await.is(202).json();
    assert_eq!(sent["outcome"], "delivered");
    let lines = format!("{COMMAND}\n").repeat(2500);
    let answers = client.post_lines(lines).await.is(200).lines();
    assert!(answers.len() == 2500 && answers.iter().all(|answer| answer["status"] == 202));
    let run = client
        .post("/api/v1/runs", r#"{"workflow":"daily-task-reports"}"#)
        .await
        .is(201)
        .json();
    let run = run["run_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(cluster.status(run).await, "queued", "nobody here works");
    let roles: Vec<String> = sqlx::query_scalar("select roles from lockgate.replicas")
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    assert_eq!(roles, ["api"]);
    let _worker = cluster.replica_called(&["run", "--roles", "leader,worker"], &[]);
    cluster.reaches(run, "completed").await;
    let log = server.log();
    assert!(!log.contains("ada@example.org") && !log.contains(TOKEN), "{log}");
    server.terminate();
    assert!(server.ends().await.success());
}

#[tokio::test]
async fn the_breaker_of_a_replica_that_only_serves_is_seen_by_all_who_look() {
    let cluster = Cluster::new().await.patient();
    let mut server = cluster.replica_called(
        &["run", "--roles", "api"],
        &[
            ("LOCKGATE_API_LISTEN", "127.0.0.1:0"),
            ("LOCKGATE_API_TOKEN", TOKEN),
            ("LOCKGATE_TOPICS_EMAIL", "there.is.no.such.topic"),
            ("LOCKGATE_DIRECT_PATIENCE", "20s"),
            ("LOCKGATE_LEASE_RENEW", "200ms"),
        ],
    );
    let client = client_of(&mut server).await;
    let stored = client.post(SEND, COMMAND).await.is(202).json();
    assert_eq!(stored["outcome"], "stored");
    let shown = "select count(*) from lockgate.v_breakers b join lockgate.v_replicas r using (replica)
        where b.topic = 'there.is.no.such.topic' and b.reason = 'topic_missing' and r.roles = 'api' and r.breakers_open = 1";
    let seen = async |query: &'static str| {
        let count: i64 = sqlx::query_scalar(query).fetch_one(&cluster.pool).await.unwrap();
        count == 1
    };
    wait_until(PATIENCE, "its row shows the breaker", async || seen(shown).await).await;
    let stuck = "select count(*) from lockgate.v_stuck where kind = 'breaker_open'";
    wait_until(PATIENCE, "it counts as stuck", async || seen(stuck).await).await;
    let cli = Program::new(program().to_str().unwrap(), cluster.url());
    let found = cli.run(&["doctor", "--skip-kafka"]).await;
    assert!(found.out.contains("there.is.no.such.topic is"), "{}", found.out);
    server.terminate();
    assert!(server.ends().await.success());
}

#[tokio::test]
async fn a_role_without_an_address_and_a_token_that_can_be_guessed_are_refused() {
    let cluster = Cluster::new().await.patient();
    for (env, said) in [
        (("RUST_LOG", "info"), "role api has no address to listen at"),
        (("LOCKGATE_API_TOKEN", "geheim"), "api.token = (hidden): can be guessed"),
        (
            ("LOCKGATE_API_LISTEN", "256.0.0.1:x"),
            "the HTTP API cannot listen at 256.0.0.1:x",
        ),
    ] {
        let mut replica = cluster.replica_called(&["run", "--roles", "api"], &[env]);
        assert!(!replica.ends().await.success());
        let log = replica.log();
        assert!(log.contains(said) && !log.contains("geheim"), "{log}");
    }
}

//! Bounds: requests a second, connections, slow clients, and paths and methods that are not there.

use std::time::Duration;

use futures::future::join_all;
use lockgate::api::ApiSettings;
use lockgate::delivery::HandedOver;
use lockgate_tests::api::{TOKEN, TestApi, settings};
use lockgate_tests::doors::ScriptedDoor;
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::{TestDatabase, wait_until};
use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{COMMAND, SEND, serve, stored};

/// Far above what an answer takes, far below every limit of time that is tested.
const SOON: Duration = Duration::from_secs(10);

async fn bounded(change: impl FnOnce(&mut ApiSettings)) -> (TestDatabase, TestApi) {
    let database = TestDatabase::new().await;
    let mut bounds = settings();
    change(&mut bounds);
    let api = TestApi::start(stored(), database.database(), None, bounds).await;
    (database, api)
}

#[tokio::test]
async fn a_token_makes_only_so_many_requests_a_second() {
    let (_database, api) = bounded(|bounds| bounds.requests_per_s = 1).await;
    let client = api.client().await;
    // Together, so that they are within one second on a busy machine, too.
    let answers = join_all((0..8).map(|_| client.post(SEND, COMMAND))).await;
    assert!(answers.iter().any(|answer| answer.status == 202));
    let busy = answers
        .into_iter()
        .find(|answer| answer.status == 429)
        .expect("nothing was refused");
    assert_eq!(busy.headers["retry-after"], "1");
    busy.is_problem(429, "");
    let _ = client.with_token("somebody else").post(SEND, COMMAND).await.is(401);
}

#[tokio::test]
async fn only_so_many_connections_are_served_at_once() {
    let (_database, api) = bounded(|bounds| bounds.connections = 2).await;
    let request = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut connection = TcpStream::connect(api.address).await.unwrap();
        connection.write_all(request.as_bytes()).await.unwrap();
        assert!(connection.read(&mut [0; 1024]).await.unwrap() > 0);
        held.push(connection);
    }
    let mut third = TcpStream::connect(api.address).await.unwrap();
    third.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 1024];
    assert!(
        timeout(Duration::from_millis(300), third.read(&mut answer))
            .await
            .is_err(),
        "served beyond the bound"
    );
    drop(held);
    let read = timeout(SOON, third.read(&mut answer))
        .await
        .expect("not served when there was room")
        .unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn heads_that_do_not_arrive_and_connections_that_lie_idle_are_closed() {
    let (_database, api) = bounded(|_| ()).await;
    let mut half = TcpStream::connect(api.address).await.unwrap();
    half.write_all(b"GET /healthz HTTP/1.1\r\nhost:").await.unwrap();
    let mut idle = TcpStream::connect(api.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let end = |mut connection: TcpStream| async move {
        let mut all = Vec::new();
        // Closed in order or broken off: what matters is that it is over.
        let _ = timeout(Duration::from_secs(30), connection.read_to_end(&mut all))
            .await
            .expect("still open");
        String::from_utf8(all).unwrap()
    };
    let (half, idle) = tokio::join!(end(half), end(idle));
    assert!(!half.contains("200 OK"), "{half}");
    assert_eq!(idle.matches("200 OK").count(), 1, "{idle}");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let (_database, api) = bounded(|_| ()).await;
    let mut connection = TcpStream::connect(api.address).await.unwrap();
    let head = format!(
        "GET /healthz HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "y".repeat(200 << 10)
    );
    // It may close before it has read all.
    let _ = connection.write_all(head.as_bytes()).await;
    let mut answer = [0; 64];
    let read = timeout(SOON, connection.read(&mut answer))
        .await
        .expect("no answer")
        .unwrap_or(0);
    assert!(
        read == 0 || answer.starts_with(b"HTTP/1.1 431"),
        "{:?}",
        String::from_utf8_lossy(&answer[..read])
    );
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let (_database, _api, client) = serve(stored()).await;
    for path in [
        "/",
        "/api/v1",
        "/api/v1/runs/",
        "/api/v2/email-commands",
        "/api/v1/runs/a/b/c",
    ] {
        client.get(path).await.is_problem(404, "");
    }
    for (method, path) in [
        (Method::GET, SEND),
        (Method::DELETE, "/api/v1/runs"),
        (Method::PUT, "/healthz"),
    ] {
        let answer = client.answer(client.request(method, path)).await.is(405);
        assert!(answer.headers.contains_key("allow"));
        answer.is_problem(405, "");
    }
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up() {
    let (_database, api) = bounded(|bounds| bounds.arrival = Duration::from_millis(200)).await;
    let mut slow = TcpStream::connect(api.address).await.unwrap();
    let head = format!(
        "POST {SEND} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        COMMAND.len()
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.write_all(&COMMAND.as_bytes()[..20]).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = timeout(SOON, slow.read(&mut answer)).await.expect("no answer").unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
}

#[tokio::test]
async fn a_door_that_does_not_answer_leaves_the_outcome_open() {
    let door = ScriptedDoor::closed(|_| HandedOver::Stored);
    let database = TestDatabase::new().await;
    let bounds = ApiSettings {
        outcome: Duration::from_millis(200),
        ..settings()
    };
    let api = TestApi::start(door.clone(), database.database(), None, bounds).await;
    let client = api.client().await;
    let late = client.post(SEND, COMMAND).await.is(503);
    assert_eq!(late.headers["retry-after"], "1");
    assert!(late.json()["detail"].as_str().unwrap().contains("is not known yet"));
    let lines = client.post_lines(format!("{COMMAND}\n{COMMAND}")).await.is(200).lines();
    assert!(
        lines.len() == 2 && lines.iter().all(|line| line["status"] == 503),
        "{lines:?}"
    );
    // Giving up on the answer does not take the commands back.
    door.open();
    wait_until(PATIENCE, "all three went through", async || door.seen().len() == 3).await;
}

#[tokio::test]
async fn what_the_database_refuses_is_our_fault_and_says_nothing_of_it() {
    let (database, _api, client) = serve(stored()).await;
    sqlx::query("alter table lockgate.task_runs rename to taken_away")
        .execute(database.pool())
        .await
        .unwrap();
    let answer = client.get("/api/v1/runs").await.is(500);
    assert!(
        !answer.text.contains("taken_away") && !answer.text.contains("task_runs"),
        "{}",
        answer.text
    );
    answer.is_problem(500, "");
}

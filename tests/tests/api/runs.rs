//! Runs over HTTP are the runs of the command line.

use lockgate_tests::cli::Program;
use uuid::Uuid;

use super::{serve, stored};

const BIN: &str = env!("CARGO_BIN_EXE_lockgate-test");
const RUNS: &str = "/api/v1/runs";

#[tokio::test]
async fn a_run_is_started_once_under_its_key() {
    let (database, _api, client) = serve(stored()).await;
    let start = r#"{"workflow":"daily-task-reports","params":{"day": "2026-01-31"},"idempotency_key":"d","singleton_key":"s",
        "pace_per_s":500,"deadline_s":9000,"start_at":"2099-01-01T00:00:00Z"}"#;
    let first = client.post(RUNS, start).await.is(201);
    let run = first.json()["run_id"].as_str().unwrap().to_owned();
    assert_eq!(first.headers["location"], format!("{RUNS}/{run}"));
    let again = client.post(RUNS, start).await.is(200).json();
    assert_eq!(
        (&again["run_id"], &again["outcome"]),
        (&run.clone().into(), &"found".into())
    );
    let held = start.replace(r#""idempotency_key":"d","#, "");
    client.post(RUNS, held).await.is_problem(409, "");
    let found = client.get(&format!("{RUNS}/{run}")).await.is(200).json();
    assert_eq!(
        (&found["pace_per_s"], &found["status"]),
        (&500.into(), &"queued".into())
    );
    let params: Vec<u8> = sqlx::query_scalar("select params from lockgate.task_runs")
        .fetch_one(database.pool())
        .await
        .unwrap();
    assert_eq!(
        String::from_utf8(params).unwrap(),
        r#"{"day": "2026-01-31"}"#,
        "byte by byte"
    );
    let program = Program::new(BIN, database.url());
    let shown = program.run(&["runs", "show", &run, "--output", "json"]).await.exits(0);
    assert_eq!(shown.json(), found);
}

#[tokio::test]
async fn a_start_that_cannot_be_names_its_field() {
    let (_database, _api, client) = serve(stored()).await;
    for (body, field) in [
        (r#"{"workflow":"daily-mail"}"#, "workflow"),
        (r#"{"workflow":7}"#, "workflow"),
        (r#"{}"#, "workflow"),
        (r#"{"workflow":"daily-task-reports","params":{"dya":1}}"#, "params"),
        (
            r#"{"workflow":"daily-task-reports","idempotencyKey":"k"}"#,
            "idempotencyKey",
        ),
        (
            r#"{"workflow":"daily-task-reports","idempotency_key":""}"#,
            "idempotency_key",
        ),
        (
            r#"{"workflow":"daily-task-reports","singleton_key":"a\u0000b"}"#,
            "singleton_key",
        ),
        (r#"{"workflow":"daily-task-reports","pace_per_s":0}"#, "pace_per_s"),
        (r#"{"workflow":"daily-task-reports","start_at":"soon"}"#, "start_at"),
        (r#"{"workflow":"daily-task-reports","deadline_s":0}"#, "deadline_s"),
        (r#"{"workflow":"daily-task-reports"} x"#, ""),
        ("", ""),
    ] {
        client.post(RUNS, body).await.is_problem(400, field);
    }
    let long = format!(
        r#"{{"workflow":"daily-task-reports","singleton_key":"{}"}}"#,
        "k".repeat(501)
    );
    client.post(RUNS, long).await.is_problem(400, "singleton_key");
    client.post(RUNS, " ".repeat((1 << 20) + 1)).await.is_problem(413, "");
    let plain = client.request(reqwest::Method::POST, RUNS).body("{}");
    client.answer(plain).await.is_problem(415, "");
}

#[tokio::test]
async fn runs_are_listed_explained_and_proven() {
    let (_database, _api, client) = serve(stored()).await;
    let start = r#"{"workflow":"daily-task-reports","start_at":"2099-01-01T00:00:00Z"}"#;
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.insert(0, client.post(RUNS, start).await.is(201).json()["run_id"].clone());
    }
    let listed = |query: &'static str| {
        let client = client.clone();
        async move {
            let answer = client.get(&format!("{RUNS}{query}")).await.is(200).json();
            let runs = answer["runs"].as_array().unwrap().clone();
            runs.iter().map(|run| run["run_id"].clone()).collect::<Vec<_>>()
        }
    };
    assert_eq!(listed("").await, runs);
    assert_eq!(listed("?limit=2").await, runs[..2]);
    assert_eq!(listed("?workflow=daily-task-reports&status=queued").await, runs);
    assert!(listed("?status=failed").await.is_empty());
    for (query, field) in [
        ("?status=gone", "status"),
        ("?limit=0", "limit"),
        ("?limit=x", ""),
        ("?state=failed", ""),
    ] {
        client.get(&format!("{RUNS}{query}")).await.is_problem(400, field);
    }
    let of_run = |what: &str| format!("{RUNS}/{}{what}", runs[0].as_str().unwrap());
    let why = client.get(&of_run("/why")).await.is(200).json();
    assert_eq!(why["causes"][0]["cause"], "before_start", "{why}");
    assert!(why["causes"][0]["text"].is_string());
    let proof = client.get(&of_run("/proof")).await.is(200).json();
    assert_eq!(
        (&proof["holds"], &proof["planned"]),
        (&true.into(), &0.into()),
        "{proof}"
    );
    for what in ["", "/why", "/proof"] {
        client
            .get(&format!("{RUNS}/{}{what}", Uuid::new_v4()))
            .await
            .is_problem(404, "");
        client.get(&format!("{RUNS}/7{what}")).await.is_problem(400, "id");
    }
}

#[tokio::test]
async fn a_run_is_paused_resumed_and_cancelled() {
    let (_database, _api, client) = serve(stored()).await;
    let started = client
        .post(RUNS, r#"{"workflow":"daily-task-reports"}"#)
        .await
        .is(201)
        .json();
    let act = |what: &str| format!("{RUNS}/{}/{what}", started["run_id"].as_str().unwrap());
    let paused = client.post(&act("pause"), r#"{"reason":"lunch"}"#).await.is(200).json();
    assert_eq!(
        (&paused["status"], &paused["run_id"]),
        (&"paused".into(), &started["run_id"])
    );
    let path = format!("{RUNS}/{}", started["run_id"].as_str().unwrap());
    assert_eq!(client.get(&path).await.is(200).json()["reason"], "lunch");
    let bare = client.request(reqwest::Method::POST, &act("resume"));
    assert_eq!(client.answer(bare).await.is(200).json()["status"], "queued");
    // Asked for again, as after a lost answer.
    assert_eq!(
        client.post(&act("resume"), "{}").await.is(200).json()["status"],
        "queued"
    );
    let _ = client.post(&act("pause"), "{}").await.is(200);
    let _ = client.post(&act("resume"), r#"{"reason":"fed"}"#).await.is(200);
    let run = client.get(&path).await.is(200).json();
    let changes = run["transitions"].as_array().unwrap();
    assert_eq!(changes.last().unwrap()["reason"], "fed", "{run}");
    client
        .post(&act("cancel"), r#"{"why":"x"}"#)
        .await
        .is_problem(400, "why");
    client
        .post(&act("cancel"), r#"{"reason":"a\u0000b"}"#)
        .await
        .is_problem(400, "reason");
    let typed = client.request(reqwest::Method::POST, &act("cancel")).body("{}");
    client.answer(typed).await.is_problem(415, "");
    client
        .post(&act("cancel"), " ".repeat((1 << 20) + 1))
        .await
        .is_problem(413, "");
    assert_eq!(
        client.post(&act("cancel"), "{}").await.is(200).json()["status"],
        "cancelled"
    );
    let forced = client
        .post(&act("cancel"), r#"{"force":true,"reason":"at once"}"#)
        .await;
    assert_eq!(forced.is(200).json()["status"], "cancelled", "it is over");
    client
        .post(&act("pause"), r#"{"force":true}"#)
        .await
        .is_problem(400, "force");
    client.post(&act("pause"), "{}").await.is_problem(409, "");
    client.post(&act("resume"), "{}").await.is_problem(409, "");
    for what in ["pause", "resume", "cancel"] {
        client
            .post(&format!("{RUNS}/{}/{what}", Uuid::new_v4()), "{}")
            .await
            .is_problem(404, "");
        client
            .post(&format!("{RUNS}/7/{what}"), "{}")
            .await
            .is_problem(400, "id");
    }
}

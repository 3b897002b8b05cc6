//! Queues over HTTP are the queues of the command line.

use lockgate_tests::cli::Program;
use serde_json::json;

use super::{serve, stored};

const BIN: &str = env!("CARGO_BIN_EXE_lockgate-test");
const QUEUES: &str = "/api/v1/queues";
const RUNS: &str = "/api/v1/runs";

#[tokio::test]
async fn a_queue_is_set_looked_at_paused_and_removed() {
    let (_database, _api, client) = serve(stored()).await;
    let mails = format!("{QUEUES}/mails%20of%20today");
    let set = r#"{"max_running": 5, "rate_per_s": 2.5, "fair": true, "holds": "run", "max_attempt_s": 60, "reason": "small"}"#;
    let answer = client.put(&mails, set).await.is(200).json();
    assert_eq!(answer, json!({"name": "mails of today", "state": "new"}));
    let shown = client.get(&mails).await.is(200).json();
    assert_eq!(
        (&shown["max_running"], &shown["burst"], &shown["holds"]),
        (&json!(5), &json!(3), &json!("run"))
    );
    let paused = client.post(&format!("{mails}/pause"), r#"{"reason": "down"}"#).await;
    assert_eq!(paused.status, 200);
    let listed = client.get(QUEUES).await.is(200).json();
    assert_eq!(listed["queues"][0]["pause_reason"], "down");
    assert_eq!(client.post(&format!("{mails}/resume"), "").await.status, 200);
    assert_eq!(client.delete(&mails).await.is(200).json()["state"], "removed");
    for (path, what) in [(mails.clone(), "get"), (format!("{mails}/resume"), "post")] {
        let answer = match what {
            "get" => client.get(&path).await,
            _ => client.post(&path, "").await,
        };
        answer.is_problem(404, "");
    }
}

#[tokio::test]
async fn settings_that_cannot_be_are_refused() {
    let (_database, _api, client) = serve(stored()).await;
    for body in [
        r#"{"max_running": 0}"#,
        r#"{"rate_per_s": -1}"#,
        // Its part of a moment is no number: every question that counts tokens would fail.
        r#"{"rate_per_s": 1e-300}"#,
        r#"{"holds": "for ever"}"#,
        r#"{"max_runing": 1}"#,
    ] {
        assert_eq!(client.put(&format!("{QUEUES}/q"), body).await.status, 400, "{body}");
    }
    for body in [r#"{"max_running": 1, "max_per_key": 2}"#, r#"{"burst": 2}"#] {
        assert_eq!(client.put(&format!("{QUEUES}/q"), body).await.status, 409, "{body}");
    }
    let start = |more: &str| format!(r#"{{"workflow":"daily-task-reports","params":{{"day":"2026-01-31"}},{more}}}"#);
    for (more, field) in [
        (r#""priority": 21"#, "priority"),
        (r#""queue": """#, "queue"),
        (r#""tenant": """#, "tenant"),
    ] {
        client.post("/api/v1/runs", start(more)).await.is_problem(400, field);
    }
    let debounced = start(r#""debounce_key": "k", "queue": "q", "priority": 20, "limit_key": "l", "tenant": "t""#);
    assert_eq!(client.post("/api/v1/runs", debounced.clone()).await.status, 201);
    assert_eq!(
        client.post("/api/v1/runs", debounced).await.is(200).json()["outcome"],
        "debounced"
    );
}

/// Who holds the place that a run waits for is named, and the command line says the same.
#[tokio::test]
async fn why_a_run_is_kept_back_by_its_queue_is_told() {
    let (database, _api, client) = serve(stored()).await;
    let set = client.put(&format!("{QUEUES}/narrow"), r#"{"max_running": 1}"#).await;
    assert_eq!(set.status, 200);
    let start = r#"{"workflow":"daily-task-reports","params":{"day":"2026-01-31"},"queue":"narrow"}"#;
    let holder = client.post(RUNS, start).await.is(201).json()["run_id"].clone();
    let kept = client.post(RUNS, start).await.is(201).json()["run_id"].clone();
    sqlx::query(
        "update lockgate.task_runs
            set status = 'running', started_at = clock_timestamp(), wake_at = null, rank = null, holds = 'code',
                claim_id = gen_random_uuid(), claim_token = 1, claimed_by = gen_random_uuid(),
                claimed_at = clock_timestamp(), lease_until = clock_timestamp() + interval '1 minute'
          where id = $1::uuid",
    )
    .bind(holder.as_str())
    .execute(database.pool())
    .await
    .unwrap();
    let kept = kept.as_str().unwrap();
    let why = client.get(&format!("{RUNS}/{kept}/why")).await.is(200).json();
    let mut causes = why["causes"].as_array().unwrap().iter();
    let limit = causes.find(|cause| cause["cause"] == "queue").unwrap();
    assert_eq!(
        (&limit["limit"], &limit["queue"], &limit["holding"]),
        (&json!("max_running"), &json!("narrow"), &json!(1)),
        "{why}"
    );
    assert_eq!(limit["holders"][0]["run_id"], holder, "{why}");
    let program = Program::new(BIN, database.url());
    let said = program.run(&["runs", "why", kept, "--output", "json"]).await.exits(0);
    assert_eq!(said.json(), why);
}

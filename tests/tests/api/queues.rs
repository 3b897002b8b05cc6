//! Queues over HTTP are the queues of the command line.

use serde_json::json;

use super::{serve, stored};

const QUEUES: &str = "/api/v1/queues";

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

//! Telling runs something.

use lockgate::client::{Client, SignalError};
use serde_json::json;
use uuid::Uuid;

use super::Scene;

#[tokio::test]
async fn a_signal_is_sent_once_under_its_key_and_says_who_sent_it() {
    let scene = Scene::new().await;
    let run = scene.has("suspended", "").await.to_string();
    let args = [
        "runs",
        "signal",
        &run,
        "approved",
        r#"{"by": "Ada"}"#,
        "--key",
        "k",
        "--actor",
        "somebody",
    ];
    let told = scene.json(&args).await;
    assert_eq!(told, json!({"run_id": run, "signal": "approved", "outcome": "sent"}));
    assert_eq!(scene.json(&args).await["outcome"], "known");
    let text = scene.run(&["runs", "signal", &run, "go"]).await.exits(0).out;
    assert_eq!(text, format!("{run}\tgo\tsent\n"));
    let stored = scene
        .all(
            "select concat_ws(' ', seq, name, convert_from(payload, 'UTF8'), actor) from lockgate.signals order by seq",
        )
        .await;
    assert!(
        stored[0].starts_with(r#"1 approved {"by": "Ada"} "#) && stored[0].ends_with(" for somebody"),
        "{stored:?}"
    );
    assert!(stored[1].starts_with("2 go null "), "{stored:?}");
    let awake: bool = scene
        .one("select wake_seq = 2 and wake_at is not null from lockgate.task_runs")
        .await;
    assert!(awake);
}

#[tokio::test]
async fn what_cannot_be_told_says_why() {
    let scene = Scene::new().await;
    let (over, full) = (scene.has("failed", "").await, scene.has("running", "").await);
    scene
        .sql(&format!(
            "insert into lockgate.signals (run_id, seq, name, payload, actor)
             select '{full}', n, 'go', 'null', 'me' from generate_series(1, 1000) n"
        ))
        .await;
    let large = format!("\"{}\"", "x".repeat(65_536));
    let unknown = Uuid::now_v7();
    let long = "n".repeat(101);
    for (run, name, payload, exit, says) in [
        (unknown, "go", "1", 3, "there is no run"),
        (over, "go", "1", 4, "is failed"),
        (full, "go", "1", 4, "has a thousand signals"),
        (full, "go", &*large, 2, "larger than 64 KiB"),
        (full, "go", "yes", 2, "what is told is not JSON"),
        (full, "", "1", 2, "1 to 100 bytes"),
        (full, &*long, "1", 2, "1 to 100 bytes"),
    ] {
        let refused = scene
            .run(&["runs", "signal", &run.to_string(), name, payload])
            .await
            .exits(exit);
        refused.says(&[says, "nothing was changed"]);
    }
    let client = Client::new(scene.database.database());
    let signal = |run: Uuid| {
        let client = client.clone();
        async move { client.run::<()>(run).signal("go", &"x").await }
    };
    assert!(matches!(signal(unknown).await, Err(SignalError::Unknown(_))));
    assert!(matches!(signal(over).await, Err(SignalError::Over { status, .. }) if status == "failed"));
    assert!(matches!(signal(full).await, Err(SignalError::Full(_))));
    let run = client.run::<()>(full);
    assert!(matches!(run.signal("", &1).await, Err(SignalError::Invalid(_))));
    let running = client.run::<()>(scene.has("running", "").await);
    assert!(matches!(
        running.signal("go", &"x".repeat(65_536)).await,
        Err(SignalError::Invalid(_))
    ));
    for _ in 0..2 {
        running.signal_once("key", "go", &1).await.unwrap();
    }
    let told: i64 = scene
        .one("select count(*) from lockgate.signals where idempotency_key = 'key'")
        .await;
    assert_eq!(told, 1);
}

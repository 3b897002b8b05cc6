//! Telling runs something.

use lockgate::client::{Client, SignalError, SignalOptions};
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
async fn whoever_says_why_is_on_record_with_it_once() {
    let scene = Scene::new().await;
    let run = scene.has("suspended", "").await;
    let id = run.to_string();
    let args = [
        "runs",
        "signal",
        &id,
        "approved",
        "true",
        "--key",
        "k",
        "--reason",
        "she called",
        "--actor",
        "Ada",
    ];
    assert_eq!(scene.json(&args).await["outcome"], "sent");
    assert_eq!(scene.json(&args).await["outcome"], "known");
    let client = Client::new(scene.database.database()).acting_for("Bob");
    let told = client.run::<()>(run);
    let why = SignalOptions::default().key("b").reason("she wrote");
    told.signal_with("approved", &true, why.clone()).await.unwrap();
    told.signal_with("approved", &true, why).await.unwrap();
    told.signal("go", &1).await.unwrap();
    // Without a reason, as replicas of older releases call it, the signal alone names who sent it.
    scene
        .sql(&format!(
            "select lockgate.signal_run('{run}', 'go', '1', 'c', 'Cy', 'told to');
             select lockgate.signal_run('{run}', 'go', '1', 'd', 'Cy');
             select lockgate.signal_run('{run}', 'go', reason => '')"
        ))
        .await;
    let acts = "select concat_ws('|', entity, from_status, to_status, split_part(actor, ' for ', 2), reason)
          from lockgate.transitions order by id";
    assert_eq!(
        scene.all(acts).await,
        [
            "run|suspended|signalled|Ada|signal approved: she called",
            "run|suspended|signalled|Bob|signal approved: she wrote",
            "run|suspended|signalled|Cy|signal go: told to",
        ]
    );
    assert_eq!(scene.one::<i64>("select count(*) from lockgate.signals").await, 6);
    let rows = scene.json(&["runs", "show", &id, "--steps"]).await;
    let mut rows = rows.as_array().unwrap().iter();
    assert!(rows.any(|row| row["status"] == "signalled" && row["reason"] == "signal go: told to"));
    let shown = scene.run(&["runs", "show", &id]).await.exits(0).out;
    assert!(shown.contains("signal approved: she wrote"), "{shown}");
}

#[tokio::test]
async fn a_run_that_is_told_something_is_paused_since_it_was_paused() {
    let scene = Scene::new().await;
    let run = scene.has("paused", "reason = 'lunch'").await;
    scene
        .sql(&format!(
            "insert into lockgate.transitions (at, entity, run_id, from_status, to_status)
             values (clock_timestamp() - interval '2 days', 'run', '{run}', 'running', 'paused');
             select lockgate.signal_run('{run}', 'go', reason => 'to see')"
        ))
        .await;
    let long = "select why from lockgate.v_stuck where kind = 'run_paused_long'";
    assert_eq!(scene.all(long).await, ["lunch"]);
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

//! What a run was given and what it returned.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor};
use uuid::Uuid;

use super::Scene;

/// More than a document can say otherwise: a number beyond all types, names in an order, a zero character.
const RETURNED: &str = r#"{"z": 18446744073709551616, "secret": "a\u0000"}"#;

fn returned(text: &str) -> String {
    format!("output = convert_to('{text}', 'UTF8')")
}

#[tokio::test]
async fn they_are_shown_only_when_asked_for_and_as_they_were_written() {
    let scene = Scene::new().await;
    let run = scene.has("completed", &returned(RETURNED)).await.to_string();
    let without = scene.json(&["runs", "show", &run]).await;
    assert_eq!(without.get("params").or(without.get("output")), None);
    let args = ["runs", "show", &run, "--values"];
    let shown = scene.json(&args).await;
    assert_eq!(shown["params"], json!({"order": 7}));
    assert_eq!(shown["output"]["secret"], "a\0");
    for format in ["json", "jsonl", "table"] {
        let args: Vec<&str> = args.into_iter().chain(["--output", format]).collect();
        let out = scene.run(&args).await.exits(0).out;
        assert!(out.contains(RETURNED), "{format}: {out}");
    }
    let text = scene.run(&args).await.exits(0).out;
    assert!(
        text.contains("given       {\"order\": 7}\nreturned    {\"z\": 1844"),
        "{text}"
    );
    for (status, also) in [("running", ""), ("failed", "reason = 'why'")] {
        let run = scene.has(status, also).await.to_string();
        let shown = scene.json(&["runs", "show", &run, "--values"]).await;
        assert_eq!((&shown["params"]["order"], shown.get("output")), (&json!(7), None));
    }
    let unknown = Uuid::now_v7().to_string();
    scene.run(&["runs", "show", &unknown, "--values"]).await.exits(3);
}

#[tokio::test]
async fn whoever_waits_is_told_what_the_run_returned() {
    let scene = Scene::new().await;
    let start = ["start", "daily-mail", "--key", "a", "--wait"];
    scene.run(&start[..4]).await.exits(0);
    let end = returned(r#"{"approved": true}"#);
    scene
        .sql(&format!(
            "update lockgate.task_runs set status = 'completed', finished_at = clock_timestamp(), {end}"
        ))
        .await;
    let ended = scene.json(&start).await;
    assert_eq!(
        (&ended["outcome"], &ended["status"], &ended["output"]),
        (&json!("found"), &json!("completed"), &json!({"approved": true}))
    );
    let text = scene.run(&start).await.exits(0).out;
    assert!(text.ends_with("\tfound\tcompleted\n"), "{text}");
}

/// What the two functions of SQL say of it, to somebody with this role.
async fn told(scene: &Scene, role: &str, run: Uuid) -> Result<(Option<Value>, Option<Value>), sqlx::Error> {
    let mut session = scene.database.pool().acquire().await?.detach();
    session
        .execute(AssertSqlSafe(format!("set session authorization lockgate_{role}")))
        .await?;
    let asked = "select lockgate.run_input($1), lockgate.run_result($1)";
    sqlx::query_as(asked).bind(run).fetch_one(&mut session).await
}

#[tokio::test]
async fn in_sql_they_are_told_to_those_who_may_see_them() {
    let scene = Scene::new().await;
    let input = Some(json!({"order": 7}));
    let run = scene.has("completed", &returned(r#"{"approved": true}"#)).await;
    assert_eq!(
        told(&scene, "operator", run).await.unwrap(),
        (input.clone(), Some(json!({"approved": true})))
    );
    for role in ["reader", "sender"] {
        let denied = told(&scene, role, run).await.unwrap_err();
        assert_eq!(denied.as_database_error().unwrap().code().as_deref(), Some("42501"));
    }
    // JSON's null is a result, SQL's is none.
    let nothing = scene.has("completed", &returned("null")).await;
    let failed = scene.has("failed", "").await;
    let under_way = scene.has("running", "").await;
    for (run, result) in [(nothing, Some(Value::Null)), (failed, None), (under_way, None)] {
        assert_eq!(told(&scene, "operator", run).await.unwrap(), (input.clone(), result));
    }
    assert_eq!(
        told(&scene, "operator", Uuid::now_v7()).await.unwrap(),
        (None, None),
        "there is none"
    );
}

#[tokio::test]
async fn of_a_run_that_goes_on_as_another_the_last_ones_output_counts() {
    let scene = Scene::new().await;
    let last = scene.has("running", "params = '[2]'").await;
    let goes_on = format!("params = '[1]', continued_as = '{last}'");
    let first = scene.has("completed", &goes_on).await;
    let show = async || {
        let shown = scene.json(&["runs", "show", &first.to_string(), "--values"]).await;
        (shown["params"].clone(), shown.get("output").cloned())
    };
    assert_eq!(show().await, (json!([1]), None));
    assert_eq!(told(&scene, "operator", first).await.unwrap().1, None);
    scene
        .sql(&format!(
            "update lockgate.task_runs set status = 'completed', finished_at = clock_timestamp(), {} where id = '{last}'",
            returned("42")
        ))
        .await;
    assert_eq!(show().await, (json!([1]), Some(json!(42))));
    assert_eq!(
        told(&scene, "operator", first).await.unwrap(),
        (Some(json!([1])), Some(json!(42)))
    );
}

//! Runs are found by their attributes and all else, page by page.

use lockgate::client::{Client, StartError};
use lockgate::workflow::{Context, Workflow};
use serde_json::{Value, json};

use super::Scene;

/// One that no replica runs.
struct Letter;

impl Workflow for Letter {
    const NAME: &'static str = "letter";
    type Input = String;
    type Output = u32;

    async fn run(&self, _ctx: Context, input: String) -> anyhow::Result<u32> {
        Ok(u32::try_from(input.len())?)
    }
}

async fn listed(scene: &Scene, args: &[&str]) -> Vec<Value> {
    let args: Vec<&str> = ["runs", "list"].iter().chain(args).copied().collect();
    let runs = scene.json(&args).await;
    runs.as_array()
        .unwrap()
        .iter()
        .map(|run| run["run_id"].clone())
        .collect()
}

#[tokio::test]
async fn a_run_is_found_by_the_attributes_it_is_started_with() {
    let scene = Scene::new().await;
    let args = [
        "start",
        "daily-mail",
        "--attribute",
        "customer=42",
        "--attribute",
        "city=Bonn",
    ];
    let by_cli = scene.json(&args).await["run_id"].clone();
    let client = Client::new(scene.database.database());
    let start = || client.start::<Letter>(&"dear".to_owned()).attribute("customer", 42);
    let by_rust = json!(start().attribute("urgent", true).send().await.unwrap().id());
    let by_sql: String = scene
        .one(r#"select lockgate.start_run('letter', attributes => '{"customer": 43}')::text"#)
        .await;
    assert_eq!(
        listed(&scene, &["--attribute", "customer=42"]).await,
        [by_rust.clone(), by_cli.clone()]
    );
    assert_eq!(
        listed(&scene, &["--attribute", "customer=42", "--attribute", "city=Bonn"]).await,
        [by_cli]
    );
    assert_eq!(
        listed(&scene, &["--attribute", "urgent=true", "--status", "queued"]).await,
        [by_rust]
    );
    assert_eq!(
        listed(&scene, &["--attribute", "customer=43", "--workflow", "letter"]).await,
        [json!(by_sql)]
    );
    assert!(listed(&scene, &["--attribute", "customer=\"42\""]).await.is_empty());
    let shown = scene.json(&["runs", "show", &by_sql]).await;
    assert_eq!(shown["attributes"], json!({"customer": 43}));
}

#[tokio::test]
async fn attributes_that_cannot_be_start_nothing() {
    let scene = Scene::new().await;
    let long = format!("city={}", "x".repeat(251));
    scene
        .run(&["start", "daily-mail", "--attribute", &long])
        .await
        .exits(2)
        .says(&["longer than 250 characters"]);
    scene
        .run(&["start", "daily-mail", "--attribute", "city"])
        .await
        .exits(2);
    scene.run(&["start", "daily-mail", "--attribute", "=1"]).await.exits(2);
    let client = Client::new(scene.database.database());
    let nested = client.start::<Letter>(&"dear".to_owned()).attribute("list", json!([1]));
    assert!(matches!(nested.send().await, Err(StartError::Invalid(_))));
    let mut many = client.start::<Letter>(&"dear".to_owned());
    for number in 0..17 {
        many = many.attribute(&number.to_string(), number);
    }
    assert!(matches!(many.send().await, Err(StartError::Invalid(_))));
    let sql = "select lockgate.start_run('letter', attributes => '{\"list\": [1]}')";
    let refused = sqlx::query(sql).execute(scene.database.pool()).await.unwrap_err();
    assert!(
        refused.to_string().contains("are not an object of strings"),
        "{refused}"
    );
    let runs: i64 = scene.one("select count(*) from lockgate.task_runs").await;
    assert_eq!(runs, 0);
}

#[tokio::test]
async fn a_list_goes_on_behind_its_last_run() {
    let scene = Scene::new().await;
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.insert(
            0,
            json!(scene.has("completed", "tenant = 't', attributes = '{\"a\": 1}'").await),
        );
        scene.has("failed", "queue = 'slow'").await;
    }
    for by in [
        ["--tenant", "t"],
        ["--attribute", "a=1"],
        ["--status", "completed"],
        ["--queue", "orders"],
    ] {
        let first = listed(&scene, &[&by[..], &["--limit", "3"]].concat()).await;
        assert_eq!(first, runs[..3], "{by:?}");
        let after = first[2].as_str().unwrap();
        let rest = listed(&scene, &[&by[..], &["--limit", "3", "--after", after]].concat()).await;
        assert_eq!(rest, runs[3..], "{by:?}");
    }
    assert_eq!(listed(&scene, &["--queue", "slow"]).await.len(), 5);
    assert_eq!(listed(&scene, &["--since", "-1h"]).await.len(), 10);
    assert!(listed(&scene, &["--until", "-1h"]).await.is_empty());
    assert!(
        listed(&scene, &["--parent", &uuid::Uuid::now_v7().to_string()])
            .await
            .is_empty()
    );
}

//! W: a run that is over is being done again.

use std::time::Duration;

use lockgate_tests::cli::Program;
use lockgate_tests::cluster::program;
use lockgate_tests::steps_story::Story;
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor};
use uuid::Uuid;

/// Whoever copies a run dies before its copy is there: there is nothing of it, and it can be asked for again.
pub async fn before_commit() {
    let story = Story::begin(json!({"steps": 3, "breaks": 2})).await;
    let _replica = story.cluster.replica();
    story.cluster.reaches(story.run, "failed").await;
    let mended = "insert into effects (run_id, name) values (gen_random_uuid(), 'mended')";
    story.cluster.pool.execute(AssertSqlSafe(mended)).await.unwrap();
    let retry = ["runs", "retry", &story.run.to_string(), "--output", "json"];
    let lives = Program::new(program().to_str().unwrap(), story.cluster.url());
    let dies = lives.clone().env("LOCKGATE_CRASH_AT", "fork.before_commit");
    assert_ne!(dies.run(&retry).await.code, 0);
    let left = "select (select count(*) from lockgate.task_runs where id <> $1)
        + (select count(*) from lockgate.transitions where to_status = 'retried' and run_id = $1)";
    assert_eq!(story.count(left).await, 0);
    let again: Uuid = lives.run(&retry).await.exits(0).json()["run_id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    tokio::time::timeout(Duration::from_secs(60), story.cluster.completes(again))
        .await
        .unwrap();
    let done = lockgate_tests::chaos_steps::effects(&story.cluster.pool, again).await;
    assert_eq!(done.keys().collect::<Vec<_>>(), ["last", "step 2"]);
}

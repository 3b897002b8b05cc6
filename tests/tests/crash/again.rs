//! W: a run that is over is being done again.

use std::time::Duration;

use lockgate_tests::cli::Program;
use lockgate_tests::cluster::program;
use lockgate_tests::steps_story::Story;
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor};
use uuid::Uuid;

/// Whoever copies a run dies before its copy is there: there is nothing of it, and it can be asked for again. Who dies after
/// that leaves all of it: asked for again under its id it is found, and it is done.
pub async fn around_commit() {
    let story = Story::begin(json!({"steps": 3, "breaks": 2})).await;
    let _replica = story.cluster.replica();
    story.cluster.reaches(story.run, "failed").await;
    let mended = "insert into effects (run_id, name) values (gen_random_uuid(), 'mended')";
    story.cluster.pool.execute(AssertSqlSafe(mended)).await.unwrap();
    let retry = ["runs", "retry", &story.run.to_string(), "--output", "json"];
    let lives = Program::new(program().to_str().unwrap(), story.cluster.url());
    let left = "select (select count(*) from lockgate.task_runs where id <> $1)
        + (select count(*) from lockgate.transitions where to_status = 'retried' and run_id = $1)";
    for (point, rows) in [("fork.before_commit", 0), ("fork.after_commit", 2)] {
        let dies = lives.clone().env("LOCKGATE_CRASH_AT", point);
        assert_ne!(dies.run(&retry).await.code, 0, "{point}");
        assert_eq!(story.count(left).await, rows, "{point}");
    }
    let copy: Uuid = sqlx::query_scalar("select id from lockgate.task_runs where forked_from = $1")
        .bind(story.run)
        .fetch_one(&story.cluster.pool)
        .await
        .unwrap();
    let again = "select outcome from lockgate.repeat_run($1, $2, 'retry', null, null, true, null, null)";
    let answer: String = sqlx::query_scalar(again)
        .bind(copy)
        .bind(story.run)
        .fetch_one(&story.cluster.pool)
        .await
        .unwrap();
    assert_eq!((answer.as_str(), story.count(left).await), ("found", 2));
    tokio::time::timeout(Duration::from_secs(60), story.cluster.completes(copy))
        .await
        .unwrap();
    let done = lockgate_tests::chaos_steps::effects(&story.cluster.pool, copy).await;
    assert_eq!(done.keys().collect::<Vec<_>>(), ["last", "step 2"]);
}

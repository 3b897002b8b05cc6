//! Runs that are over are done again, attributes that code sets, and schedules of step workflows.

use lockgate::client::Client;
use lockgate::postgres::{Database, DatabaseSettings};
use lockgate_tests::chaos_steps::effects;
use lockgate_tests::cluster::Cluster;
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::steps_story::Story;
use lockgate_tests::wait_until;
use serde_json::json;
use sqlx::types::Json;
use uuid::Uuid;

fn client(cluster: &Cluster) -> Client {
    Client::new(Database::new(&DatabaseSettings::new(cluster.url())).unwrap())
}

async fn count(pool: &sqlx::PgPool, sql: String) -> i64 {
    let count = sqlx::query_scalar(sqlx::AssertSqlSafe(sql));
    count.fetch_one(pool).await.unwrap()
}

async fn mend(story: &Story) {
    sqlx::query("insert into effects (run_id, name) values (gen_random_uuid(), 'mended')")
        .execute(&story.cluster.pool)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_failed_is_retried_from_the_step_that_did() {
    let story = Story::begin(json!({"steps": 4, "breaks": 2, "transactions": 1})).await;
    let _replica = story.cluster.replica();
    story.cluster.reaches(story.run, "failed").await;
    mend(&story).await;
    let retried = client(&story.cluster)
        .run::<serde_json::Value>(story.run)
        .retry("it is mended")
        .await;
    let retried = retried.unwrap().unwrap();
    let told = tokio::time::timeout(PATIENCE, retried.result()).await.unwrap().unwrap();
    let again = effects(&story.cluster.pool, retried.id()).await;
    let done: Vec<&str> = again.keys().map(String::as_str).collect();
    assert_eq!(
        done,
        ["last", "step 2", "step 3", "transaction 0"],
        "earlier steps were not done again"
    );
    let first = effects(&story.cluster.pool, story.run).await;
    assert_eq!(first.keys().collect::<Vec<_>>(), ["step 0", "step 1"]);
    // What it drew and when it began are the first run's.
    let begun: chrono::DateTime<chrono::Utc> =
        sqlx::query_scalar("select started_at from lockgate.task_runs where id = $1")
            .bind(story.run)
            .fetch_one(&story.cluster.pool)
            .await
            .unwrap();
    assert_eq!(told["from"], json!(begun));
    story.cluster.holds(retried.id()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_draws_what_the_first_run_drew() {
    let story = Story::begin(json!({"steps": 2})).await;
    let _replica = story.cluster.replica();
    let (first, _) = story.ends().await;
    let fork = "select lockgate.fork_run($1, '{\"steps\": 3}', from_step => '2:work')";
    let fork: Uuid = sqlx::query_scalar(fork)
        .bind(story.run)
        .fetch_one(&story.cluster.pool)
        .await
        .unwrap();
    let told = client(&story.cluster).run::<serde_json::Value>(fork);
    let told = tokio::time::timeout(PATIENCE, told.result()).await.unwrap().unwrap();
    assert_eq!((&told["uuid"], &told["from"]), (&json!(first.uuid), &json!(first.from)));
    let done = effects(&story.cluster.pool, fork).await;
    assert_eq!(done.keys().collect::<Vec<_>>(), ["last", "step 1", "step 2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attributes_that_code_sets_are_there_when_the_run_waits_and_when_it_is_over() {
    let story = Story::begin(json!({"steps": 2, "signal_ms": 3_600_000})).await;
    let _replica = story.cluster.replica();
    story.cluster.reaches(story.run, "suspended").await;
    let step = "select attributes from lockgate.task_runs where id = $1";
    let read = || async {
        let found: Json<serde_json::Value> = sqlx::query_scalar(step)
            .bind(story.run)
            .fetch_one(&story.cluster.pool)
            .await
            .unwrap();
        found.0
    };
    assert_eq!(read().await, json!({"step": 1}));
    client(&story.cluster)
        .run::<()>(story.run)
        .signal("go", &1)
        .await
        .unwrap();
    story.ends().await;
    assert_eq!(read().await, json!({"step": 1}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_starts_a_workflow_of_steps_and_its_past_is_made_good() {
    let story = Story::begin(json!({"steps": 1})).await;
    let _replica = story.cluster.replica();
    sqlx::raw_sql(
        "insert into lockgate.schedules (name, workflow, cron, params, catch_up)
         values ('hourly', 'chaos-steps', '0 * * * *', '{\"steps\": 1}', 'skip'),
                ('each-second', 'chaos-steps', '* * * * * *', '{\"steps\": 1}', 'last')",
    )
    .execute(&story.cluster.pool)
    .await
    .unwrap();
    let pool = &story.cluster.pool;
    let of = |schedule: &str, status: &str| {
        format!("select count(*) from lockgate.task_runs where schedule = '{schedule}' and status = '{status}'")
    };
    wait_until(PATIENCE, "it fires", async || {
        count(pool, of("each-second", "completed")).await > 0
    })
    .await;
    let past = lockgate::postgres::Backfill {
        schedule: "hourly".to_owned(),
        from: "2026-01-31T00:00:00Z".parse().unwrap(),
        to: Some("2026-01-31T06:00:00Z".parse().unwrap()),
        at_once: 2,
        dry_run: false,
        actor: None,
    };
    let schedules =
        lockgate::postgres::Schedules::new(Database::new(&DatabaseSettings::new(story.cluster.url())).unwrap());
    let slots = schedules.backfill(&past).await.unwrap().unwrap();
    assert_eq!(slots.len(), 6);
    wait_until(PATIENCE, "its past is made good", async || {
        count(pool, of("hourly", "completed")).await == 6
    })
    .await;
    let again = schedules.backfill(&past).await.unwrap().unwrap();
    assert!(again.iter().all(|slot| slot.outcome == "found"));
    // Never more than two at once.
    let overlaps = "select coalesce(max(n), 0) from (
        select (select count(*) from lockgate.task_runs o where o.schedule = 'hourly' and o.started_at <= r.started_at
                   and o.finished_at > r.started_at) as n
          from lockgate.task_runs r where r.schedule = 'hourly') x";
    assert!(count(pool, overlaps.to_owned()).await <= 2);
}

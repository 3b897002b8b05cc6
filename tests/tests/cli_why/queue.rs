//! What its queue keeps a run from: its pause, its limits with who holds the places, its rate, and who stands before it.

use serde_json::{Value, json};

use super::{REPLICA, Scene, text};

/// Another run of the queue, begun and held by the replica.
async fn holder(scene: &Scene, key: &str) -> String {
    let run: String = sqlx::query_scalar("select lockgate.start_run('daily-mail')::text")
        .fetch_one(scene.database.pool())
        .await
        .unwrap();
    scene
        .sql(&format!(
            "update lockgate.task_runs
                set status = 'running', started_at = clock_timestamp(), wake_at = null, rank = null, limit_key = '{key}', holds = 'code',
                    claim_id = gen_random_uuid(), claim_token = 1, claimed_by = '{REPLICA}', claimed_at = clock_timestamp(),
                    lease_until = clock_timestamp() + interval '1 minute'
              where id = '{run}'"
        ))
        .await;
    run
}

/// The one cause named, which is this limit of the queue.
async fn limit(scene: &Scene, limit: &str) -> Value {
    let cause = scene.cause().await;
    assert_eq!(
        (cause["cause"].as_str(), cause["limit"].as_str()),
        (Some("queue"), Some(limit)),
        "{cause}"
    );
    assert_eq!(cause["queue"], "daily-mail");
    cause
}

#[tokio::test]
async fn its_queue_is_paused() {
    let scene = Scene::new().await;
    scene
        .sql("select lockgate.pause_queue('daily-mail', 'the mail server is down', 'mia')")
        .await;
    let cause = limit(&scene, "paused").await;
    assert_eq!(cause["reason"], "the mail server is down");
    assert!(cause["by"].as_str().unwrap().ends_with(" for mia"), "{cause}");
    assert!(
        text(&cause).starts_with("its queue daily-mail was paused at 20"),
        "{cause}"
    );
    scene.sql("select lockgate.resume_queue('daily-mail')").await;
    assert_eq!(scene.cause().await["cause"], "nothing_holds");
}

#[tokio::test]
async fn as_many_are_under_way_as_its_queue_allows() {
    let scene = Scene::new().await;
    scene
        .sql("select lockgate.set_queue('daily-mail', max_running => 2)")
        .await;
    let first = holder(&scene, "a").await;
    assert_eq!(scene.cause().await["cause"], "nothing_holds", "one place is left");
    let second = holder(&scene, "b").await;
    let cause = limit(&scene, "max_running").await;
    assert_eq!((&cause["max_running"], &cause["holding"]), (&json!(2), &json!(2)));
    let holders = &cause["holders"];
    assert_eq!(holders[0]["run_id"], first.as_str(), "the longest: {cause}");
    assert_eq!(holders[1]["run_id"], second.as_str(), "{cause}");
    assert_eq!(holders[0]["replica"], REPLICA, "{cause}");
    let said = "2 of at most 2 runs of queue daily-mail are under way; longest: ";
    assert!(text(&cause).starts_with(&format!("{said}{first} since 20")), "{cause}");
    // What has a place keeps it while it waits.
    scene
        .sql(&format!(
            "update lockgate.task_runs set holds = 'run', claimed_at = clock_timestamp() where id = '{}'",
            scene.run
        ))
        .await;
    assert_eq!(scene.cause().await["cause"], "nothing_holds");
}

#[tokio::test]
async fn as_many_of_its_key_are_under_way_as_its_queue_allows() {
    let scene = Scene::new().await;
    scene
        .sql(&format!(
            "select lockgate.set_queue('daily-mail', max_running => 5, max_per_key => 1);
             update lockgate.task_runs set limit_key = 'acme' where id = '{}'",
            scene.run
        ))
        .await;
    holder(&scene, "other").await;
    assert_eq!(scene.cause().await["cause"], "nothing_holds", "another key");
    let holder = holder(&scene, "acme").await;
    let cause = limit(&scene, "max_per_key").await;
    assert_eq!(
        (&cause["key"], &cause["max_per_key"], &cause["holding"]),
        (&json!("acme"), &json!(1), &json!(1))
    );
    let holders = cause["holders"].as_array().unwrap();
    assert_eq!((holders.len(), &holders[0]["run_id"]), (1, &json!(holder)), "{cause}");
    assert!(
        text(&cause).contains(&format!(
            "with limit key acme are under way; longest: {holder} since 20"
        )),
        "{cause}"
    );
}

#[tokio::test]
async fn its_queue_lets_none_begin_yet() {
    let scene = Scene::new().await;
    // Ten thousand seconds until the next: nothing comes back while this is asked.
    scene
        .sql("select lockgate.set_queue('daily-mail', rate_per_s => 0.0001)")
        .await;
    assert_eq!(scene.cause().await["cause"], "nothing_holds", "a burst is saved up");
    scene
        .sql("update lockgate.queues set tokens = 0, refilled_at = clock_timestamp()")
        .await;
    let cause = limit(&scene, "rate").await;
    assert_eq!(cause["rate_per_s"], 0.0001);
    assert!((0.0..0.5).contains(&cause["tokens"].as_f64().unwrap()), "{cause}");
    assert!(cause["next_at"].is_string(), "{cause}");
    let said = "queue daily-mail lets 0.0001 runs a second begin and has 0.";
    assert!(text(&cause).starts_with(said), "{cause}");
}

#[tokio::test]
async fn another_stands_before_it() {
    let mut scene = Scene::new().await;
    let start = "select lockgate.start_run('daily-mail')::text";
    scene.run = sqlx::query_scalar(start)
        .fetch_one(scene.database.pool())
        .await
        .unwrap();
    let cause = limit(&scene, "place").await;
    assert_eq!(
        (&cause["before"], &cause["priority"], &cause["fair"]),
        (&json!(1), &json!(0), &json!(false))
    );
    assert!(text(&cause).starts_with("1 that wait stand before it"), "{cause}");
}

#[tokio::test]
async fn its_code_ran_too_long_before() {
    let scene = Scene::new().await;
    scene.sql("update lockgate.task_runs set overruns = 2").await;
    let cause = limit(&scene, "overran").await;
    assert_eq!(cause["times"], 2);
    assert!(text(&cause).contains("2 times in a row"), "{cause}");
}

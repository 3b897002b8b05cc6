//! How a run went, in order.

use serde_json::{Value, json};
use uuid::Uuid;

use super::Scene;

async fn story(scene: &Scene) -> Uuid {
    let run = scene
        .has("suspended", "created_at = clock_timestamp() - interval '2 minutes'")
        .await;
    let steps = ["0:charge step completed", "1:approval signal open", "2:nap sleep open"];
    scene.steps(run, &steps).await;
    scene
        .sql(&format!(
            "insert into lockgate.transitions (at, entity, run_id, from_status, to_status, token, replica, since, reason)
             values (clock_timestamp() - interval '50 seconds', 'run', '{run}', 'running', 'suspended', 1, '{run}',
                     clock_timestamp() - interval '90 seconds', null);
             insert into lockgate.transitions (at, entity, run_id, from_status, to_status, actor, reason)
             values (clock_timestamp() - interval '40 seconds', 'run', '{run}', 'suspended', 'paused', 'somebody', 'lunch');
             insert into lockgate.signals (run_id, seq, name, payload, actor, created_at)
             values ('{run}', 1, 'approval', '{{\"secret\": 1}}', 'me', clock_timestamp() - interval '30 seconds')"
        ))
        .await;
    run
}

#[tokio::test]
async fn steps_claims_changes_and_signals_come_in_the_order_in_which_they_began() {
    let scene = Scene::new().await;
    let run = story(&scene).await.to_string();
    let rows = scene.json(&["runs", "show", &run, "--steps"]).await;
    let rows = rows.as_array().unwrap();
    let told = |row: &Value| {
        let name = row["name"].as_str().unwrap_or_default();
        format!(
            "{} {name} {}",
            row["what"].as_str().unwrap(),
            row["status"].as_str().unwrap()
        )
    };
    let order = [
        "change  queued",
        "claim  suspended",
        "step 0:charge completed",
        "step 1:approval open",
        "step 2:nap open",
        "change  paused",
        "signal approval waiting",
    ];
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), order);
    assert_eq!(
        (&rows[2]["size"], &rows[2]["tries"], &rows[2]["value"]),
        (&json!(10), &json!(1), &json!(null))
    );
    assert_eq!(
        (&rows[3]["waits_for"], &rows[4]["waits_for"]),
        (&json!("signal approval"), &json!("its time"))
    );
    assert_eq!(
        (&rows[5]["actor"], &rows[5]["reason"]),
        (&json!("somebody"), &json!("lunch"))
    );
    assert!(!rows.iter().any(|row| row.to_string().contains("secret")));
    let text = scene.run(&["runs", "show", &run, "--steps"]).await.exits(0).out;
    assert!(
        text.starts_with("at\twhat\tname\tkind\tstatus\t") && text.contains("signal approval"),
        "{text}"
    );
}

#[tokio::test]
async fn values_are_shown_only_when_asked_for_and_only_to_those_who_may_see_them() {
    let scene = Scene::new().await;
    let run = story(&scene).await;
    let shown = scene
        .json(&["runs", "show", &run.to_string(), "--steps", "--values"])
        .await;
    assert_eq!(
        (&shown[2]["value"], &shown[6]["value"]),
        (&json!("\"0:charge\""), &json!("{\"secret\": 1}"))
    );
    let mut reader = scene.database.pool().acquire().await.unwrap();
    sqlx::raw_sql("set session authorization lockgate_reader")
        .execute(&mut *reader)
        .await
        .unwrap();
    let rows = |values: bool| format!("select count(*) from lockgate.run_timeline('{run}', with_values => {values})");
    let seen: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(rows(false)))
        .fetch_one(&mut *reader)
        .await
        .unwrap();
    assert_eq!(seen, 7);
    let denied = sqlx::query(sqlx::AssertSqlSafe(rows(true))).execute(&mut *reader).await;
    assert!(denied.unwrap_err().to_string().contains("may not read results"));
    drop(reader.detach());
}

#[tokio::test]
async fn what_a_run_was_told_is_shown_only_to_those_who_may_read_it() {
    let scene = Scene::new().await;
    let run = story(&scene).await;
    // Operators read what steps returned, and not what runs were told.
    let mut operator = scene.database.pool().acquire().await.unwrap();
    sqlx::raw_sql("set session authorization lockgate_operator")
        .execute(&mut *operator)
        .await
        .unwrap();
    let rows = format!(
        "select what, size, value from lockgate.run_timeline('{run}', with_values => true) where what in ('step', 'signal') and size > 0"
    );
    let rows: Vec<(String, i32, Option<String>)> = sqlx::query_as(sqlx::AssertSqlSafe(rows))
        .fetch_all(&mut *operator)
        .await
        .unwrap();
    assert_eq!(rows[0], ("step".to_owned(), 10, Some("\"0:charge\"".to_owned())));
    assert_eq!(rows.last(), Some(&("signal".to_owned(), 13, None)));
    drop(operator.detach());
}

#[tokio::test]
async fn a_timeline_goes_on_behind_a_cursor() {
    let scene = Scene::new().await;
    let run = story(&scene).await.to_string();
    let whole = scene.json(&["runs", "show", &run, "--steps"]).await;
    let mut pages = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut args = vec!["runs", "show", &run, "--steps", "--limit", "2"];
        args.extend(after.iter().flat_map(|after| ["--after", after.as_str()]));
        let page = scene.json(&args).await;
        let Some(last) = page.as_array().unwrap().last() else {
            break;
        };
        after = last["cursor"].as_str().map(str::to_owned);
        pages.extend(page.as_array().unwrap().clone());
    }
    assert_eq!(pages, *whole.as_array().unwrap());
    scene
        .run(&["runs", "show", &run, "--steps", "--after", "7"])
        .await
        .exits(2)
        .says(&["is no cursor"]);
    let unknown = Uuid::now_v7().to_string();
    scene.run(&["runs", "show", &unknown, "--steps"]).await.exits(3);
}

//! Acting on all runs that fit, and deleting.

use std::time::Duration;

use lockgate::inspect::{RunAct, RunFilter};
use lockgate::postgres::{BulkAct, Database, DatabaseSettings, Operator};
use lockgate_tests::proxy::Proxy;
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor};
use uuid::Uuid;

use super::Scene;

fn bulk(act: RunAct) -> BulkAct {
    BulkAct {
        act,
        filter: RunFilter::default(),
        all: true,
        force: false,
        reason: Some("the tests".to_owned()),
        at_most: 10_000,
        after: None,
    }
}

/// Queued runs of a workflow, as many as are asked for.
async fn many(scene: &Scene, workflow: &str, count: u32) {
    scene
        .sql(&format!(
            "insert into lockgate.task_runs (id, workflow, status, origin_id, wake_at)
             select id, '{workflow}', 'queued', id, clock_timestamp() + interval '1 day'
               from (select lockgate.new_id() as id from generate_series(1, {count})) n"
        ))
        .await;
}

async fn counted(scene: &Scene) -> Vec<String> {
    scene
        .all("select concat_ws(' ', workflow, status, count(*)) from lockgate.task_runs group by workflow, status order by 1")
        .await
}

#[tokio::test]
async fn a_thousand_runs_are_acted_on_in_pages() {
    let scene = Scene::new().await;
    many(&scene, "a", 1_203).await;
    many(&scene, "b", 7).await;
    let dry = ["runs", "cancel", "--where", "workflow=a", "--dry-run"];
    let found = scene.json(&dry).await;
    assert_eq!((&found["matched"], &found["acted"]), (&json!(1_203), &json!(0)));
    assert_eq!(found["sample"].as_array().unwrap().len(), 10);
    assert_eq!(found["sample"][0]["status"], "queued");
    assert_eq!(
        counted(&scene).await,
        ["a queued 1203", "b queued 7"],
        "nothing was changed"
    );
    let text = scene.run(&dry).await.exits(0).out;
    assert!(
        text.starts_with("cancel would be done to 1203 runs; nothing was changed\n"),
        "{text}"
    );
    let some = [
        "runs",
        "pause",
        "--where",
        "workflow=a",
        "--at-most",
        "3",
        "--reason",
        "lunch",
    ];
    let done = scene.json(&some).await;
    assert_eq!((&done["matched"], &done["acted"]), (&json!(3), &json!(3)));
    assert!(done["next"].is_string());
    let done = scene
        .json(&["runs", "cancel", "--where", "workflow=a", "--reason", "enough"])
        .await;
    assert_eq!(
        (&done["matched"], &done["acted"], &done["next"]),
        (&json!(1_203), &json!(1_203), &json!(null))
    );
    assert_eq!(counted(&scene).await, ["a cancelled 1203", "b queued 7"]);
    let audited: i64 = scene
        .one("select count(*) from lockgate.transitions where to_status = 'stopping' and reason = 'enough' and actor is not null")
        .await;
    assert_eq!(audited, 1_203);
    let again = scene.json(&["runs", "cancel", "--where", "workflow=a"]).await;
    assert_eq!(again["matched"], 0, "asked again it finds nothing to do");
}

#[tokio::test]
async fn every_part_of_a_filter_narrows_it() {
    let scene = Scene::new().await;
    let parent = Uuid::now_v7();
    let also = format!(
        "attributes = '{{\"customer\": 42, \"city\": \"Bonn\"}}', queue = 'slow', tenant = 't', parent_id = '{parent}', \
         schedule = 's', slot = '2026-01-31', workflow = 'w'"
    );
    let run = scene.has("suspended", &also).await;
    scene.has("suspended", "").await;
    for narrows in [
        "workflow=w".to_owned(),
        "queue=slow".to_owned(),
        "tenant=t".to_owned(),
        "schedule=s".to_owned(),
        format!("parent={parent}"),
        "attribute.customer=42".to_owned(),
        "attribute.city=Bonn".to_owned(),
    ] {
        let found = scene.json(&["runs", "cancel", "--where", &narrows, "--dry-run"]).await;
        assert_eq!(
            (&found["matched"], &found["sample"][0]["run_id"]),
            (&json!(1), &json!(run)),
            "{narrows}"
        );
    }
    for (fits, count) in [
        ("attribute.customer=\"42\"", 0),
        ("attribute.customer=43", 0),
        ("status=suspended", 2),
        ("status=failed", 0),
        ("queue=orders", 1),
        ("since=2020-01-01T00:00:00Z", 2),
        ("until=2020-01-01T00:00:00Z", 0),
    ] {
        let found = scene.json(&["runs", "pause", "--where", fits, "--dry-run"]).await;
        assert_eq!(found["matched"], count, "{fits}");
    }
    let both = [
        "runs",
        "pause",
        "--where",
        "tenant=t",
        "--where",
        "workflow=orders",
        "--dry-run",
    ];
    assert_eq!(scene.json(&both).await["matched"], 0);
}

#[tokio::test]
async fn what_fits_everything_must_be_meant() {
    let scene = Scene::new().await;
    many(&scene, "a", 3).await;
    let careless = BulkAct {
        all: false,
        ..bulk(RunAct::Cancel)
    };
    let refused = scene.operator.count_runs(&careless).await.unwrap_err();
    assert!(refused.to_string().contains("matches every run"), "{refused}");
    assert!(scene.operator.act_on_runs(&careless).await.is_err());
    for (args, says) in [
        (vec!["runs", "cancel"], "required"),
        (vec!["runs", "cancel", "--where", "colour=red"], "there is no colour"),
        (
            vec!["runs", "cancel", "--where", "status=gone"],
            "status is not a state of a run",
        ),
        (vec!["runs", "cancel", "--where", "since=today"], "is not an instant"),
    ] {
        scene.run(&args).await.exits(2).says(&[says]);
    }
    let run = Uuid::now_v7().to_string();
    scene.run(&["runs", "cancel", &run, "--all"]).await.exits(2);
    scene.run(&["runs", "cancel", &run, "--dry-run"]).await.exits(2);
    assert_eq!(counted(&scene).await, ["a queued 3"]);
    assert_eq!(scene.json(&["runs", "cancel", "--all"]).await["acted"], 3);
}

/// Asked again, it would find others in place of those to which it was done.
#[tokio::test]
async fn no_more_are_acted_on_than_may_be_though_an_answer_is_lost() {
    let scene = Scene::new().await;
    many(&scene, "a", 3).await;
    let proxy = Proxy::before(scene.database.url()).await;
    let database = Database::new(&DatabaseSettings::new(proxy.url())).unwrap();
    let operator = Operator::new(database, None);
    proxy.lose_reply("act_on_runs", 1);
    let one = BulkAct {
        at_most: 1,
        ..bulk(RunAct::Cancel)
    };
    let (done, error) = operator.act_on_runs(&one).await.unwrap_err();
    assert!(error.is_unanswered() && done.matched == 0, "{done:?} {error}");
    assert_eq!(counted(&scene).await, ["a cancelled 1", "a queued 2"]);
    // Where more may be, it goes on by itself.
    proxy.lose_reply("act_on_runs", 1);
    let done = operator.act_on_runs(&bulk(RunAct::Cancel)).await.unwrap();
    assert_eq!((done.matched, done.next), (0, None), "it found none that was left");
    assert_eq!(counted(&scene).await, ["a cancelled 3"]);
}

#[tokio::test]
async fn each_act_takes_the_runs_it_is_for() {
    let scene = Scene::new().await;
    for status in [
        "queued",
        "running",
        "suspended",
        "paused",
        "quarantined",
        "completed",
        "failed",
        "cancelled",
    ] {
        scene.has(status, &format!("workflow = '{status}'")).await;
    }
    for (act, fit) in [
        (RunAct::Cancel, 5),
        (RunAct::Pause, 3),
        (RunAct::Resume, 2),
        (RunAct::Retry, 2),
        (RunAct::Delete, 3),
    ] {
        let found = scene.operator.count_runs(&bulk(act)).await.unwrap();
        assert_eq!(found.matched, fit, "{act}");
    }
    let resumed = scene.operator.act_on_runs(&bulk(RunAct::Resume)).await.unwrap();
    assert_eq!((resumed.matched, resumed.acted), (2, 2));
    let why = "select count(*) from lockgate.transitions
                where from_status in ('paused', 'quarantined') and reason = 'the tests'";
    assert_eq!(scene.one::<i64>(why).await, 2);
    for acted in [2, 0] {
        let retried = scene.operator.act_on_runs(&bulk(RunAct::Retry)).await.unwrap();
        assert_eq!((retried.matched, retried.acted), (acted, acted), "each is retried once");
    }
    let deleted = scene.operator.act_on_runs(&bulk(RunAct::Delete)).await.unwrap();
    assert_eq!((deleted.matched, deleted.acted), (3, 3));
    let over: i64 = scene
        .one("select count(*) from lockgate.task_runs where finished_at is not null")
        .await;
    assert_eq!(over, 0);
}

/// A thousand runs whose undoing fails are not ended one by one.
#[tokio::test]
async fn a_cancel_of_many_is_forced_where_undoing_does_not_end() {
    let scene = Scene::new().await;
    for (status, also) in [
        (
            "quarantined",
            "stop_status = 'cancelled', stop_reason = 'x', undoing = true",
        ),
        (
            "quarantined",
            "stop_status = 'failed', stop_reason = 'x', undoing = true",
        ),
        ("suspended", "workflow = workflow"),
    ] {
        let run = scene.has(status, also).await;
        scene.steps(run, &["0:charge undoable completed"]).await;
    }
    let plain = ["runs", "cancel", "--where", "workflow=orders", "--dry-run"];
    assert_eq!(scene.json(&plain).await["matched"], 1);
    let forced = [
        "runs",
        "cancel",
        "--where",
        "workflow=orders",
        "--force",
        "--reason",
        "enough",
    ];
    let dry = scene.json(&[&forced[..], &["--dry-run"]].concat()).await;
    assert_eq!((&dry["matched"], &dry["acted"]), (&json!(3), &json!(0)));
    let done = scene.json(&forced).await;
    assert_eq!((&done["matched"], &done["acted"]), (&json!(3), &json!(3)), "{done}");
    let ended =
        "select concat_ws(' ', status, count(*), min(reason)) from lockgate.task_runs group by status order by 1";
    assert_eq!(
        scene.all(ended).await,
        [
            "cancelled 2 enough; by force, not undone: 0:charge",
            "failed 1 enough; by force, not undone: 0:charge"
        ]
    );
    assert_eq!(scene.json(&forced).await["matched"], 0);
    let pause = BulkAct {
        force: true,
        ..bulk(RunAct::Pause)
    };
    let refused = scene.operator.count_runs(&pause).await.unwrap_err();
    assert!(refused.to_string().contains("only a cancel can be forced"), "{refused}");
}

#[tokio::test]
async fn a_run_that_is_over_and_not_needed_is_deleted_and_that_is_on_record() {
    let scene = Scene::new().await;
    let run = scene.has("completed", "").await;
    scene.steps(run, &["0:charge step completed"]).await;
    let args = [
        "runs",
        "delete",
        &run.to_string(),
        "--reason",
        "asked for by the customer",
    ];
    assert_eq!(scene.json(&args).await["status"], "deleted");
    let left: i64 = scene
        .one("select (select count(*) from lockgate.task_runs) + (select count(*) from lockgate.run_steps)")
        .await;
    assert_eq!(left, 0);
    let record: String = scene
        .one("select concat_ws(' ', from_status, to_status, key, reason, run_id) from lockgate.transitions where entity = 'run'")
        .await;
    assert_eq!(record, format!("completed deleted {run} asked for by the customer"));
    scene.run(&args).await.exits(3);
}

#[tokio::test]
async fn what_is_needed_is_not_deleted() {
    let scene = Scene::new().await;
    let running = scene.has("running", "").await;
    let owing = scene.has("completed", "").await;
    let child = scene.has("completed", &format!("parent_id = '{running}'")).await;
    scene
        .sql(&format!(
            "insert into lockgate.undelivered_messages (command_type, id, message_id, run_id, batch_seq, status, reason_code, reason,
                 topic)
             values ('email', gen_random_uuid(), gen_random_uuid(), '{owing}', 1, 'dead', 'test', 'test', 'topic')"
        ))
        .await;
    for (run, says) in [
        (running, "is running"),
        (owing, "owes messages"),
        (child, "the run that started it is not over"),
    ] {
        let refused = scene.run(&["runs", "delete", &run.to_string()]).await.exits(4);
        refused.says(&[says, "nothing was changed"]);
    }
    let done = scene.operator.act_on_runs(&bulk(RunAct::Delete)).await.unwrap();
    assert_eq!((done.matched, done.acted), (2, 0));
}

/// By its open steps alone the sweep finds children that are to be cancelled with it.
#[tokio::test]
async fn a_run_stays_until_its_children_are_asked_to_stop() {
    let scene = Scene::new().await;
    let parent = scene.has("completed", "").await;
    scene.steps(parent, &["0:mail child open", "1:log child open"]).await;
    for (path, detached) in [("0:mail", "null"), ("1:log", "true")] {
        let above = format!("parent_id = '{parent}', parent_path = '{path}', depth = 1, detached = {detached}");
        scene.has("suspended", &above).await;
    }
    let delete = ["runs", "delete", &parent.to_string()];
    let refused = scene.run(&delete).await.exits(4);
    refused.says(&["children of it are still to be cancelled", "nothing was changed"]);
    scene
        .sql(&format!("select lockgate.stop_children('{parent}', 100)"))
        .await;
    assert_eq!(scene.json(&delete).await["status"], "deleted");
    let left = "select parent_path || ' ' || status from lockgate.task_runs order by 1";
    assert_eq!(scene.all(left).await, ["0:mail cancelled", "1:log suspended"]);
}

#[tokio::test]
async fn the_rest_of_a_large_run_is_left_to_retention() {
    let scene = Scene::new().await;
    let run = scene.has("completed", "").await;
    scene
        .sql(&format!(
            "insert into lockgate.transitions (entity, run_id, to_status) select 'run', '{run}', 'running' from generate_series(1, 12000)"
        ))
        .await;
    assert_eq!(
        scene.json(&["runs", "delete", &run.to_string()]).await["status"],
        "deleting"
    );
    assert_eq!(
        scene.json(&["runs", "delete", &run.to_string()]).await["status"],
        "deleted"
    );
}

/// A page that takes long ends early: what is done of it stays, and the next call goes on behind that.
#[tokio::test]
async fn a_page_that_takes_long_is_cut_short() {
    let scene = Scene::new().await;
    for _ in 0..4 {
        scene.has("failed", "").await;
    }
    scene
        .sql(
            "create function public.slow() returns trigger language plpgsql as
                 $$ begin perform pg_sleep(2.1); return new; end $$;
             create trigger slow before insert on lockgate.task_runs for each row execute function public.slow()",
        )
        .await;
    let page =
        "select concat_ws(' ', matched, acted, next is null) from lockgate.act_on_runs('retry', '{\"all\": true}'";
    assert_eq!(scene.one::<String>(&format!("{page})")).await, "2 2 f");
    let done = scene
        .json(&["runs", "retry", "--where", "workflow=orders", "--all"])
        .await;
    assert_eq!((&done["matched"], &done["acted"]), (&json!(2), &json!(2)));
}

/// It goes on as another while somebody waits for its row.
#[tokio::test]
async fn a_run_that_goes_on_meanwhile_is_cancelled_all_the_same() {
    let scene = Scene::new().await;
    for cancel in ["lockgate.cancel_run", "lockgate.act_on_runs"] {
        let (run, next) = (scene.has("running", "workflow = 'loop'").await, Uuid::now_v7());
        let mut goes_on = scene.database.pool().begin().await.unwrap();
        let statement = format!(
            "update lockgate.task_runs set status = 'completed', finished_at = clock_timestamp(), continued_as = '{next}'
              where id = '{run}';
             insert into lockgate.task_runs (id, workflow, status, origin_id, wake_at)
             values ('{next}', 'orders', 'queued', '{next}', clock_timestamp())"
        );
        goes_on.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await.unwrap();
        let ask = match cancel {
            "lockgate.cancel_run" => format!("select lockgate.cancel_run('{run}')"),
            _ => "select acted::text from lockgate.act_on_runs('cancel', '{\"workflow\": \"loop\"}')".to_owned(),
        };
        let waits =
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
        let commit = async {
            while scene.one::<i64>(waits).await == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            goes_on.commit().await.unwrap();
        };
        let (answer, ()) = tokio::join!(scene.one::<String>(&ask), commit);
        assert!(["cancelled", "1"].contains(&answer.as_str()), "{answer}");
        let state = format!("select status from lockgate.task_runs where id = '{next}'");
        assert_eq!(scene.one::<String>(&state).await, "cancelled", "{cancel}");
    }
}

//! Runs that are over are done again.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use lockgate::inspect::NotRepeated;
use lockgate::lifecycle::{ClaimPage, Fleet, RunStore, Runnable, Share, WorkRun};
use lockgate::postgres::{Again, FleetSettings, PostgresFleet, PostgresRunStore, RepeatRun};
use serde_json::json;
use uuid::Uuid;

use super::Scene;

const STORY: [&str; 9] = [
    "0:reserve step completed",
    "v:vat version completed",
    "1:mails fan_out completed",
    "2:join/0/0:pack step completed",
    "2:join/1/0:weigh step completed",
    "2:join/1/1:label step failed",
    "2:join/2/0:print step completed",
    "3:wait sleep open",
    "v:late version completed",
];

async fn failed(scene: &Scene) -> Uuid {
    let run = scene
        .has("failed", "reason = 'no label', code_version = 2, claim_token = 1")
        .await;
    scene.steps(run, &STORY).await;
    run
}

#[tokio::test]
async fn a_retry_begins_with_the_steps_before_the_one_that_failed() {
    let scene = Scene::new().await;
    let run = failed(&scene).await;
    let attributes =
        r#"attributes = '{"customer": 42}', priority = 3, tenant = 'a', deadline_at = created_at + interval '1 hour'"#;
    scene
        .sql(&format!(
            "update lockgate.task_runs set {attributes} where id = '{run}'"
        ))
        .await;
    scene
        .sql(&format!(
            "insert into lockgate.signals (run_id, seq, name, payload, actor, consumed_by) values
             ('{run}', 1, 'go', '1', 'me', '0:reserve'), ('{run}', 2, 'go', '2', 'me', null), ('{run}', 3, 'go', '3', 'me', '3:wait')"
        ))
        .await;
    let args = ["runs", "retry", &run.to_string(), "--reason", "paper is back"];
    let answer = scene.json(&args).await;
    assert_eq!(
        (&answer["outcome"], &answer["forked_from"]),
        (&json!("new"), &json!(run))
    );
    let again: Uuid = answer["run_id"].as_str().unwrap().parse().unwrap();
    let kept = [
        "0:reserve completed",
        "1:mails completed",
        "2:join/0/0:pack completed",
        "2:join/1/0:weigh completed",
        "2:join/2/0:print completed",
        "v:vat completed",
    ];
    assert_eq!(scene.paths(again).await, kept);
    let row: String = scene
        .one(&format!(
            "select concat_ws(' ', n.status, n.origin_id = o.id, n.seed_id is null, n.code_version, n.priority, n.tenant, n.attributes,
                    n.nominal_at = o.created_at, n.started_at = o.started_at, n.params = o.params, n.claim_token,
                    n.deadline_at - n.created_at, n.wake_seq)
               from lockgate.task_runs n join lockgate.task_runs o on o.id = n.forked_from where n.id = '{again}'"
        ))
        .await;
    assert_eq!(row, r#"queued t t 2 3 a {"customer": 42} t t t 0 01:00:00 2"#);
    let told =
        format!("select concat_ws(' ', seq, consumed_by) from lockgate.signals where run_id = '{again}' order by seq");
    assert_eq!(
        scene.all(&told).await,
        ["2", "3"],
        "what was not taken, or by a step that is done again"
    );
    let sum: i64 = scene
        .one(&format!(
            "select planned from lockgate.v_run_proof where run_id = '{again}' and adds_up"
        ))
        .await;
    assert_eq!(sum, 0, "what the other run sent is proved there");
    is_told_of(&scene, run, again).await;
}

/// A deadline counts from when the run was to start, and so does that of a retry.
#[tokio::test]
async fn a_retry_has_as_long_as_the_run_had() {
    let scene = Scene::new().await;
    let at = "start_at => clock_timestamp() + interval '1 day', deadline => interval '1 hour'";
    let later: Uuid = scene.one(&format!("select lockgate.start_run('orders', {at})")).await;
    let soon: Uuid = scene
        .one("select lockgate.start_run('orders', deadline => interval '1 hour')")
        .await;
    let first: Uuid = scene
        .one(&format!(
            "select lockgate.start_run('orders', {at}, debounce_key => 'one')"
        ))
        .await;
    let again = "select lockgate.start_run('orders', start_at => clock_timestamp() + interval '2 days',
                     deadline => interval '1 hour', debounce_key => 'one')";
    assert_eq!(scene.one::<Uuid>(again).await, first);
    let now: Uuid = scene
        .one(&format!(
            "select lockgate.start_run('orders', {at}, debounce_key => 'other')"
        ))
        .await;
    scene
        .sql("update lockgate.task_runs set created_at = created_at - interval '1 hour' where debounce_key = 'other'")
        .await;
    let again = "select lockgate.start_run('orders', deadline => interval '1 hour', debounce_key => 'other')";
    assert_eq!(scene.one::<Uuid>(again).await, now);
    for run in [later, soon, first, now] {
        scene
            .sql(&format!(
                "update lockgate.task_runs set status = 'failed', finished_at = clock_timestamp(), wake_at = null, rank = null
                  where id = '{run}'"
            ))
            .await;
        let answer = scene
            .json(&["runs", "retry", &run.to_string(), "--reason", "again"])
            .await;
        let retry = answer["run_id"].as_str().unwrap();
        let has: String = scene
            .one(&format!(
                "select (deadline_at - created_at)::text from lockgate.task_runs where id = '{retry}'"
            ))
            .await;
        assert_eq!(has, "01:00:00", "{run}");
    }
}

/// A retry as its batches are sent, and as its code is run.
async fn read_and_claimed(scene: &Scene, run: Uuid) -> (WorkRun, WorkRun) {
    let answer = scene
        .json(&["runs", "retry", &run.to_string(), "--reason", "again"])
        .await;
    let again: Uuid = answer["run_id"].as_str().unwrap().parse().unwrap();
    let (database, lease) = (scene.database.database(), Duration::from_secs(60));
    let settings = FleetSettings {
        replica: Uuid::new_v4(),
        lease,
        max_deaths: 3,
        stale_after: lease,
        first_redelivery: lease,
    };
    let fleet = PostgresFleet::new(database.clone(), settings);
    let read = fleet.read_run(again).await.unwrap().unwrap();
    let page = ClaimPage {
        claim_id: Uuid::new_v4(),
        shares: vec![Share {
            queue: "orders".to_owned(),
            take: 9,
        }],
        runnable: vec![Runnable {
            workflow: "orders".to_owned(),
            version: 2,
            replays: 1..=2,
        }],
        suspects: false,
    };
    let store = PostgresRunStore::new(database, Uuid::new_v4(), lease);
    let (_, claimed) = store.claim_runs(&page).await.unwrap().remove(0);
    (read, claimed)
}

/// What it is about is what the first run was about, for whoever runs its code and for who only sends its batches.
#[tokio::test]
async fn a_retry_is_about_the_same_instant_on_every_replica() {
    let scene = Scene::new().await;
    let (seven, three) = ("2026-11-01T07:00:00Z", "2026-11-01T07:00:03Z");
    let instant = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    let about = |run: &WorkRun| {
        (
            run.id,
            run.slot,
            run.created_at,
            run.origin_id,
            run.seed_id,
            run.started_at,
        )
    };
    let late = failed(&scene).await;
    scene
        .sql(&format!(
            "update lockgate.task_runs set created_at = '{three}' where id = '{late}'"
        ))
        .await;
    let (read, claimed) = read_and_claimed(&scene, late).await;
    assert_eq!(about(&read), about(&claimed));
    assert_eq!((read.slot, read.created_at), (None, instant(three)));
    let daily = failed(&scene).await;
    scene
        .sql(&format!(
            "insert into lockgate.schedules (name, workflow, cron, timezone) values ('daily', 'orders', '0 7 * * *', 'UTC');
             update lockgate.task_runs set schedule = 'daily', slot = '{seven}' where id = '{daily}'"
        ))
        .await;
    let (read, claimed) = read_and_claimed(&scene, daily).await;
    assert_eq!(about(&read), about(&claimed));
    assert_eq!(read.slot, Some(instant(seven)));
}

/// Audit and both runs say what was done.
async fn is_told_of(scene: &Scene, run: Uuid, again: Uuid) {
    let audit = scene
        .all("select concat_ws(' ', from_status, to_status, reason) from lockgate.transitions where actor is not null order by id")
        .await;
    assert_eq!(
        audit,
        [
            format!("failed retried as run {again} from 2:join/1/1:label: paper is back"),
            format!("queued retry of run {run} from 2:join/1/1:label: paper is back"),
        ]
    );
    both_name_each_other(scene, run, again).await;
}

async fn both_name_each_other(scene: &Scene, run: Uuid, again: Uuid) {
    let shown = scene.json(&["runs", "show", &run.to_string()]).await;
    assert_eq!(shown["forks"], json!([again]));
    let shown = scene.json(&["runs", "show", &again.to_string()]).await;
    assert_eq!((&shown["forked_from"], &shown["origin_id"]), (&json!(run), &json!(run)));
    let text = scene.run(&["runs", "show", &run.to_string()]).await.exits(0).out;
    assert!(text.contains(&format!("done again  {again}")), "{text}");
}

#[tokio::test]
async fn a_named_step_and_all_behind_it_are_done_again() {
    let scene = Scene::new().await;
    let run = failed(&scene).await;
    let run_text = run.to_string();
    for (from, kept) in [
        ("reserve", vec![]),
        ("1:mails", vec!["0:reserve completed", "v:vat completed"]),
        ("mails", vec!["0:reserve completed", "v:vat completed"]),
    ] {
        let answer = scene.json(&["runs", "retry", &run_text, "--from", from]).await;
        let again: Uuid = answer["run_id"].as_str().unwrap().parse().unwrap();
        assert_eq!(scene.paths(again).await, kept, "{from}");
        let fresh =
            format!("select started_at is null and code_version is null from lockgate.task_runs where id = '{again}'");
        assert_eq!(
            scene.one::<bool>(&fresh).await,
            kept.is_empty(),
            "without steps any code may begin it"
        );
    }
}

#[tokio::test]
async fn what_failed_beside_a_place_or_was_undone_is_done_again_too() {
    let scene = Scene::new().await;
    let run = scene.has("failed", "").await;
    let steps = [
        "0:charge undoable completed",
        "1:ask step completed",
        "2:join/0/0:pack step failed",
        "2:join/0/1:after step completed",
        "2:join/1/0:weigh step failed",
        "2:join/2/0:print step completed",
    ];
    scene.steps(run, &steps).await;
    let retry = RepeatRun::retry(run);
    let again = scene.operator.repeat_run(&retry).await.unwrap().unwrap();
    let kept = ["0:charge completed", "1:ask completed", "2:join/2/0:print completed"];
    assert_eq!(scene.paths(again).await, kept);
    scene.steps(run, &["undo/1:ask step completed"]).await;
    let again = scene
        .operator
        .repeat_run(&RepeatRun::retry(run))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        scene.paths(again).await,
        ["0:charge completed"],
        "its effect was taken back"
    );
}

#[tokio::test]
async fn a_run_that_nothing_failed_of_goes_on_where_its_record_ends() {
    let scene = Scene::new().await;
    let run = scene.has("cancelled", "").await;
    scene
        .steps(run, &["0:charge step completed", "1:wait signal open"])
        .await;
    let again = scene
        .operator
        .repeat_run(&RepeatRun::retry(run))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(scene.paths(again).await, ["0:charge completed"]);
}

#[tokio::test]
async fn a_fork_has_an_input_and_ids_of_its_own() {
    let scene = Scene::new().await;
    let run = scene.has("completed", "schedule = 'daily', slot = '2026-01-31'").await;
    scene
        .steps(run, &["0:charge step completed", "1:mail step completed"])
        .await;
    scene
        .sql(&format!(
            "insert into lockgate.signals (run_id, seq, name, payload, actor) values ('{run}', 1, 'go', '1', 'me')"
        ))
        .await;
    let params = r#"{ "order" : 8 }"#;
    let fork = ["runs", "fork", &run.to_string(), "--params", params, "--from", "mail"];
    let forked = scene.json(&fork).await["run_id"].as_str().unwrap().to_owned();
    let row = |run: &str| {
        format!(
            "select concat_ws(' ', convert_from(n.params, 'UTF8'), n.origin_id = n.id, n.seed_id = o.id, n.schedule,
                    n.repeats_slot at time zone 'UTC', (select count(*) from lockgate.signals s where s.run_id = n.id),
                    (select count(*) from lockgate.run_steps s where s.run_id = n.id))
               from lockgate.task_runs n join lockgate.task_runs o on o.id = n.forked_from where n.id = '{run}'"
        )
    };
    let seen: String = scene.one(&row(&forked)).await;
    assert_eq!(
        seen, r#"{ "order" : 8 } t t 2026-01-31 00:00:00 0 1"#,
        "told to another input, nothing is told again"
    );
    let fork = ["runs", "fork", &run.to_string(), "--keep-message-ids"];
    let forked = scene.json(&fork).await["run_id"].as_str().unwrap().to_owned();
    let seen: String = scene.one(&row(&forked)).await;
    assert_eq!(seen, r#"{"order": 7} f 2026-01-31 00:00:00 1 0"#);
}

#[tokio::test]
async fn what_cannot_be_done_again_says_why() {
    let scene = Scene::new().await;
    let (running, completed) = (scene.has("running", "").await, scene.has("completed", "").await);
    let called = scene.has("completed", "driven_by = 'caller'").await;
    let pruned = scene.has("failed", "pruning_since = clock_timestamp()").await;
    let several = failed(&scene).await;
    scene.steps(several, &["4:pack step completed"]).await;
    let unknown = Uuid::now_v7();
    for (run, from, exit, says) in [
        (unknown, None, 3, "there is no run"),
        (pruned, None, 3, "is being deleted"),
        (running, None, 4, "is running: only a run that is over"),
        (called, None, 4, "is driven by its caller"),
        (completed, None, 4, "name the step to begin again from"),
        (several, Some("nowhere"), 3, "recorded no step nowhere"),
        (several, Some("v:vat"), 3, "recorded no step v:vat"),
        (several, Some("pack"), 2, "several steps pack: 2:join/0/0:pack, 4:pack"),
    ] {
        let run = run.to_string();
        let mut args = vec!["runs", "retry", &run];
        args.extend(from.iter().flat_map(|from| ["--from", from]));
        scene.run(&args).await.exits(exit).says(&[says, "nothing was changed"]);
    }
    let singleton = scene.has("failed", "singleton_key = 'one'").await;
    scene.has("running", "singleton_key = 'one'").await;
    let held = scene.operator.repeat_run(&RepeatRun::retry(singleton)).await.unwrap();
    assert_eq!(held, Err(NotRepeated::Held("one".to_owned())));
    let large = RepeatRun {
        again: Again::Fork {
            params: Some(vec![b' '; (1 << 20) + 1]),
            keep_message_ids: false,
        },
        ..RepeatRun::fork(completed)
    };
    assert_eq!(
        scene.operator.repeat_run(&large).await.unwrap(),
        Err(NotRepeated::TooLarge)
    );
    let made: i64 = scene
        .one("select count(*) from lockgate.task_runs where forked_from is not null")
        .await;
    assert_eq!(made, 0);
    let sql = format!("select lockgate.retry_run('{running}')");
    let refused = sqlx::query(sqlx::AssertSqlSafe(sql))
        .execute(scene.database.pool())
        .await
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("is not over: it is running; nothing was started"),
        "{refused}"
    );
}

#[tokio::test]
async fn the_same_request_again_starts_none_twice() {
    let scene = Scene::new().await;
    let run = failed(&scene).await;
    let retry = RepeatRun::retry(run);
    for _ in 0..3 {
        assert_eq!(scene.operator.repeat_run(&retry).await.unwrap(), Ok(retry.id));
    }
    let runs: i64 = scene.one("select count(*) from lockgate.task_runs").await;
    assert_eq!(runs, 2);
}

/// A night in which something broke for half of a parent's children: it takes moments to do the parent again.
#[tokio::test]
async fn a_parent_of_two_thousand_children_is_done_again_in_moments() {
    let scene = Scene::new().await;
    let (parent, saga) = (scene.has("failed", "").await, scene.has("failed", "").await);
    let step = "insert into lockgate.run_steps (run_id, path, kind, status, result, started_at, finished_at, consistent, planned_items,
            planned_batches)";
    scene
        .sql(&format!(
            "{step} select '{parent}', format('0:join/%s/0:child', n), 'child', case n % 2 when 0 then 'failed' else 'completed' end,
                    '1', now(), now(), null::boolean, null::bigint, null::bigint from generate_series(0, 1999) n;
             {step} select '{saga}', format('%s0:join/%s/0:hold', u, n), case u when '' then 'undoable' else 'step' end, 'completed',
                    '1', now(), now(), null::boolean, null::bigint, null::bigint
               from generate_series(0, 1999) n, unnest('{{\"\",undo/}}'::text[]) u;
             {step} values ('{saga}', '1:ship', 'step', 'failed', '1', now(), now(), null, null, null)"
        ))
        .await;
    for (run, kept) in [(parent, 1_000), (saga, 0)] {
        let begun = Instant::now();
        let again = scene
            .operator
            .repeat_run(&RepeatRun::retry(run))
            .await
            .unwrap()
            .unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(scene.paths(again).await.len(), kept);
    }
}

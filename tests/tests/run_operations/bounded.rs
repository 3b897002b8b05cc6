//! What people ask reads so much at a time, however much there is.

use lockgate::inspect::{RunAct, RunFilter};
use lockgate::postgres::{BulkAct, Inspector};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor};
use uuid::Uuid;

use super::Scene;

/// More than one look reads, three times over.
const MANY: usize = 65_000;
/// Rows of runs that a statement may read: those of a look, through an index that finds too many, and once more in their
/// order.
const LOOK: i64 = 20_000;

/// Many runs of `orders` in a state; of the first, the one in the middle and the last the workflow is `rare`.
async fn many(scene: &Scene, status: &str, columns: &str, values: &str) -> Vec<Uuid> {
    let over = ["completed", "failed", "cancelled"].contains(&status);
    scene
        .sql(&format!(
            "insert into lockgate.task_runs (id, workflow, status, origin_id, finished_at, {columns})
             select id, case when n in (1, {MANY} / 2, {MANY}) then 'rare' else 'orders' end, '{status}', id,
                    case when {over} then clock_timestamp() end, {values}
               from (select n, (lpad(to_hex(1790000000000 + n), 12, '0') || '70008' || repeat('0', 15))::uuid as id
                       from generate_series(1, {MANY}) n) r;
             analyze lockgate.task_runs"
        ))
        .await;
    scene.rare().await
}

impl Scene {
    async fn rare(&self) -> Vec<Uuid> {
        sqlx::query_scalar("select id from lockgate.task_runs where workflow = 'rare' order by id desc")
            .fetch_all(self.database.pool())
            .await
            .unwrap()
    }
}

fn rare() -> RunFilter {
    RunFilter {
        workflow: Some("rare".to_owned()),
        ..RunFilter::default()
    }
}

/// All that a list gives, a page after the other, and how many pages that were.
async fn list(scene: &Scene, filter: &RunFilter, limit: i64) -> (Vec<Uuid>, usize) {
    let inspector = Inspector::new(scene.database.database());
    let (mut runs, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = inspector.list_runs(filter, after, limit).await.unwrap();
        assert!(i64::try_from(page.runs.len()).unwrap() <= limit);
        runs.extend(page.runs.iter().map(|run| run.run_id));
        (after, pages) = (page.next, pages + 1);
        if after.is_none() {
            return (runs, pages);
        }
    }
}

#[tokio::test]
async fn a_list_stops_after_a_look_and_says_where() {
    let scene = Scene::new().await;
    let found = many(
        &scene,
        "failed",
        "attributes, parent_id",
        "'{\"a\": 1}', '00000000-0000-7000-8000-000000000001'",
    )
    .await;
    let by_attribute = RunFilter {
        attributes: json!({"a": 1}).as_object().cloned().unwrap(),
        ..rare()
    };
    let by_parent = RunFilter {
        parent: Some("00000000-0000-7000-8000-000000000001".parse().unwrap()),
        ..rare()
    };
    for filter in [rare(), by_attribute, by_parent] {
        let (runs, pages) = list(&scene, &filter, 100).await;
        assert_eq!(runs, found);
        assert_eq!(pages, MANY.div_ceil(LOOK as usize), "{filter:?}");
    }
    // A person is given all of it.
    let shown = scene.json(&["runs", "list", "--workflow", "rare"]).await;
    assert_eq!(shown.as_array().unwrap().len(), 3);
    // What an index finds and is few needs no second look.
    scene
        .sql("update lockgate.task_runs set attributes = '{\"b\": 1}' where workflow = 'rare'")
        .await;
    let few = RunFilter {
        attributes: json!({"b": 1}).as_object().cloned().unwrap(),
        ..RunFilter::default()
    };
    assert_eq!(list(&scene, &few, 100).await, (found.clone(), 1));
    assert_eq!(list(&scene, &few, 2).await, (found, 2));
}

#[tokio::test]
async fn what_is_not_over_is_listed_by_what_it_waits_for() {
    let scene = Scene::new().await;
    let sleepers = many(&scene, "suspended", "wake_at", "clock_timestamp() + interval '1 day'").await;
    let suspended = RunFilter {
        status: Some("suspended".to_owned()),
        ..rare()
    };
    assert_eq!(list(&scene, &suspended, 2).await.0, sleepers);
    // Those that rest have an index in the order of ids, and a state that needs a person is found at once among sleepers.
    scene
        .sql("update lockgate.task_runs set status = 'paused' where workflow = 'rare'")
        .await;
    let paused = RunFilter {
        status: Some("paused".to_owned()),
        ..RunFilter::default()
    };
    assert_eq!(list(&scene, &paused, 10).await, (sleepers.clone(), 1));
    scene.sql("update lockgate.task_runs set wake_at = null").await;
    let (found, pages) = list(&scene, &paused, 10).await;
    assert_eq!((found, pages), (sleepers, MANY.div_ceil(LOOK as usize)));
    let all = RunFilter {
        workflow: Some("orders".to_owned()),
        ..suspended
    };
    assert_eq!(list(&scene, &all, 1_000).await.0.len(), MANY - 3);
}

fn bulk(act: RunAct) -> BulkAct {
    BulkAct {
        act,
        filter: rare(),
        all: false,
        force: false,
        reason: None,
        at_most: 10_000,
        after: None,
    }
}

#[tokio::test]
async fn an_act_on_few_of_many_goes_on_from_look_to_look() {
    let scene = Scene::new().await;
    let mut found = many(&scene, "suspended", "wake_at", "clock_timestamp() + interval '1 day'").await;
    found.reverse();
    let page = "select array[acted, matched] = array[1, 1]::bigint[] and next is not null from lockgate.act_on_runs('pause', '{\"workflow\": \"rare\"}')";
    assert!(
        scene.one::<bool>(page).await,
        "the first look finds the first run, and more is behind it"
    );
    for (act, acted, status) in [
        (RunAct::Pause, 2, "paused"),
        (RunAct::Resume, 3, "queued"),
        (RunAct::Cancel, 3, "cancelled"),
    ] {
        let counted = scene.operator.count_runs(&bulk(act)).await.unwrap();
        assert_eq!(
            (counted.matched, counted.acted, counted.next),
            (acted, 0, None),
            "{act}"
        );
        let done = scene.operator.act_on_runs(&bulk(act)).await.unwrap();
        assert_eq!((done.matched, done.acted, done.next), (acted, acted, None), "{act}");
        let other = format!("select count(*) from lockgate.task_runs where workflow = 'rare' and status <> '{status}'");
        assert_eq!(scene.one::<i64>(&other).await, 0, "{act}");
    }
    // Of those that are over, too.
    scene.sql("update lockgate.task_runs set status = 'failed', finished_at = clock_timestamp(), wake_at = null where finished_at is null").await;
    let done = scene.operator.act_on_runs(&bulk(RunAct::Delete)).await.unwrap();
    assert_eq!((done.matched, done.acted, done.next), (3, 3, None));
    assert_eq!(
        scene.one::<i64>("select count(*) from lockgate.task_runs").await,
        MANY as i64 - 3
    );
}

#[tokio::test]
async fn a_timeline_says_when_there_is_more_than_it_looks_at() {
    let scene = Scene::new().await;
    let run = scene
        .has("completed", "created_at = clock_timestamp() - interval '1 day'")
        .await;
    let steps = |from: u32, to: u32| {
        format!(
            "insert into lockgate.run_steps (run_id, path, kind, status, result, started_at, finished_at, consistent,
                 planned_items, planned_batches)
             select '{run}', lpad(n::text, 6, '0') || ':s', 'step', 'completed', convert_to(to_jsonb(repeat('x', 50))::text, 'UTF8'),
                    clock_timestamp(), clock_timestamp(), null, null, null
               from generate_series({from}, {to}) n"
        )
    };
    scene.sql(&steps(1, 100_000)).await;
    let told = format!("select what from lockgate.run_timeline('{run}', null, 2, true)");
    assert_eq!(scene.all(&told).await, ["change", "step"]);
    scene.sql(&steps(100_001, 100_001)).await;
    assert_eq!(scene.all(&told).await, ["capped", "change"]);
    let why = format!("select reason from lockgate.run_timeline('{run}') where what = 'capped'");
    assert!(
        scene
            .one::<String>(&why)
            .await
            .contains("the first 100000 each are told")
    );
    // It goes on behind a cursor as any other.
    let last = format!(
        "select name from lockgate.run_timeline('{run}', (select max(cursor) from lockgate.run_timeline('{run}', null, 1000)), 1)"
    );
    assert_eq!(scene.one::<String>(&last).await, "000999:s");
}

/// With each sweep: a parent of thousands may wait for days.
#[tokio::test]
async fn a_look_at_the_children_of_one_parent_reads_so_much_for_each() {
    const QUESTION: &str = include_str!("../../../engine/queries/children_to_look_after.sql");
    const CHILDREN: i64 = 3_000;
    let scene = Scene::new().await;
    let parent = scene.has("suspended", "").await;
    scene
        .sql(&format!(
            "insert into lockgate.run_steps (run_id, path, kind, status, started_at, consistent, planned_items, planned_batches)
             select '{parent}', format('0:join/%s/0:child', n), 'child', 'open', now(), null::boolean, null::bigint, null::bigint
               from generate_series(1, {CHILDREN}) n;
             analyze lockgate.run_steps"
        ))
        .await;
    let mut connection = scene.database.pool().acquire().await.unwrap();
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let prepare = format!("set plan_cache_mode = {mode}; deallocate all; prepare asked as {QUESTION}");
        connection.execute(sqlx::raw_sql(AssertSqlSafe(prepare))).await.unwrap();
        let ask =
            "explain (analyze, buffers, format json) execute asked('00000000-0000-0000-0000-000000000000', '', 10000)";
        let row = connection.fetch_one(sqlx::raw_sql(ask)).await.unwrap();
        let plan = sqlx::Row::get::<Value, _>(&row, 0)[0]["Plan"].take();
        let pages = plan["Shared Hit Blocks"].as_i64().unwrap() + plan["Shared Read Blocks"].as_i64().unwrap();
        assert!(pages < 20 * CHILDREN, "{mode}: {pages} pages\n{plan:#}");
    }
}

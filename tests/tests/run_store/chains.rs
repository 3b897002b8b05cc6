//! Runs that go on as others, and runs that wait until another is over: for people and retention each chain is one run.

use std::collections::BTreeSet;
use std::time::Duration;

use lockgate::client::{Client, RunError};
use lockgate::lifecycle::{Continuation, LetGo, RunClaim, RunStore, derived_id};
use lockgate_tests::wait_until;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use uuid::Uuid;

use crate::{Scene, complete};

async fn go_on(scene: &Scene, claim: RunClaim) -> Uuid {
    let next = derived_id(claim.run, "continued");
    let run = Continuation {
        claim,
        next,
        params: b"{}".to_vec(),
        seen: scene
            .value("select wake_seq from lockgate.task_runs where claim_id is not null")
            .await,
        had_batches: true,
        attributes: None,
    };
    assert_eq!(scene.runs.continue_runs(&[run]).await.unwrap(), [LetGo::Done]);
    next
}

/// A run that went on so many times; the last one is held.
async fn chain(scene: &Scene, rounds: usize) -> (Vec<Uuid>, RunClaim) {
    let mut claim = scene.claimed().await;
    let mut runs = vec![claim.run];
    for _ in 0..rounds {
        runs.push(go_on(scene, claim).await);
        claim = scene.claim(1).await.remove(0).0;
    }
    (runs, claim)
}

#[tokio::test]
async fn a_signal_locks_only_the_run_that_takes_it() {
    let scene = Scene::new().await;
    let (runs, claim) = chain(&scene, 2).await;
    let mut other = scene.database.pool().begin().await.unwrap();
    let lock = "select from lockgate.task_runs where id <> $1 for update";
    sqlx::query(lock).bind(claim.run).execute(&mut *other).await.unwrap();
    let mut caller = scene.database.pool().acquire().await.unwrap();
    caller.execute("set lock_timeout = '2s'").await.unwrap();
    let send = "select lockgate.signal_run($1, 'go', idempotency_key => 'once')";
    for outcome in ["sent", "known"] {
        let told: String = sqlx::query_scalar(send)
            .bind(runs[0])
            .fetch_one(&mut *caller)
            .await
            .unwrap();
        assert_eq!(told, outcome);
    }
    let told: i64 = scene
        .value(&format!(
            "select count(*) from lockgate.signals where run_id = '{}'",
            claim.run
        ))
        .await;
    assert_eq!(told, 1);
}

/// Everything that has happened is as old as that.
async fn ages(scene: &Scene, days: u32) {
    scene
        .run(&format!(
            "update lockgate.task_runs set finished_at = finished_at - interval '{days} days';
             update lockgate.retention_cursor set after = '{nil}', lapped_at = '-infinity'",
            nil = Uuid::nil()
        ))
        .await;
}

/// All passes of retention; ids of this moment are older than none of its ages, so that it looks at all of them.
async fn retain(scene: &Scene, days: i32) {
    loop {
        let more: bool = scene
            .value(&format!(
                "select more from lockgate.prune_runs(interval '{days} days', 100)"
            ))
            .await;
        if !more {
            return;
        }
    }
}

async fn left(scene: &Scene) -> Vec<Uuid> {
    sqlx::query_scalar("select id from lockgate.task_runs order by created_at")
        .fetch_all(scene.database.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn the_first_of_a_chain_stays_as_long_as_one_of_it_is_there() {
    let scene = Scene::new().await;
    let (runs, claim) = chain(&scene, 3).await;
    // Ids are older than retention looks at, as those of a chain of a month are.
    ages(&scene, 40).await;
    retain(&scene, -1).await;
    assert_eq!(left(&scene).await, [runs[0], runs[3]]);
    let ways = [
        format!("select lockgate.signal_run('{}', 'go')", runs[0]),
        format!("select lockgate.delete_run('{}')", runs[0]),
    ];
    assert_eq!(scene.value::<String>(&ways[0]).await, "sent");
    assert_eq!(scene.value::<String>(&ways[1]).await, "needed");
    assert_eq!(scene.let_go(claim, complete()).await, LetGo::Done);
    // Its end is younger than it, and as long as that is told the first one tells it.
    retain(&scene, 1).await;
    assert_eq!(left(&scene).await, [runs[0], runs[3]]);
    let told: Uuid = scene.value(&format!("select lockgate.last_run('{}')", runs[0])).await;
    assert_eq!(told, runs[3]);
    for _ in 0..2 {
        ages(&scene, 40).await;
        retain(&scene, -1).await;
    }
    assert_eq!(left(&scene).await, Vec::<Uuid>::new());
}

#[tokio::test]
async fn who_deletes_one_of_a_chain_leads_past_it() {
    let scene = Scene::new().await;
    let (runs, _) = chain(&scene, 2).await;
    let delete = format!("select lockgate.delete_run('{}')", runs[1]);
    // Somebody has the one before it locked: retention, or the next who asks, takes the rest.
    let mut other = scene.database.pool().begin().await.unwrap();
    let lock = "select from lockgate.task_runs where id = $1 for update";
    sqlx::query(lock).bind(runs[0]).execute(&mut *other).await.unwrap();
    assert_eq!(scene.value::<String>(&delete).await, "deleting");
    other.rollback().await.unwrap();
    assert_eq!(scene.value::<String>(&delete).await, "deleted");
    assert_eq!(left(&scene).await, [runs[0], runs[2]]);
    let told: Uuid = scene.value(&format!("select lockgate.last_run('{}')", runs[0])).await;
    assert_eq!(told, runs[2]);
}

/// Whoever has the first one's id is told that there is no such run, whoever took the last one.
#[tokio::test]
async fn who_asks_for_a_chain_whose_last_is_gone_is_told_so() {
    let scene = Scene::new().await;
    let client = Client::new(scene.database.database());
    let ways = [
        "select lockgate.delete_run($1)::text",
        "select lockgate.prune_run_rows($1, 100)::text",
    ];
    for way in ways {
        let (runs, claim) = chain(&scene, 2).await;
        assert_eq!(scene.let_go(claim, complete()).await, LetGo::Done);
        let gone = "select count(*) from lockgate.task_runs where id = $1";
        while sqlx::query_scalar::<_, i64>(gone)
            .bind(runs[2])
            .fetch_one(scene.database.pool())
            .await
            .unwrap()
            > 0
        {
            sqlx::query(way)
                .bind(runs[2])
                .execute(scene.database.pool())
                .await
                .unwrap();
        }
        let first = client.run::<()>(runs[0]);
        let result = first.result().await;
        assert!(
            matches!(result, Err(RunError::Unknown(run)) if run == runs[2]),
            "{way}: {result:?}"
        );
        assert_eq!(first.status().await.unwrap(), None);
        let wrong = format!("select count(*) from lockgate.run_invariants('{}')", runs[0]);
        assert_eq!(scene.value::<i64>(&wrong).await, 0);
        assert_eq!(
            scene
                .value::<String>(&format!("select lockgate.signal_run('{}', 'go')", runs[0]))
                .await,
            "unknown"
        );
        scene.run("delete from lockgate.task_runs").await;
    }
}

/// So many runs that went on in one another's place, under a parent; the last sleeps. Answers the parent, the first and the last.
async fn long_chain(scene: &Scene, links: u32) -> [Uuid; 3] {
    let parent = scene.start().await;
    scene
        .run(&format!(
            "insert into lockgate.run_steps (run_id, path, kind, started_at) values ('{parent}', '0:child', 'child', now());
             with ids as (select n, lockgate.new_id() as id from generate_series(0, {links}) n), links as (
                 select n, id, lag(id) over (order by n) as before, lead(id) over (order by n) as next,
                        first_value(id) over (order by n) as first
                   from ids)
             insert into lockgate.task_runs (id, workflow, status, origin_id, finished_at, continues, continued_as, chain,
                                             parent_id, parent_path)
             select id, 'leaf', case when next is null then 'suspended' else 'completed' end, id,
                    case when next is not null then clock_timestamp() end, before, next, case when n > 0 then first end,
                    '{parent}', '0:child'
               from links;
             analyze lockgate.task_runs"
        ))
        .await;
    let first = "select id from lockgate.task_runs where workflow = 'leaf' and continues is null";
    let last = "select id from lockgate.task_runs where workflow = 'leaf' and continued_as is null";
    [parent, scene.value(first).await, scene.value(last).await]
}

/// Pages that a statement reads; it is rolled back.
async fn pages(scene: &Scene, question: &str) -> i64 {
    let mut asks = scene.database.pool().begin().await.unwrap();
    let ask = format!("explain (analyze, buffers, format json) {question}");
    let plan: serde_json::Value = sqlx::query_scalar(AssertSqlSafe(ask))
        .fetch_one(&mut *asks)
        .await
        .unwrap();
    let read = |what: &str| plan[0]["Plan"][what].as_i64().unwrap();
    read("Shared Hit Blocks") + read("Shared Read Blocks")
}

#[tokio::test]
async fn the_last_of_many_that_went_on_is_found_by_one_look() {
    let scene = Scene::new().await;
    let [parent, first, last] = long_chain(&scene, 20_000).await;
    let found: Uuid = scene.value(&format!("select lockgate.last_run('{first}')")).await;
    assert_eq!(found, last);
    let ended = include_str!("../../../engine/queries/ended_children.sql");
    let ended = ended
        .replace("$1", &format!("'{parent}'"))
        .replace("$2", "array['0:child']");
    let questions = [
        format!("select lockgate.signal_run('{first}', 'go', idempotency_key => 'once')"),
        format!("select lockgate.cancel_run('{first}')"),
        format!("select lockgate.stop_children('{parent}', 500)"),
        ended,
    ];
    // Its children are to be stopped.
    scene
        .run(&format!(
            "update lockgate.task_runs set status = 'cancelled', finished_at = now(), wake_at = null where id = '{parent}'"
        ))
        .await;
    for question in questions {
        // With those of the catalog that a session reads first.
        let read = pages(&scene, &question).await;
        assert!(read < 2_000, "{question} read {read} pages");
    }
}

/// A release that does not know of chains went on in between, and the last was deleted.
#[tokio::test]
async fn a_chain_that_nobody_wrote_down_is_followed_link_by_link() {
    let scene = Scene::new().await;
    let (runs, claim) = chain(&scene, 4).await;
    scene
        .run(&format!(
            "update lockgate.task_runs set chain = null where id in ('{}', '{}')",
            runs[2], runs[3]
        ))
        .await;
    for run in &runs {
        let last: Uuid = scene.value(&format!("select lockgate.last_run('{run}')")).await;
        assert_eq!(last, claim.run);
    }
    scene
        .run(&format!("delete from lockgate.task_runs where id = '{}'", claim.run))
        .await;
    let last: Uuid = scene.value(&format!("select lockgate.last_run('{}')", runs[0])).await;
    assert_eq!(last, claim.run, "nobody is taken for the last who is not");
}

/// A branch lost a select and its fan-out is cut short; in the same moment its last batch is done.
#[tokio::test]
async fn a_fan_out_that_is_completed_and_cut_at_once_ends_nobody() {
    let scene = Scene::new().await;
    let claim = scene.claimed().await;
    scene
        .run(&format!(
            "insert into lockgate.run_steps (run_id, path, kind, planned_at, consistent, planned_items, planned_batches)
             values ('{}', '0:items', 'fan_out', clock_timestamp(), false, 0, 0)",
            claim.run
        ))
        .await;
    let mut select = PgConnection::connect(scene.database.url()).await.unwrap();
    let mut cut = select.begin().await.unwrap();
    let lock_run = "select from lockgate.task_runs where id = $1 for no key update";
    sqlx::query(lock_run).bind(claim.run).execute(&mut *cut).await.unwrap();
    let pool = scene.database.pool().clone();
    let complete = tokio::spawn(async move {
        let text = include_str!("../../../engine/queries/complete_fan_out.sql");
        sqlx::query(text).bind(claim.run).bind("0:items").execute(&pool).await
    });
    let waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    wait_until(
        Duration::from_secs(60),
        "the fan-out is about to be completed",
        async || scene.value::<i64>(waits).await == 1,
    )
    .await;
    let cut_it = "select lockgate.cut_fan_outs($1, array['0:'])";
    let cuts: i32 = sqlx::query_scalar(cut_it)
        .bind(claim.run)
        .fetch_one(&mut *cut)
        .await
        .unwrap();
    assert_eq!(cuts, 1);
    cut.commit().await.unwrap();
    assert_eq!(complete.await.unwrap().unwrap().rows_affected(), 1);
    let ended: String = scene.value("select status from lockgate.run_steps").await;
    assert_eq!(ended, "completed");
}

/// The page is full of steps whose runs somebody deleted.
#[tokio::test]
async fn steps_of_runs_that_are_gone_stand_before_nobody() {
    let scene = Scene::new().await;
    scene
        .run(
            "insert into lockgate.run_steps (run_id, path, kind, started_at)
             select lockgate.first_id_at('epoch'), lpad(n::text, 6, '0') || ':child', 'child', clock_timestamp()
               from generate_series(1, 10000) n",
        )
        .await;
    let claim = scene.claimed().await;
    scene
        .run(&format!(
            "insert into lockgate.run_steps (run_id, path, kind, started_at) values ('{run}', '0:child', 'child', clock_timestamp());
             insert into lockgate.task_runs (id, workflow, status, origin_id, parent_id, parent_path, wake_at)
             values ('{child}', 'leaf', 'queued', '{child}', '{run}', '0:child', clock_timestamp());
             update lockgate.task_runs set status = 'cancelled', finished_at = clock_timestamp(), claim_id = null, claimed_by = null,
                    lease_until = null, wake_at = null where id = '{run}'",
            run = claim.run,
            child = Uuid::now_v7(),
        ))
        .await;
    let fleet = scene.fleet();
    for _ in 0..2 {
        lockgate::lifecycle::Fleet::sweep(&fleet).await.unwrap();
    }
    let child: String = scene
        .value("select status from lockgate.task_runs where workflow = 'leaf'")
        .await;
    assert_eq!(child, "cancelled");
}

/// A schedule whose last slots have no run.
async fn backfilled(scene: &Scene, slots: u32, at_once: u32) -> Vec<Uuid> {
    scene
        .run("insert into lockgate.schedules (name, workflow, cron) values ('nightly', 'orders', '0 3 * * *') on conflict do nothing")
        .await;
    let start = format!(
        "select run_id from lockgate.backfill_schedule('nightly', array(
             select date_trunc('day', clock_timestamp()) - ({slots} - n) * interval '1 day' - interval '1 day'
               from generate_series(1, {slots}) n), {at_once})"
    );
    sqlx::query_scalar(AssertSqlSafe(start))
        .fetch_all(scene.database.pool())
        .await
        .unwrap()
}

/// Those that a look for work finds in its index.
async fn looked_at(scene: &Scene) -> i64 {
    scene
        .value("select count(*) from lockgate.task_runs where wake_at is not null and claim_id is null")
        .await
}

#[tokio::test]
async fn past_slots_that_wait_for_others_are_in_no_looks_way() {
    let scene = Scene::new().await;
    let runs = backfilled(&scene, 300, 2).await;
    assert_eq!(looked_at(&scene).await, 2);
    for pair in runs[..6].chunks(2) {
        let page = scene.claim(10).await;
        let claims: Vec<RunClaim> = page.into_iter().map(|(claim, _)| claim).collect();
        let claimed: BTreeSet<Uuid> = claims.iter().map(|claim| claim.run).collect();
        assert_eq!(claimed, pair.iter().copied().collect());
        for claim in claims {
            assert_eq!(scene.let_go(claim, complete()).await, LetGo::Done);
            scene.runs.wake_behind(claim.run).await.unwrap();
        }
        assert_eq!(looked_at(&scene).await, 2);
    }
    // A cancelled one wakes the next in the same commit; of one that ended as its holder died the sweep hears.
    let cancelled: String = scene.value(&format!("select lockgate.cancel_run('{}')", runs[6])).await;
    assert_eq!((cancelled.as_str(), looked_at(&scene).await), ("cancelled", 2));
    let (claim, _) = scene.claim(1).await.remove(0);
    assert_eq!(scene.let_go(claim, complete()).await, LetGo::Done);
    assert_eq!(looked_at(&scene).await, 1);
    scene.sweep().await;
    assert_eq!(looked_at(&scene).await, 2);
    scene.holds().await;
}

#[tokio::test]
async fn who_waits_for_a_run_that_goes_on_waits_for_all_of_it() {
    let scene = Scene::new().await;
    let runs = backfilled(&scene, 2, 1).await;
    let (claim, _) = scene.claim(10).await.remove(0);
    let next = go_on(&scene, claim).await;
    scene.runs.wake_behind(claim.run).await.unwrap();
    let (second, work) = scene.claim(10).await.remove(0);
    assert_eq!((second.run, looked_at(&scene).await), (next, 0));
    assert!(work.scheduled && work.slot.is_none(), "what begins anew has no slot");
    // A slot that is made good now waits for it too.
    let earlier = "delete from lockgate.task_runs where id = $1";
    sqlx::query(earlier)
        .bind(runs[1])
        .execute(scene.database.pool())
        .await
        .unwrap();
    let again = backfilled(&scene, 2, 1).await;
    assert_eq!((again[0], looked_at(&scene).await), (runs[0], 0));
    assert_eq!(scene.let_go(second, complete()).await, LetGo::Done);
    scene.runs.wake_behind(next).await.unwrap();
    assert_eq!(scene.claim(10).await.remove(0).0.run, again[1]);
}

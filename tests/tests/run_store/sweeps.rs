//! Each part of a sweep is done also when nothing else is left to do.

use lockgate::lifecycle::{Fleet, Swept};

use crate::Scene;

const QUESTION: &str = include_str!("../../../engine/queries/what_is_left.sql");
const RUN: &str = "00000000-0000-7000-8000-000000000000";

/// One thing that only one part of a sweep sees to.
struct Alone {
    part: &'static str,
    left: String,
    done: fn(&Swept) -> u64,
}

fn run(columns: &str, values: &str) -> String {
    format!(
        "insert into lockgate.task_runs (id, workflow, origin_id, {columns}) values ('{RUN}', 'orders', '{RUN}', {values});"
    )
}

fn batch(attempts: i16, alone: bool) -> String {
    format!(
        "insert into lockgate.run_batches (run_id, seq, step, status, first_id, last_id, n_items, claim_token, claim_id, claimed_by,
             lease_until, attempts, alone)
         values ('{RUN}', 1, '0:items', 'claimed', 1, 1, 1, 1, gen_random_uuid(), gen_random_uuid(),
                 clock_timestamp() - interval '1 second', {attempts}, {alone});"
    )
}

fn step(kind: &str, planned: bool) -> String {
    let fan_out = if kind == "fan_out" {
        "true, 0, 0"
    } else {
        "null, null, null"
    };
    format!(
        "insert into lockgate.run_steps (run_id, path, kind, status, started_at, planned_at, consistent, planned_items, planned_batches)
         values ('{RUN}', '0:items', '{kind}', 'open', clock_timestamp(), case when {planned} then clock_timestamp() end, {fan_out});"
    )
}

fn work() -> Vec<Alone> {
    let claimed = |until: &str| {
        let columns = "status, claim_token, claim_id, claimed_by, claimed_at, lease_until";
        let values = "'running', 1, gen_random_uuid(), gen_random_uuid(), clock_timestamp()";
        run(columns, &format!("{values}, clock_timestamp() + interval '{until}'"))
    };
    let running = run("status", "'running'");
    let suspended = |column: &str, value: &str| run(&format!("status, {column}"), &format!("'suspended', {value}"));
    let child = "insert into lockgate.task_runs (id, workflow, origin_id, status, parent_id, parent_path, finished_at)
                 select id, 'orders', id, 'completed', parent, '0:items', clock_timestamp()
                   from (select gen_random_uuid() as id, '00000000-0000-7000-8000-000000000000'::uuid as parent) c;";
    let alone = |part, left, done| Alone { part, left, done };
    vec![
        alone("batches", format!("{running}{}{}", step("fan_out", false), batch(0, false)), |swept| swept.batches),
        alone("batches", format!("{running}{}{}", step("fan_out", false), batch(2, true)), |swept| swept.split),
        alone("runs", claimed("-1 second"), |swept| swept.runs),
        alone(
            "undelivered",
            "insert into lockgate.undelivered_messages (command_type, id, message_id, status, reason_code, reason, topic,
                 next_attempt_at, claim_id, claimed_by, lease_until)
             values ('email', gen_random_uuid(), gen_random_uuid(), 'claimed', 'timed_out', 'timed out', 'mails', clock_timestamp(),
                 gen_random_uuid(), gen_random_uuid(), clock_timestamp() - interval '1 second');"
                .to_owned(),
            |swept| swept.undelivered,
        ),
        alone("overdue", suspended("deadline_at", "clock_timestamp() - interval '1 second'"), |swept| swept.stopped),
        alone("stopping", suspended("stop_status", "'cancelled'"), |swept| swept.stopped),
        alone("fan_outs", format!("{running}{}", step("fan_out", true)), |swept| swept.fan_outs),
        alone(
            "children",
            format!("{}{}{child}", suspended("claimed_at", "clock_timestamp()"), step("child", false)),
            |swept| swept.parents,
        ),
        alone(
            "followers",
            run("status, schedule, slot, after_run", "'queued', 'nightly', clock_timestamp(), gen_random_uuid()"),
            |swept| swept.followers,
        ),
    ]
}

async fn left(scene: &Scene) -> Vec<String> {
    let keys = format!(
        "select coalesce(array_agg(e.key), '{{}}') from ({QUESTION}) q, jsonb_each(to_jsonb(q)) e where e.value = 'true'"
    );
    scene.value(&keys).await
}

#[tokio::test]
async fn each_part_is_done_when_only_it_has_anything_to_do() {
    let scene = Scene::new().await;
    let fleet = scene.fleet();
    let mut wrong = Vec::new();
    for Alone {
        part,
        left: setup,
        done,
    } in work()
    {
        scene.run(&setup).await;
        let asked = left(&scene).await;
        if asked != [part] {
            wrong.push(format!("{part}: {asked:?} are left"));
        }
        let swept = fleet.sweep().await.unwrap();
        if done(&swept) == 0 {
            wrong.push(format!("{part}: {swept:?} was done"));
        }
        if fleet.sweep().await.unwrap() != Swept::default() {
            wrong.push(format!("{part} is done again and again"));
        }
        scene
            .run("truncate lockgate.task_runs, lockgate.run_steps, lockgate.run_batches, lockgate.undelivered_messages cascade")
            .await;
    }
    assert_eq!(left(&scene).await, [""; 0]);
    scene
        .run("select lockgate.start_run('orders'); select lockgate.set_queue('orders', max_running => 1)")
        .await;
    assert_eq!(left(&scene).await, ["places"]);
    assert_eq!(scene.claim(1).await.len(), 1);
    let held = "select count(*) from lockgate.task_runs where holds is not null";
    scene.run("update lockgate.task_runs set holds = null").await;
    fleet.sweep().await.unwrap();
    if scene.value::<i64>(held).await != 1 {
        wrong.push("no place was given to what was claimed before its queue had limits".to_owned());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// As with a statement that the server refuses: what needs it is not done, the rest is.
#[tokio::test]
async fn a_question_that_is_refused_keeps_no_part_from_its_turn() {
    let scene = Scene::new().await;
    let claim = scene.claimed().await;
    scene
        .run("update lockgate.task_runs set lease_until = clock_timestamp() - interval '1 second'; alter table lockgate.queues rename fair to unfair")
        .await;
    assert!(scene.fleet().sweep().await.is_err(), "it is told of");
    assert_eq!(scene.of(claim.run, "claim_id").await, None, "its run was recovered");
}

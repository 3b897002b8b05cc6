//! What an operator does with undelivered messages, on the command line and in SQL.
#![allow(clippy::unwrap_used)]

mod delivery_support;

use delivery_support::scripted::{Fate, Scripted, delivered};
use delivery_support::*;
use lockgate_tests::cli::{Finished, Program};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

const BIN: &str = env!("CARGO_BIN_EXE_lockgate-test");

/// Ten items: 1 and 2 refused, 3 without a message, 4 and 5 dead, the rest due.
async fn world() -> World {
    let world = World::new(&[(1..=10).collect()]).await;
    let fleet = world.fleet();
    let batch = world.claim(&fleet).await;
    let mut undelivered: Vec<_> = (1..=10)
        .map(|item| world.undelivered(&batch, item, item <= 3))
        .collect();
    undelivered[2].payload = None;
    undelivered[2].code = "kills_worker".to_owned();
    finish(&fleet, &batch, 0, undelivered).await;
    world.complete().await;
    world
        .execute(
            "with dead as (update lockgate.undelivered_messages set status = 'dead', attempts = 20 where item_id in (4, 5)
                           returning id, run_id)
             insert into lockgate.transitions (entity, key, run_id, from_status, to_status)
             select 'undelivered', id::text, run_id, 'claimed', 'dead' from dead",
        )
        .await;
    world
}

async fn run(world: &World, args: &[&str]) -> Finished {
    let program = Program::new(BIN, world.tables.url()).env("LOCKGATE_ACTOR", "anna");
    let args: Vec<&str> = ["undelivered"].iter().chain(args).copied().collect();
    program.run(&args).await
}

async fn states(world: &World) -> Vec<String> {
    let states =
        "select array_agg(format('%s %s', item_id, status) order by item_id) from lockgate.undelivered_messages";
    world.value(states).await
}

async fn audit(world: &World, to: &'static str) -> Vec<String> {
    sqlx::query_scalar(
        "select format('%s: %s to %s by %s, %s', m.item_id, t.from_status, t.to_status, t.actor, t.reason)
           from lockgate.transitions t join lockgate.undelivered_messages m on t.key = m.id::text
          where t.entity = 'undelivered' and t.to_status = $1 and t.actor is not null and t.run_id = m.run_id
          order by m.item_id",
    )
    .bind(to)
    .fetch_all(world.tables.pool())
    .await
    .unwrap()
}

#[tokio::test]
async fn lists_show_everything_but_the_message() {
    let world = world().await;
    let all = run(&world, &["list", "--output", "json"]).await.exits(0);
    let rows = all.json();
    assert_eq!(rows.as_array().unwrap().len(), 10);
    for secret in ["payload\":", "headers", "\"key\"", "{\\\"item\\\""] {
        assert!(!all.out.contains(secret), "{secret}");
    }
    let one = rows.as_array().unwrap().iter().find(|row| row["item_id"] == 4).unwrap();
    assert_eq!(one["status"], "dead");
    assert_eq!((&one["batch_seq"], &one["payload_bytes"]), (&json!(1), &json!(10)));
    assert_eq!(one["run_id"], world.run.to_string());
    let run_id = world.run.to_string();
    for (args, expected) in [
        (&["--status", "refused,dead"][..], 5),
        (&["--run", &run_id, "--reason-code", "kills_worker"], 1),
        (&["--topic", "elsewhere"], 0),
        (&["--topic", &world.topic, "--limit", "7"], 7),
        (&["--type", "sms"], 0),
        (&[one["id"].as_str().unwrap()], 1),
    ] {
        let args: Vec<&str> = ["list", "--output", "json"].iter().chain(args).copied().collect();
        let rows = run(&world, &args).await.exits(0).json();
        assert_eq!(rows.as_array().unwrap().len(), expected, "{args:?}");
    }
    let table = run(&world, &["list", "--status", "dead"]).await.exits(0);
    assert_eq!(table.out.lines().count(), 3, "{}", table.out);
    run(&world, &["list", "--status", "lost"]).await.exits(2);
}

#[tokio::test]
async fn what_is_sent_again_by_hand_is_due_audited_and_delivered() {
    let world = world().await;
    let dry = run(&world, &["redeliver", "--all", "--dry-run", "--output", "json"])
        .await
        .exits(0);
    let counts = json!([
        {"status": "dead", "messages": 2, "without_message": 0},
        {"status": "due", "messages": 5, "without_message": 0},
        {"status": "refused", "messages": 3, "without_message": 1},
    ]);
    assert_eq!(dry.json(), json!({"changed": 0, "dry_run": true, "found": counts}));
    let before = states(&world).await;
    assert_eq!(
        before[0..6],
        ["1 refused", "2 refused", "3 refused", "4 dead", "5 dead", "6 due"]
    );

    run(&world, &["redeliver"])
        .await
        .exits(2)
        .says(&["no messages are named", "--all"]);
    run(&world, &["redeliver", "--status", "delivered"])
        .await
        .exits(2)
        .says(&["cannot be changed by hand"]);
    let done = run(
        &world,
        &[
            "redeliver",
            "--status",
            "refused,dead",
            "--reason",
            "topic was fixed",
            "--output",
            "json",
        ],
    );
    assert_eq!(done.await.exits(0).json()["changed"], 4);
    let after = states(&world).await;
    assert_eq!(after[0..6], ["1 due", "2 due", "3 refused", "4 due", "5 due", "6 due"]);
    assert_eq!(
        audit(&world, "due").await,
        ["1: refused", "2: refused", "4: dead", "5: dead"]
            .map(|was| format!("{was} to due by postgres for anna, topic was fixed"))
    );
    let anew =
        "select bool_and(attempts = 0 and next_attempt_at <= clock_timestamp()) from lockgate.undelivered_messages";
    assert!(world.value::<bool>(anew).await);

    let publisher = Scripted::new(|_| Fate::Settle(delivered(0)));
    let running = Running::start(world.database(), publisher.clone(), &breakers(), quick());
    lockgate_tests::wait_until(SOON, "all but the one without a message are delivered", async || {
        let delivered = "select count(*) from lockgate.undelivered_messages where status = 'delivered'";
        world.value::<i64>(delivered).await == 9
    })
    .await;
    assert!(running.stop().await);
    assert_eq!(publisher.offered(), 9);
    assert_eq!(world.problems().await, []);
}

#[tokio::test]
async fn what_is_discarded_needs_a_reason_and_is_cleared() {
    let world = world().await;
    run(&world, &["discard", "--all"]).await.exits(2);
    run(&world, &["discard", "--all", "--reason", " "])
        .await
        .exits(2)
        .says(&["the reason is empty"]);
    let sql = sqlx::query("select lockgate.discard_undelivered('')")
        .execute(world.tables.pool())
        .await;
    assert!(
        sql.unwrap_err()
            .to_string()
            .contains("no reason given; nothing was discarded")
    );
    let refused = run(&world, &["discard", "--status", "refused", "--reason", "wrong address"])
        .await
        .exits(0);
    assert!(refused.out.contains("3 discarded"), "{}", refused.out);
    assert_eq!(
        states(&world).await[0..4],
        ["1 discarded", "2 discarded", "3 discarded", "4 dead"]
    );
    assert_eq!(
        audit(&world, "discarded").await,
        [1, 2, 3].map(|item| format!("{item}: refused to discarded by postgres for anna, wrong address"))
    );
    let cleared = "select bool_and(payload is null and key is null and headers = '[]' and finished_at is not null)
        from lockgate.undelivered_messages where status = 'discarded'";
    assert!(world.value::<bool>(cleared).await);
    assert_eq!(world.problems().await, []);
    let again = run(
        &world,
        &[
            "discard",
            "--run",
            &world.run.to_string(),
            "--status",
            "refused",
            "--reason",
            "x",
        ],
    )
    .await;
    assert!(again.exits(0).out.contains("0 discarded"));
    let proof = "select discarded = 3 and dead = 2 and undelivered = 5 and adds_up from lockgate.v_run_proof";
    assert!(world.value::<bool>(proof).await);
}

#[tokio::test]
async fn exports_hold_the_message_only_when_asked_for() {
    let world = world().await;
    world
        .execute("update lockgate.undelivered_messages set payload = '\\xff00' where item_id = 5")
        .await;
    let plain = run(&world, &["export"]).await.exits(0);
    assert_eq!(plain.out.lines().count(), 10);
    assert!(!plain.out.contains("message-id") && !plain.out.contains("\"payload\""));
    let whole = run(&world, &["export", "--payload"]).await.exits(0);
    let lines: Vec<Value> = whole
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |item: i64| lines.iter().find(|line| line["item_id"] == item).unwrap();
    assert_eq!(
        (&of(4)["payload"], &of(4)["key"]),
        (&json!("{\"item\":4}"), &json!("4"))
    );
    assert_eq!(of(4)["headers"][0], json!(["message-id", of(4)["message_id"]]));
    assert_eq!(
        (&of(5)["payload_hex"], &of(3)["payload"]),
        (&json!("ff00"), &Value::Null)
    );
}

#[tokio::test]
async fn an_operator_acts_without_rights_on_the_table() {
    let world = world().await;
    let mut operator = PgConnection::connect(world.tables.url()).await.unwrap();
    operator
        .execute("set session authorization lockgate_operator")
        .await
        .unwrap();
    let listed = "select count(*) from lockgate.list_undelivered(statuses => '{dead}')";
    assert_eq!(
        sqlx::query_scalar::<_, i64>(listed)
            .fetch_one(&mut operator)
            .await
            .unwrap(),
        2
    );
    let discarded =
        "select changed from lockgate.discard_undelivered('enough', run => $1, statuses => '{dead}', page => 1)";
    for expected in [1, 1, 0] {
        let changed = sqlx::query_scalar::<_, i32>(discarded)
            .bind(world.run)
            .fetch_one(&mut operator)
            .await
            .unwrap();
        assert_eq!(changed, expected);
    }
    assert_eq!(
        audit(&world, "discarded").await,
        [4, 5].map(|item| format!("{item}: dead to discarded by lockgate_operator, enough"))
    );
    for denied in [
        "update lockgate.undelivered_messages set status = 'due'",
        "select payload from lockgate.undelivered_messages",
        "select lockgate.change_undelivered('discarded', null, '{due}', null, null, null, null, null, 1, 'x', null)",
    ] {
        let error = operator.execute(AssertSqlSafe(denied)).await.unwrap_err();
        assert_eq!(
            error.as_database_error().unwrap().code().as_deref(),
            Some("42501"),
            "{denied}"
        );
    }
}

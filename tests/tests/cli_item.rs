//! `runs item`: what became of one item, whatever became of it.
#![allow(clippy::unwrap_used)]

use lockgate_tests::TestDatabase;
use lockgate_tests::cli::{Finished, Program};
use serde_json::{Value, json};
use sqlx::Executor;

const BIN: &str = env!("CARGO_BIN_EXE_lockgate-test");
const ITEMS: &str = include_str!("../sql/items.sql");
const UNDER_WAY: &str = "00000000-0000-7000-8000-0000000000f1";
const FAILED: &str = "00000000-0000-7000-8000-0000000000f2";
const NOT_BEGUN: &str = "00000000-0000-7000-8000-0000000000f3";
const REPLICA: &str = "01890000-0000-7000-8000-00000000000a";

async fn ask(program: &Program, run: &str, item: &str) -> Finished {
    program.run(&["runs", "item", run, item, "--output", "json"]).await
}

/// The one answer.
fn only(finished: Finished) -> Value {
    let answer = finished.exits(0).json();
    assert_eq!(answer.as_array().unwrap().len(), 1, "{answer}");
    answer[0].clone()
}

#[tokio::test]
async fn one_fate_is_named_whatever_became_of_the_item() {
    let database = TestDatabase::new().await;
    database.pool().execute(sqlx::raw_sql(ITEMS)).await.unwrap();
    let program = Program::new(BIN, database.url());
    let cases = [
        (UNDER_WAY, "1", "delivered", json!(1), Value::Null),
        (UNDER_WAY, "3", "refused", json!(1), json!("too_large: too large")),
        (UNDER_WAY, "4", "due", json!(1), json!("timed_out: timed out")),
        (UNDER_WAY, "5", "dead", json!(1), json!("timed_out: timed out")),
        (UNDER_WAY, "6", "skipped", json!(1), Value::Null),
        (UNDER_WAY, "7", "vanished", json!(1), Value::Null),
        (UNDER_WAY, "10", "delivered", json!(1), Value::Null),
        (UNDER_WAY, "22", "open", json!(2), json!("the batch is claimed")),
        (UNDER_WAY, "29", "open", json!(2), json!("the batch is claimed")),
        (UNDER_WAY, "35", "open", json!(5), json!("the batch is recoverable")),
        (UNDER_WAY, "40", "not_planned", Value::Null, Value::Null),
        (FAILED, "10", "not_sent", json!(1), json!("the run is failed: boom")),
        (
            FAILED,
            "11",
            "delivered",
            json!(2),
            json!("acknowledged, the batch is free"),
        ),
        (FAILED, "12", "unknown", json!(2), json!("the run is failed: boom")),
        (NOT_BEGUN, "1", "not_planned", Value::Null, Value::Null),
    ];
    for (run, item, fate, batch, reason) in cases {
        let found = only(ask(&program, run, item).await);
        assert_eq!(found["fate"], fate, "{item}: {found}");
        let said = (&found["batch_seq"], &found["reason"]);
        assert_eq!(said, (&batch, &reason), "{item}: {found}");
    }
    let delivered = only(ask(&program, UNDER_WAY, "1").await);
    assert_eq!(
        (&delivered["step"], &delivered["replica"]),
        (&json!("0:mails"), &json!(REPLICA))
    );
    assert!(delivered["at"].as_str().unwrap().starts_with("20"), "{delivered}");
    let held = only(ask(&program, UNDER_WAY, "22").await);
    assert_eq!((&held["replica"], &held["at"]), (&json!(REPLICA), &Value::Null));
    let text = program.run(&["runs", "item", UNDER_WAY, "22"]).await.exits(0).out;
    let line = format!("open\t0:mails\t2\t-\t{REPLICA}\tthe batch is claimed\n");
    assert_eq!(text, format!("fate\tstep\tbatch\tat\treplica\treason\n{line}"));
}

#[tokio::test]
async fn an_item_that_is_not_there_exits_3() {
    let database = TestDatabase::new().await;
    database.pool().execute(sqlx::raw_sql(ITEMS)).await.unwrap();
    let program = Program::new(BIN, database.url());
    // Between the items of a batch, before all of them, and behind a plan that is whole.
    for (run, item) in [(UNDER_WAY, "21"), (UNDER_WAY, "-1"), (FAILED, "21")] {
        let finished = ask(&program, run, item).await.exits(3);
        finished.says(&[
            &format!("error: run {run} has no item {item}; nothing was changed"),
            "hint: ",
        ]);
        assert!(finished.out.is_empty(), "{finished:?}");
    }
    let pruned = "update lockgate.task_runs set pruning_since = '2026-03-01 06:00Z' where status = 'failed'";
    database.pool().execute(pruned).await.unwrap();
    let finished = ask(&program, FAILED, "10").await.exits(3);
    finished.says(&["retention has been deleting run", "since 2026-03-01 06:00:00Z"]);
}

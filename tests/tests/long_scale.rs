//! What is asked all the time stays quick, however much there is that is not due (R40.1, D14).
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use lockgate_tests::TestDatabase;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

const FILL: &str = include_str!("../sql/a_million_not_due.sql");
/// Pages of eight KiB that a question may look at; a scan of any of the tables is thousands.
const FEW_PAGES: i64 = 200;
const RUN: &str = "'00000000-0000-7000-8000-000000000000'";
/// The same as an array.
const RUNS: &str = "'{00000000-0000-7000-8000-000000000000}'";
const ANY: &str = "gen_random_uuid()";

/// Every claim, sweep, renewal and look for what is due, with values as the engine gives them.
const ASKED: &[(&str, &[&str])] = &[
    (
        "claim_runs",
        &[
            "'{chaos-items,other}'",
            "'{1000,1}'",
            "'{chaos-items,other}'",
            "'{1,1}'",
            "'{chaos-items@1,other@1}'",
            ANY,
            ANY,
            "2",
            "false",
            "60",
        ],
    ),
    ("poked_runs", &[RUNS]),
    (
        "save_steps",
        &[
            RUNS,
            "'{1}'",
            "'{00000000-0000-4000-8000-000000000001}'",
            "'{1:charge}'",
            "'{step}'",
            "'{completed}'",
            "'{1}'",
            "'{now}'",
            "'{now}'",
            "'{0}'",
            "'{null}'",
            "'{false}'",
        ],
    ),
    (
        "settle_step",
        &[
            RUN,
            "1",
            "'00000000-0000-4000-8000-000000000001'",
            "'1:charge'",
            "'step'",
            "'completed'",
            "'1'",
            "now()",
            "now()",
            "0",
            "null",
        ],
    ),
    (
        "read_step",
        &[RUN, "1", "'00000000-0000-4000-8000-000000000001'", "'0:items'"],
    ),
    ("read_steps_of_runs", &[RUNS, "null"]),
    ("read_waiting_signals", &[RUNS]),
    ("read_claimed_runs", &[ANY]),
    ("wake_runs", &[RUNS]),
    ("next_due", &["'{chaos-items,other}'"]),
    (
        "let_go_runs",
        &[
            "'{00000000-0000-7000-8000-000000000000}'",
            "'{1}'",
            "'{00000000-0000-4000-8000-000000000001}'",
            "'{wait}'",
            "'{null}'",
            "'{null}'",
            "'{null}'",
            "'{0}'",
            "'{0}'",
            "'{true}'",
            "'{1}'",
            "'{1:nap}'",
            "'{sleep}'",
            "'{null}'",
            "'{0}'",
            ANY,
            "'{null}'",
        ],
    ),
    ("ended_children", &[RUN, "'{0:child,1:child}'"]),
    ("children_to_look_after", &[ANY, "''", "10000"]),
    (
        "start_children",
        &[
            RUNS,
            "'{1}'",
            "'{00000000-0000-4000-8000-000000000001}'",
            "'{9:child}'",
            "'{2026-11-20}'",
            "'{00000000-0000-7000-8000-00000000000a}'",
            "'{00000000-0000-7000-8000-00000000000a}'",
            "'{chaos-items}'",
            "'{abc}'",
            "'{null}'",
            "'{null}'",
            "'{null}'",
            "'{null}'",
            "'{null}'",
            "'{null}'",
            "'{null}'",
            "'{null}'",
            "'{null}'",
        ],
    ),
    (
        "continue_runs",
        &[
            RUNS,
            "'{1}'",
            "'{00000000-0000-4000-8000-000000000001}'",
            "'{00000000-0000-7000-8000-00000000000b}'",
            "'{abc}'",
            "'{0}'",
            "'{true}'",
            ANY,
            "'{null}'",
        ],
    ),
    (
        "publish_commands",
        &[
            RUNS,
            "'{1}'",
            "'{00000000-0000-4000-8000-000000000001}'",
            "'{8:note}'",
            "'{1}'",
            "'{2026-11-20}'",
            "'{2026-11-20}'",
            "'{note}'",
            "'{00000000-0000-7000-8000-00000000000c}'",
            "'{:note}'",
            "'{null}'",
            "'{[]}'",
            "'{abc}'",
            "'{null}'",
        ],
    ),
    (
        "list_unfinished_runs",
        &[
            "'paused'", "null", "100", "null", "null", "null", "null", "null", "null", "null", "20000", "null",
        ],
    ),
    ("wake_behind", &[RUN]),
    ("wake_left_behind", &["''", "'2020-01-01'", "10000"]),
    ("claimable_runs", &["'{chaos-items@1}'", "'{}'", "64", "null"]),
    ("claim_next_batch", &[RUN, ANY, ANY, "60"]),
    (
        "finish_and_claim_batch",
        &[
            RUN,
            ANY,
            ANY,
            "60",
            RUN,
            "2",
            "1",
            "'00000000-0000-4000-8000-000000000002'",
        ],
    ),
    ("find_batch_claim", &[RUN, "'00000000-0000-4000-8000-000000000002'"]),
    (
        "batch_was_finished",
        &[RUN, "2", "1", "'00000000-0000-4000-8000-000000000002'"],
    ),
    ("waiting_batches", &[RUN, "512"]),
    (
        "renew_leases",
        &[
            "'{00000000-0000-7000-8000-000000000000,00000000-0000-7000-8000-000000000000}'",
            "'{2,4}'",
            "'{1,1}'",
            "'{00000000-0000-4000-8000-000000000002,00000000-0000-4000-8000-000000000004}'",
            "'{null,null}'",
            "'{00000000-0000-7000-8000-000000000000}'",
            "'{1}'",
            "'{00000000-0000-4000-8000-000000000001}'",
            "60",
        ],
    ),
    ("complete_fan_out", &[RUN, "'0:items'"]),
    ("what_is_left", &[]),
    ("recover_batches", &["3", "500"]),
    ("stuck_batches", &["3", "500"]),
    ("recover_runs", &["5", "500"]),
    ("stop_overdue_runs", &["500"]),
    ("settle_stops", &["500"]),
    ("idle_fan_outs", &["500"]),
    ("recover_undelivered", &["500"]),
    ("due_routes", &["-1::smallint", "''"]),
    ("claim_lanes", &[ANY, "'{3,4,5}'", ANY, "60"]),
    (
        "renew_lane",
        &["3", "1", "'00000000-0000-4000-8000-000000000003'", "60"],
    ),
    (
        "settle_outbox",
        &[
            "3",
            "1",
            "'00000000-0000-4000-8000-000000000003'",
            "'{1,2,3,4,5,6,7,8,9,10}'",
            "':note'",
            "null",
            "0",
            "500",
            "1000000",
        ],
    ),
    (
        "refuse_outbox",
        &[
            "3",
            "1",
            "'00000000-0000-4000-8000-000000000003'",
            ANY,
            "'{11,12}'",
            "'{00000000-0000-4000-8000-000000000011,00000000-0000-4000-8000-000000000012}'",
            "'{[],[]}'",
            "'{too_large,too_large}'",
            "'{planted,planted}'",
            "'topic_1'",
        ],
    ),
    (
        "release_lane",
        &["3", "1", "'00000000-0000-4000-8000-000000000003'", "null"],
    ),
    ("due_topics", &[]),
    ("claim_undelivered", &[ANY, "'topic_1'", "500", "1000000", ANY, "60"]),
    ("due_schedules", &["100", "'{}'"]),
    ("unfinished_runs_of_schedule", &["'schedule_1'", "now()", "2"]),
    // It looks at five runs for each that it may take, and not at them again for ten minutes.
    ("prune_runs", &["86400", "2"]),
    ("prune_undelivered", &["86400", "500"]),
];

/// What a query costs on this connection, executed and rolled back; as prepared, with or without the values in its plan.
async fn explain(connection: &mut PgConnection, query: &str, values: &[&str], mode: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/queries");
    let text = std::fs::read_to_string(folder.join(format!("{query}.sql"))).unwrap();
    let execute = match values {
        [] => "asked".to_owned(),
        values => format!("asked({})", values.join(", ")),
    };
    let prepare = format!("set plan_cache_mode = {mode}; deallocate all; prepare asked as {text}");
    connection.execute(sqlx::raw_sql(AssertSqlSafe(prepare))).await.unwrap();
    let explain = format!("explain (analyze, buffers, format json) execute {execute}");
    let mut plan = Value::Null;
    // The first time reads the catalogue too.
    for _ in 0..2 {
        let mut transaction = connection.begin().await.unwrap();
        let row = transaction
            .fetch_one(sqlx::raw_sql(AssertSqlSafe(explain.clone())))
            .await
            .unwrap_or_else(|error| panic!("{query}: {error}"));
        transaction.rollback().await.unwrap();
        plan = sqlx::Row::get::<Value, _>(&row, 0)[0]["Plan"].take();
    }
    plan
}

fn scanned(plan: &Value, found: &mut Vec<String>) {
    // What is not run costs nothing: sums over a run's batches, made once at its end. Of lanes there are sixteen, always, and of
    // queues as many as somebody set up.
    let all = plan["Node Type"] == "Seq Scan" && plan["Actual Loops"] != 0;
    if all && plan["Relation Name"] != "outbox_lanes" && plan["Relation Name"] != "queues" {
        found.push(plan["Relation Name"].to_string());
    }
    for child in plan["Plans"].as_array().into_iter().flatten() {
        scanned(child, found);
    }
}

#[tokio::test]
async fn nothing_asked_all_the_time_looks_through_what_is_not_due() {
    let database = TestDatabase::new().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    for statement in FILL.split_inclusive(";\n") {
        connection.execute(sqlx::raw_sql(statement)).await.unwrap();
    }
    let mut wrong = Vec::new();
    for (query, values) in ASKED {
        // What people ask for once is planned for what they ask.
        let modes = ["force_custom_plan", "force_generic_plan"];
        let modes = if *query == "list_unfinished_runs" {
            &modes[..1]
        } else {
            &modes
        };
        for mode in modes {
            let plan = explain(&mut connection, query, values, mode).await;
            let pages = plan["Shared Hit Blocks"].as_i64().unwrap() + plan["Shared Read Blocks"].as_i64().unwrap();
            let time = &plan["Actual Total Time"];
            println!("{query} {mode}: {pages} pages, {time} ms");
            let mut tables = Vec::new();
            scanned(&plan, &mut tables);
            // A function of a dozen statements, each of which is planned anew.
            let few = if *query == "prune_runs" {
                2 * FEW_PAGES
            } else {
                FEW_PAGES
            };
            if pages > few || !tables.is_empty() {
                wrong.push(format!(
                    "{query} {mode}: {pages} pages, {time} ms, reads all of {tables:?}\n{plan:#}"
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} questions cost too much:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Statements of groups, and what stands in for them: they carry up to a thousand keys and are planned once by their connection.
const GROUPED: &[&str] = &[
    "claim_runs",
    "save_steps",
    "settle_step",
    "let_go_runs",
    "wake_runs",
    "read_steps_of_runs",
    "read_waiting_signals",
    "ended_children",
    "start_children",
    "continue_runs",
    "publish_commands",
];

/// Looks through an index from one end to the other.
fn unkeyed(plan: &Value, found: &mut Vec<String>) {
    let node = plan["Node Type"].as_str().unwrap_or_default();
    if node.contains("Index") && plan["Index Cond"].is_null() {
        found.push(format!("{node} {}", plan["Index Name"]));
    }
    for child in plan["Plans"].as_array().into_iter().flatten() {
        unkeyed(child, found);
    }
}

/// Whatever comes into the tables afterwards.
#[tokio::test]
async fn a_plan_made_in_empty_tables_looks_each_key_up() {
    let database = TestDatabase::new().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let as_groups_do = "set enable_hashjoin = off; set enable_mergejoin = off; set enable_seqscan = off";
    connection.execute(sqlx::raw_sql(as_groups_do)).await.unwrap();
    let mut wrong = Vec::new();
    for query in GROUPED {
        let (_, values) = ASKED.iter().find(|(asked, _)| asked == query).unwrap();
        let plan = explain(&mut connection, query, values, "force_generic_plan").await;
        let mut ends = Vec::new();
        unkeyed(&plan, &mut ends);
        scanned(&plan, &mut ends);
        if !ends.is_empty() {
            wrong.push(format!("{query} reads all of {ends:?}\n{plan:#}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

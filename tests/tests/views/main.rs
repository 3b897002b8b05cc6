//! The views keep what they promise: their columns, who may read them, what they show, and that they name what is wrong
//! (RC.6).
#![allow(clippy::unwrap_used, clippy::panic)]

mod figures;
mod night_runs;
mod questions;
mod trouble;

use lockgate_tests::TestDatabase;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, raw_sql};

const HEALTHY: &str = include_str!("../../sql/healthy.sql");
/// One line a column, in order; `LOCKGATE_BLESS=1` writes them anew.
const EXPECTED: &str = include_str!("../../sql/views.expected");
const COLUMNS: &str = "
    select format('%s.%s %s', c.relname, a.attname,
                  -- Clients are told the type below a domain.
                  format_type(case t.typtype when 'd' then t.typbasetype else t.oid end, a.atttypmod))
      from pg_class c
      join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
      join pg_type t on t.oid = a.atttypid
     where c.relnamespace = 'lockgate'::regnamespace and c.relkind = 'v'
     order by c.relname, a.attnum";
const VIEWS: &str = "
    select c.relname::text from pg_class c where c.relnamespace = 'lockgate'::regnamespace and c.relkind = 'v' order by 1";

async fn texts(pool: &PgPool, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql).fetch_all(pool).await.unwrap()
}

async fn run(pool: &PgPool, sql: impl Into<String>) {
    pool.execute(raw_sql(AssertSqlSafe(sql.into()))).await.unwrap();
}

async fn as_role(database: &TestDatabase, role: &str) -> PgConnection {
    let mut session = PgConnection::connect(database.url()).await.unwrap();
    let become_role = format!("set session authorization lockgate_{role}");
    session.execute(AssertSqlSafe(become_role)).await.unwrap();
    session
}

#[tokio::test]
async fn the_columns_are_those_that_dashboards_know() {
    let database = TestDatabase::new().await;
    let found = texts(database.pool(), COLUMNS).await;
    if std::env::var_os("LOCKGATE_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/views.expected");
        std::fs::write(path, found.join("\n") + "\n").unwrap();
        return;
    }
    let expected: Vec<&str> = EXPECTED.lines().collect();
    assert!(expected.len() > 200, "the file was not read");
    assert_eq!(
        found, expected,
        "columns are only added, at the end; then LOCKGATE_BLESS=1"
    );
}

#[tokio::test]
async fn each_view_says_how_it_may_be_asked() {
    let database = TestDatabase::new().await;
    let silent = "select c.relname::text from pg_class c
         where c.relnamespace = 'lockgate'::regnamespace and c.relkind = 'v' and c.relname <> 'v_run_proof'
           and obj_description(c.oid, 'pg_class') !~ '(Whole|By key: )'";
    assert_eq!(texts(database.pool(), silent).await, [""; 0]);
}

#[tokio::test]
async fn those_who_look_read_every_view_and_nobody_else_does() {
    let database = TestDatabase::new().await;
    run(database.pool(), HEALTHY).await;
    let views = texts(database.pool(), VIEWS).await;
    assert!(views.len() >= 25, "{views:?}");
    for role in ["reader", "operator", "engine", "sender"] {
        let mut session = as_role(&database, role).await;
        for view in &views {
            let read = session
                .execute(AssertSqlSafe(format!("select * from lockgate.{view}")))
                .await;
            assert_eq!(read.is_ok(), role != "sender", "{role} reads {view}: {read:?}");
        }
    }
    let mut reader = as_role(&database, "reader").await;
    for write in [
        "insert into lockgate.replica_minutes select * from lockgate.replica_minutes",
        "delete from lockgate.replica_minutes",
        "select lockgate.prune_measures('1 day', 10)",
        "update lockgate.v_runs set reason = ''",
        "delete from lockgate.v_batches",
    ] {
        let refused = reader.execute(write).await.unwrap_err();
        assert_eq!(
            refused.as_database_error().and_then(|error| error.code()).as_deref(),
            Some("42501"),
            "{write}"
        );
    }
    for call in [
        "select * from lockgate.throughput(clock_timestamp() - interval '1 day', clock_timestamp(), '1 hour')",
        "select * from lockgate.old_snapshots('1 minute')",
        "select * from lockgate.run_invariants(gen_random_uuid())",
        "select lockgate.scaler_depth('daily')",
        "select lockgate.is_traceparent('')",
    ] {
        reader.execute(call).await.unwrap();
    }
}

/// In every place that may hold something personal or secret.
const CANARY: &str = "
    update lockgate.task_runs set params = 'canary', output = 'canary';
    update lockgate.run_steps set result = 'canary';
    update lockgate.undelivered_messages set key = 'canary', headers = '[[\"a\", \"canary\"]]', payload = 'canary';
    insert into lockgate.signals (run_id, seq, name, payload, actor) select id, 1, 'go', 'canary', 'test' from lockgate.task_runs;
    insert into lockgate.schedules (name, workflow, cron, params) values ('nightly', 'daily', '0 3 * * *', 'canary');
    select lockgate.enqueue_command('sms', '\"canary\"', key => 'canary', topic => 'sms', headers => '{\"a\": \"canary\"}');
    insert into lockgate.inbox_dead (consumer, topic, kafka_partition, kafka_offset, made_at, reason_code, reason, key, header_names,
        header_values, payload) values ('c', 't', 0, 0, clock_timestamp(), 'code', 'words', 'canary', '{a}', '{canary}', 'canary');";

#[tokio::test]
async fn no_view_shows_inputs_outputs_keys_or_payloads() {
    let database = TestDatabase::new().await;
    run(database.pool(), HEALTHY).await;
    run(database.pool(), CANARY).await;
    // Bytes are shown as hex.
    let needles = ["canary".to_owned(), hex("canary")];
    let mut rows = 0;
    for view in texts(database.pool(), VIEWS).await {
        let sql = format!("select to_jsonb(v)::text from lockgate.{view} v");
        let found: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(database.pool())
            .await
            .unwrap();
        rows += found.len();
        for row in found {
            assert!(!needles.iter().any(|needle| row.contains(needle)), "{view} shows {row}");
        }
    }
    assert!(rows > 30, "the views were empty");
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

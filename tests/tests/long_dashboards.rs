//! Every view is quick with ten million runs and batches of history, and reads no big table from one end to the other.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::{Duration, Instant};

use lockgate_tests::{TestDatabase, skipped};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, raw_sql};

const FILL: &str = include_str!("../sql/ten_million.sql");
/// Runs of history, and as many batches; another number by this variable.
const RUNS: u64 = 10_000_000;
const OTHER_RUNS: &str = "LOCKGATE_DASHBOARD_RUNS";
/// What a run of history with all that belongs to it takes here, in bytes, with room for sorting.
const BYTES_A_RUN: u64 = 1_800;
/// What a question may take: of the server's processor, whatever else the machine does. Where that one is slow, as much longer as
/// it counts slower than the one that is meant.
const QUICK: Duration = Duration::from_millis(50);
const COUNT: &str = "select count(*) from generate_series(1, 1000000)";
const COUNTS_IN: Duration = Duration::from_millis(80);
/// None is taken to be slower than this.
const SLOWEST: f64 = 4.0;
/// Pages of eight KiB that a question may look at; any of the big tables is a hundred thousand.
const PAGES: i64 = 20_000;
/// Tables that grow with history or with what waits.
const BIG: [&str; 10] = [
    "task_runs",
    "run_batches",
    "run_steps",
    "transitions",
    "outbox",
    "undelivered_email_commands",
    "undelivered_other_commands",
    "signals",
    "schedules",
    "inbox_dead",
];

/// Questions as the views' comments allow them, and how many rows they must have.
const ASKED: &[(&str, usize)] = &[
    ("select * from lockgate.v_stuck", 100),
    ("select * from lockgate.v_stuck where kind = 'schedule_failed'", 0),
    ("select * from lockgate.v_invariants", 0),
    ("select * from lockgate.v_runs order by run_id desc limit 200", 200),
    ("select * from lockgate.v_runs where run_id = $run", 1),
    (
        "select * from lockgate.v_runs where schedule = 'schedule-40' and slot is not null order by slot desc limit 50",
        1,
    ),
    ("select * from lockgate.v_runs where parent_id = $run", 0),
    (
        "select * from lockgate.v_runs where attributes @> '{\"customer\": 42}' order by created_at desc limit 50",
        0,
    ),
    (
        "select * from lockgate.v_runs where run_id between lockgate.first_id_at(now() - interval '2 minutes')
         and lockgate.first_id_at(now()) order by run_id desc limit 200",
        0,
    ),
    ("select * from lockgate.v_runs_held", 1_000),
    ("select * from lockgate.v_steps where run_id = $run", 1),
    ("select * from lockgate.v_run_proof where run_id = $run", 1),
    ("select * from lockgate.v_run_progress", 100),
    ("select * from lockgate.v_batches where run_id = $run", 5_000),
    ("select * from lockgate.v_batches where run_id = $run and seq = 7", 1),
    ("select * from lockgate.v_batches where status = 'claimed'", 1_600),
    ("select * from lockgate.v_failures", 500),
    ("select * from lockgate.v_acts", 1_000),
    ("select * from lockgate.v_queue_health", 10),
    ("select * from lockgate.v_queue_holders order by queue limit 1000", 100),
    (
        "select * from lockgate.v_queue_holders where queue =
         (select h.queue from lockgate.v_queue_holders h order by h.queue limit 1)",
        1,
    ),
    (
        "select * from lockgate.v_schedules_next where schedule = 'schedule-40'",
        1,
    ),
    (
        "select * from lockgate.v_schedules_next where paused_at is null order by next_slot limit 100",
        100,
    ),
    (
        "select s.schedule, p.* from (select * from lockgate.v_schedules_next where paused_at is null order by next_slot limit 1000) s
         left join lateral (select * from lockgate.v_run_proof v where v.run_id = s.last_run limit 1) p on true
         order by s.last_status = 'completed' and p.adds_up and p.undelivered + p.dead = 0, s.last_run_slot",
        1_000,
    ),
    ("select * from lockgate.v_replicas", 50),
    ("select * from lockgate.v_breakers", 50),
    ("select * from lockgate.v_leader", 1),
    ("select * from lockgate.v_terms", 200),
    ("select * from lockgate.v_undelivered", 4),
    ("select * from lockgate.v_undelivered_topics", 30),
    ("select * from lockgate.v_undelivered_reasons", 10),
    ("select * from lockgate.v_outbox_health", 16),
    ("select * from lockgate.v_inbox_dead", 10),
    ("select * from lockgate.v_throughput_1m", 180),
    ("select * from lockgate.v_snapshots", 0),
    ("select * from lockgate.v_storage", 20),
    ("select lockgate.scaler_depth()", 1),
];

/// Bytes that can still be written where the server keeps its files, if it is on this machine.
async fn free_bytes(database: &TestDatabase) -> Option<u64> {
    let folder: String = sqlx::query_scalar("show data_directory")
        .fetch_one(database.pool())
        .await
        .unwrap();
    let told = std::process::Command::new("df")
        .args(["--output=avail", "-B1", &folder])
        .output()
        .ok()?;
    String::from_utf8(told.stdout).ok()?.lines().nth(1)?.trim().parse().ok()
}

async fn fill(database: &TestDatabase, runs: u64) {
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    connection
        .execute(AssertSqlSafe(format!("set fill.runs = {runs}")))
        .await
        .unwrap();
    let since = Instant::now();
    // Statement by statement: all of it in one transaction would be one snapshot, and could not end with a vacuum.
    for statement in statements(FILL) {
        connection.execute(raw_sql(AssertSqlSafe(statement))).await.unwrap();
    }
    let size: String = sqlx::query_scalar("select pg_size_pretty(pg_database_size(current_database()))")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    println!("{runs} runs of history took {:?} to fill: {size}", since.elapsed());
}

/// The statements of a script, whose bodies in dollars may have semicolons.
fn statements(script: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for (at, part) in script.split("$$").enumerate() {
        if at % 2 == 1 {
            *found.last_mut().unwrap() += &format!("$${part}$$");
            continue;
        }
        let mut pieces = part.split(";\n");
        *found.last_mut().unwrap() += pieces.next().unwrap();
        found.extend(pieces.map(str::to_owned));
    }
    found.retain(|statement| !statement.trim().is_empty());
    found
}

/// A session of the reader and how much of a processor its server's process has had.
struct Reader {
    session: PgConnection,
    pid: i32,
}

impl Reader {
    async fn new(database: &TestDatabase) -> Self {
        let mut session = PgConnection::connect(database.url()).await.unwrap();
        let pid = sqlx::query_scalar("select pg_backend_pid()")
            .fetch_one(&mut session)
            .await
            .unwrap();
        // The role's own setting comes with a login; this one only takes the role.
        session
            .execute(raw_sql("set jit = off; set session authorization lockgate_reader"))
            .await
            .unwrap();
        Self { session, pid }
    }

    /// Time on a processor so far; none: the server is elsewhere.
    fn processor(&self) -> Option<Duration> {
        let told = std::fs::read_to_string(format!("/proc/{}/schedstat", self.pid)).ok()?;
        Some(Duration::from_nanos(told.split(' ').next()?.parse().ok()?))
    }

    /// The median of five, once all it needs has been read; and how many rows came.
    async fn ask(&mut self, question: &str) -> (Duration, usize) {
        let mut times = Vec::new();
        let mut rows = 0;
        for _ in 0..6 {
            let (before, since) = (self.processor(), Instant::now());
            rows = self
                .session
                .fetch_all(raw_sql(AssertSqlSafe(question.to_owned())))
                .await
                .unwrap_or_else(|error| panic!("{question}: {error}"))
                .len();
            let took = self.processor().zip(before).map(|(now, before)| now - before);
            times.push(took.unwrap_or_else(|| since.elapsed()));
        }
        times.remove(0);
        times.sort();
        (times[2], rows)
    }

    /// What a question may take at the moment.
    async fn allowed(&mut self) -> Duration {
        let (counted, _) = self.ask(COUNT).await;
        QUICK.mul_f64((counted.as_secs_f64() / COUNTS_IN.as_secs_f64()).clamp(1.0, SLOWEST))
    }

    async fn plan(&mut self, question: &str) -> Value {
        let explain = format!("explain (analyze, buffers, timing off, format json) {question}");
        let row = self.session.fetch_one(raw_sql(AssertSqlSafe(explain))).await.unwrap();
        row.get::<Value, _>(0)[0]["Plan"].take()
    }
}

/// Big tables that a plan reads all of.
fn read_whole(plan: &Value, found: &mut Vec<String>) {
    let table = plan["Relation Name"].as_str().unwrap_or_default();
    if plan["Node Type"] == "Seq Scan" && plan["Actual Loops"] != 0 && BIG.contains(&table) {
        found.push(table.to_owned());
    }
    for child in plan["Plans"].as_array().into_iter().flatten() {
        read_whole(child, found);
    }
}

#[tokio::test]
async fn every_view_is_quick_whatever_the_history() {
    let database = TestDatabase::new().await;
    let runs = std::env::var(OTHER_RUNS).map_or(RUNS, |text| text.parse().unwrap());
    if let Some(free) = free_bytes(&database).await
        && free < runs * BYTES_A_RUN
    {
        let wanted = runs * BYTES_A_RUN;
        skipped(&format!("{runs} runs of history want {wanted} bytes, there are {free}"));
        return;
    }
    fill(&database, runs).await;
    let mut reader = Reader::new(&database).await;
    let newest: String = sqlx::query_scalar("select run_id::text from lockgate.v_run_progress order by run_id limit 1")
        .fetch_one(&mut reader.session)
        .await
        .unwrap();
    let mut wrong = Vec::new();
    for (question, least) in ASKED {
        let question = question.replace("$run", &format!("'{newest}'"));
        let (took, rows) = reader.ask(&question).await;
        let plan = reader.plan(&question).await;
        let pages = plan["Shared Hit Blocks"].as_i64().unwrap() + plan["Shared Read Blocks"].as_i64().unwrap();
        let allowed = if took > QUICK { reader.allowed().await } else { QUICK };
        println!("{took:>10.1?} of {allowed:.1?} {pages:>6} pages {rows:>5} rows  {question}");
        let mut whole = Vec::new();
        read_whole(&plan, &mut whole);
        if took > allowed || pages > PAGES || rows < *least || !whole.is_empty() {
            wrong.push(format!(
                "{question}: {took:?} of {allowed:?}, {pages} pages, {rows} rows of at least {least}, reads all of {whole:?}\n{plan:#}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{} questions:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn every_view_is_asked() {
    let database = TestDatabase::new().await;
    let sql = "select relname::text from pg_class where relnamespace = 'lockgate'::regnamespace and relkind = 'v'";
    let views: Vec<String> = sqlx::query_scalar(sql).fetch_all(database.pool()).await.unwrap();
    for view in views {
        let named = format!("lockgate.{view}");
        let asked = ASKED
            .iter()
            .any(|(question, _)| question.split_whitespace().any(|word| word == named));
        assert!(asked, "{view} is not asked");
    }
}

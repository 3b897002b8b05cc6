//! What a replica that has nothing to do asks of its database, and what it uses of a processor.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use lockgate_tests::own_servers::OwnServers;
use sqlx::{Executor, PgPool, Row};

/// Until whoever finds nothing asks rarely.
const CALM: Duration = Duration::from_secs(45);
const WATCHED: Duration = Duration::from_secs(30);
/// Questions a second, those included that are about a connection.
const MOST: f64 = 1.7;
/// The same, of a replica that leads too: a pass of retention may be among what is seen of it.
const MOST_OF_A_LEADER: f64 = 2.3;
/// Which share of a processor it may use in a build without optimisations, beside other tests: it is asked to use a hundredth.
const MOST_CPU: f64 = 0.04;

/// How often each statement was asked, but for this one.
const ASKED: &str = "select left(regexp_replace(query, '\\s+', ' ', 'g'), 120) as query, sum(calls)::bigint as calls
      from pg_stat_statements
     where query !~ 'pg_stat_statements'
     group by 1 order by 2 desc";

/// Processor seconds of a process so far. The kernel counts in hundredths.
fn cpu_s(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

async fn asked(pool: &PgPool) -> (i64, String) {
    let rows = pool.fetch_all(ASKED).await.unwrap();
    let calls = |row: &sqlx::postgres::PgRow| row.get::<i64, _>("calls");
    let lines = rows
        .iter()
        .map(|row| format!("{:>4} {}\n", calls(row), row.get::<String, _>("query")));
    (rows.iter().map(calls).sum(), lines.collect())
}

/// With the settings of production.
const SETTINGS: [(&str, &str); 8] = [
    ("LOCKGATE_LEASE_DURATION", "60s"),
    ("LOCKGATE_LEASE_RENEW", "20s"),
    ("LOCKGATE_LEASE_SWEEP", "10s"),
    ("LOCKGATE_LEADER_LEASE", "15s"),
    ("LOCKGATE_LEADER_RENEW", "5s"),
    ("LOCKGATE_WORKER_POLL", "1s"),
    ("LOCKGATE_OUTBOX_POLL", "250ms"),
    // For those that serve.
    ("LOCKGATE_API_LISTEN", "127.0.0.1:0"),
];

/// What one replica with these roles asks a second, and which share of a processor it uses, with what it asked.
async fn idles(roles: &str) -> (f64, f64, String) {
    let options = "-c shared_preload_libraries=pg_stat_statements";
    let servers = OwnServers::up_with(&["postgres"], &[("PG_OPTS", options)]);
    let cluster = servers.cluster().await;
    cluster
        .pool
        .execute("create extension pg_stat_statements")
        .await
        .unwrap();
    let mut replica = cluster.replica_called(&["run", "--roles", roles], &SETTINGS);
    replica.runs().await;
    // What it does is only seen in how rarely it asks.
    tokio::time::sleep(CALM).await;
    cluster.pool.execute("select pg_stat_statements_reset()").await.unwrap();
    let (begin, before) = (Instant::now(), cpu_s(replica.pid()));
    tokio::time::sleep(WATCHED).await;
    let cpu = cpu_s(replica.pid()) - before;
    let (calls, statements) = asked(&cluster.pool).await;
    let watched_s = begin.elapsed().as_secs_f64();
    let (cpu, per_s) = (cpu / watched_s, calls as f64 / watched_s);
    println!(
        "{roles}: {:.2} % of a processor, {per_s:.2} a second:\n{statements}",
        cpu * 100.0
    );
    // Who only serves may use less in that time than the kernel counts.
    assert!(calls > 0 && before > 0.0, "nothing was seen:\n{statements}");
    (per_s, cpu, statements)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_asks_no_more_than_twice_a_second_and_uses_little_of_a_processor() {
    let (per_s, cpu, statements) = idles("worker").await;
    assert!(per_s <= MOST, "{per_s:.2} a second:\n{statements}");
    assert!(cpu <= MOST_CPU, "{:.2} % of a processor", cpu * 100.0);
}

/// Who leads asks in one question what a sweep would have to do, measures for all, and looks at schedules when a slot is due or
/// somebody edits one.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_leader_asks_little_more() {
    let (per_s, cpu, statements) = idles("leader,worker").await;
    assert!(per_s <= MOST_OF_A_LEADER, "{per_s:.2} a second:\n{statements}");
    assert!(cpu <= MOST_CPU, "{:.2} % of a processor", cpu * 100.0);
}

/// It says that it is there, and keeps a connection to be rung by.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_replica_that_only_serves_asks_no_more_than_a_worker() {
    let (per_s, cpu, statements) = idles("api").await;
    assert!(per_s <= MOST, "{per_s:.2} a second:\n{statements}");
    assert!(cpu <= MOST_CPU, "{:.2} % of a processor", cpu * 100.0);
}

//! What the views show adds up, and what replicas count is in them.

use std::time::Duration;

use lockgate::leader::{MeasureStore, STUCK_KINDS};
use lockgate::lifecycle::{Counts, Fleet, Heartbeat, Runnable};
use lockgate::postgres::{FleetSettings, PostgresFleet, PostgresLeader};
use lockgate_tests::TestDatabase;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{HEALTHY, run};

async fn value<T>(database: &TestDatabase, sql: &'static str) -> T
where
    T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    sqlx::query_scalar(sql).fetch_one(database.pool()).await.unwrap()
}

#[tokio::test]
async fn a_fan_out_under_way_adds_up_and_has_a_pace() {
    let database = TestDatabase::new().await;
    run(database.pool(), HEALTHY).await;
    let under_way = "
        update lockgate.task_runs set status = 'running', finished_at = null, last_batch_seq = 5;
        update lockgate.run_steps set status = 'open', planned_items = 50, planned_batches = 5;
        update lockgate.run_batches set finished_at = clock_timestamp() - interval '10 seconds';
        insert into lockgate.run_batches (run_id, seq, step, status, first_id, last_id, n_items)
            select id, n, '0:items', 'free', n * 10 - 9, n * 10, 10 from lockgate.task_runs, generate_series(3, 5) n;
        update lockgate.run_batches set status = 'claimed', claim_token = 1, claim_id = gen_random_uuid(), claimed_by = gen_random_uuid(),
            lease_until = clock_timestamp() + interval '1 h' where seq = 3";
    run(database.pool(), under_way).await;
    let sql = "select planned = 50 and done = 20 and remaining = 30 and waiting = 2 and held = 1 and planned_whole
                      and items_per_s between 1 and 2 and done_at > clock_timestamp() + interval '5 seconds'
                 from lockgate.v_run_progress";
    let shown = "select to_jsonb(p)::text from lockgate.v_run_progress p";
    assert!(
        value::<bool>(&database, sql).await,
        "{}",
        value::<String>(&database, shown).await
    );
    assert_eq!(
        value::<i64>(&database, "select lockgate.scaler_depth('daily')").await,
        2
    );
    // A run that is over takes its open steps with it.
    run(
        database.pool(),
        "update lockgate.task_runs set status = 'failed', finished_at = clock_timestamp()",
    )
    .await;
    assert_eq!(
        value::<i64>(&database, "select count(*) from lockgate.v_run_progress").await,
        0
    );
    let steps = "select string_agg(status, ',') from lockgate.v_steps where finished_at is not null";
    assert_eq!(value::<String>(&database, steps).await, "ended");
}

fn fleet(database: &TestDatabase, replica: Uuid) -> PostgresFleet {
    PostgresFleet::new(
        database.database(),
        FleetSettings {
            replica,
            lease: Duration::from_secs(60),
            max_deaths: 3,
            stale_after: Duration::from_secs(60),
            first_redelivery: Duration::from_secs(1),
        },
    )
}

fn beat(replica: Uuid, counts: Counts) -> Heartbeat {
    Heartbeat {
        replica,
        roles: vec!["worker".to_owned()],
        runnable: vec![Runnable {
            workflow: "daily".to_owned(),
            version: 1,
            replays: 1..=1,
        }],
        draining: false,
        in_flight: 0,
        window_used: 0,
        window_size: 0,
        breakers: serde_json::json!([]),
        counts,
        clock_offset: Some(0.25),
    }
}

/// A different number in each place, so that none can be taken for another.
fn counts(times: i64) -> Counts {
    Counts {
        items_delivered: times,
        items_refused: 2 * times,
        items_unknown: 3 * times,
        items_passed_over: 4 * times,
        batches: 5 * times,
        runs_completed: 6 * times,
        runs_failed: 7 * times,
        steps: 8 * times,
        commands_delivered: 9 * times,
        commands_stored: 10 * times,
        outbox_delivered: 11 * times,
        redelivered: 12 * times,
        dead: 13 * times,
        leases_lost: 14 * times,
    }
}

const TOTALS: &str = "select concat_ws(',', sum(items_delivered), sum(items_refused), sum(items_unknown), sum(items_passed_over),
    sum(batches), sum(runs_completed), sum(runs_failed), sum(steps), sum(commands_delivered), sum(commands_stored), sum(outbox_delivered),
    sum(redelivered), sum(dead), sum(leases_lost)) from lockgate.v_throughput_1m";

#[tokio::test]
async fn what_replicas_count_is_seen_once_however_often_it_is_told() {
    let database = TestDatabase::new().await;
    for (replica, told) in [(Uuid::new_v4(), [10, 10, 100]), (Uuid::new_v4(), [0, 50, 50])] {
        let fleet = fleet(&database, replica);
        for times in told {
            let clock = fleet.heartbeat(&beat(replica, counts(times))).await.unwrap();
            let skew = (chrono::Utc::now() - clock).abs().to_std().unwrap();
            assert!(skew < Duration::from_secs(30), "{skew:?}");
        }
        // An answer to an older one that comes late takes nothing back.
        fleet.heartbeat(&beat(replica, counts(1))).await.unwrap();
    }
    let expected: Vec<String> = (1..=14).map(|factor| (150 * factor).to_string()).collect();
    assert_eq!(value::<String>(&database, TOTALS).await, expected.join(","));
    assert_eq!(
        value::<f64>(
            &database,
            "select max(clock_offset_s) from lockgate.v_replicas where host <> ''"
        )
        .await,
        0.25
    );
}

#[tokio::test]
async fn speed_is_what_came_between_two_minutes_and_never_the_past_of_a_replica() {
    let database = TestDatabase::new().await;
    let told = "
        insert into lockgate.replica_minutes
        select date_trunc('minute', clock_timestamp()) - m.ago * interval '1 minute', r.id, r.since, m.total, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
          from (values ('00000000-0000-4000-8000-000000000001'::uuid, clock_timestamp() - interval '30 days'),
                       ('00000000-0000-4000-8000-000000000002'::uuid, date_trunc('minute', clock_timestamp()) - interval '3 minutes')) r (id, since)
         cross join (values (3, 600), (2, 1200), (1, 1260)) m (ago, total)";
    run(database.pool(), told).await;
    // One lived before: what it had counted by then is not of that minute. The other began in it.
    let sql = "select string_agg(items_delivered || ' by ' || replicas || ' at ' || items_delivered_per_s || '/s', ', ' order by time)
                 from lockgate.v_throughput_1m where replicas > 0";
    assert_eq!(
        value::<String>(&database, sql).await,
        "600 by 1 at 10/s, 1200 by 2 at 20/s, 120 by 2 at 2/s"
    );
    let hours = "select max(items_delivered) || ' in ' || count(*) || ' steps'
                   from lockgate.throughput(clock_timestamp() - interval '29 days', clock_timestamp(), '30 seconds')";
    let shown = value::<String>(&database, hours).await;
    assert!(shown.ends_with(" steps") && !shown.starts_with("0 "), "{shown}");
    let steps: i64 = shown.rsplit(' ').nth(1).unwrap().parse().unwrap();
    assert!((1_000..=1_501).contains(&steps), "{shown}");
}

#[tokio::test]
async fn queues_show_what_waits_what_is_set_and_who_holds_places() {
    let database = TestDatabase::new().await;
    let planted = "
        select lockgate.start_run('daily', limit_key => 'k' || n) from generate_series(1, 5) n;
        select lockgate.start_run('nightly', start_at => clock_timestamp() + interval '1 hour');
        select lockgate.set_queue('daily', max_running => 2, max_per_key => 1);
        update lockgate.task_runs set status = 'running', claim_id = gen_random_uuid(), claimed_by = gen_random_uuid(), claimed_at = clock_timestamp(),
               lease_until = clock_timestamp() + interval '1 h', claim_token = 1, holds = 'code' where limit_key = 'k1'";
    run(database.pool(), planted).await;
    let sql = "select string_agg(concat_ws(' ', queue, ready, running, coalesce(holding::text, '-'), coalesce(max_running::text, '-'),
                                           next_due is not null), ', ' order by queue) from lockgate.v_queue_health";
    assert_eq!(
        value::<String>(&database, sql).await,
        "daily 4 1 1 2 f, nightly 0 0 - - t"
    );
    let holders = "select string_agg(concat_ws(' ', queue, limit_key, status, replica is not null), ', ') from lockgate.v_queue_holders";
    assert_eq!(value::<String>(&database, holders).await, "daily k1 running t");
    assert_eq!(
        value::<i64>(&database, "select lockgate.scaler_depth()").await,
        1,
        "one place is left for the four"
    );
}

#[tokio::test]
async fn workers_are_not_scaled_by_what_a_limit_holds_back() {
    let database = TestDatabase::new().await;
    let planted = "
        select lockgate.start_run(queue) from unnest(array['free', 'slow', 'kept']) queue, generate_series(1, 5);
        select lockgate.set_queue('slow', rate_per_s => 0.001, burst => 1);
        select lockgate.set_queue('kept', max_running => 1, holds => 'run');
        update lockgate.task_runs set status = 'running', started_at = clock_timestamp(), holds = 'run'
         where id = (select min(id::text)::uuid from lockgate.task_runs where workflow = 'kept')";
    run(database.pool(), planted).await;
    let depths = "select concat_ws(' ', lockgate.scaler_depth('free'), lockgate.scaler_depth('slow'), lockgate.scaler_depth('kept'))";
    // Of the second the rate lets one go; of the third one goes on in the place that it holds.
    assert_eq!(value::<String>(&database, depths).await, "5 1 1");
    run(
        database.pool(),
        "select lockgate.set_queue('kept', max_running => 3, holds => 'run')",
    )
    .await;
    assert_eq!(value::<String>(&database, depths).await, "5 1 3");
}

#[tokio::test]
async fn sql_starts_and_commands_take_a_trace_context() {
    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let database = TestDatabase::new().await;
    let started = "select lockgate.start_run('daily', traceparent => '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01');
        begin; set local lockgate.traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
        select lockgate.start_run('daily'), lockgate.enqueue_email('a@b', 'x'), lockgate.enqueue_command('sms', '{}'); commit;
        select lockgate.start_run('daily'), lockgate.enqueue_command('sms', '{}', headers => '{\"traceparent\": \"own\"}',
            traceparent => '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01')";
    run(database.pool(), started).await;
    let traces = "select count(*) from lockgate.v_runs where trace_id = '4bf92f3577b34da6a3ce929d0e0e4736'";
    assert_eq!(value::<i64>(&database, traces).await, 2);
    let headers =
        "select string_agg(h.value ->> 1, ',' order by o.seq) from lockgate.outbox o, jsonb_array_elements(o.headers) h
                    where h.value ->> 0 = 'traceparent'";
    assert_eq!(
        value::<String>(&database, headers).await,
        format!("{GIVEN},{GIVEN},own")
    );
    let wrong = [
        "select lockgate.start_run('daily', traceparent => '00-00000000000000000000000000000000-00f067aa0ba902b7-01')",
        "select lockgate.enqueue_email('a@b', 'x', traceparent => '4bf92f3577b34da6a3ce929d0e0e4736')",
        "select lockgate.enqueue_command('sms', '{}', traceparent => '01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01')",
    ];
    for call in wrong {
        let error = sqlx::query(call).execute(database.pool()).await.unwrap_err();
        let code = error.as_database_error().and_then(|error| error.code());
        assert_eq!(code.as_deref(), Some("22023"), "{call}");
    }
}

/// Messages that are due (stored so many seconds ago, to go in so many, tried so often), and how long the first of them
/// has then waited.
const WAITING: &[(&str, f64)] = &[
    ("(3600, 86400, 0)", 0.0),
    ("(3600, 86400, 0), (600, -60, 0)", 60.0),
    ("(3600, 300, 4)", 3600.0),
    ("(7200, 86400, 0), (900, 300, 2), (10, -5, 0)", 900.0),
];

#[tokio::test]
async fn what_is_to_wait_for_a_time_of_its_own_is_not_late() {
    let database = TestDatabase::new().await;
    for (rows, waited) in WAITING {
        let stored = format!(
            "delete from lockgate.undelivered_messages;
             insert into lockgate.undelivered_messages (command_type, id, message_id, status, reason_code, reason, topic, created_at,
                 next_attempt_at, attempts)
             select 'email', gen_random_uuid(), gen_random_uuid(), 'due', 'not_before', 'words', 't',
                    clock_timestamp() - r.ago * interval '1 s', clock_timestamp() + r.due * interval '1 s', r.attempts
               from (values {rows}) r (ago, due, attempts)"
        );
        run(database.pool(), stored).await;
        let sql = "select waiting_s from lockgate.v_undelivered where status = 'due'";
        let told: f64 = value(&database, sql).await;
        assert!((told - waited).abs() < 20.0, "{rows}: {told}, not {waited}");
    }
    run(
        database.pool(),
        "update lockgate.undelivered_messages set status = 'dead'",
    )
    .await;
    let sql = "select string_agg(status, ',') from lockgate.v_undelivered where waiting_s is not null";
    assert_eq!(value::<String>(&database, sql).await, "dead");
}

/// Whether each gauge is told, with the label that it has here.
const MEASURED: &[(&str, &str, f64)] = &[
    ("lockgate.queue.ready", "daily", 1.0),
    ("lockgate.queue.running", "daily", 0.0),
    ("lockgate.queue.limited", "daily", 2.0),
    ("lockgate.queue.oldest_ready.age", "daily", 600.0),
    ("lockgate.undelivered.messages", "refused", 1.0),
    ("lockgate.undelivered.messages", "dead", 0.0),
    ("lockgate.undelivered.oldest.age", "due", 0.0),
    ("lockgate.outbox.oldest.age", "", 300.0),
    ("lockgate.fan_out.remaining", "daily", 10.0),
    ("lockgate.replicas", "live", 0.0),
    ("lockgate.db.oldest_snapshot.age", "", 0.0),
    ("lockgate.stuck", "no_leader", 1.0),
    ("lockgate.stuck", "run_lease", 0.0),
    ("lockgate.schedules.overdue", "", 0.0),
    ("lockgate.schedules.with_problem", "", 0.0),
    ("lockgate.invariants.violated", "", 0.0),
];

#[tokio::test]
async fn the_leader_measures_what_the_views_show() {
    let database = TestDatabase::new().await;
    run(database.pool(), HEALTHY).await;
    let planted = "
        select lockgate.set_queue('daily', max_running => 2);
        update lockgate.task_runs set status = 'running', finished_at = null, wake_at = clock_timestamp() - interval '10 minutes';
        update lockgate.run_steps set status = 'open';
        update lockgate.run_batches set status = 'free', delivered = null, claim_id = null, claimed_by = null where seq = 1;
        insert into lockgate.outbox (command_type, message_id, route, payload, created_at)
            values ('sms', gen_random_uuid(), 't', '', clock_timestamp() - interval '5 minutes')";
    run(database.pool(), planted).await;
    let leader = PostgresLeader::new(database.database(), Uuid::new_v4());
    let mut found = leader.measure_fleet().await.unwrap();
    found.extend(leader.measure_trouble().await.unwrap());
    for (gauge, label, value) in MEASURED {
        let told = found.iter().find(|told| told.gauge == *gauge && told.label == *label);
        let told = told.unwrap_or_else(|| panic!("{gauge} {label} not among {found:?}"));
        // Ages grow while the test runs; counts are as planted.
        let slack = if gauge.ends_with(".age") { 30.0 } else { 0.1 };
        assert!((told.value - value).abs() < slack, "{told:?}, not {value}");
    }
    for table in ["lockgate.db.dead_rows", "lockgate.db.table.size"] {
        assert!(
            found
                .iter()
                .any(|told| told.gauge == table && told.label == "task_runs"),
            "{table}"
        );
    }
    let kinds: Vec<&str> = found
        .iter()
        .filter(|told| told.gauge == "lockgate.stuck")
        .map(|told| told.label.as_str())
        .collect();
    assert!(STUCK_KINDS.iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    let pairs: std::collections::BTreeSet<_> = found.iter().map(|told| (&told.gauge, &told.label)).collect();
    assert_eq!(pairs.len(), found.len(), "a gauge is told twice");
}

/// The places of a question's plan that were read.
async fn looked_into(database: &TestDatabase, question: &str) -> Vec<String> {
    let plan = format!("explain (analyze, costs off, timing off) {question}");
    let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(plan))
        .fetch_all(database.pool())
        .await
        .unwrap();
    let is_read = |line: &String| line.contains(" on ") && !line.contains("never executed");
    lines.into_iter().filter(is_read).collect()
}

#[tokio::test]
async fn who_asks_for_one_kind_of_what_is_stuck_has_no_other_looked_for() {
    let database = TestDatabase::new().await;
    run(database.pool(), HEALTHY).await;
    let all = looked_into(&database, "select * from lockgate.v_stuck").await;
    for kind in STUCK_KINDS {
        let question = format!("select * from lockgate.v_stuck where kind = '{kind}'");
        let read = looked_into(&database, &question).await;
        assert!(
            !read.is_empty() && read.len() * 3 < all.len(),
            "{kind}: {read:#?} of {all:#?}"
        );
    }
}

//! Each promise that is broken by hand, and each thing that does not move, is named.

use lockgate::leader::STUCK_KINDS;
use lockgate_tests::TestDatabase;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgExecutor, Row, raw_sql};

use super::night_runs::{FAILED_BESIDE_EARLIER, FAILED_BESIDE_OTHERS, FAILED_NIGHT, HANGS, IS_LATE};
use super::{HEALTHY, run};

pub(super) const WITHOUT_CONSTRAINTS: &str = include_str!("../../sql/without_constraints.sql");
const RUN: &str = "00000000-0000-7000-8000-000000000001";

/// Somebody leads and nothing is wrong.
const WELL: &str = "insert into lockgate.leader_lease values ('engine', 2, gen_random_uuid(), clock_timestamp(), clock_timestamp() + interval '1 h');
    insert into lockgate.replicas (id, version, roles, workflows, stale_after, window_size)
        values ('00000000-0000-4000-8000-000000000001', '0.1.0', '{leader,worker}', '{daily}', interval '1 day', 16000)";
const HELD: &str = "update lockgate.task_runs set status = 'running', finished_at = null, claim_id = gen_random_uuid(),
    claimed_by = gen_random_uuid(), lease_until = clock_timestamp() + interval '1 h', claimed_at = clock_timestamp()";

/// What must be reported, and how it is planted.
const BROKEN: &[(&str, &[&str])] = &[
    (
        "V01",
        &[
            "update lockgate.run_batches set status = 'claimed', delivered = null, lease_until = clock_timestamp() + interval '1 h' where seq = 1",
        ],
    ),
    ("V02", &["update lockgate.task_runs set claim_id = gen_random_uuid()"]),
    (
        "V03",
        &["insert into lockgate.transitions (entity, key, to_status, term, reason)
             values ('leader', 'engine', 'elected', 3, 'the lease before ended at 2999-01-01T00:00:00.000000Z')"],
    ),
    (
        "V03",
        &["insert into lockgate.transitions (entity, key, to_status, term) values ('leader', 'engine', 'elected', 2)"],
    ),
    ("V04", &[HELD, ", claim_token = 7"]),
    ("V05", &["update lockgate.run_steps set status = 'open'"]),
    ("V06", &["update lockgate.undelivered_messages set batch_seq = 7"]),
    ("V06", &["update lockgate.undelivered_messages set item_id = 3"]),
    (
        "V06",
        &[
            "update lockgate.run_batches set status = 'recoverable', claim_id = null, claimed_by = null, delivered = null where seq = 2",
        ],
    ),
    (
        "V07",
        &["update lockgate.run_batches set status = 'free' where seq = 1"],
    ),
    (
        "V08",
        &["insert into lockgate.run_steps (run_id, path, kind, status)
             values ('00000000-0000-7000-8000-000000000001', '1:child', 'child', 'open')"],
    ),
    (
        "V10",
        &["update lockgate.leader_lease set expires_at = clock_timestamp() - interval '11 minutes'"],
    ),
    (
        "V10",
        &[
            HELD,
            ", claim_token = 2; update lockgate.task_runs set lease_until = clock_timestamp() - interval '11 minutes'",
        ],
    ),
];

pub(super) async fn well() -> TestDatabase {
    let database = TestDatabase::new().await;
    run(database.pool(), HEALTHY).await;
    run(database.pool(), WELL).await;
    database
}

async fn broken(from: impl PgExecutor<'_>) -> Vec<String> {
    let sql = "select format('%s %s: %s', invariant, subject, detail) from lockgate.v_invariants";
    sqlx::query_scalar(sql).fetch_all(from).await.unwrap()
}

#[tokio::test]
async fn each_broken_promise_is_named() {
    let database = well().await;
    run(database.pool(), WITHOUT_CONSTRAINTS).await;
    for (invariant, planting) in BROKEN {
        let planting = planting.concat();
        let mut damaged = database.pool().begin().await.unwrap();
        assert_eq!(broken(&mut *damaged).await, [""; 0]);
        damaged.execute(raw_sql(AssertSqlSafe(planting.clone()))).await.unwrap();
        let found = broken(&mut *damaged).await;
        assert!(
            found.iter().any(|line| line.starts_with(invariant)),
            "{invariant} not among {found:?} after: {planting}"
        );
        damaged.rollback().await.unwrap();
    }
    for number in [1, 2, 3, 4, 5, 6, 7, 8, 10] {
        let name = format!("V{number:02}");
        assert!(
            BROKEN.iter().any(|(planted, _)| *planted == name),
            "{name} is never planted"
        );
    }
}

/// Nobody promised that anything moves.
#[tokio::test]
async fn a_fleet_that_was_switched_off_breaks_no_promise() {
    let database = well().await;
    run(
        database.pool(),
        "update lockgate.leader_lease set expires_at = clock_timestamp() - interval '2 days';
         update lockgate.replicas set stopped_at = clock_timestamp() - interval '2 days'",
    )
    .await;
    assert_eq!(broken(database.pool()).await, [""; 0]);
    let kinds: Vec<String> = stuck(database.pool()).await.into_iter().map(|found| found.0).collect();
    assert_eq!(kinds, ["no_leader"]);
}

/// A kind, what it is about, since how many seconds, and how it is made.
type Stuck = (&'static str, &'static str, f64, &'static str);

const STUCK: &[Stuck] = &[
    ("no_leader", "leadership", 60.0, "update lockgate.leader_lease set expires_at = clock_timestamp() - interval '1 minute'"),
    (
        "run_lease",
        RUN,
        60.0,
        "update lockgate.task_runs set status = 'running', finished_at = null, claim_id = gen_random_uuid(),
            claimed_by = gen_random_uuid(), lease_until = clock_timestamp() - interval '1 minute'",
    ),
    (
        "batch_lease",
        "00000000-0000-7000-8000-000000000001/1",
        60.0,
        "update lockgate.task_runs set status = 'running', finished_at = null;
         update lockgate.run_batches set status = 'claimed', delivered = null, lease_until = clock_timestamp() - interval '1 minute' where seq = 1",
    ),
    (
        "lane_lease",
        "lane 3",
        60.0,
        "insert into lockgate.outbox (command_type, message_id, route, payload) values ('sms', '00000000-0000-4000-8000-000000000003', 't', '');
         update lockgate.outbox_lanes set claim_id = gen_random_uuid(), lease_until = clock_timestamp() - interval '1 minute' where lane = 3",
    ),
    (
        "undelivered_lease",
        "",
        60.0,
        "update lockgate.undelivered_messages set status = 'claimed', claim_id = gen_random_uuid(), claimed_by = gen_random_uuid(),
            lease_until = clock_timestamp() - interval '1 minute'",
    ),
    (
        "run_ready",
        "queue daily",
        600.0,
        "update lockgate.task_runs set status = 'queued', finished_at = null, wake_at = clock_timestamp() - interval '10 minutes'",
    ),
    (
        "queue_paused",
        "queue daily",
        600.0,
        "update lockgate.task_runs set status = 'queued', finished_at = null, wake_at = clock_timestamp() - interval '10 minutes';
         select lockgate.pause_queue('daily', 'maintenance')",
    ),
    (
        "run_stopping",
        RUN,
        120.0,
        "update lockgate.task_runs set status = 'running', finished_at = null, stop_status = 'cancelled', stop_reason = 'by hand',
            stop_requested_at = clock_timestamp() - interval '2 minutes'",
    ),
    (
        "run_undoing",
        RUN,
        1200.0,
        "update lockgate.task_runs set status = 'running', finished_at = null, stop_status = 'cancelled', stop_reason = 'by hand',
            undoing = true, stop_requested_at = clock_timestamp() - interval '20 minutes'",
    ),
    (
        "run_overdue",
        RUN,
        120.0,
        "update lockgate.task_runs set status = 'suspended', finished_at = null, deadline_at = clock_timestamp() - interval '2 minutes'",
    ),
    (
        "run_quarantined",
        RUN,
        5.0,
        "update lockgate.task_runs set status = 'quarantined', finished_at = null, reason = 'its code killed 3 replicas in a row';
         insert into lockgate.transitions (at, entity, run_id, from_status, to_status)
             select clock_timestamp() - interval '5 seconds', 'run', id, 'running', 'quarantined' from lockgate.task_runs",
    ),
    (
        "run_paused_long",
        RUN,
        172_800.0,
        "update lockgate.task_runs set status = 'paused', finished_at = null;
         insert into lockgate.transitions (at, entity, run_id, from_status, to_status)
             select clock_timestamp() - interval '48 hours', 'run', id, 'running', 'paused' from lockgate.task_runs",
    ),
    (
        "run_held_long",
        RUN,
        7200.0,
        HANGS,
    ),
    (
        "run_late",
        "00000000-0000-7000-8000-000000000001 0:items",
        -15.0,
        IS_LATE,
    ),
    (
        "fan_out_open",
        "00000000-0000-7000-8000-000000000001 0:items",
        120.0,
        "update lockgate.task_runs set status = 'running', finished_at = null;
         update lockgate.run_steps set status = 'open', planned_at = clock_timestamp() - interval '1 hour';
         update lockgate.run_batches set finished_at = clock_timestamp() - interval '2 minutes'",
    ),
    (
        "fan_out_idle",
        "00000000-0000-7000-8000-000000000001 0:items",
        1200.0,
        "update lockgate.task_runs set status = 'running', finished_at = null;
         update lockgate.run_steps set status = 'open', planned_at = clock_timestamp() - interval '1 hour', started_at = clock_timestamp() - interval '1 hour';
         update lockgate.run_batches set status = 'free', delivered = null, claim_id = null, claimed_by = null where seq = 1;
         update lockgate.transitions set at = clock_timestamp() - interval '20 minutes'",
    ),
    (
        "source_trouble",
        "00000000-0000-7000-8000-000000000001 0:items",
        30.0,
        "update lockgate.task_runs set status = 'running', finished_at = null;
         update lockgate.run_steps set status = 'open', planned_at = null, plan_trouble = 'no such table',
             started_at = clock_timestamp() - interval '30 seconds'",
    ),
    (
        "schedule_late",
        "nightly",
        300.0,
        "insert into lockgate.schedules (name, workflow, cron, next_slot) values ('nightly', 'daily', '0 3 * * *', clock_timestamp() - interval '5 minutes')",
    ),
    (
        "schedule_late",
        "nightly",
        300.0,
        "insert into lockgate.schedules (name, workflow, cron, updated_at) values ('nightly', 'daily', '0 3 * * *', clock_timestamp() - interval '5 minutes')",
    ),
    (
        "schedule_broken",
        "nightly",
        0.0,
        "insert into lockgate.schedules (name, workflow, cron, problem, next_slot) values ('nightly', 'daily', '0 3 * *', 'four fields', 'infinity')",
    ),
    ("schedule_failed", "nightly", 600.0, FAILED_NIGHT),
    (
        "schedule_failed",
        "nightly",
        600.0,
        "insert into lockgate.schedules (name, workflow, cron, next_slot, created_at)
             values ('nightly', 'daily', '0 3 * * *', clock_timestamp() + interval '1 hour', clock_timestamp() - interval '1 day');
         update lockgate.task_runs set continued_as = '00000000-0000-7000-8000-000000000002', finished_at = clock_timestamp() - interval '1 hour';
         insert into lockgate.task_runs (id, workflow, status, origin_id, schedule, chain, finished_at, reason)
             select '00000000-0000-7000-8000-000000000002', 'daily', 'failed', id, schedule, id, clock_timestamp() - interval '10 minutes', 'boom'
               from lockgate.task_runs",
    ),
    ("schedule_failed", "nightly", 600.0, FAILED_BESIDE_OTHERS),
    ("schedule_failed", "nightly", 600.0, FAILED_BESIDE_EARLIER),
    (
        "undelivered_due",
        "topic email_commands",
        900.0,
        "update lockgate.undelivered_messages set status = 'due', next_attempt_at = clock_timestamp() - interval '15 minutes'",
    ),
    (
        "outbox_waiting",
        "lane 3, route t",
        600.0,
        "insert into lockgate.outbox (command_type, message_id, route, payload, created_at)
             values ('sms', '00000000-0000-4000-8000-000000000003', 't', '', clock_timestamp() - interval '10 minutes')",
    ),
    (
        "breaker_open",
        "topic t",
        60.0,
        "update lockgate.replicas set breakers = jsonb_build_array(jsonb_build_object('topic', 't', 'state', 'open',
            'since', clock_timestamp() - interval '1 minute', 'reason', 'unreachable'))",
    ),
    (
        "breaker_open",
        "topic t",
        60.0,
        "update lockgate.replicas set breakers = jsonb_build_array(jsonb_build_object('topic', 't', 'state', 'half_open',
            'since', clock_timestamp() - interval '1 minute', 'reason', 'mostly_unknown'))",
    ),
    (
        "dead_letters",
        "undelivered messages",
        60.0,
        "update lockgate.undelivered_messages set status = 'dead', created_at = clock_timestamp() - interval '1 minute'",
    ),
];

pub(super) async fn stuck(from: impl PgExecutor<'_>) -> Vec<(String, String, f64, String)> {
    let sql =
        "select kind, subject, extract(epoch from clock_timestamp() - since)::float8 as age, why from lockgate.v_stuck";
    let rows = sqlx::query(sql).fetch_all(from).await.unwrap();
    rows.iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect()
}

#[tokio::test]
async fn each_thing_that_does_not_move_is_named_with_since_when_and_why() {
    let database = well().await;
    run(database.pool(), WITHOUT_CONSTRAINTS).await;
    for (kind, subject, age, planting) in STUCK {
        let mut damaged = database.pool().begin().await.unwrap();
        assert_eq!(stuck(&mut *damaged).await, []);
        damaged.execute(raw_sql(AssertSqlSafe(*planting))).await.unwrap();
        let found = stuck(&mut *damaged).await;
        let named = found
            .iter()
            .find(|(what, about, ..)| what == kind && about.ends_with(subject));
        let (_, _, since, why) =
            named.unwrap_or_else(|| panic!("{kind} of {subject} not among {found:?} after: {planting}"));
        assert!((since - age).abs() < 30.0, "{kind} since {since} s, not {age} s");
        assert!(!why.is_empty(), "{kind}");
        damaged.rollback().await.unwrap();
    }
    // An old snapshot lies in a session: see below.
    for kind in STUCK_KINDS.iter().filter(|kind| **kind != "old_snapshot") {
        assert!(
            STUCK.iter().any(|(planted, ..)| planted == kind),
            "{kind} is never planted"
        );
    }
}

#[tokio::test]
async fn an_old_snapshot_is_named_whoever_holds_it() {
    let database = well().await;
    let mut session = PgConnection::connect(database.url()).await.unwrap();
    session
        .execute(raw_sql(
            "begin isolation level repeatable read; select count(*) from lockgate.v_runs",
        ))
        .await
        .unwrap();
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&mut session)
        .await
        .unwrap();
    // The reader sees a superuser's session, which it could not by itself, and not what was asked there.
    let mut reader = super::as_role(&database, "reader").await;
    let seen: String =
        sqlx::query_scalar("select to_jsonb(s)::text from lockgate.old_snapshots('0') s where s.pid = $1")
            .bind(pid)
            .fetch_one(&mut reader)
            .await
            .unwrap();
    assert!(
        seen.contains("idle in transaction") && !seen.contains("v_runs"),
        "{seen}"
    );
}

/// Why the batches of a fan-out are not sent.
const UNSENT: &[(&str, &str)] = &[
    (
        "no worker lives",
        "update lockgate.replicas set stopped_at = clock_timestamp()",
    ),
    (
        "no live worker has workflow daily",
        "update lockgate.replicas set workflows = '{other}'",
    ),
    (
        "no live worker with workflow daily has brokers",
        "update lockgate.replicas set window_size = 0",
    ),
    (
        "no live worker with workflow daily has brokers",
        "update lockgate.replicas set window_size = 0;
         insert into lockgate.replicas (id, version, roles, workflows, stale_after, window_size)
             values ('00000000-0000-4000-8000-000000000002', '0.1.0', '{worker}', '{other}', interval '1 day', 16000)",
    ),
    (
        "claimed by nobody: has a live worker code that replays version 2 of workflow daily",
        "select 1",
    ),
    (
        "handed back: code not reached",
        "insert into lockgate.transitions (entity, run_id, batch_seq, from_status, to_status, reason)
             select 'batch', id, 1, 'claimed', 'free', 'code not reached' from lockgate.task_runs",
    ),
];

/// What explains that none is sent.
const EXPLAINED: &[&str] = &[
    "update lockgate.task_runs set pace_per_s = 1, pace_next_at = clock_timestamp() + interval '1 minute'",
    "update lockgate.run_batches set not_before = clock_timestamp() + interval '1 h' where seq = 1",
    "update lockgate.run_batches set status = 'claimed', claim_id = gen_random_uuid(), claimed_by = gen_random_uuid(),
         lease_until = clock_timestamp() + interval '1 h' where seq = 1",
    "insert into lockgate.transitions (entity, run_id, batch_seq, from_status, to_status) select 'batch', id, 2, 'claimed', 'done' from lockgate.task_runs",
    "insert into lockgate.transitions (entity, run_id, from_status, to_status) select 'run', id, 'paused', 'running' from lockgate.task_runs",
    "update lockgate.task_runs set status = 'paused'",
];

#[tokio::test]
async fn a_fan_out_whose_batches_nobody_takes_says_why() {
    let database = well().await;
    run(database.pool(), WITHOUT_CONSTRAINTS).await;
    let unsent = "update lockgate.task_runs set status = 'running', finished_at = null, code_version = 2;
        update lockgate.run_steps set status = 'open', planned_at = clock_timestamp() - interval '1 hour',
            started_at = clock_timestamp() - interval '1 hour';
        update lockgate.run_batches set status = 'free', delivered = null, claim_id = null, claimed_by = null where seq = 1;
        update lockgate.transitions set at = clock_timestamp() - interval '20 minutes'";
    run(database.pool(), unsent).await;
    for (why, planting) in UNSENT {
        let mut damaged = database.pool().begin().await.unwrap();
        damaged.execute(raw_sql(AssertSqlSafe(*planting))).await.unwrap();
        let found = stuck(&mut *damaged).await;
        let named = found.iter().find(|(kind, ..)| kind == "fan_out_idle");
        assert!(
            named.is_some_and(|(.., said)| said.contains(why)),
            "{found:?} after: {planting}"
        );
        damaged.rollback().await.unwrap();
    }
    for planting in EXPLAINED {
        let mut well = database.pool().begin().await.unwrap();
        well.execute(raw_sql(AssertSqlSafe(*planting))).await.unwrap();
        let found = stuck(&mut *well).await;
        assert!(
            !found.iter().any(|(kind, ..)| kind == "fan_out_idle"),
            "{found:?} after: {planting}"
        );
        well.rollback().await.unwrap();
    }
}

/// Why a queue does not move.
const WAITING: &[(&str, &str)] = &[
    ("no worker lives", "update lockgate.replicas set stopped_at = clock_timestamp()"),
    ("no live worker has workflow daily", "update lockgate.replicas set workflows = '{other}'"),
    (
        "1 of at most 1 hold a place",
        "insert into lockgate.task_runs (id, workflow, status, origin_id, claim_id, claimed_by, lease_until, claim_token, holds)
             values (gen_random_uuid(), 'daily', 'running', gen_random_uuid(), gen_random_uuid(), gen_random_uuid(),
                     clock_timestamp() + interval '1 h', 1, 'code');
         select lockgate.set_queue('daily', max_running => 1)",
    ),
    ("too few workers", "select 1"),
];

#[tokio::test]
async fn a_queue_that_does_not_move_says_why() {
    let database = well().await;
    run(database.pool(), WITHOUT_CONSTRAINTS).await;
    run(
        database.pool(),
        "update lockgate.task_runs set status = 'queued', finished_at = null, wake_at = clock_timestamp() - interval '10 minutes'",
    )
    .await;
    for (why, planting) in WAITING {
        let mut damaged = database.pool().begin().await.unwrap();
        damaged.execute(raw_sql(AssertSqlSafe(*planting))).await.unwrap();
        let found = stuck(&mut *damaged).await;
        let named = found
            .iter()
            .any(|(kind, _, _, said)| kind == "run_ready" && said.contains(why));
        assert!(named, "{why} not among {found:?}");
        damaged.rollback().await.unwrap();
    }
}

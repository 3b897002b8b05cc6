//! The invariants see what they are for: each violation is planted once, and its report comes.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use lockgate_tests::TestDatabase;
use lockgate_tests::invariants::{compare, liveness_violations, proof_problems, safety_violations};
use lockgate_tests::topic::Copy;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, raw_sql};
use uuid::{Uuid, uuid};

const RUN: Uuid = uuid!("00000000-0000-7000-8000-000000000001");
const CHILD_RUN: Uuid = uuid!("00000000-0000-7000-8000-000000000002");
const HEALTHY: &str = include_str!("../sql/healthy.sql");
const WITHOUT_CONSTRAINTS: &str = include_str!("../sql/without_constraints.sql");

const AGAIN: &str = "insert into lockgate.task_runs (id, workflow, status, origin_id, singleton_key, schedule, slot)
    values (gen_random_uuid(), 'daily', 'queued', gen_random_uuid(), 'one', 'nightly', '2026-11-20 03:00+00')";
const BATCH: &str = "update lockgate.run_batches set";

/// What must be reported, and how it is planted.
const PLANTED: &[(&str, &[&str])] = &[
    (
        "I01",
        &[
            "update lockgate.task_runs set status = 'running', finished_at = null;",
            AGAIN,
        ],
    ),
    ("I02", &[AGAIN]),
    ("I03", &[BATCH, "status = 'free', delivered = null where seq = 1"]),
    (
        "I03",
        &[
            "update lockgate.task_runs set status = 'cancelled';",
            BATCH,
            "status = 'claimed', delivered = null where seq = 1",
        ],
    ),
    ("I04", &["delete from lockgate.undelivered_messages"]),
    ("I05", &["delete from lockgate.run_batches where seq = 1"]),
    ("I05", &["update lockgate.run_steps set planned_items = 21"]),
    ("I06", &[BATCH, "first_id = 10, n_items = 11 where seq = 2"]),
    ("I07", &[BATCH, "delivered = 8 where seq = 2"]),
    ("I08", &["delete from lockgate.undelivered_messages"]),
    ("I09", &[BATCH, "status = 'claimed', claimed_by = null where seq = 1"]),
    ("I09", &[BATCH, "status = 'free' where seq = 1"]),
    ("I09", &["update lockgate.task_runs set claim_id = gen_random_uuid()"]),
    (
        "I10",
        &[
            "insert into lockgate.transitions (entity, run_id, batch_seq, from_status, to_status, token)
               values ('batch', '00000000-0000-7000-8000-000000000001', 1, 'done', 'claimed', 2),
                      ('batch', '00000000-0000-7000-8000-000000000001', 1, 'claimed', 'done', 1)",
        ],
    ),
    (
        "I11",
        &[
            "insert into lockgate.transitions (entity, run_id, to_status) values ('run', '00000000-0000-7000-8000-000000000001', 'failed')",
        ],
    ),
    (
        "I11",
        &["delete from lockgate.transitions where entity = 'run' and to_status = 'completed'"],
    ),
    (
        "I12",
        &[
            "insert into lockgate.transitions (entity, run_id, batch_seq, from_status, to_status, token)
               values ('batch', '00000000-0000-7000-8000-000000000001', 1, 'done', 'done', 1)",
        ],
    ),
    (
        "I13",
        &["insert into lockgate.transitions (entity, key, to_status, term, reason)
               values ('leader', 'engine', 'elected', 3, 'the lease before ended at 2999-01-01T00:00:00.000000Z')"],
    ),
    (
        "I13",
        &["insert into lockgate.transitions (entity, key, to_status, term) values ('leader', 'engine', 'elected', 2)"],
    ),
    (
        "I14",
        &["insert into lockgate.transitions (entity, run_id, to_status, term)
               values ('run', gen_random_uuid(), 'queued', 3), ('run', gen_random_uuid(), 'queued', 2)"],
    ),
    (
        "I15",
        &["update lockgate.undelivered_messages set status = 'delivered', finished_at = clock_timestamp()"],
    ),
    ("I16", &["update lockgate.undelivered_messages set batch_seq = 7"]),
    ("I16", &["update lockgate.undelivered_messages set item_id = 3"]),
    (
        "I16",
        &[
            BATCH,
            "status = 'recoverable', claim_id = null, claimed_by = null, delivered = null where seq = 2",
        ],
    ),
    (
        "I17",
        &[
            "insert into lockgate.transitions (entity, run_id, batch_seq, from_status, to_status, token)
               values ('batch', '00000000-0000-7000-8000-000000000001', 1, 'free', 'claimed', 2)",
        ],
    ),
    (
        "I18",
        &["update lockgate.transitions set since = null where since is not null"],
    ),
    (
        "I18",
        &[
            "insert into lockgate.transitions (entity, run_id, from_status, to_status, token, since)
               values ('run', '00000000-0000-7000-8000-000000000001', 'running', 'running', 1, clock_timestamp())",
        ],
    ),
    (
        "I19",
        &["insert into lockgate.run_steps (run_id, path, kind, status)
               values ('00000000-0000-7000-8000-000000000001', '1:nap', 'sleep', 'open')"],
    ),
    (
        "I20",
        &["update lockgate.task_runs set status = 'suspended', finished_at = null"],
    ),
    (
        "I21",
        &[
            "insert into lockgate.signals (run_id, seq, name, payload, actor, consumed_by)
               values ('00000000-0000-7000-8000-000000000001', 1, 'go', '1', 'test', '1:go')",
        ],
    ),
    (
        "I21",
        &["insert into lockgate.run_steps (run_id, path, kind, status, result)
               values ('00000000-0000-7000-8000-000000000001', '1:go', 'signal', 'completed', '1');
           insert into lockgate.signals (run_id, seq, name, payload, actor, consumed_by)
               values ('00000000-0000-7000-8000-000000000001', 1, 'go', '1', 'test', '1:go'),
                      ('00000000-0000-7000-8000-000000000001', 2, 'go', '1', 'test', '1:go')"],
    ),
    ("I23", &[CHILD]),
    ("I23", &[OPEN_CHILD]),
    (
        "I24",
        &["insert into lockgate.task_runs (id, workflow, status, origin_id)
               values ('00000000-0000-7000-8000-000000000002', 'weekly', 'queued', gen_random_uuid());
           update lockgate.task_runs set continued_as = '00000000-0000-7000-8000-000000000002' where workflow = 'daily'"],
    ),
];

const CHILD: &str =
    "insert into lockgate.task_runs (id, workflow, status, origin_id, parent_id, parent_path, depth, finished_at)
    values ('00000000-0000-7000-8000-000000000002', 'daily', 'queued', gen_random_uuid(),
            '00000000-0000-7000-8000-000000000001', '1:child', 1, null);";
const OPEN_CHILD: &str = "insert into lockgate.run_steps (run_id, path, kind, status)
    values ('00000000-0000-7000-8000-000000000001', '1:child', 'child', 'open');";

async fn of_run(from: &mut PgConnection, run: Uuid) -> Vec<String> {
    let sql = "select invariant from lockgate.run_invariants($1)";
    sqlx::query_scalar(sql).bind(run).fetch_all(from).await.unwrap()
}

async fn healthy() -> TestDatabase {
    let database = TestDatabase::new().await;
    database.pool().execute(raw_sql(HEALTHY)).await.unwrap();
    assert_eq!(safety_violations(database.pool()).await, [""; 0]);
    assert_eq!(
        liveness_violations(database.pool(), Duration::from_secs(30)).await,
        [""; 0]
    );
    assert_eq!(proof_problems(database.pool(), RUN).await, [""; 0]);
    assert_eq!(
        of_run(&mut database.pool().acquire().await.unwrap(), RUN).await,
        [""; 0]
    );
    database
}

#[tokio::test]
async fn each_violation_of_safety_is_reported() {
    let database = healthy().await;
    database.pool().execute(raw_sql(WITHOUT_CONSTRAINTS)).await.unwrap();
    for (invariant, planting) in PLANTED {
        let planting = planting.join(" ");
        let mut damaged = database.pool().begin().await.unwrap();
        assert_eq!(safety_violations(&mut *damaged).await, [""; 0]);
        damaged.execute(raw_sql(AssertSqlSafe(planting.clone()))).await.unwrap();
        let found = safety_violations(&mut *damaged).await;
        assert!(
            found.iter().any(|line| line.starts_with(invariant)),
            "{invariant} not among {found:?} after: {planting}"
        );
        // What concerns one run can be asked of it alone.
        if !["I01", "I02", "I13", "I14"].contains(invariant) {
            let child = found
                .iter()
                .any(|line| line.starts_with(&format!("{invariant} {CHILD_RUN}")));
            let of_run = of_run(&mut damaged, if child { CHILD_RUN } else { RUN }).await;
            assert!(
                of_run.iter().any(|line| line == invariant),
                "{invariant} not among {of_run:?} after: {planting}"
            );
        }
        damaged.rollback().await.unwrap();
    }
    let planted: Vec<&str> = PLANTED.iter().map(|(name, _)| *name).collect();
    for number in 1..=18 {
        assert!(
            planted.contains(&format!("I{number:02}").as_str()),
            "I{number:02} is never planted"
        );
    }
}

/// Damage that lies in rows; L04, L05 and L07 lie in sessions.
const LASTING: &[(&str, &[&str])] = &[
    (
        "L01",
        &["update lockgate.run_batches set status = 'claimed', delivered = null, lease_until = clock_timestamp() - interval '1 h' where seq = 1"],
    ),
    (
        "L01",
        &["update lockgate.task_runs set claim_id = gen_random_uuid(), claimed_by = gen_random_uuid(), lease_until = clock_timestamp() - interval '1 h'"],
    ),
    (
        "L02",
        &["update lockgate.task_runs set status = 'running', finished_at = null;
             update lockgate.run_steps set status = 'open', planned_at = clock_timestamp() - interval '1 h';
             update lockgate.run_batches set finished_at = clock_timestamp() - interval '1 h'"],
    ),
    (
        "L03",
        &["update lockgate.task_runs set status = 'queued', finished_at = null, wake_at = clock_timestamp() - interval '1 h'"],
    ),
    (
        "L03",
        &["update lockgate.task_runs set status = 'running', finished_at = null, stop_status = 'failed', stop_requested_at = clock_timestamp() - interval '1 h'"],
    ),
    (
        "L06",
        &["insert into lockgate.leader_lease values ('engine', 2, gen_random_uuid(), clock_timestamp(), clock_timestamp() - interval '1 h')"],
    ),
    (
        "L08",
        &["update lockgate.undelivered_messages set status = 'due', next_attempt_at = clock_timestamp() - interval '1 h'"],
    ),
    (
        "L09",
        &[CHILD, "update lockgate.task_runs set finished_at = clock_timestamp() - interval '1 h' where parent_id is null"],
    ),
    (
        "L09",
        &[OPEN_CHILD, "update lockgate.task_runs set finished_at = clock_timestamp() - interval '1 h'"],
    ),
    (
        "L10",
        &[
            CHILD,
            OPEN_CHILD,
            "update lockgate.task_runs set status = 'suspended', finished_at = null where parent_id is null;
             update lockgate.task_runs set finished_at = clock_timestamp() - interval '1 h' where parent_id is not null",
        ],
    ),
];

#[tokio::test]
async fn each_row_that_hangs_is_reported() {
    let database = healthy().await;
    database.pool().execute(raw_sql(WITHOUT_CONSTRAINTS)).await.unwrap();
    for (invariant, planting) in LASTING {
        let planting = planting.join(" ");
        let mut damaged = database.pool().begin().await.unwrap();
        damaged.execute(raw_sql(AssertSqlSafe(planting.clone()))).await.unwrap();
        let found = liveness_violations(&mut *damaged, Duration::from_secs(30)).await;
        assert!(
            found.iter().any(|line| line.starts_with(invariant)),
            "{invariant} not among {found:?} after: {planting}"
        );
        damaged.rollback().await.unwrap();
    }
}

#[tokio::test]
async fn each_session_that_hangs_is_reported() {
    let sessions = [
        ("L04", "begin"),
        ("L05", "select pg_advisory_lock(1)"),
        (
            "L07",
            "begin isolation level repeatable read; select count(*) from lockgate.task_runs",
        ),
    ];
    let database = healthy().await;
    for (invariant, statements) in sessions {
        let url = format!("{}?application_name=lockgate", database.url());
        let mut session = PgConnection::connect(&url).await.unwrap();
        session.execute(raw_sql(statements)).await.unwrap();
        let found = liveness_violations(database.pool(), Duration::ZERO).await;
        assert!(
            found.iter().any(|line| line.starts_with(invariant)),
            "{invariant} not among {found:?}"
        );
        session.close().await.unwrap();
    }
}

fn copies() -> Vec<Copy> {
    let delivered = (1..=20).filter(|item| *item != 13);
    delivered.map(copy_of).collect()
}

fn copy_of(item: i64) -> Copy {
    Copy {
        partition: 0,
        offset: item,
        made_at: 0,
        run: RUN,
        batch_seq: if item <= 10 { 1 } else { 2 },
        token: 1,
        message_id: Uuid::new_v5(&RUN, format!("0:items/{item}").as_bytes()),
        intact: true,
    }
}

#[tokio::test]
async fn each_difference_between_tables_and_topic_is_reported() {
    let database = healthy().await;
    let found = compare(database.pool(), RUN, &copies(), &[], 0).await;
    assert_eq!(
        (found.problems.len(), found.planned, found.records),
        (0, 20, 19),
        "{:?}",
        found.problems
    );
    let redelivered = "update lockgate.undelivered_messages set status = 'delivered', kafka_partition = 0, kafka_offset = 99, finished_at = clock_timestamp()";
    let mut lost = copies();
    lost.remove(4);
    let with = |copy: Copy| [copies(), vec![copy]].concat();
    let planted = [
        ("K1 1 items delivered but not in the topic: [5]", "", lost),
        ("K2 a record of no planned item", "", with(copy_of(21))),
        ("K2 item 13 is refused and in the topic", "", with(copy_of(13))),
        ("K3 1 duplicates, no more than 0 are explained", "", with(copy_of(7))),
        (
            "K6 not what was sent",
            "",
            copies()
                .into_iter()
                .map(|copy| Copy {
                    intact: copy.offset != 9,
                    ..copy
                })
                .collect(),
        ),
        ("K5 ", redelivered, copies()),
    ];
    for (report, sql, copies) in planted {
        if !sql.is_empty() {
            database.pool().execute(sql).await.unwrap();
        }
        let found = compare(database.pool(), RUN, &copies, &[], 0).await;
        assert!(
            found.problems.iter().any(|problem| problem.starts_with(report)),
            "no {report:?} in {:?}",
            found.problems
        );
    }
}

//! Schedules whose last run failed, runs that hang and fan-outs that will be late are named until they are well.

use sqlx::{AssertSqlSafe, Executor, raw_sql};

use super::run;
use super::trouble::{WITHOUT_CONSTRAINTS, stuck, well};

/// The last run of a schedule failed.
pub(super) const FAILED_NIGHT: &str =
    "insert into lockgate.schedules (name, workflow, cron, next_slot, created_at)
         values ('nightly', 'daily', '0 3 * * *', clock_timestamp() + interval '1 hour', clock_timestamp() - interval '1 day');
     update lockgate.task_runs set status = 'failed', finished_at = clock_timestamp() - interval '10 minutes', reason = 'no source'";
/// The same, and two others fail time and again.
pub(super) const FAILED_BESIDE_OTHERS: &str =
    "insert into lockgate.schedules (name, workflow, cron, next_slot, created_at)
             select name, 'daily', '* * * * *', clock_timestamp() + interval '1 minute', clock_timestamp() - interval '1 day'
               from unnest(array['minutely', 'nightly', 'often']) name;
         update lockgate.task_runs set status = 'failed', finished_at = clock_timestamp() - interval '10 minutes', reason = 'no source';
         insert into lockgate.task_runs (id, workflow, status, origin_id, schedule, slot, finished_at, reason)
             select gen_random_uuid(), workflow, 'failed', id, name, clock_timestamp() - n * interval '1 second', clock_timestamp(), 'boom'
               from lockgate.task_runs, unnest(array['minutely', 'often']) name, generate_series(1, 300) n";
/// The same, and what was missed before is done now and fails too.
pub(super) const FAILED_BESIDE_EARLIER: &str =
    "insert into lockgate.schedules (name, workflow, cron, next_slot, created_at)
             values ('nightly', 'daily', '0 3 * * *', clock_timestamp() + interval '1 hour', clock_timestamp() - interval '30 days');
         update lockgate.task_runs set status = 'failed', finished_at = clock_timestamp() - interval '10 minutes', reason = 'no source';
         insert into lockgate.task_runs (id, workflow, status, origin_id, schedule, slot, finished_at, reason)
             select ('ffffffff-0000-7000-8000-00000000000' || n)::uuid, workflow, 'failed', id, schedule, slot - n * interval '1 day', clock_timestamp(), 'boom'
               from lockgate.task_runs, generate_series(1, 7) n";
/// A run that was held for three hours, and recorded its only step two hours ago.
pub(super) const HANGS: &str = "update lockgate.task_runs set status = 'running', finished_at = null, claim_id = gen_random_uuid(), claimed_by = gen_random_uuid(),
         claimed_at = clock_timestamp() - interval '3 hours', lease_until = clock_timestamp() + interval '1 minute';
     update lockgate.run_steps set started_at = clock_timestamp() - interval '3 hours', finished_at = clock_timestamp() - interval '2 hours'";
/// A fan-out with ten items left, of which ten were done in half a minute, and a deadline in a quarter of one.
pub(super) const IS_LATE: &str = "update lockgate.task_runs set status = 'running', finished_at = null, deadline_at = clock_timestamp() + interval '15 seconds';
     update lockgate.run_steps set status = 'open', planned_at = null, started_at = clock_timestamp() - interval '1 hour';
     update lockgate.run_batches set finished_at = clock_timestamp() - interval '30 seconds' where seq = 1;
     update lockgate.run_batches set status = 'free', finished_at = null, delivered = null, claim_id = null, claimed_by = null where seq = 2";

/// What is named, and what makes it well.
const WELL_AGAIN: &[(&str, &str, &str)] = &[
    ("schedule_failed", FAILED_NIGHT, "update lockgate.schedules set paused_at = clock_timestamp()"),
    ("schedule_failed", FAILED_NIGHT, "update lockgate.schedules set created_at = clock_timestamp()"),
    (
        "schedule_failed",
        FAILED_NIGHT,
        "insert into lockgate.task_runs (id, workflow, status, origin_id, schedule, slot, finished_at)
             select gen_random_uuid(), workflow, 'completed', id, schedule, slot + interval '1 day', clock_timestamp() from lockgate.task_runs",
    ),
    // A retry is under way; of another that failed a retry went on as another, which did not fail.
    (
        "schedule_failed",
        FAILED_NIGHT,
        "insert into lockgate.task_runs (id, workflow, status, origin_id, forked_from)
             select gen_random_uuid(), workflow, 'queued', id, id from lockgate.task_runs",
    ),
    (
        "schedule_failed",
        FAILED_NIGHT,
        "insert into lockgate.task_runs (id, workflow, status, origin_id, forked_from, finished_at, continued_as, chain)
             values ('00000000-0000-7000-8000-00000000000a', 'daily', 'failed', gen_random_uuid(), '00000000-0000-7000-8000-000000000001', clock_timestamp(), null, null),
                    ('00000000-0000-7000-8000-00000000000b', 'daily', 'completed', gen_random_uuid(), '00000000-0000-7000-8000-00000000000a', clock_timestamp(),
                     '00000000-0000-7000-8000-00000000000c', null),
                    ('00000000-0000-7000-8000-00000000000c', 'daily', 'completed', gen_random_uuid(), null, clock_timestamp(), null, '00000000-0000-7000-8000-00000000000b')",
    ),
    ("run_held_long", HANGS, "update lockgate.run_steps set finished_at = clock_timestamp() - interval '5 minutes'"),
    ("run_held_long", HANGS, "update lockgate.task_runs set claimed_at = clock_timestamp() - interval '50 minutes'"),
    ("run_held_long", HANGS, "update lockgate.run_steps set status = 'open', finished_at = null"),
    (
        "run_held_long",
        HANGS,
        "insert into lockgate.run_steps (run_id, path, kind, status, started_at)
             select id, n || ':step', 'step', 'completed', clock_timestamp() - interval '2 hours' from lockgate.task_runs, generate_series(1, 201) n",
    ),
    ("run_late", IS_LATE, "update lockgate.task_runs set deadline_at = clock_timestamp() + interval '1 hour'"),
    ("run_late", IS_LATE, "update lockgate.task_runs set pace_per_s = 1000"),
    ("run_late", IS_LATE, "update lockgate.run_steps set started_at = clock_timestamp()"),
];

#[tokio::test]
async fn what_is_well_again_is_not_named() {
    let database = well().await;
    run(database.pool(), WITHOUT_CONSTRAINTS).await;
    for (kind, trouble, mends) in WELL_AGAIN {
        let mut damaged = database.pool().begin().await.unwrap();
        damaged.execute(raw_sql(AssertSqlSafe(*trouble))).await.unwrap();
        let is_named = |found: &[(String, String, f64, String)]| found.iter().any(|(named, ..)| named == kind);
        assert!(is_named(&stuck(&mut *damaged).await), "{kind} is not named");
        damaged.execute(raw_sql(AssertSqlSafe(*mends))).await.unwrap();
        let found = stuck(&mut *damaged).await;
        assert!(!is_named(&found), "{found:?} after: {mends}");
        damaged.rollback().await.unwrap();
    }
}

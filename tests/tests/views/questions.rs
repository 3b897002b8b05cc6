//! What docs/questions.md asks can be asked, by the reader, and is answered.

use lockgate_tests::TestDatabase;
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row, raw_sql};

use super::{HEALTHY, as_role, run};

const PAGE: &str = include_str!("../../../docs/questions.md");

/// Something of everything, and much of it in trouble.
const PLANTED: &str = "
    insert into lockgate.replicas (id, version, roles, workflows, stale_after, breakers)
    values ('00000000-0000-4000-8000-000000000001', '0.1.0', '{leader,worker}', '{daily}', interval '1 day',
            '[{\"topic\": \"t\", \"state\": \"open\", \"since\": \"2026-01-01T00:00:00Z\", \"reason\": \"unreachable\"}]');
    insert into lockgate.replica_minutes
    select date_trunc('minute', clock_timestamp()) - m * interval '1 minute', '00000000-0000-4000-8000-000000000001',
           clock_timestamp() - interval '1 hour', 600 - m, 0, 0, 0, 60 - m, 60 - m, 0, 600 - m, 0, 0, 0, 0, 0, 0
      from generate_series(0, 5) m;
    -- The run of healthy.sql stands for the slot of last night.
    update lockgate.task_runs set slot = current_date;
    insert into lockgate.schedules (name, workflow, cron, next_slot)
    values ('nightly', 'daily', '0 3 * * *', clock_timestamp() - interval '5 minutes');
    update lockgate.undelivered_messages set message_id = '00000000-0000-4000-8000-000000000007';
    insert into lockgate.undelivered_messages (command_type, id, message_id, status, reason_code, reason, topic)
    values ('email', gen_random_uuid(), '00000000-0000-4000-8000-000000000007', 'due', 'timed_out', 'timed out', 't');
    update lockgate.transitions set token = 1, replica = '00000000-0000-4000-8000-000000000001' where entity = 'batch';
    select lockgate.set_queue('reports', max_running => 1);
    -- One fails, one is paused by hand, one holds the only place of its queue, one is in a fan-out.
    select lockgate.start_run('reports', '{}', 'key-' || n, attributes => '{\"customer\": 42}') from generate_series(1, 4) n;
    update lockgate.task_runs set status = 'failed', finished_at = clock_timestamp(), reason = 'why' where idempotency_key = 'key-1';
    select lockgate.pause_run(id, 'by hand') from lockgate.task_runs where idempotency_key = 'key-2';
    update lockgate.task_runs set status = 'running', claim_id = gen_random_uuid(), claimed_by = '00000000-0000-4000-8000-000000000001',
           claimed_at = clock_timestamp(), lease_until = clock_timestamp() + interval '1 h', claim_token = 1, holds = 'code'
     where idempotency_key = 'key-3';
    update lockgate.task_runs set status = 'running', wake_at = null, last_batch_seq = 2 where idempotency_key = 'key-4';
    insert into lockgate.run_steps (run_id, path, kind, planned_items, planned_batches)
    select id, '0:items', 'fan_out', 20, 2 from lockgate.task_runs where idempotency_key = 'key-4';
    insert into lockgate.run_batches (run_id, seq, step, status, first_id, last_id, n_items, claim_token, claim_id, claimed_by, lease_until)
    select id, 1, '0:items', 'claimed', 1, 10, 10, 1, gen_random_uuid(), '00000000-0000-4000-8000-000000000001',
           clock_timestamp() - interval '1 h' from lockgate.task_runs where idempotency_key = 'key-4';
    -- One of the healthy run's batches was handed back once, and a slot had nobody to fire it.
    update lockgate.run_batches set claim_token = 2 where run_id = '00000000-0000-7000-8000-000000000001' and seq = 2;
    insert into lockgate.transitions (entity, key, from_status, to_status, term, reason)
    values ('schedule', 'nightly', 'due', 'passed_over', 1, 'slot 2026-11-19T03:00:00Z: an earlier run is not over');
    -- Between two and three.
    insert into lockgate.task_runs (id, workflow, status, origin_id, wake_at)
    select overlay(lockgate.first_id_at(current_date + time '02:30')::text placing '7' from 15 for 1)::uuid, 'daily', 'suspended', gen_random_uuid(), null;
    select lockgate.enqueue_email('a@b', 'x');
    insert into lockgate.inbox_dead (consumer, topic, kafka_partition, kafka_offset, made_at, reason_code, reason, header_names, header_values, payload)
    values ('mail', 't', 0, 0, clock_timestamp(), 'code', 'words', '{}', '{}', '')";

/// Empty when all is well, or on a young database.
const MAY_BE_EMPTY: [&str; 4] = ["v_invariants", "run_invariants", "proof_problems", "v_snapshots"];

fn statements() -> Vec<String> {
    let mut found = Vec::new();
    for block in PAGE.split("```sql\n").skip(1) {
        let (sql, _) = block.split_once("```").unwrap();
        let filled = sql
            .replace(":'run'", "'00000000-0000-7000-8000-000000000001'")
            .replace(":'schedule'", "'nightly'")
            .replace(":'id'", "'00000000-0000-4000-8000-000000000007'")
            .replace(":item", "13")
            .replace(":seq", "2");
        found.extend(
            filled
                .split(';')
                .map(str::trim)
                .filter(|one| !one.is_empty())
                .map(str::to_owned),
        );
    }
    found
}

#[tokio::test]
async fn every_question_of_the_page_is_answered() {
    let database = TestDatabase::new().await;
    run(database.pool(), HEALTHY).await;
    run(database.pool(), PLANTED).await;
    let asked = statements();
    assert!(asked.len() > 35, "the page was not read: {}", asked.len());
    let mut reader = as_role(&database, "reader").await;
    for question in asked {
        let rows = sqlx::query(AssertSqlSafe(question.clone()))
            .fetch_all(&mut reader)
            .await;
        let rows = rows.unwrap_or_else(|error| panic!("{error}: {question}"));
        let may_be_empty = MAY_BE_EMPTY.iter().any(|name| question.contains(name));
        assert!(may_be_empty || !rows.is_empty(), "no answer to: {question}");
    }
}

/// What the page says became of an item.
async fn fates(reader: &mut PgConnection, run: &str, item: &str) -> Vec<String> {
    let blocks = PAGE.split("```sql\n").skip(1);
    let mut blocks = blocks.filter_map(|block| block.split_once("```").map(|(sql, _)| sql));
    let question = blocks.find(|sql| sql.contains("not_of_this_run")).unwrap();
    let filled = question.replace(":'run'", &format!("'{run}'")).replace(":item", item);
    sqlx::query_scalar(AssertSqlSafe(filled))
        .fetch_all(reader)
        .await
        .unwrap()
}

#[tokio::test]
async fn the_page_names_one_fate_of_an_item_as_the_command_does() {
    let database = TestDatabase::new().await;
    run(database.pool(), include_str!("../../sql/items.sql")).await;
    let mut reader = as_role(&database, "reader").await;
    let (under_way, failed) = (
        "00000000-0000-7000-8000-0000000000f1",
        "00000000-0000-7000-8000-0000000000f2",
    );
    for (asked, item, fate) in [
        (under_way, "1", "delivered"),
        (under_way, "3", "refused"),
        (under_way, "4", "due"),
        (under_way, "5", "dead"),
        (under_way, "6", "skipped"),
        (under_way, "7", "vanished"),
        (under_way, "22", "open"),
        (under_way, "35", "open"),
        (under_way, "21", "not_of_this_run"),
        (under_way, "-1", "not_of_this_run"),
        (under_way, "40", "not_planned"),
        (failed, "10", "not_sent"),
        (failed, "11", "delivered"),
        (failed, "12", "unknown"),
        (failed, "21", "not_of_this_run"),
    ] {
        assert_eq!(fates(&mut reader, asked, item).await, [fate], "{item} of {asked}");
    }
    let nobody = "00000000-0000-7000-8000-0000000000f9";
    assert_eq!(fates(&mut reader, nobody, "1").await, [""; 0]);
}

/// The run of healthy.sql, of which a message was refused, is that of a slot at midnight. Others went well or not, later.
const NIGHT: &str = "
    update lockgate.task_runs set slot = current_date;
    insert into lockgate.schedules (name, workflow, cron, next_slot, paused_at)
    select name, 'daily', '0 3 * * *', clock_timestamp() + interval '1 hour', case when name = 'paused' then clock_timestamp() end
      from unnest('{nightly,well,old,failed,under-way,never,paused}'::text[]) name;
    insert into lockgate.task_runs (id, workflow, status, origin_id, schedule, slot, finished_at)
    select gen_random_uuid(), 'daily', status, gen_random_uuid(), schedule, current_date + hours * interval '1 hour',
           case when status <> 'running' then clock_timestamp() end
      from (values ('well', 'completed', 1), ('old', 'failed', -48), ('old', 'completed', -24), ('failed', 'completed', -22),
                   ('failed', 'failed', 2), ('under-way', 'running', 3), ('paused', 'failed', 4)) r (schedule, status, hours)";

#[tokio::test]
async fn what_went_wrong_last_night_stands_first() {
    let database = TestDatabase::new().await;
    run(database.pool(), HEALTHY).await;
    run(database.pool(), NIGHT).await;
    let (_, section) = PAGE.split_once("## What went out, and what did not\n").unwrap();
    let (_, first) = section.split_once("```sql\n").unwrap();
    let (question, _) = first.split_once("```").unwrap();
    let mut reader = as_role(&database, "reader").await;
    let schedules: Vec<String> = sqlx::query_scalar(question).fetch_all(&mut reader).await.unwrap();
    assert_eq!(schedules, ["nightly", "failed", "under-way", "old", "well", "never"]);
}

#[tokio::test]
async fn the_page_and_the_readme_know_every_view() {
    let database = TestDatabase::new().await;
    let readme = include_str!("../../../schema/README.md");
    for view in super::texts(database.pool(), super::VIEWS).await {
        let part = view.trim_start_matches("v_undelivered");
        assert!(
            readme.contains(&format!("`{view}`")) || readme.contains(&format!("`…{part}`")),
            "schema/README.md does not name {view}"
        );
        // Steps of a run are asked by run_timeline, which knows more.
        assert!(
            view == "v_steps" || PAGE.contains(&view),
            "docs/questions.md does not ask {view}"
        );
    }
}

#[tokio::test]
async fn comments_of_views_are_seen_in_psql() {
    let database = TestDatabase::new().await;
    let sql = "select obj_description('lockgate.v_runs'::regclass, 'pg_class'), col_description('lockgate.v_runs'::regclass, 1)";
    let mut reader = as_role(&database, "reader").await;
    let row = reader.fetch_one(raw_sql(sql)).await.unwrap();
    assert!(row.get::<String, _>(0).starts_with("Runs. By key: "));
    assert_eq!(row.get::<String, _>(1), "The run; ids are in order of time");
}

//! What is past its time goes in small pages, and nothing that is still owed.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[path = "support_schedules/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use lockgate::leader::{Prunable, Reign, Retention, RetentionSettings, RetentionStore};
use lockgate::lifecycle::Fleet;
use support::{World, claim_all};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The id of a run that was started that many hours ago.
fn id_of(hours: u64) -> Uuid {
    let now = Uuid::now_v7().get_timestamp().unwrap().to_unix();
    Uuid::new_v7(uuid::Timestamp::from_unix(
        uuid::NoContext,
        now.0 - hours * 3_600,
        now.1,
    ))
}

/// A run that was started and finished this long ago, with so many finished batches and their history. What retention has
/// passed in its walk is looked at again.
async fn finished_run(world: &World, ago: &str, batches: i64) -> Uuid {
    let (number, unit) = ago.split_once(' ').unwrap();
    let hours = number.parse::<u64>().unwrap() * if unit.starts_with("day") { 24 } else { 1 };
    let run = id_of(hours);
    world
        .run(&format!(
            "update lockgate.retention_cursor set after = '{nil}';
             insert into lockgate.task_runs (id, workflow, status, origin_id, created_at, started_at, finished_at)
             values ('{run}', 'reports', 'completed', '{run}', clock_timestamp() - interval '{ago}', clock_timestamp(),
                     clock_timestamp() - interval '{ago}');
             insert into lockgate.run_steps (run_id, path, kind, planned_at) values ('{run}', '0:all', 'fan_out', clock_timestamp());
             insert into lockgate.run_batches (run_id, seq, step, status, first_id, last_id, n_items, claim_token, delivered,
                 refused, unknown, skipped, vanished)
             select '{run}', n, '0:all', 'done', n * 10, n * 10 + 8, 5, 1, 5, 0, 0, 0, 0 from generate_series(1, {batches}) n;
             insert into lockgate.run_batch_ids (run_id, seq, ids)
             select '{run}', n, '\\x0100' from generate_series(1, {batches}) n;
             insert into lockgate.transitions (entity, run_id, batch_seq, to_status)
             select 'batch', '{run}', n, 'done' from generate_series(1, {batches}) n",
            nil = Uuid::nil()
        ))
        .await;
    run
}

/// A run of the same workflow with batches to claim.
async fn waiting_run(world: &World) -> Uuid {
    let run = Uuid::now_v7();
    world
        .run(&format!(
            "insert into lockgate.task_runs (id, workflow, status, origin_id, started_at, last_batch_seq)
             values ('{run}', 'reports', 'running', '{run}', clock_timestamp(), 50);
             insert into lockgate.run_steps (run_id, path, kind, planned_at, planned_items, planned_batches)
             values ('{run}', '0:all', 'fan_out', clock_timestamp(), 500, 50);
             insert into lockgate.run_batches (run_id, seq, step, first_id, last_id, n_items)
             select '{run}', n, '0:all', n * 10, n * 10 + 9, 10 from generate_series(1, 50) n"
        ))
        .await;
    run
}

async fn message(world: &World, run: Option<Uuid>, status: &str, ago: &str) {
    let run = run.map_or_else(|| "null".to_owned(), |run| format!("'{run}'"));
    world
        .run(&format!(
            "insert into lockgate.undelivered_messages (command_type, id, message_id, run_id, batch_seq, status, reason_code,
                 reason, topic, claim_id, lease_until, kafka_partition, kafka_offset, created_at, finished_at)
             select 'email', gen_random_uuid(), gen_random_uuid(), {run}, 1, '{status}', 'test', 'test', 'topic',
                    case '{status}' when 'claimed' then gen_random_uuid() end,
                    case '{status}' when 'claimed' then clock_timestamp() end, 0, 0, clock_timestamp() - interval '{ago}',
                    case when '{status}' in ('delivered', 'discarded') then clock_timestamp() - interval '{ago}' end"
        ))
        .await;
}

fn retention(world: &World, pages: u32) -> Retention {
    let settings = RetentionSettings {
        runs: DAY,
        transitions: DAY,
        undelivered: DAY,
        replicas: DAY,
        inbox: DAY,
        measures: DAY,
        page: 1_000,
        pages,
    };
    Retention::new(Arc::new(world.leader()), DAY, settings)
}

fn reign() -> Reign {
    Reign {
        term: 1,
        over: CancellationToken::new(),
    }
}

async fn count(world: &World, table: &str, run: Uuid) -> i64 {
    world
        .number(&format!("select count(*) from lockgate.{table} where run_id = '{run}'"))
        .await
}

async fn run_exists(world: &World, run: Uuid) -> bool {
    world
        .number(&format!("select count(*) from lockgate.task_runs where id = '{run}'"))
        .await
        == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_thousand_batches_go_page_by_page_within_a_budget() {
    let world = World::new().await;
    let old = finished_run(&world, "2 days", 50_000).await;
    let young = finished_run(&world, "1 hour", 10).await;
    let first = retention(&world, 10).prune(&reign()).await.unwrap();
    assert_eq!(first, 10_000, "ten pages of a thousand");
    assert_eq!(count(&world, "run_batches", old).await, 40_000);
    assert!(run_exists(&world, old).await);
    // What is left of it would make a wrong proof: there is none.
    let proofs = format!("select count(*) from lockgate.v_run_proof where run_id in ('{old}', '{young}')");
    assert_eq!(world.number(&proofs).await, 1);
    let problems = format!("select count(*) from lockgate.proof_problems('{old}')");
    let says_so = format!("{problems} where problem = 'pruned'");
    assert_eq!((world.number(&problems).await, world.number(&says_so).await), (1, 1));
    retention(&world, 1_000).prune(&reign()).await.unwrap();
    assert!(!run_exists(&world, old).await);
    for table in ["run_batches", "run_batch_ids", "run_steps", "transitions"] {
        assert_eq!(count(&world, table, old).await, 0, "{table}");
    }
    assert!(run_exists(&world, young).await);
    assert_eq!(count(&world, "run_batches", young).await, 10);
    assert_eq!(retention(&world, 10).prune(&reign()).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_being_pruned_holds_up_no_claim_finish_or_sweep() {
    let world = World::new().await;
    let old = finished_run(&world, "2 days", 5_000).await;
    let run = waiting_run(&world).await;
    let mut pruning = world.pool.begin().await.unwrap();
    let gone: i64 = sqlx::query_scalar("select pruned from lockgate.prune_runs('1 day', 1000)")
        .fetch_one(&mut *pruning)
        .await
        .unwrap();
    assert_eq!(gone, 1_000);

    // All of it while the page's transaction is open; a lock in the way would end in a deadline.
    let fleet = world.fleet();
    let mut last = None;
    for _ in 0..20 {
        let batch = fleet
            .claim_next_batch(run, Uuid::now_v7())
            .await
            .unwrap()
            .expect("a free batch");
        last = Some(batch.claim);
    }
    let (ended, next) = fleet
        .finish_and_claim_batch(&last.unwrap(), run, Uuid::now_v7())
        .await
        .unwrap();
    assert!(next.is_some() && ended == lockgate::lifecycle::Ended::Done);
    fleet.sweep().await.unwrap();
    world.run("select lockgate.start_run('reports')").await;
    assert_eq!(claim_all(&world.runs()).await.len(), 1);
    let waiting = "select count(*) from pg_locks where not granted
        and database = (select oid from pg_database where datname = current_database())";
    assert_eq!(world.number(waiting).await, 0);

    // A second pruner leaves the run alone instead of waiting for it.
    let beside = world.leader().prune(Prunable::Runs, DAY, 1_000).await.unwrap();
    assert_eq!((beside.rows, beside.more), (0, false));
    pruning.commit().await.unwrap();
    assert_eq!(count(&world, "run_batches", old).await, 4_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_owes_messages_stays_whole() {
    let world = World::new().await;
    for status in ["due", "refused", "claimed", "dead"] {
        let owing = finished_run(&world, "9 days", 3).await;
        message(&world, Some(owing), status, "9 days").await;
        message(&world, Some(owing), "delivered", "9 days").await;
        retention(&world, 100).prune(&reign()).await.unwrap();
        assert!(run_exists(&world, owing).await, "{status}");
        assert_eq!(count(&world, "run_batches", owing).await, 3, "{status}");
        assert_eq!(count(&world, "undelivered_messages", owing).await, 2, "{status}");
    }
    // Runs behind those that stay are reached, with what they have settled.
    let settled = finished_run(&world, "2 days", 3).await;
    for status in ["delivered", "discarded"] {
        message(&world, Some(settled), status, "2 days").await;
    }
    retention(&world, 100).prune(&reign()).await.unwrap();
    assert!(!run_exists(&world, settled).await);
    assert_eq!(count(&world, "undelivered_messages", settled).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_over_or_still_held_stays() {
    let world = World::new().await;
    let running = waiting_run(&world).await;
    let held = finished_run(&world, "2 days", 3).await;
    world
        .run(&format!(
            "update lockgate.run_batches set status = 'claimed', delivered = null, claim_id = run_id, claimed_by = run_id,
                 lease_until = clock_timestamp() where run_id = '{held}' and seq = 1"
        ))
        .await;
    retention(&world, 100).prune(&reign()).await.unwrap();
    assert!(run_exists(&world, running).await && run_exists(&world, held).await);
    assert_eq!(count(&world, "run_batches", held).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_goes_at_its_own_age() {
    let world = World::new().await;
    for ago in ["2 days", "1 hour"] {
        for status in ["due", "refused", "dead", "delivered", "discarded"] {
            message(&world, None, status, ago).await;
        }
        world
            .run(&format!(
                "insert into lockgate.transitions (at, entity, key, to_status) values (clock_timestamp() - interval '{ago}', 'leader', 'engine', 'elected');
                 insert into lockgate.replicas (id, version, roles, workflows, stale_after, seen_at, stopped_at) values
                 (gen_random_uuid(), '1', '{{}}', '{{}}', '1 second', clock_timestamp() - interval '{ago}', clock_timestamp() - interval '{ago}'),
                 (gen_random_uuid(), '1', '{{}}', '{{}}', '1 second', clock_timestamp() - interval '{ago}', null);
                 insert into lockgate.inbox (consumer, message_id, topic, kafka_partition, kafka_offset, received_at)
                 values ('c', gen_random_uuid(), 't', 0, 0, clock_timestamp() - interval '{ago}');
                 insert into lockgate.inbox_dead (consumer, topic, kafka_partition, kafka_offset, made_at, reason_code, reason,
                     header_names, header_values, payload, received_at)
                 values ('c', 't', 0, 0, clock_timestamp(), 'test', 'test', '{{}}', '{{}}', '', clock_timestamp() - interval '{ago}');
                 insert into lockgate.replica_minutes
                 select clock_timestamp() - interval '{ago}', gen_random_uuid(), clock_timestamp(), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0"
            ))
            .await;
    }
    assert_eq!(retention(&world, 100).prune(&reign()).await.unwrap(), 2 + 1 + 2 + 2 + 1);
    assert_eq!(world.number("select count(*) from lockgate.replica_minutes").await, 1);
    let left = "select count(*) from lockgate.undelivered_messages where status in ('due', 'refused', 'dead')";
    assert_eq!(world.number(left).await, 6, "what is owed stays whatever its age");
    let settled = "select count(*) from lockgate.undelivered_messages where status in ('delivered', 'discarded')";
    assert_eq!(world.number(settled).await, 2);
    assert_eq!(world.number("select count(*) from lockgate.replicas").await, 2);
    for table in ["inbox", "inbox_dead"] {
        let young =
            format!("select count(*) from lockgate.{table} where received_at > clock_timestamp() - interval '1 day'");
        let all = format!("select count(*) from lockgate.{table}");
        assert_eq!(
            (world.number(&young).await, world.number(&all).await),
            (1, 1),
            "{table}"
        );
    }
    let audit = "select count(*) from lockgate.transitions where at < clock_timestamp() - interval '1 day'";
    assert_eq!(world.number(audit).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reign_that_is_over_prunes_no_further_page() {
    let world = World::new().await;
    finished_run(&world, "2 days", 10).await;
    let over = reign();
    over.over.cancel();
    assert_eq!(retention(&world, 100).prune(&over).await.unwrap(), 0);
}

/// Small runs that finished two days ago, with three steps, a signal and two claims each.
async fn small_runs(world: &World, count: u64) {
    let ids: Vec<String> = (0..count).map(|_| format!("'{}'", id_of(48))).collect();
    world
        .run(&format!(
            "update lockgate.retention_cursor set after = '{nil}';
             insert into lockgate.task_runs (id, workflow, status, origin_id, started_at, finished_at, claim_token)
             select id, 'small', 'completed', id, clock_timestamp() - interval '2 days', clock_timestamp() - interval '2 days', 2
               from unnest(array[{ids}]::uuid[]) id;
             insert into lockgate.run_steps (run_id, path, kind, status, consistent, planned_items, planned_batches)
             select id, n || ':work', 'step', 'completed', null, null, null
               from lockgate.task_runs cross join generate_series(0, 2) n where workflow = 'small';
             insert into lockgate.signals (run_id, seq, name, payload, actor)
             select id, 1, 'go', '1', 'me' from lockgate.task_runs where workflow = 'small';
             insert into lockgate.transitions (entity, run_id, to_status, token)
             select 'run', id, 'completed', n from lockgate.task_runs cross join generate_series(1, 2) n
              where workflow = 'small'",
            nil = Uuid::nil(),
            ids = ids.join(",")
        ))
        .await;
}

const LEFT: &str = "select (select count(*) from lockgate.task_runs) + (select count(*) from lockgate.run_steps)
    + (select count(*) from lockgate.signals) + (select count(*) from lockgate.transitions where run_id is not null)";

#[tokio::test(flavor = "multi_thread")]
async fn small_runs_go_in_sets() {
    let world = World::new().await;
    small_runs(&world, 12_000).await;
    let page = world.leader().prune(Prunable::Runs, DAY, 1_000).await.unwrap();
    assert_eq!((page.rows, page.more), (5_000 * 7, true), "five thousand runs at once");
    assert_eq!(world.number(LEFT).await, 7_000 * 7);
    retention(&world, 100).prune(&reign()).await.unwrap();
    assert_eq!(world.number(LEFT).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_not_committed_is_pruned_again() {
    let world = World::new().await;
    small_runs(&world, 100).await;
    let mut dying = world.pool.begin().await.unwrap();
    sqlx::raw_sql("select lockgate.prune_runs('1 day', 1000)")
        .execute(&mut *dying)
        .await
        .unwrap();
    dying.rollback().await.unwrap();
    retention(&world, 100).prune(&reign()).await.unwrap();
    assert_eq!(world.number(LEFT).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_many_steps_goes_by_pages_of_its_own() {
    let world = World::new().await;
    small_runs(&world, 3).await;
    world
        .run(
            "insert into lockgate.run_steps (run_id, path, kind, status, consistent, planned_items, planned_batches)
             select id, n || ':more', 'step', 'completed', null, null, null
               from (select id from lockgate.task_runs order by id limit 1) r cross join generate_series(3, 2502) n",
        )
        .await;
    let first = world.leader().prune(Prunable::Runs, DAY, 1_000).await.unwrap();
    assert_eq!((first.rows, first.more), (2 * 7, true), "the others");
    let begun = "select count(*) from lockgate.task_runs where pruning_since is not null";
    assert_eq!(world.number(begun).await, 1);
    for rows in [2, 1_000, 1_000, 503, 1, 1] {
        let next = world.leader().prune(Prunable::Runs, DAY, 1_000).await.unwrap();
        assert_eq!((next.rows, next.more), (rows, true));
    }
    retention(&world, 1).prune(&reign()).await.unwrap();
    assert_eq!(world.number(LEFT).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_passed_is_looked_at_again_but_not_at_every_pass() {
    let world = World::new().await;
    small_runs(&world, 3).await;
    let runs = |status: &str, finished: &str| {
        format!("update lockgate.task_runs set status = '{status}', finished_at = {finished} where workflow = 'small'")
    };
    world.run(&runs("paused", "null")).await;
    // Twice to the end: there was no lap before.
    retention(&world, 100).prune(&reign()).await.unwrap();
    world
        .run(&runs("failed", "clock_timestamp() - interval '2 days'"))
        .await;
    retention(&world, 100).prune(&reign()).await.unwrap();
    assert_eq!(world.number(LEFT).await, 3 * 7);
    world
        .run("update lockgate.retention_cursor set lapped_at = lapped_at - interval '11 minutes'")
        .await;
    retention(&world, 100).prune(&reign()).await.unwrap();
    assert_eq!(world.number(LEFT).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_are_in_no_order_are_found_and_a_child_stays_as_long_as_its_parent() {
    let world = World::new().await;
    small_runs(&world, 2).await;
    world
        .run(
            "update lockgate.run_steps set run_id = ('f' || substring(run_id::text from 2))::uuid;
             update lockgate.task_runs set id = ('f' || substring(id::text from 2))::uuid;
             update lockgate.task_runs set parent_id = '00000000-0000-4000-8000-000000000000'
              where id = (select id from lockgate.task_runs order by id limit 1);
             insert into lockgate.task_runs (id, workflow, status, origin_id)
             values ('00000000-0000-4000-8000-000000000000', 'parent', 'suspended', '00000000-0000-4000-8000-000000000000')",
        )
        .await;
    retention(&world, 100).prune(&reign()).await.unwrap();
    let left = "select count(*) from lockgate.task_runs";
    assert_eq!(world.number(left).await, 2, "the parent and its child");
    world
        .run(
            "update lockgate.task_runs set status = 'completed', finished_at = clock_timestamp() where workflow = 'parent';
             update lockgate.retention_cursor set lapped_at = '-infinity'",
        )
        .await;
    retention(&world, 100).prune(&reign()).await.unwrap();
    assert_eq!(world.number(left).await, 1, "the parent is too young");
}

//! What a schedule starts has the queue, priority, tenant, limit key and attributes that are set for it.

use std::time::Duration;

use lockgate::lifecycle::{ClaimPage, RunStore, Runnable, Share};
use lockgate::postgres::{Backfill, ScheduleSpec, Schedules, SetOutcome};
use lockgate::trigger::{CatchUp, FoldRule, GapRule, Overlap};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::support::{Led, World, until};
use super::{RUNS, ten_minutes_missed};

/// As the table is edited.
const ALL_FIVE: &str = ", queue = 'slow', priority = 5, tenant = 'acme', limit_key = 'printer',
    attributes = '{\"customer\": 42, \"city\": \"Bonn\"}'";

/// Runs that have what is set by [`ALL_FIVE`].
const WITH_ALL_FIVE: &str = "select count(*) from lockgate.task_runs
    where queue = 'slow' and priority = 5 and tenant = 'acme' and limit_key = 'printer'
      and attributes = '{\"customer\": 42, \"city\": \"Bonn\"}' and schedule = 'a'
      and rank is not distinct from wake_at - interval '75 seconds'";

/// Runs that have nothing of it, as every run of a schedule had before.
const WITH_NONE: &str = "select count(*) from lockgate.task_runs
    where num_nonnulls(queue, priority, tenant, limit_key, attributes, rank) = 0 and schedule = 'a'";

fn attributes() -> Map<String, Value> {
    [("customer", json!(42)), ("city", json!("Bonn"))]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

/// What makes a schedule one that cannot be.
type Edit = fn(&mut ScheduleSpec);

/// A schedule of which nothing is set.
fn plain(name: &str) -> ScheduleSpec {
    ScheduleSpec {
        name: name.to_owned(),
        workflow: "reports".to_owned(),
        cron: "0 6 * * *".to_owned(),
        timezone: "UTC".to_owned(),
        params: b"{}".to_vec(),
        dst_gap: GapRule::default(),
        dst_fold: FoldRule::default(),
        catch_up: CatchUp::default(),
        catch_up_window: Duration::from_secs(86_400),
        overlap: Overlap::default(),
        jitter: Duration::ZERO,
        pace_per_s: None,
        deadline: None,
        queue: None,
        priority: 0,
        tenant: None,
        limit_key: None,
        attributes: Map::new(),
    }
}

fn with_all_five(name: &str) -> ScheduleSpec {
    ScheduleSpec {
        queue: Some("slow".to_owned()),
        priority: 5,
        tenant: Some("acme".to_owned()),
        limit_key: Some("printer".to_owned()),
        attributes: attributes(),
        ..plain(name)
    }
}

async fn revision(world: &World) -> i64 {
    world.number("select revision from lockgate.schedules").await
}

/// Makes three past slots good as an operator, and one more by hand in SQL.
async fn backfilled(world: &World) {
    let range = Backfill {
        schedule: "a".to_owned(),
        from: "2026-01-01T00:00:00Z".parse().unwrap(),
        to: Some("2026-01-01T00:03:00Z".parse().unwrap()),
        at_once: 1,
        dry_run: false,
        actor: None,
    };
    let operator = Schedules::new(world.as_role("lockgate_operator"));
    let slots = operator.backfill(&range).await.unwrap().unwrap();
    assert!(
        slots.iter().all(|slot| slot.outcome == "new") && slots.len() == 3,
        "{slots:?}"
    );
    let one = "select count(*) from lockgate.backfill_schedule('a', '{2026-01-02T00:00:00Z}') where outcome = 'new'";
    assert_eq!(world.number(one).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_fires_gives_its_run_what_is_set() {
    let world = World::new().await;
    let each_second = ScheduleSpec {
        cron: "* * * * * *".to_owned(),
        overlap: Overlap::Allow,
        ..with_all_five("a")
    };
    let schedules = Schedules::new(world.as_role("lockgate_engine"));
    assert_eq!(schedules.set(&each_second).await.unwrap(), Ok(SetOutcome::Created));
    let led = Led::new(&world).await;
    until("a slot to fire", async || {
        led.tick().await;
        world.number(WITH_ALL_FIVE).await >= 1
    })
    .await;
    assert_eq!(world.number(RUNS).await, world.number(WITH_ALL_FIVE).await);
    let seen =
        "select count(*) from lockgate.v_schedules_next where queue = 'slow' and priority = 5 and tenant = 'acme'
        and limit_key = 'printer' and attributes @> '{\"customer\": 42}'";
    assert_eq!(world.number(seen).await, 1);

    // From that queue it is claimed, and from no other.
    let from = async |queue: &str| {
        let page = ClaimPage {
            claim_id: Uuid::now_v7(),
            shares: vec![Share {
                queue: queue.to_owned(),
                take: 1,
            }],
            runnable: vec![Runnable {
                workflow: "reports".to_owned(),
                version: 1,
                replays: 1..=1,
            }],
            suspects: false,
        };
        world.runs().claim_runs(&page).await.unwrap().len()
    };
    assert_eq!((from("reports").await, from("slow").await), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_were_missed_give_theirs_the_same() {
    for overlap in ["allow", "queue"] {
        let world = World::new().await;
        let rules = format!("{ALL_FIVE}, catch_up = 'all', overlap = '{overlap}'");
        ten_minutes_missed(&world, "a", &rules).await;
        let fired = Led::new(&world).await.tick().await.fired.cast_signed();
        assert!(fired >= 10, "{fired}");
        assert_eq!(world.number(WITH_ALL_FIVE).await, fired, "{overlap}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_are_made_good_give_theirs_the_same() {
    let world = World::new().await;
    ten_minutes_missed(&world, "a", ALL_FIVE).await;
    backfilled(&world).await;
    assert_eq!(world.number(RUNS).await, 4);
    assert_eq!(world.number(WITH_ALL_FIVE).await, 4);
    // Whoever waits in line begins with its priority, as what fires does.
    world
        .run(
            "update lockgate.task_runs set status = 'failed', wake_at = null, rank = null, reason = 'x', started_at = created_at,
                    finished_at = clock_timestamp()
              where slot = '2026-01-01T00:00:00Z';
             select lockgate.wake_behind((select id from lockgate.task_runs where slot = '2026-01-01T00:00:00Z'))",
        )
        .await;
    let ready = format!("{WITH_ALL_FIVE} and wake_at is not null");
    assert_eq!(world.number(&ready).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_sets_nothing_starts_what_it_always_did() {
    let world = World::new().await;
    ten_minutes_missed(&world, "a", ", catch_up = 'all', overlap = 'allow'").await;
    let fired = Led::new(&world).await.tick().await.fired.cast_signed();
    backfilled(&world).await;
    assert!(fired >= 10, "{fired}");
    assert_eq!(world.number(WITH_NONE).await, fired + 4);
    // What is ordinary may be written down as well.
    world
        .run("update lockgate.schedules set priority = 0, attributes = '{}'")
        .await;
    let one = "select count(*) from lockgate.backfill_schedule('a', '{2026-01-03T00:00:00Z}') where outcome = 'new'";
    assert_eq!(world.number(one).await, 1);
    assert_eq!(world.number(WITH_NONE).await, fired + 5);
    let queue = "select count(*) from lockgate.v_schedules_next where queue = 'reports' and tenant is null";
    assert_eq!(world.number(queue).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_again_is_no_change_and_each_of_them_is_one() {
    let world = World::new().await;
    let schedules = Schedules::new(world.database.clone());
    let set = async |spec: &ScheduleSpec| schedules.set(spec).await.unwrap().unwrap();
    assert_eq!(set(&plain("a")).await, SetOutcome::Created);
    let all = with_all_five("a");
    let edits: [fn(&mut ScheduleSpec, ScheduleSpec); 5] = [
        |spec, all| spec.queue = all.queue,
        |spec, all| spec.priority = all.priority,
        |spec, all| spec.tenant = all.tenant,
        |spec, all| spec.limit_key = all.limit_key,
        |spec, all| spec.attributes = all.attributes,
    ];
    let mut spec = plain("a");
    for (at, edit) in edits.into_iter().enumerate() {
        assert_eq!(set(&spec).await, SetOutcome::Unchanged, "{at}");
        let before = revision(&world).await;
        edit(&mut spec, all.clone());
        assert_eq!(set(&spec).await, SetOutcome::Changed, "{at}");
        assert_eq!(revision(&world).await, before + 1, "{at}");
    }
    assert_eq!((set(&all).await, revision(&world).await), (SetOutcome::Unchanged, 6));
    let view = schedules.list(Some("a")).await.unwrap().pop().unwrap();
    let seen = (view.queue, view.priority, view.tenant, view.limit_key, view.attributes);
    assert_eq!(seen, (all.queue, 5, all.tenant, all.limit_key, all.attributes));
    assert_eq!(set(&plain("a")).await, SetOutcome::Changed, "what is not given is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_start_takes_no_schedule_takes() {
    let world = World::new().await;
    let schedules = Schedules::new(world.database.clone());
    schedules.set(&with_all_five("a")).await.unwrap().unwrap();
    let edits: [(Edit, &str); 9] = [
        (|spec| spec.queue = Some(String::new()), "the queue is empty"),
        (
            |spec| spec.queue = Some("q".repeat(201)),
            "the queue has 201 characters",
        ),
        (|spec| spec.priority = 21, "priority 21 is above 20"),
        (
            |spec| spec.tenant = Some("\0".to_owned()),
            "the tenant contains a zero character",
        ),
        (|spec| spec.limit_key = Some(String::new()), "the limit key is empty"),
        (
            |spec| _ = spec.attributes.insert(String::new(), json!(1)),
            "the attributes do not fit: the name",
        ),
        (
            |spec| _ = spec.attributes.insert("list".to_owned(), json!([1])),
            "attribute list is not a string",
        ),
        (
            |spec| _ = spec.attributes.insert("long".to_owned(), json!("x".repeat(251))),
            "attribute long is longer than 250 characters",
        ),
        (
            |spec| spec.attributes = (0..17).map(|n| (n.to_string(), json!(n))).collect(),
            "at most 16 attributes",
        ),
    ];
    for (edit, told) in edits {
        let mut spec = with_all_five("a");
        edit(&mut spec);
        let wrong = schedules.set(&spec).await.unwrap().unwrap_err();
        assert!(wrong.contains(told), "{wrong}");
    }
    // In SQL the constraint that refuses it has the name of its column.
    for (column, value) in [
        ("queue", "''"),
        ("queue", "repeat('q', 201)"),
        ("priority", "21"),
        ("priority", "-1"),
        ("tenant", "''"),
        ("limit_key", "repeat('k', 201)"),
        ("attributes", "'[1]'"),
        ("attributes", "'null'"),
        ("attributes", "'{\"list\": [1]}'"),
        ("attributes", "jsonb_build_object('long', repeat('x', 70000))"),
    ] {
        let edit = format!("update lockgate.schedules set {column} = {value}");
        let refused = sqlx::raw_sql(sqlx::AssertSqlSafe(edit)).execute(&world.pool).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(&format!("schedules_{column}_check")), "{value}: {error}");
    }
    assert_eq!(revision(&world).await, 1);
    let audit = "select count(*) from lockgate.transitions where entity = 'schedule'";
    assert_eq!(world.number(audit).await, 1);
}

/// As a command line wrote that knew nothing of them.
const OLD_SET: &str = "insert into lockgate.schedules as s (name, workflow, cron, timezone, params, dst_gap, dst_fold, catch_up,
        catch_up_max, catch_up_window, overlap, jitter, pace_per_s, run_deadline)
    values ('a', 'reports', '0 7 * * *', 'UTC', '{}', 'run_after', 'first', 'last', 10, '1 day', 'skip', '0', null, null)
    on conflict (name) do update
       set workflow = excluded.workflow, cron = excluded.cron, timezone = excluded.timezone, params = excluded.params,
           dst_gap = excluded.dst_gap, dst_fold = excluded.dst_fold, catch_up = excluded.catch_up,
           catch_up_max = excluded.catch_up_max, catch_up_window = excluded.catch_up_window, overlap = excluded.overlap,
           jitter = excluded.jitter, pace_per_s = excluded.pace_per_s, run_deadline = excluded.run_deadline";

/// As a leader fired that knew nothing of them.
const OLD_FIRE: &str = "select started.outcome, started.run_id
    from lockgate.schedules s
   cross join lateral lockgate.try_start_new_run(lockgate.new_id(), s.workflow, s.params, 'engine', null, null, s.name,
       timestamptz '2026-01-04T06:00:00Z', null, s.pace_per_s, s.run_deadline, null, null, 1, 'schedule:' || s.name) started
   where s.name = 'a'";

#[tokio::test(flavor = "multi_thread")]
async fn older_releases_set_and_fire_beside_newer_ones() {
    let world = World::new().await;
    world.run(OLD_SET).await;
    let schedules = Schedules::new(world.database.clone());
    assert_eq!(
        schedules.set(&with_all_five("a")).await.unwrap(),
        Ok(SetOutcome::Changed)
    );
    world.run(OLD_SET).await;
    let view = schedules.list(Some("a")).await.unwrap().pop().unwrap();
    assert_eq!(
        (view.row.cron.as_str(), view.queue.as_deref()),
        ("0 7 * * *", Some("slow"))
    );
    world.run(OLD_FIRE).await;
    assert_eq!(world.number(WITH_ALL_FIVE).await, 1);
}

use std::time::Duration;

use chrono::{DateTime, Utc};
use lockgate::postgres::Schedules;
use lockgate::trigger::{CatchUp, CatchUpRules, Outage, preview};

use super::support::{Led, World};
use super::{RUNS, ten_minutes_missed};

/// Slots of a schedule that fired, as minutes before the newest settled one, newest first.
async fn fired_minutes(world: &World, name: &str) -> Vec<String> {
    world
        .texts(&format!(
            "select (extract(epoch from s.last_slot - r.slot) / 60)::int::text
               from lockgate.task_runs r join lockgate.schedules s on s.name = r.schedule
              where s.name = '{name}' order by r.slot desc"
        ))
        .await
}

/// The newest slot is on time or missed by how far the minute is; what is older than that is missed for sure.
async fn newest_is_on_time(world: &World, name: &str) -> bool {
    world
        .number(&format!(
            "select count(*) from lockgate.task_runs r join lockgate.schedules s on s.name = r.schedule
              where s.name = '{name}' and r.slot = s.last_slot"
        ))
        .await
        == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn each_policy_fires_what_it_says_after_an_outage() {
    let world = World::new().await;
    ten_minutes_missed(&world, "none", ", catch_up = 'skip', overlap = 'allow'").await;
    ten_minutes_missed(&world, "newest", ", catch_up = 'last', overlap = 'allow'").await;
    ten_minutes_missed(
        &world,
        "three",
        ", catch_up = 'all', catch_up_max = 3, overlap = 'allow'",
    )
    .await;
    ten_minutes_missed(
        &world,
        "young",
        ", catch_up = 'all', overlap = 'allow', catch_up_window = '5 minutes'",
    )
    .await;
    let led = Led::new(&world).await;
    led.tick().await;
    assert!(
        newest_is_on_time(&world, "none").await,
        "a slot of this minute is on time"
    );
    assert_eq!(fired_minutes(&world, "none").await, ["0"]);
    assert_eq!(fired_minutes(&world, "newest").await, ["0", "1"]);
    assert_eq!(fired_minutes(&world, "three").await, ["0", "1", "2", "3"]);
    assert_eq!(fired_minutes(&world, "young").await, ["0", "1", "2", "3", "4"]);

    let reasons = world
        .texts(
            "select key || ': ' || regexp_replace(reason, '[0-9]+ ', 'N ', 'g') from lockgate.transitions
              where to_status = 'passed_over' and term = 1 order by key",
        )
        .await;
    let expected = [
        "newest: missed slots: N left out by catch-up `last`",
        "none: missed slots: N left out by catch-up `skip`",
        "three: missed slots: N left out by catch-up `all(max N )`",
        "young: missed slots: N older than the window of 5m",
    ];
    let reasons: Vec<_> = reasons.iter().map(|reason| reason.replace("max 3", "max N ")).collect();
    assert_eq!(reasons, expected);
    assert_eq!(led.tick().await.fired, 0, "a second look finds nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_dies_between_two_slots_leaves_the_rest_to_the_next() {
    use lockgate::leader::{ScheduleStore, StepOutcome};
    let world = World::new().await;
    ten_minutes_missed(&world, "a", ", catch_up = 'all', overlap = 'allow'").await;
    let first = Led::new(&world).await;
    let due = first.store.due_schedules(10, &[]).await.unwrap().schedules.remove(0);
    let steps = lockgate::trigger::decide(&due.schedule, due.now, Duration::from_secs(60)).unwrap();
    let taken = first
        .store
        .take_step(first.reign.term, &due.schedule, &steps[0])
        .await
        .unwrap();
    assert!(matches!(taken, StepOutcome::Fired(_)));
    world
        .run("update lockgate.leader_lease set expires_at = clock_timestamp()")
        .await;
    let second = Led::new(&world).await;
    assert!(second.tick().await.fired >= 9);
    let gaps = world
        .number("select extract(epoch from max(slot) - min(slot))::bigint / 60 + 1 - count(*) from lockgate.task_runs")
        .await;
    assert_eq!(gaps, 0);
    assert!(world.number(RUNS).await >= 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pruned_run_does_not_fire_again() {
    let world = World::new().await;
    ten_minutes_missed(&world, "a", "").await;
    let led = Led::new(&world).await;
    assert!(led.tick().await.fired >= 1);
    world
        .run(
            "update lockgate.task_runs set status = 'completed', finished_at = clock_timestamp() - interval '1 year',
                    id = ('0180' || substring(id::text from 5))::uuid",
        )
        .await;
    let pruned = "select pruned from lockgate.prune_runs('1 day', 1000)";
    while world.number(pruned).await > 0 {}
    assert_eq!(world.number(RUNS).await, 0);
    world
        .run("create table kept as select last_slot + interval '1 second' as last_slot from lockgate.schedules")
        .await;
    world.run("update lockgate.schedules set next_slot = null").await;
    assert_eq!(led.tick().await.looked_at, 1);
    // A minute may have begun meanwhile, whose slot is new.
    let old = "select count(*) from lockgate.task_runs where slot < (select max(last_slot) from kept)";
    assert_eq!(world.number(old).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_whose_run_is_there_is_found_not_fired() {
    let world = World::new().await;
    ten_minutes_missed(&world, "a", ", catch_up = 'all', overlap = 'allow'").await;
    let led = Led::new(&world).await;
    let fired = led.tick().await.fired;
    world
        .run("update lockgate.schedules set last_slot = null, next_slot = null")
        .await;
    // A minute may have begun meanwhile, whose slot is new: then that one is fired, and has a run of its own.
    let again = led.tick().await.fired;
    assert!(again <= 1, "{again} fired");
    assert_eq!(world.number(RUNS).await, (fired + again).cast_signed());
    let settled = "select count(*) from lockgate.schedules s
        where last_slot = (select max(slot) from lockgate.task_runs) and next_slot > last_slot";
    assert_eq!(world.number(settled).await, 1);
}

/// Sundays at 02:30 in Berlin since before the gap of March 2025: one does not exist, one comes twice.
#[tokio::test(flavor = "multi_thread")]
async fn the_preview_of_a_gap_is_what_then_fires() {
    let world = World::new().await;
    let rules = "catch_up, catch_up_max, catch_up_window, overlap, dst_gap, dst_fold";
    world
        .run(&format!(
            "insert into lockgate.schedules (name, workflow, cron, timezone, {rules}) values
             ('after', 'reports', '30 2 * * SUN', 'Europe/Berlin', 'all', 1000, '50 years', 'allow', 'run_after', 'both'),
             ('left-out', 'reports', '30 2 * * SUN', 'Europe/Berlin', 'all', 1000, '50 years', 'allow', 'skip', 'second');
             update lockgate.schedules set active_from = '2025-03-20T00:00:00Z'"
        ))
        .await;
    Led::new(&world).await.tick().await;
    for name in ["after", "left-out"] {
        let view = Schedules::new(world.database.clone())
            .list(Some(name))
            .await
            .unwrap()
            .remove(0);
        let rules = CatchUpRules {
            policy: CatchUp::All { max: 1_000 },
            window: view.row.catch_up_window,
            ..CatchUpRules::default()
        };
        let outage = Outage {
            from: view.row.active_from,
            to: view.now,
        };
        let rows = preview(
            &view.row.calendar().unwrap(),
            view.row.active_from,
            2_000,
            Some(outage),
            &rules,
        );
        let told: Vec<DateTime<Utc>> = rows
            .iter()
            .filter(|row| row.fires_at.is_some() && row.slot <= view.now)
            .map(|row| row.slot)
            .collect();
        let fired: Vec<DateTime<Utc>> =
            sqlx::query_scalar("select slot from lockgate.task_runs where schedule = $1 order by slot")
                .bind(name)
                .fetch_all(&world.pool)
                .await
                .unwrap();
        assert_eq!(fired, told, "{name}");
        let gap_end: DateTime<Utc> = "2025-03-30T01:00:00Z".parse().unwrap();
        assert_eq!(fired.contains(&gap_end), name == "after");
        let first_pass: DateTime<Utc> = "2025-10-26T00:30:00Z".parse().unwrap();
        assert_eq!(fired.contains(&first_pass), name == "after");
        assert!(fired.contains(&"2025-10-26T01:30:00Z".parse().unwrap()));
    }
}

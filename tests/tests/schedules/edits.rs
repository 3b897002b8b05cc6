use std::time::Duration;

use lockgate::leader::{Reign, ScheduleStore, Scheduler, StepOutcome};
use lockgate::postgres::PostgresLeader;
use lockgate::trigger::decide;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::support::{Led, World};
use super::{RUNS, ten_minutes_missed};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paused_does_not_fire_and_what_it_missed_never_does() {
    let world = World::new().await;
    ten_minutes_missed(&world, "a", ", catch_up = 'all'").await;
    let led = Led::new(&world).await;
    world.run("select lockgate.pause_schedule('a')").await;
    assert_eq!(led.tick().await.looked_at, 0);
    world.run("select lockgate.resume_schedule('a')").await;
    let resumed = led.tick().await;
    assert_eq!((resumed.looked_at, resumed.fired), (1, 0));
    let waits = "select count(*) from lockgate.schedules where next_slot > clock_timestamp() and last_slot is null";
    assert_eq!(world.number(waits).await, 1);
    let audit = world
        .texts("select from_status || ' ' || to_status || ' ' || reason from lockgate.transitions where key = 'a' and from_status is not null order by id")
        .await;
    assert_eq!(
        audit,
        ["active active edited", "active paused paused", "paused active resumed"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_or_an_edit_that_comes_between_look_and_fire_wins() {
    let world = World::new().await;
    let led = Led::new(&world).await;
    for (name, edit) in [
        ("paused", "paused_at = clock_timestamp()"),
        ("other", "workflow = 'other'"),
        ("cron", "cron = '0 0 1 1 *'"),
        ("fewer", "catch_up = 'skip'"),
    ] {
        ten_minutes_missed(&world, name, "").await;
        let due = led.store.due_schedules(10, &[]).await.unwrap().schedules;
        let look = due.into_iter().find(|look| look.schedule.name == name).unwrap();
        let step = decide(&look.schedule, look.now, Duration::from_secs(60))
            .unwrap()
            .remove(0);
        world
            .run(&format!("update lockgate.schedules set {edit} where name = '{name}'"))
            .await;
        let taken = led.store.take_step(led.reign.term, &look.schedule, &step).await;
        assert_eq!(taken.unwrap(), StepOutcome::Changed, "{name}");
        let marked = led
            .store
            .mark_schedule_problem(led.reign.term, &look.schedule, "old")
            .await;
        assert!(!marked.unwrap(), "{name}");
    }
    assert_eq!(world.number(RUNS).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_by_sql_applies_from_then_on() {
    let world = World::new().await;
    ten_minutes_missed(&world, "a", ", catch_up = 'all', overlap = 'allow'").await;
    let led = Led::new(&world).await;
    let before = led.tick().await.fired.cast_signed();
    world
        .run("update lockgate.schedules set cron = '* * * * * *', workflow = 'other', catch_up = 'skip'")
        .await;
    let others = "select count(*) from lockgate.task_runs where workflow = 'other'";
    super::support::until("the new rule to fire", async || {
        led.tick().await;
        world.number(others).await >= 2
    })
    .await;
    let early = "select count(*) from lockgate.task_runs r join lockgate.schedules s on s.name = r.schedule
        where r.workflow = 'other' and r.slot <= s.active_from";
    assert_eq!(
        world.number(early).await,
        0,
        "the new rule fires nothing from before the edit"
    );
    let old = "select count(*) from lockgate.task_runs where workflow = 'reports'";
    assert_eq!(world.number(old).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_cannot_fire_says_why_and_stops_nobody() {
    let world = World::new().await;
    for name in ["bad-cron", "bad-zone", "bad-window", "bad-deadline", "good"] {
        ten_minutes_missed(&world, name, ", catch_up = 'skip'").await;
    }
    world
        .run(
            "update lockgate.schedules set cron = '61 * * * *' where name = 'bad-cron';
             update lockgate.schedules set timezone = 'Europe/Berln' where name = 'bad-zone';
             update lockgate.schedules set catch_up_window = '0' where name = 'bad-window';
             update lockgate.schedules set run_deadline = '1000000 years' where name = 'bad-deadline'",
        )
        .await;
    let led = Led::new(&world).await;
    let scheduler = led.scheduler();
    let ticked = scheduler.tick(&led.reign).await.unwrap();
    assert_eq!((ticked.fired, ticked.problems), (1, 4));
    let problems = world
        .texts("select name || ': ' || problem from lockgate.schedules where problem is not null order by name")
        .await;
    assert!(
        problems[0].starts_with("bad-cron: cron `61 * * * *`: the minute field"),
        "{problems:?}"
    );
    assert!(
        problems[1].contains("bad-deadline: its run cannot be started"),
        "{problems:?}"
    );
    assert!(problems[2].contains("window of 0s is too short"), "{problems:?}");
    assert!(problems[3].contains("did you mean `Europe/Berlin`"), "{problems:?}");
    assert_eq!(
        scheduler.tick(&led.reign).await.unwrap().looked_at,
        0,
        "set aside until edited"
    );
    let audited = "select count(*) from lockgate.transitions where to_status = 'problem' and term = 1";
    assert_eq!(world.number(audited).await, 4);

    // A new term looks once more, and says nothing new.
    let next = Led {
        reign: Reign {
            term: next_term(&world).await,
            over: CancellationToken::new(),
        },
        store: led.store.clone(),
    };
    let again = scheduler.tick(&next.reign).await.unwrap();
    assert_eq!((again.looked_at, again.problems), (4, 4));
    assert_eq!(world.number(audited).await, 4);
    let told = "select count(*) from lockgate.transitions where to_status = 'problem'";
    assert_eq!(world.number(told).await, 4);

    world
        .run("update lockgate.schedules set cron = '* * * * *' where name = 'bad-cron'")
        .await;
    let mended = scheduler.tick(&next.reign).await.unwrap();
    assert_eq!((mended.looked_at, mended.problems), (1, 0));
    let left = "select count(*) from lockgate.schedules where problem is not null";
    assert_eq!(world.number(left).await, 3);
}

/// The same holder leads again under the next term.
async fn next_term(world: &World) -> i64 {
    world.run("update lockgate.leader_lease set term = term + 1").await;
    world.number("select term from lockgate.leader_lease").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_schedules_that_fail_does_not_hide_those_behind_it() {
    let world = World::new().await;
    world
        .run(
            "insert into lockgate.schedules (name, workflow, cron, overlap) select 'bad-' || n, 'reports', 'nonsense', 'skip' from generate_series(1, 250) n",
        )
        .await;
    ten_minutes_missed(&world, "z-good", ", catch_up = 'skip'").await;
    let ticked = Led::new(&world).await.tick().await;
    assert_eq!((ticked.looked_at, ticked.fired, ticked.problems), (251, 1, 250));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_row_says_reaches_the_run() {
    let world = World::new().await;
    ten_minutes_missed(
        &world,
        "a",
        ", params = '{\"day\": 1}', pace_per_s = 50, run_deadline = '2 hours', jitter = '1 hour', catch_up = 'skip'",
    )
    .await;
    assert_eq!(Led::new(&world).await.tick().await.fired, 1);
    let right = "select count(*) from lockgate.task_runs
        where convert_from(params, 'UTF8') = '{\"day\": 1}' and pace_per_s = 50 and driven_by = 'engine'
          and deadline_at = wake_at + interval '2 hours' and wake_at between slot and created_at + interval '1 hour'
          and status = 'queued' and schedule = 'a' and actor = 'schedule:a'";
    assert_eq!(world.number(right).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missed_slot_of_long_ago_gets_its_whole_deadline() {
    let world = World::new().await;
    world
        .run(
            "insert into lockgate.schedules (name, workflow, cron, run_deadline, catch_up_window) values ('a', 'reports', '0 0 1 1 *', '1 hour', '10 years');
             update lockgate.schedules set active_from = clock_timestamp() - interval '2 years'",
        )
        .await;
    assert_eq!(Led::new(&world).await.tick().await.fired, 1);
    let alive = "select count(*) from lockgate.task_runs where deadline_at > clock_timestamp() + interval '59 minutes'";
    assert_eq!(world.number(alive).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_role_has_what_a_leader_needs_and_may_not_delete() {
    use lockgate::leader::{LeaderStore, Prunable, RetentionStore};
    let world = World::new().await;
    ten_minutes_missed(&world, "a", "").await;
    ten_minutes_missed(&world, "b", ", cron = 'nonsense'").await;
    let engine = Arc::new(PostgresLeader::new(world.as_role("lockgate_engine"), Uuid::now_v7()));
    let term = engine.elect_leader(Duration::from_secs(60)).await.unwrap().unwrap();
    let scheduler = Scheduler::new(engine.clone(), Duration::from_secs(1), Duration::from_secs(60));
    let reign = Reign {
        term,
        over: CancellationToken::new(),
    };
    let ticked = scheduler.tick(&reign).await.unwrap();
    assert!(ticked.fired >= 1 && ticked.problems == 1);
    for what in Prunable::ALL {
        engine.prune(what, Duration::from_secs(3_600), 10).await.unwrap();
    }
    assert!(engine.renew_leader(term, Duration::from_secs(60)).await.unwrap());
    assert!(engine.resign_leader(term).await.unwrap());
    let schedules = lockgate::postgres::Schedules::new(world.as_role("lockgate_engine"));
    assert!(schedules.remove("a").await.unwrap());
    let mut connection = world.pool.acquire().await.unwrap();
    let denied = sqlx::raw_sql("set role lockgate_engine; delete from lockgate.schedules; ")
        .execute(&mut *connection)
        .await;
    assert!(denied.unwrap_err().to_string().contains("permission denied"));
    drop(connection.detach());
    let operator = lockgate::postgres::Schedules::new(world.as_role("lockgate_operator"));
    assert!(operator.pause("b").await.unwrap() && operator.resume("b").await.unwrap());
}

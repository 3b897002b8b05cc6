use std::sync::Arc;
use std::time::Duration;

use lockgate::leader::{LeaderHints, LeaderSettings, LeaderStore, LeaderStores, ScheduleStore, StepOutcome, lead};
use lockgate::trigger::decide;
use sqlx::postgres::PgListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::support::{Led, PATIENCE, World, until};
use super::{RUNS, ten_minutes_missed};

const TOLERANCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn eight_ticks_at_once_fire_each_slot_once() {
    let world = World::new().await;
    ten_minutes_missed(&world, "a", ", catch_up = 'all', overlap = 'allow'").await;
    let led = Arc::new(Led::new(&world).await);
    let mut ticks = JoinSet::new();
    for _ in 0..8 {
        let led = led.clone();
        ticks.spawn(async move { led.tick().await.fired });
    }
    let fired: u64 = ticks.join_all().await.into_iter().sum();
    assert!(fired >= 10, "ten slots were missed, {fired} fired");
    assert_eq!(world.number(RUNS).await, fired.cast_signed());
    let slots = world
        .number("select count(distinct slot) from lockgate.task_runs")
        .await;
    assert_eq!(slots, fired.cast_signed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_term_that_is_over_writes_nothing() {
    let world = World::new().await;
    ten_minutes_missed(&world, "a", "").await;
    let old = Led::new(&world).await;
    let due = old.store.due_schedules(10, &[]).await.unwrap().schedules.remove(0);
    let step = decide(&due.schedule, due.now, TOLERANCE).unwrap().remove(0);

    world
        .run("update lockgate.leader_lease set expires_at = clock_timestamp() - interval '1 second'")
        .await;
    let before = world.number("select count(*) from lockgate.transitions").await;
    let expired = old.store.take_step(old.reign.term, &due.schedule, &step).await.unwrap();
    assert_eq!(
        expired,
        StepOutcome::Deposed,
        "its lease is over, even while nobody else leads"
    );
    let new = Led::new(&world).await;
    let late = old.store.take_step(old.reign.term, &due.schedule, &step).await.unwrap();
    assert_eq!(late, StepOutcome::Deposed);
    let marked = old
        .store
        .mark_schedule_problem(old.reign.term, &due.schedule, "late")
        .await;
    assert!(!marked.unwrap());
    old.store.retry_schedule_problems(old.reign.term).await.unwrap();
    let after = world.number("select count(*) from lockgate.transitions").await;
    assert_eq!(after, before + 1, "nothing but the election was written");
    assert_eq!(world.number(RUNS).await, 0);
    let touched = world
        .number("select count(*) from lockgate.schedules where last_slot is not null or problem is not null")
        .await;
    assert_eq!(touched, 0);

    assert_eq!(new.tick().await.fired, 1);
    assert_eq!(old.tick().await.fired, 0);
    let terms = world
        .number("select count(*) from lockgate.task_runs where leader_term = 2 and actor = 'schedule:a'")
        .await;
    assert_eq!(terms, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_else_with_the_same_term_writes_nothing() {
    let world = World::new().await;
    ten_minutes_missed(&world, "a", "").await;
    let leader = Led::new(&world).await;
    let impostor = world.leader();
    let due = impostor.due_schedules(10, &[]).await.unwrap().schedules.remove(0);
    let step = decide(&due.schedule, due.now, TOLERANCE).unwrap().remove(0);
    let taken = impostor.take_step(leader.reign.term, &due.schedule, &step).await;
    assert_eq!(taken.unwrap(), StepOutcome::Deposed);
    assert_eq!(world.number(RUNS).await, 0);
}

/// The look of a leader that was slow: the slot was fired, its run pruned, and the schedule is elsewhere by now.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_what_was_settled_since_writes_nothing() {
    let world = World::new().await;
    ten_minutes_missed(&world, "fired", "").await;
    world
        .run("insert into lockgate.schedules (name, workflow, cron) values ('settled', 'reports', '* * * * *')")
        .await;
    let led = Led::new(&world).await;
    let looks = led.store.due_schedules(10, &[]).await.unwrap().schedules;
    assert_eq!(looks.len(), 2);
    led.tick().await;
    world
        .run("delete from lockgate.task_runs; update lockgate.schedules set last_slot = clock_timestamp() where last_slot is null")
        .await;
    let rows = "select (name, last_slot, next_slot)::text from lockgate.schedules order by name";
    let before = world.texts(rows).await;
    for look in looks {
        let step = decide(&look.schedule, look.now, TOLERANCE).unwrap().remove(0);
        let taken = led.store.take_step(led.reign.term, &look.schedule, &step).await;
        assert_eq!(taken.unwrap(), StepOutcome::Changed, "{}", look.schedule.name);
    }
    assert_eq!(world.number(RUNS).await, 0);
    assert_eq!(world.texts(rows).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_election_waits_for_the_write_of_the_old_term() {
    let world = World::new().await;
    let old = world.leader();
    let term = old.elect_leader(Duration::from_millis(50)).await.unwrap();
    assert_eq!(term, Some(1));
    let mut write = world.pool.begin().await.unwrap();
    sqlx::query("select 1 from lockgate.leader_lease where term = 1 for share")
        .execute(&mut *write)
        .await
        .unwrap();
    let expired = "select count(*) from lockgate.leader_lease where expires_at < clock_timestamp()";
    world.until("the lease to end", expired, |n| n == 1).await;
    let new = world.leader();
    let election = tokio::spawn(async move { new.elect_leader(Duration::from_secs(60)).await });
    let waiting = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and query like '%leader_lease%'";
    world.until("the election to wait", waiting, |n| n == 1).await;
    write.commit().await.unwrap();
    assert_eq!(election.await.unwrap().unwrap(), Some(2));
}

/// Who asks once an hour whether schedules were edited still knows when the next slot is.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_fired_when_it_is_due_however_rarely_schedules_are_looked_at() {
    let world = World::new().await;
    each_second(&world).await;
    let replica = Replica::start_with(&world, Duration::from_secs(3_600));
    world.until("three slots", RUNS, |runs| runs >= 3).await;
    replica.stop.cancel();
    replica.task.await.unwrap();
}

async fn each_second(world: &World) {
    let sql = "insert into lockgate.schedules (name, workflow, cron, overlap, catch_up)
               values ('each-second', 'reports', '* * * * * *', 'allow', 'skip')";
    world.run(sql).await;
}

/// Eight replicas, leaders that die and leaders that resign, a slot each second: none is lost and none fires twice.
#[tokio::test(flavor = "multi_thread")]
async fn no_slot_is_lost_or_doubled_while_leaders_die() {
    let world = World::new().await;
    each_second(&world).await;
    let mut replicas = Vec::new();
    for _ in 0..8 {
        replicas.push(Replica::start(&world));
    }
    let fired_by = |term: i64| format!("select count(*) from lockgate.task_runs where leader_term >= {term}");
    for term in 1..=4 {
        world
            .until("runs of the next term", &fired_by(term), |runs| runs >= 1)
            .await;
        let leader = until_leader(&replicas, term).await;
        let replica = replicas.remove(leader);
        if term % 2 == 0 {
            replica.task.abort();
        } else {
            replica.stop.cancel();
            tokio::time::timeout(PATIENCE, replica.task).await.unwrap().unwrap();
        }
    }
    world
        .until("runs of the fifth term", &fired_by(5), |runs| runs >= 1)
        .await;
    for replica in &replicas {
        replica.stop.cancel();
    }
    for replica in replicas {
        tokio::time::timeout(PATIENCE, replica.task).await.unwrap().unwrap();
    }
    let gaps = world
        .number("select extract(epoch from max(slot) - min(slot))::bigint + 1 - count(*) from lockgate.task_runs")
        .await;
    assert_eq!(gaps, 0, "a slot each second, none lost");
    let back = world
        .number(
            "select count(*) from (select leader_term < lag(leader_term) over (order by slot) as back
               from lockgate.task_runs) r where back",
        )
        .await;
    assert_eq!(back, 0, "later slots are of later terms");
}

/// By whoever knows nothing of leaders, too.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_edits_a_schedule_rings_and_the_leader_then_looks() {
    let world = World::new().await;
    let mut listener = PgListener::connect_with(&world.pool).await.unwrap();
    listener.listen("lockgate_wake").await.unwrap();
    let replica = Replica::start_with(&world, PATIENCE * 20);
    replica.hints.schedules.hears(true);
    for (name, runs) in [("a", 1), ("b", 2), ("c", 3)] {
        world
            .run(&format!(
                "insert into lockgate.schedules (name, workflow, cron, active_from, catch_up_window)
                 values ('{name}', 'reports', '0 0 1 1 *', '2020-01-01', '1000 days')"
            ))
            .await;
        assert_eq!(heard(&mut listener).await, "schedule");
        replica.hints.schedules.ring();
        world.until("its run", RUNS, |found| found == runs).await;
    }
    // What the leader wrote meanwhile rang nobody: what is heard next is what is said next.
    world.run("notify lockgate_wake, 'over'").await;
    assert_eq!(heard(&mut listener).await, "over");
    for edit in [
        "select lockgate.pause_schedule('a')",
        "select lockgate.resume_schedule('a')",
        "update lockgate.schedules set params = '[]' where name = 'a'",
        "delete from lockgate.schedules where name = 'a'",
    ] {
        world.run(edit).await;
        assert_eq!(heard(&mut listener).await, "schedule", "{edit}");
    }
    replica.stop.cancel();
    replica.task.await.unwrap();
}

/// The next word but that a run was started.
async fn heard(listener: &mut PgListener) -> String {
    loop {
        let told = tokio::time::timeout(PATIENCE, listener.recv()).await.unwrap().unwrap();
        if !["run", "start"].contains(&told.payload()) {
            return told.payload().to_owned();
        }
    }
}

struct Replica {
    hints: LeaderHints,
    stop: CancellationToken,
    term: watch::Receiver<Option<i64>>,
    task: tokio::task::JoinHandle<()>,
}

impl Replica {
    fn start(world: &World) -> Self {
        Self::start_with(world, Duration::from_millis(100))
    }

    fn start_with(world: &World, tick: Duration) -> Self {
        let leader = Arc::new(world.leader());
        let stores = LeaderStores {
            lease: leader.clone(),
            fleet: Arc::new(world.fleet()),
            schedules: leader.clone(),
            retention: leader.clone(),
            measures: leader,
            gauges: Arc::new(()),
        };
        let settings = LeaderSettings {
            lease: Duration::from_millis(1_500),
            renew: Duration::from_millis(400),
            tick,
            ..LeaderSettings::default()
        };
        let (term, seen) = watch::channel(None);
        let stop = CancellationToken::new();
        let hints = LeaderHints::default();
        let task = tokio::spawn(lead(settings, stores, hints.clone(), term, stop.clone()));
        Self {
            hints,
            stop,
            term: seen,
            task,
        }
    }
}

async fn until_leader(replicas: &[Replica], term: i64) -> usize {
    // Or a later one: on a busy machine a term may end before it is seen.
    let leads = |replica: &Replica| replica.term.borrow().is_some_and(|led| led >= term);
    until("somebody to lead", async || replicas.iter().any(leads)).await;
    replicas.iter().position(leads).unwrap()
}

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Bell, DueSchedule, DueSchedules, Job, LeaderLoop, LeaderStore, Prunable, Pruned, Reign, Retention,
    RetentionSettings, RetentionStore, ScheduleStore, Scheduler, StepOutcome,
};
use crate::lifecycle::FleetError;
use crate::telemetry::catalogue::{RETENTION_ROWS, SCHEDULE_SLOTS};
use crate::telemetry::meters;
use crate::trigger::{ScheduleRow, Step};

/// Short, but a busy machine must not take a late timer for a lost lease.
const LEASE: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(60);
const RENEW: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(20);

/// A lease that nobody else wants, on a server that can be down.
#[derive(Default)]
struct Lease {
    down: AtomicBool,
    slow_election: AtomicBool,
    elections: AtomicU64,
    renewals: AtomicU64,
    resigned: Mutex<Vec<i64>>,
    last_success: Mutex<Option<Instant>>,
}

impl Lease {
    fn answer<T>(&self, value: T) -> Result<T, FleetError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(FleetError::Unanswered("down".to_owned()));
        }
        *self.last_success.lock().unwrap() = Some(Instant::now());
        Ok(value)
    }
}

#[async_trait]
impl LeaderStore for Lease {
    async fn elect_leader(&self, _lease: Duration) -> Result<Option<i64>, FleetError> {
        let term = self.elections.fetch_add(1, Ordering::SeqCst).cast_signed() + 1;
        while self.slow_election.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.answer(Some(term))
    }
    async fn renew_leader(&self, _term: i64, _lease: Duration) -> Result<bool, FleetError> {
        let renewed = self.answer(true);
        self.renewals.fetch_add(1, Ordering::SeqCst);
        renewed
    }
    async fn resign_leader(&self, term: i64) -> Result<bool, FleetError> {
        self.resigned.lock().unwrap().push(term);
        self.answer(true)
    }
}

#[derive(Clone, Copy)]
enum Manner {
    Works,
    Fails,
    Panics,
    Hangs,
}

struct Work {
    manner: Manner,
    done: Arc<AtomicU64>,
}

#[async_trait]
impl Job for Work {
    fn name(&self) -> &'static str {
        "work"
    }
    fn every(&self) -> Duration {
        Duration::from_millis(5)
    }
    async fn run_once(&self, _reign: &Reign) -> Result<u64, FleetError> {
        self.done.fetch_add(1, Ordering::SeqCst);
        match self.manner {
            Manner::Works => Ok(1),
            Manner::Fails => Err(FleetError::Refused("no".to_owned())),
            // Without the hook, which would print a backtrace each time.
            Manner::Panics => std::panic::resume_unwind(Box::new("on purpose")),
            Manner::Hangs => std::future::pending().await,
        }
    }
}

struct Leading {
    lease: Arc<Lease>,
    term: watch::Receiver<Option<i64>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn lead(lease: Lease, lasts: Duration, manners: &[Manner]) -> (Leading, Vec<Arc<AtomicU64>>) {
    let lease = Arc::new(lease);
    let (sender, term) = watch::channel(None);
    let stop = CancellationToken::new();
    let counts: Vec<Arc<AtomicU64>> = manners.iter().map(|_| Arc::default()).collect();
    let works = manners.iter().zip(&counts);
    let jobs = works.map(|(manner, done)| -> Arc<dyn Job> {
        Arc::new(Work {
            manner: *manner,
            done: Arc::clone(done),
        })
    });
    let leading = LeaderLoop::new(
        lasts,
        RENEW,
        lease.clone(),
        jobs.collect(),
        Arc::new(Notify::new()),
        sender,
    );
    let task = tokio::spawn(leading.run(stop.clone()));
    (
        Leading {
            lease,
            term,
            stop,
            task,
        },
        counts,
    )
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_job_that_fails_panics_or_hangs_stops_neither_the_others_nor_the_renewal() {
    let (leading, done) = lead(
        Lease::default(),
        LONG,
        &[Manner::Hangs, Manner::Panics, Manner::Fails, Manner::Works],
    );
    until("renewals", || leading.lease.renewals.load(Ordering::SeqCst) >= 5).await;
    let times = |at: usize| done[at].load(Ordering::SeqCst);
    assert_eq!(times(0), 1);
    assert!(times(1) > 3 && times(2) > 3 && times(3) > 3);
    assert_eq!(
        leading.lease.elections.load(Ordering::SeqCst),
        1,
        "it is still the first term"
    );

    leading.stop.cancel();
    timeout(PATIENCE, leading.task).await.unwrap().unwrap();
    assert_eq!(
        *leading.lease.resigned.lock().unwrap(),
        [1],
        "resigned although a job hangs"
    );
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_its_jobs_before_the_lease_ends() {
    let long = 4 * LEASE;
    let (mut leading, done) = lead(Lease::default(), long, &[Manner::Works]);
    timeout(PATIENCE, leading.term.wait_for(Option::is_some))
        .await
        .unwrap()
        .unwrap();
    until("work", || done[0].load(Ordering::SeqCst) > 2).await;
    leading.lease.down.store(true, Ordering::SeqCst);
    timeout(PATIENCE, leading.term.wait_for(Option::is_none))
        .await
        .unwrap()
        .unwrap();
    // The store's lease began before the last answer came, so it ends before this.
    let held_for = leading.lease.last_success.lock().unwrap().unwrap().elapsed();
    assert!(held_for < long, "believed for {held_for:?}");
    assert!(
        leading.lease.renewals.load(Ordering::SeqCst) >= 2,
        "it tried again before it gave up"
    );
    let worked = done[0].load(Ordering::SeqCst);
    until("another election", || {
        leading.lease.elections.load(Ordering::SeqCst) > 1
    })
    .await;
    assert!(done[0].load(Ordering::SeqCst) <= worked + 1);

    leading.lease.down.store(false, Ordering::SeqCst);
    timeout(PATIENCE, leading.term.wait_for(Option::is_some))
        .await
        .unwrap()
        .unwrap();
    until("work again", || done[0].load(Ordering::SeqCst) > worked + 2).await;
    leading.stop.cancel();
    timeout(PATIENCE, leading.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_during_the_election_resigns_from_the_term_it_brings() {
    let lease = Lease::default();
    lease.slow_election.store(true, Ordering::SeqCst);
    let (leading, _) = lead(lease, LONG, &[]);
    until("an election", || leading.lease.elections.load(Ordering::SeqCst) == 1).await;
    leading.stop.cancel();
    leading.lease.slow_election.store(false, Ordering::SeqCst);
    timeout(PATIENCE, leading.task).await.unwrap().unwrap();
    assert_eq!(*leading.lease.resigned.lock().unwrap(), [1]);
}

/// Refuses to prune runs and never runs out of the rest.
#[derive(Default)]
struct Endless {
    pages: Mutex<Vec<Prunable>>,
}

#[async_trait]
impl RetentionStore for Endless {
    async fn prune(&self, what: Prunable, _older_than: Duration, page: i32) -> Result<Pruned, FleetError> {
        self.pages.lock().unwrap().push(what);
        if what == Prunable::Runs {
            return Err(FleetError::Refused("no".to_owned()));
        }
        Ok(Pruned {
            rows: u64::from(page.unsigned_abs()),
            more: true,
        })
    }
}

#[tokio::test]
async fn a_kind_that_cannot_be_pruned_does_not_keep_the_others_and_none_takes_more_than_its_pages() {
    let store = Arc::new(Endless::default());
    let settings = RetentionSettings {
        pages: 3,
        ..RetentionSettings::default()
    };
    let retention = Retention::new(store.clone(), LEASE, settings);
    let reign = Reign {
        term: 1,
        over: CancellationToken::new(),
    };
    let told = |what| meters().total(&RETENTION_ROWS, Some(what));
    let before = told("runs");
    assert!(retention.prune(&reign).await.is_err());
    let pages = store.pages.lock().unwrap();
    let of = |kind| pages.iter().filter(|what| **what == kind).count();
    assert_eq!(Prunable::ALL.map(of), [1, 3, 3, 3, 3, 3]);
    assert!(told("transitions") > 0 && told("runs") == before);
}

/// Has nothing to prune but runs; remembers what it was asked for.
#[derive(Default)]
struct OnlyRuns {
    asked: Mutex<Vec<Prunable>>,
}

#[async_trait]
impl RetentionStore for OnlyRuns {
    async fn prune(&self, what: Prunable, _older_than: Duration, _page: i32) -> Result<Pruned, FleetError> {
        let mut asked = self.asked.lock().unwrap();
        asked.push(what);
        let rows = u64::from(what == Prunable::Runs);
        Ok(Pruned { rows, more: false })
    }
}

#[tokio::test]
async fn what_had_nothing_to_prune_is_looked_at_by_one_pass_in_five() {
    let store = Arc::new(OnlyRuns::default());
    let retention = Retention::new(store.clone(), LEASE, RetentionSettings::default());
    let reign = Reign {
        term: 1,
        over: CancellationToken::new(),
    };
    for pass in 0..11 {
        assert_eq!(retention.run_once(&reign).await.unwrap(), 1);
        let asked = std::mem::take(&mut *store.asked.lock().unwrap());
        let expected = if pass % 5 == 0 {
            &Prunable::ALL[..]
        } else {
            &[Prunable::Runs]
        };
        assert_eq!(asked, expected, "pass {pass}");
    }
    retention.prune(&reign).await.unwrap();
    let asked = store.asked.lock().unwrap().len();
    assert_eq!(
        asked,
        Prunable::ALL.len(),
        "who asks for a pass over everything gets it"
    );
}

/// Three hundred due schedules whose steps are all refused, but for the last one's.
struct Refusing;

#[async_trait]
impl ScheduleStore for Refusing {
    async fn due_schedules(&self, page: i64, without: &[String]) -> Result<DueSchedules, FleetError> {
        let names = (0..300).map(|n| n.to_string()).filter(|name| !without.contains(name));
        let page = usize::try_from(page).unwrap();
        Ok(DueSchedules {
            schedules: names.take(page).map(due).collect(),
            next_in: Some(Duration::ZERO),
        })
    }
    async fn take_step(&self, _term: i64, schedule: &ScheduleRow, _step: &Step) -> Result<StepOutcome, FleetError> {
        match schedule.name.as_str() {
            "299" => Ok(StepOutcome::Fired(uuid::Uuid::nil())),
            _ => Err(FleetError::Refused("no".to_owned())),
        }
    }
    async fn mark_schedule_problem(&self, _: i64, _: &ScheduleRow, _: &str) -> Result<bool, FleetError> {
        panic!("what was refused for now is no problem of the schedule")
    }
    async fn retry_schedule_problems(&self, _term: i64) -> Result<(), FleetError> {
        Ok(())
    }
}

fn due(name: String) -> DueSchedule {
    let now = "2026-01-01T00:00:30Z".parse().unwrap();
    let schedule = ScheduleRow {
        name,
        revision: 1,
        cron: "* * * * *".to_owned(),
        timezone: "UTC".to_owned(),
        dst_gap: "run_after".to_owned(),
        dst_fold: "first".to_owned(),
        catch_up: "last".to_owned(),
        catch_up_max: 1,
        catch_up_window: Duration::from_secs(3_600),
        jitter: Duration::ZERO,
        last_slot: None,
        active_from: now - Duration::from_secs(31),
    };
    DueSchedule {
        now,
        schedule,
        workflow: "tested".to_owned(),
    }
}

#[tokio::test]
async fn schedules_that_are_refused_again_and_again_do_not_hide_those_behind_them() {
    let scheduler = Scheduler::new(Arc::new(Refusing), LEASE, Duration::from_secs(60));
    let reign = Reign {
        term: 1,
        over: CancellationToken::new(),
    };
    let (ticked, failure) = scheduler.look_at_all(&reign).await.unwrap();
    assert_eq!((ticked.looked_at, ticked.fired), (300, 1));
    assert!(failure.is_some());
    assert!(scheduler.tick(&reign).await.is_err(), "it is told of all the same");
}

/// One schedule, whose step becomes what it is told.
struct Late(DueSchedule, StepOutcome);

#[async_trait]
impl ScheduleStore for Late {
    async fn due_schedules(&self, _page: i64, without: &[String]) -> Result<DueSchedules, FleetError> {
        let tried = without.contains(&self.0.schedule.name);
        Ok(DueSchedules {
            schedules: if tried { Vec::new() } else { vec![self.0.clone()] },
            next_in: None,
        })
    }
    async fn take_step(&self, _: i64, _: &ScheduleRow, _: &Step) -> Result<StepOutcome, FleetError> {
        Ok(self.1.clone())
    }
    async fn mark_schedule_problem(&self, _: i64, _: &ScheduleRow, _: &str) -> Result<bool, FleetError> {
        panic!("the schedule has no problem")
    }
    async fn retry_schedule_problems(&self, _term: i64) -> Result<(), FleetError> {
        Ok(())
    }
}

#[tokio::test]
async fn slots_that_catching_up_passes_over_are_counted_once_they_are_settled() {
    let reign = Reign {
        term: 1,
        over: CancellationToken::new(),
    };
    let told = || meters().total(&SCHEDULE_SLOTS, Some("passed_over"));
    let (on_time, missed) = ("2026-01-01T00:00:30Z", "2026-01-01T00:10:30Z");
    let in_the_way = StepOutcome::PassedOver("a run is not over".to_owned());
    // Slots at 22:00 and 23:00 are older than the window of an hour.
    for (now, outcome, expected) in [
        (missed, StepOutcome::Settled, (3, 0, 0)),
        (on_time, StepOutcome::Fired(uuid::Uuid::nil()), (2, 0, 1)),
        (on_time, StepOutcome::Found(uuid::Uuid::nil()), (2, 0, 0)),
        (on_time, in_the_way, (2, 1, 0)),
        (missed, StepOutcome::Changed, (0, 0, 0)),
        (missed, StepOutcome::Deposed, (0, 0, 0)),
    ] {
        let mut look = due("late".to_owned());
        look.now = now.parse().unwrap();
        look.schedule.cron = "0 * * * *".to_owned();
        look.schedule.catch_up = "skip".to_owned();
        look.schedule.active_from = "2025-12-31T21:30:00Z".parse().unwrap();
        let store = Arc::new(Late(look, outcome.clone()));
        let before = told();
        let scheduler = Scheduler::new(store, LEASE, Duration::from_secs(60));
        let ticked = scheduler.tick(&reign).await.unwrap();
        let found = (ticked.missed, ticked.passed_over, ticked.fired);
        assert_eq!(found, expected, "{outcome:?}");
        assert_eq!(told() - before, ticked.missed + ticked.passed_over, "{outcome:?}");
    }
}

/// No schedules.
struct Calm;

#[async_trait]
impl ScheduleStore for Calm {
    async fn due_schedules(&self, _page: i64, _without: &[String]) -> Result<DueSchedules, FleetError> {
        Ok(DueSchedules {
            schedules: Vec::new(),
            next_in: None,
        })
    }
    async fn take_step(&self, _: i64, _: &ScheduleRow, _: &Step) -> Result<StepOutcome, FleetError> {
        panic!("there are no schedules")
    }
    async fn mark_schedule_problem(&self, _: i64, _: &ScheduleRow, _: &str) -> Result<bool, FleetError> {
        panic!("there are no schedules")
    }
    async fn retry_schedule_problems(&self, _term: i64) -> Result<(), FleetError> {
        Ok(())
    }
}

#[tokio::test]
async fn who_cannot_be_rung_looks_for_edits_as_often_as_told() {
    let bell = Arc::<Bell>::default();
    let scheduler = Scheduler::new(Arc::new(Calm), LEASE, Duration::from_secs(60)).rung_by(bell.clone());
    let reign = Reign {
        term: 1,
        over: CancellationToken::new(),
    };
    scheduler.tick(&reign).await.unwrap();
    assert!(scheduler.every() < LEASE * 2);
    for (hears, least, most) in [(true, 5, 6), (false, 1, 2)] {
        bell.hears(hears);
        timeout(PATIENCE, scheduler.rung())
            .await
            .expect("a change is worth a look");
        bell.hears(hears);
        let again = timeout(Duration::from_millis(300), scheduler.rung()).await;
        assert!(again.is_err(), "nothing has changed");
        scheduler.tick(&reign).await.unwrap();
        let every = scheduler.every();
        assert!(every >= LEASE * least && every < LEASE * most, "{hears}: {every:?}");
    }
    bell.ring();
    timeout(PATIENCE, scheduler.rung()).await.unwrap();
}

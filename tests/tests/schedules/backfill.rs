//! Past slots that have no run get one.

use lockgate::lifecycle::{Act, Continuation, Ending, LetGo, RunClaim, RunStore, derived_id};
use lockgate::postgres::{Backfill, NotBackfilled, PostgresRunStore, Schedules};

use super::support::{Led, World, claim_all};
use super::{RUNS, ten_minutes_missed};

async fn nightly(world: &World, rules: &str) {
    world
        .run(&format!(
            "insert into lockgate.schedules (name, workflow, cron, params) values ('nightly', 'reports', '0 6 * * *', '{{\"a\":1}}');
             update lockgate.schedules set paused_at = clock_timestamp() {rules}"
        ))
        .await;
}

fn january(at_once: u32) -> Backfill {
    Backfill {
        schedule: "nightly".to_owned(),
        from: "2026-01-01T00:00:00Z".parse().unwrap(),
        to: Some("2026-02-01T00:00:00Z".parse().unwrap()),
        at_once,
        dry_run: false,
        actor: Some("somebody".to_owned()),
    }
}

async fn outcomes(world: &World, backfill: &Backfill) -> Vec<String> {
    let schedules = Schedules::new(world.as_role("lockgate_operator"));
    let slots = schedules.backfill(backfill).await.unwrap().unwrap();
    slots.into_iter().map(|slot| slot.outcome).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_slot_gets_one_run_however_often_it_is_asked_for() {
    let world = World::new().await;
    nightly(&world, ", pace_per_s = 7, run_deadline = '1 hour'").await;
    let dry = Backfill {
        dry_run: true,
        ..january(3)
    };
    assert_eq!(outcomes(&world, &dry).await, ["missing"; 31]);
    assert_eq!(world.number(RUNS).await, 0);
    let first_days = Backfill {
        to: Some("2026-01-03T00:00:00Z".parse().unwrap()),
        ..january(3)
    };
    assert_eq!(outcomes(&world, &first_days).await, ["new"; 2]);
    let all = outcomes(&world, &january(3)).await;
    assert_eq!(
        (&all[..2], &all[2..]),
        (
            &["found"; 2].map(str::to_owned)[..],
            &["new"; 29].map(str::to_owned)[..]
        )
    );
    assert_eq!(outcomes(&world, &january(3)).await, ["found"; 31]);
    let as_the_schedule_says =
        "select count(*) from lockgate.task_runs where schedule = 'nightly' and workflow = 'reports'
        and pace_per_s = 7 and params = '{\"a\":1}' and deadline_at is not null and actor like '% for somebody'
        and extract(hour from slot at time zone 'UTC') = 6";
    assert_eq!(world.number(as_the_schedule_says).await, 31);
    let on_record = "select count(*) from lockgate.transitions where entity = 'schedule' and key = 'nightly'
        and reason like '29 runs for slots from %' and actor like '% for somebody'";
    assert_eq!(world.number(on_record).await, 1);
}

/// Does all that there is to be done, whatever comes first, never more of it at once; answers how much.
async fn all_done(world: &World, mut held: Vec<RunClaim>, at_once: usize) -> usize {
    let runs = world.runs();
    let mut done = 0;
    loop {
        held.extend(claim_all(&runs).await.into_iter().map(|(claim, _)| claim));
        assert!(held.len() <= at_once, "{} at once", held.len());
        let Some(claim) = held.pop() else {
            return done;
        };
        fail(&runs, claim).await;
        done += 1;
    }
}

/// As whoever ends a scheduled run does.
async fn fail(runs: &PostgresRunStore, claim: RunClaim) {
    let ending = Ending {
        claim,
        act: Act::Fail { reason: "x".to_owned() },
        had_batches: false,
        attributes: None,
    };
    runs.let_go_runs(&[ending]).await.unwrap();
    runs.wake_behind(claim.run).await.unwrap();
}

/// Runs that the schedule fired for every so many days of January.
async fn fired(world: &World, status: &str, first: &str, days: u32) {
    let over = if status == "queued" {
        "null"
    } else {
        "clock_timestamp()"
    };
    let wake = if status == "queued" {
        "clock_timestamp()"
    } else {
        "null"
    };
    world
        .run(&format!(
            "insert into lockgate.task_runs (id, workflow, status, origin_id, leader_term, schedule, slot, started_at, finished_at, wake_at)
             select lockgate.new_id(), 'reports', '{status}', lockgate.new_id(), 1, 'nightly', d, {over}, {over}, {wake}
               from generate_series(timestamptz '2026-01-{first}T06:00:00Z', '2026-01-31T06:00:00Z', interval '{days} days') d"
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_of_them_go_on_at_once() {
    let world = World::new().await;
    nightly(&world, "").await;
    outcomes(&world, &january(3)).await;
    assert_eq!(claim_all(&world.runs()).await.len(), 3);
    let world = World::new().await;
    nightly(&world, "").await;
    outcomes(&world, &january(3)).await;
    assert_eq!(all_done(&world, Vec::new(), 3).await, 31);
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_whose_runs_are_over_let_no_more_go_on() {
    for (at_once, first, days, new) in [(1, "02", 2, 16), (3, "02", 2, 16), (1, "04", 5, 25), (40, "02", 2, 16)] {
        let world = World::new().await;
        nightly(&world, "").await;
        fired(&world, "completed", first, days).await;
        outcomes(&world, &january(at_once)).await;
        let most = usize::try_from(at_once).unwrap();
        assert_eq!(all_done(&world, Vec::new(), most).await, new, "{at_once} {days}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_the_schedule_fired_in_the_range_count() {
    let world = World::new().await;
    nightly(&world, "").await;
    fired(&world, "queued", "20", 100).await;
    assert_eq!(outcomes(&world, &january(1)).await[19], "found");
    assert_eq!(all_done(&world, Vec::new(), 1).await, 31);
    // More than may are there: none is added to them, and in the end so many are left as may.
    let world = World::new().await;
    nightly(&world, "").await;
    fired(&world, "queued", "10", 7).await;
    outcomes(&world, &january(1)).await;
    let runs = world.runs();
    let mut held: Vec<RunClaim> = claim_all(&runs).await.into_iter().map(|(claim, _)| claim).collect();
    assert_eq!(held.len(), 4);
    for left in [3, 2, 1] {
        fail(&runs, held.remove(0)).await;
        held.extend(claim_all(&runs).await.into_iter().map(|(claim, _)| claim));
        assert!(held.len() <= left, "{} of {left}", held.len());
    }
    assert_eq!(all_done(&world, held, 1).await, 28);
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_again_half_way_what_was_begun_keeps_its_places() {
    let world = World::new().await;
    nightly(&world, "").await;
    let half = Backfill {
        to: Some("2026-01-16T00:00:00Z".parse().unwrap()),
        ..january(3)
    };
    assert_eq!(outcomes(&world, &half).await, ["new"; 15]);
    let runs = world.runs();
    let mut held: Vec<RunClaim> = claim_all(&runs).await.into_iter().map(|(claim, _)| claim).collect();
    for _ in 0..2 {
        fail(&runs, held.pop().unwrap()).await;
    }
    let in_line =
        "select id from lockgate.task_runs where after_run is not null and wake_at is null order by slot limit 1";
    world
        .run(&format!("select lockgate.cancel_run(({in_line}), 'not needed')"))
        .await;
    assert_eq!(outcomes(&world, &january(3)).await[15..], ["new"; 16]);
    assert_eq!(all_done(&world, held, 3).await, 31 - 2 - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_goes_on_as_another_keeps_its_place() {
    let world = World::new().await;
    nightly(&world, "").await;
    let first = Backfill {
        to: Some("2026-01-02T00:00:00Z".parse().unwrap()),
        ..january(1)
    };
    assert_eq!(outcomes(&world, &first).await, ["new"]);
    let runs = world.runs();
    let (claim, _) = claim_all(&runs).await.pop().unwrap();
    let goes_on = Continuation {
        claim,
        next: derived_id(claim.run, "continued"),
        params: b"{}".to_vec(),
        seen: 0,
        had_batches: false,
        attributes: None,
    };
    assert_eq!(runs.continue_runs(&[goes_on]).await.unwrap(), [LetGo::Done]);
    outcomes(&world, &january(1)).await;
    assert_eq!(all_done(&world, Vec::new(), 1).await, 31);
}

/// In pages of 500, by whomever; who asked for the first page may have died with it.
#[tokio::test(flavor = "multi_thread")]
async fn each_page_goes_on_where_the_lines_of_those_before_it_end() {
    let world = World::new().await;
    nightly(&world, ", cron = '* * * * *'").await;
    let page = |from: u32, to: u32| {
        format!(
            "select count(*) from lockgate.backfill_schedule('nightly', array(
                select timestamptz '2026-01-01Z' + n * interval '1 minute' from generate_series({from}, {to}) n), 2) where outcome = 'new'"
        )
    };
    for (from, to, new) in [(0, 99, 100), (100, 149, 50)] {
        assert_eq!(world.number(&page(from, to)).await, new);
    }
    let all = Backfill {
        to: Some("2026-01-01T20:00:00Z".parse().unwrap()),
        ..january(2)
    };
    assert_eq!(outcomes(&world, &all).await[150..], ["new"; 1_050]);
    assert_eq!(world.number(&page(1_200, 1_299)).await, 100);
    let first = "select count(*) from lockgate.task_runs where after_run is null";
    assert_eq!(world.number(first).await, 2);
    let lines = "select count(distinct after_run) from lockgate.task_runs";
    assert_eq!(world.number(lines).await, 1_298, "nobody waits for the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schedule_fires_beside_what_is_made_good() {
    let world = World::new().await;
    ten_minutes_missed(&world, "nightly", ", catch_up = 'last', overlap = 'skip'").await;
    let past = Backfill {
        to: Some("2026-01-01T00:05:00Z".parse().unwrap()),
        ..january(1)
    };
    assert_eq!(outcomes(&world, &past).await, ["new"; 5]);
    let ticked = Led::new(&world).await.tick().await;
    assert_eq!(ticked.fired, 1, "none of them keeps it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_good_says_why() {
    let world = World::new().await;
    nightly(&world, ", cron = '0 6 * * *'").await;
    let schedules = Schedules::new(world.database.clone());
    let refused = async |backfill: Backfill| schedules.backfill(&backfill).await.unwrap().unwrap_err();
    let unknown = Backfill {
        schedule: "weekly".to_owned(),
        ..january(1)
    };
    assert_eq!(refused(unknown).await, NotBackfilled::Unknown("weekly".to_owned()));
    assert!(matches!(refused(january(0)).await, NotBackfilled::Invalid(_)));
    world.run("update lockgate.schedules set cron = 'nonsense'").await;
    assert!(matches!(refused(january(1)).await, NotBackfilled::Invalid(_)));
    assert_eq!(world.number(RUNS).await, 0);
}

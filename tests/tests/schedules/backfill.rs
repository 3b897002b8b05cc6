//! Past slots that have no run get one.

use lockgate::lifecycle::{Act, Ending, RunStore};
use lockgate::postgres::{Backfill, NotBackfilled, Schedules};

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

#[tokio::test(flavor = "multi_thread")]
async fn so_many_of_them_go_on_at_once() {
    let world = World::new().await;
    nightly(&world, "").await;
    outcomes(&world, &january(3)).await;
    let runs = world.runs();
    let mut done = 0;
    while done < 31 {
        let claimed = claim_all(&runs).await;
        assert!(!claimed.is_empty() && claimed.len() <= 3, "{} at once", claimed.len());
        assert!(claim_all(&runs).await.is_empty());
        done += claimed.len();
        let end = |claim| Ending {
            claim,
            act: Act::Fail { reason: "x".to_owned() },
            had_batches: false,
            attributes: None,
        };
        let endings: Vec<Ending> = claimed.into_iter().map(|(claim, _)| end(claim)).collect();
        runs.let_go_runs(&endings).await.unwrap();
        // As whoever ends a scheduled run does.
        for ending in &endings {
            runs.wake_behind(ending.claim.run).await.unwrap();
        }
    }
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

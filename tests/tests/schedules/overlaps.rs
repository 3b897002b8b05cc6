use lockgate::lifecycle::{Act, Continuation, Ending, Fleet, LetGo, RunClaim, RunStore};
use uuid::Uuid;

use super::support::{Led, World, claim_all};
use super::{RUNS, ten_minutes_missed};

#[tokio::test(flavor = "multi_thread")]
async fn skip_passes_a_slot_over_while_a_run_is_not_over() {
    let world = World::new().await;
    ten_minutes_missed(&world, "a", ", catch_up = 'all', overlap = 'skip'").await;
    let led = Led::new(&world).await;
    let ticked = led.tick().await;
    assert_eq!(ticked.fired, 1);
    assert!(ticked.passed_over >= 9);
    let told = world
        .number(
            "select count(*) from lockgate.transitions t, lockgate.task_runs r
              where t.entity = 'schedule' and t.key = 'a' and t.to_status = 'passed_over' and t.term = 1
                and t.reason like 'slot %: run ' || r.id || ' is not over (overlap `skip`)'",
        )
        .await;
    assert_eq!(told, ticked.passed_over.cast_signed());

    // Once it is over the next slot fires.
    world
        .run(
            "update lockgate.task_runs set status = 'failed', finished_at = clock_timestamp();
             update lockgate.schedules set last_slot = last_slot - interval '1 minute', next_slot = null",
        )
        .await;
    assert_eq!(led.tick().await.fired, 1);
    assert_eq!(world.number(RUNS).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_makes_each_run_wait_for_the_one_before() {
    let world = World::new().await;
    ten_minutes_missed(&world, "a", ", catch_up = 'all', catch_up_max = 2, overlap = 'queue'").await;
    let fired = Led::new(&world).await.tick().await.fired.cast_signed();
    assert!(fired >= 3);
    let chained = world
        .number(
            "select count(*) from (select after_run, lag(id) over (order by slot) as before from lockgate.task_runs) r
              where after_run is not distinct from before",
        )
        .await;
    assert_eq!(
        chained, fired,
        "each waits for the one of the slot before, the first for none"
    );

    let in_the_way = "select count(*) from lockgate.task_runs where after_run is not null and wake_at is not null";
    assert_eq!(world.number(in_the_way).await, 0, "no look meets those that wait");
    let runs = world.runs();
    let (claim, first) = claim_all(&runs).await.pop().unwrap();
    assert!(claim_all(&runs).await.is_empty());
    complete(&runs, claim).await;
    let (_, second) = claim_all(&runs).await.pop().unwrap();
    assert!(second.slot > first.slot);
}

/// As a holder does whose code has returned.
async fn complete(runs: &impl RunStore, claim: RunClaim) {
    let ending = Ending {
        claim,
        act: Act::Complete { output: b"{}".to_vec() },
        had_batches: false,
        attributes: None,
    };
    assert_eq!(runs.let_go_runs(&[ending]).await.unwrap(), [LetGo::Done]);
    runs.wake_behind(claim.run).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_the_line_lets_nobody_begin_beside_the_first() {
    let world = World::new().await;
    ten_minutes_missed(&world, "a", ", catch_up = 'all', catch_up_max = 6, overlap = 'queue'").await;
    assert!(Led::new(&world).await.tick().await.fired >= 5);
    let runs = world.runs();
    let (claim, first) = claim_all(&runs).await.pop().unwrap();
    let second = "select id from lockgate.task_runs where status = 'queued' order by slot limit 1";
    world
        .run(&format!("select lockgate.cancel_run(({second}), 'not needed')"))
        .await;
    assert!(claim_all(&runs).await.is_empty(), "the third waits for the first now");
    complete(&runs, claim).await;
    let (_, third) = claim_all(&runs).await.pop().unwrap();
    assert!(third.slot > first.slot);
    // Whose end is not told at once the sweep finds, and no other.
    world
        .run(&format!("select lockgate.cancel_run(({second}), 'not needed')"))
        .await;
    let untold = "update lockgate.task_runs set after_run = (select id from lockgate.task_runs where status = 'cancelled' order by slot desc limit 1)
                   where id = (select id from lockgate.task_runs where status = 'queued' order by slot limit 1)";
    world.run(untold).await;
    world.fleet().sweep().await.unwrap();
    assert!(
        claim_all(&runs).await.is_empty(),
        "who left the line is over, who it waited for is not"
    );
}

/// A run that was paused and resumed has a time of its own from then on: its place in the line is asked for when it is claimed.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_paused_in_the_line_does_not_begin_beside_the_first_either() {
    let world = World::new().await;
    ten_minutes_missed(&world, "a", ", catch_up = 'all', catch_up_max = 6, overlap = 'queue'").await;
    assert!(Led::new(&world).await.tick().await.fired >= 5);
    let runs = world.runs();
    let (claim, first) = claim_all(&runs).await.pop().unwrap();
    world
        .run(
            "do $$
             declare line uuid[] := array(select id from lockgate.task_runs where status = 'queued' order by slot limit 2);
             begin
                 perform lockgate.pause_run(line[2]);
                 perform lockgate.resume_run(line[2]);
                 perform lockgate.cancel_run(line[1]);
             end $$",
        )
        .await;
    assert!(claim_all(&runs).await.is_empty(), "the first is not over");
    complete(&runs, claim).await;
    let next = claim_all(&runs).await;
    assert_eq!(next.len(), 1);
    assert!(next[0].1.slot > first.slot);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_has_an_end() {
    let world = World::new().await;
    ten_minutes_missed(&world, "a", ", catch_up = 'skip', overlap = 'queue'").await;
    world
        .run(
            "insert into lockgate.task_runs (id, workflow, status, origin_id, leader_term, schedule, slot)
             select lockgate.new_id(), 'reports', 'queued', lockgate.new_id(), 1, 'a', timestamptz '2020-01-01Z' + n * interval '1 minute'
               from generate_series(1, 1000) n",
        )
        .await;
    let ticked = Led::new(&world).await.tick().await;
    assert_eq!((ticked.fired, ticked.passed_over), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn allow_lets_them_run_side_by_side() {
    let world = World::new().await;
    ten_minutes_missed(&world, "a", ", catch_up = 'all', catch_up_max = 2, overlap = 'allow'").await;
    assert!(Led::new(&world).await.tick().await.fired >= 3);
    let waiting = "select count(*) from lockgate.task_runs where after_run is not null";
    assert_eq!(world.number(waiting).await, 0);
    assert!(claim_all(&world.runs()).await.len() >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_schedules_and_manual_runs_do_not_count() {
    let world = World::new().await;
    ten_minutes_missed(&world, "a", ", catch_up = 'skip'").await;
    ten_minutes_missed(&world, "b", ", catch_up = 'skip'").await;
    world.run("select lockgate.start_run('reports')").await;
    assert_eq!(Led::new(&world).await.tick().await.fired, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_goes_on_as_another_is_not_over() {
    let world = World::new().await;
    ten_minutes_missed(&world, "a", ", catch_up = 'skip', overlap = 'skip'").await;
    let led = Led::new(&world).await;
    assert_eq!(led.tick().await.fired, 1);
    let runs = world.runs();
    let (claim, _) = claim_all(&runs).await.pop().unwrap();
    let next = Continuation {
        claim,
        next: Uuid::now_v7(),
        params: b"{}".to_vec(),
        seen: 0,
        had_batches: false,
        attributes: None,
    };
    assert_eq!(runs.continue_runs(&[next]).await.unwrap(), [LetGo::Done]);
    let again = "update lockgate.schedules set last_slot = last_slot - interval '1 minute', next_slot = null;
        update lockgate.task_runs set slot = slot - interval '1 minute' where slot is not null";
    world.run(again).await;
    let ticked = led.tick().await;
    assert_eq!((ticked.fired, ticked.passed_over), (0, 1));

    let (claim, _) = claim_all(&runs).await.pop().unwrap();
    let ending = Ending {
        claim,
        act: Act::Complete { output: b"{}".to_vec() },
        had_batches: false,
        attributes: None,
    };
    assert_eq!(runs.let_go_runs(&[ending]).await.unwrap(), [LetGo::Done]);
    world.run(again).await;
    assert_eq!(led.tick().await.fired, 1);
}

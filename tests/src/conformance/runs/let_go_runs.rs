//! Letting go of runs: they end, wait, or are handed back.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use lockgate::lifecycle::{Act, Ending, Kind, LetGo, OpenWait, RunClaim, StepStatus};
use serde_json::{Value, json};

use super::crew::*;
use super::world::{RunWorld, Wake};

pub(super) async fn a_completed_run_keeps_its_output(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    assert_eq!(let_go(&*store, complete(claim)).await, LetGo::Done);
    let over = seen(world, claim.run).await;
    assert_eq!(
        (over.status.as_str(), over.wake, over.claim),
        ("completed", Wake::Never, None)
    );
    assert_eq!(over.output.as_deref(), Some(b"{\"ok\":true}".as_slice()));
    let ends = world.claim_ends(claim.run).await;
    assert_eq!((ends[0].from.as_str(), ends[0].to.as_str()), ("running", "completed"));
}

pub(super) async fn a_failed_run_keeps_its_reason(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    let reason = "no \0 money".to_owned();
    assert_eq!(let_go(&*store, ending(claim, Act::Fail { reason })).await, LetGo::Done);
    let over = seen(world, claim.run).await;
    assert_eq!(
        (over.status.as_str(), over.reason.as_deref()),
        ("failed", Some("no \u{fffd} money"))
    );
}

pub(super) async fn asked_again_after_a_lost_answer_nothing_more_happens(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    assert_eq!(let_go(&*store, complete(claim)).await, LetGo::Done);
    let reason = "too late".to_owned();
    for again in [
        complete(claim),
        wait(claim, 0, None),
        ending(claim, Act::Fail { reason }),
    ] {
        assert_eq!(let_go(&*store, again).await, LetGo::Lost);
    }
    assert_eq!(status(world, claim.run).await, is("completed", Wake::Never));
}

pub(super) async fn a_zombie_lets_go_of_nothing(world: &dyn RunWorld) {
    let store = world.replica();
    let zombie = start_and_claim(world, &*store).await;
    let owner = take_over(world, &*store, &zombie).await;
    let (one, two) = ("late".to_owned(), "late".to_owned());
    let acts = [
        complete(zombie),
        wait(zombie, 0, None),
        hand_back(zombie, HOUR),
        ending(zombie, Act::Fail { reason: one }),
        ending(zombie, Act::Quarantine { reason: two }),
        complete(RunClaim { token: 2, ..zombie }),
        complete(RunClaim { token: 1, ..owner }),
    ];
    for act in acts {
        assert_eq!(let_go(&*store, act).await, LetGo::Lost);
    }
    let held = seen(world, zombie.run).await;
    assert_eq!((held.status.as_str(), held.claim), ("running", Some(owner)));
    assert_eq!(results(world, zombie.run).await, [], "its waits were written");
}

pub(super) async fn each_of_a_group_is_judged_by_its_own_claim(world: &dyn RunWorld) {
    let store = world.replica();
    let zombie = start_and_claim(world, &*store).await;
    let owner = take_over(world, &*store, &zombie).await;
    let (woken, waiting, failing) = (
        start_and_claim(world, &*store).await,
        start_and_claim(world, &*store).await,
        start_and_claim(world, &*store).await,
    );
    store.wake_runs(&[woken.run]).await.unwrap();
    let reason = "no money".to_owned();
    let group = [
        wait(woken, 0, None),
        complete(zombie),
        wait(waiting, 0, None),
        ending(failing, Act::Fail { reason }),
        hand_back(owner, HOUR),
    ];
    let answers = store.let_go_runs(&group).await.unwrap();
    assert!(matches!(answers[0], LetGo::Held(poked) if poked.run == woken.run && poked.wake_seq == 1));
    assert_eq!(answers[1..], [LetGo::Lost, LetGo::Done, LetGo::Done, LetGo::Done]);
    for (claim, expected) in [
        (woken, is("running", Wake::Due)),
        (waiting, is("suspended", Wake::Never)),
        (failing, is("failed", Wake::Never)),
        (owner, is("running", Wake::Later)),
    ] {
        assert_eq!(status(world, claim.run).await, expected);
    }
    assert_eq!(store.let_go_runs(&[]).await.unwrap(), []);
}

pub(super) async fn a_run_that_waits_is_suspended_with_what_it_waits_for(world: &dyn RunWorld) {
    let store = world.replica();
    let claimed = start_and_claim(world, &*store).await;
    let due_at = world.now().await + TimeDelta::hours(1);
    assert_eq!(let_go(&*store, wait(claimed, 0, Some(due_at))).await, LetGo::Done);
    assert_eq!(status(world, claimed.run).await, is("suspended", Wake::Later));
    let open = world.steps(claimed.run).await.remove(0);
    assert_eq!(
        (open.path.as_str(), open.kind, open.status),
        ("0:paid", Kind::Signal, StepStatus::Open)
    );
    assert_eq!(
        (open.due_at, open.result, open.finished_at, open.claim_token),
        (Some(due_at), None, None, 1)
    );
    world.advance(HOUR / 2).await;
    assert_eq!(claimed_now(world).await, 0);
    world.advance(HOUR / 2).await;
    let (owner, work) = claim(&*store).await;
    assert_eq!((owner.token, work.wake_seq), (2, 0), "a timer is no wake-up");
}

async fn claimed_now(world: &dyn RunWorld) -> usize {
    claimed(&*world.replica(), &page(10)).await.len()
}

pub(super) async fn a_wait_is_refused_when_the_run_was_woken_since(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start(world).await;
    let (claim, work) = claim(&*store).await;
    // Between the code's last look and its suspending.
    send(&*store, signal(run, json!("card"))).await;
    let LetGo::Held(poked) = let_go(&*store, wait(claim, work.wake_seq, None)).await else {
        panic!("a signal was overlooked");
    };
    assert_eq!((poked.wake_seq, poked.halted, poked.paused), (1, false, false));
    assert_eq!(results(world, run).await, [], "nothing of a refused wait is written");
    assert_eq!(seen(world, run).await.claim, Some(claim));
    // It goes on under the same claim, with what it was told.
    save(&*store, step(claim, "0:paid", "1")).await;
    assert_eq!(let_go(&*store, wait(claim, poked.wake_seq, None)).await, LetGo::Done);
    assert_eq!(status(world, run).await, is("suspended", Wake::Never));
}

pub(super) async fn a_run_that_waits_for_batches_stays_running(world: &dyn RunWorld) {
    let store = world.replica();
    let claimed = start_and_claim(world, &*store).await;
    world.open_fan_out(&claimed, "0:reports").await.unwrap();
    let due_at = Some(world.now().await + TimeDelta::hours(1));
    let act = Act::Wait {
        seen: 0,
        due_at,
        batches: true,
        waits: vec![open_wait("1:sleep", Kind::Sleep, due_at)],
    };
    assert_eq!(let_go(&*store, ending(claimed, act)).await, LetGo::Done);
    assert_eq!(status(world, claimed.run).await, is("running", Wake::Later));
    assert!(world.complete_fan_out(claimed.run, "0:reports").await);
    let (_, work) = claim(&*store).await;
    assert_eq!((work.id, work.wake_seq), (claimed.run, 1));
    assert_eq!(work.step("0:reports").unwrap().status, StepStatus::Completed);
}

async fn suspend_again(world: &dyn RunWorld, waits: Vec<OpenWait>) -> RunClaim {
    let store = world.replica();
    store.wake_runs(&[world.runs().await[0].run]).await.unwrap();
    let (claim, work) = claim(&*store).await;
    let act = Act::Wait {
        seen: work.wake_seq,
        due_at: None,
        batches: false,
        waits,
    };
    assert_eq!(let_go(&*store, ending(claim, act)).await, LetGo::Done);
    claim
}

pub(super) async fn a_wait_that_is_suspended_again_keeps_its_row(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start_and_suspend(world, &*store).await;
    let first = world.steps(run).await;
    suspend_again(world, vec![open_wait("0:paid", Kind::Signal, None)]).await;
    assert_eq!(
        world.steps(run).await,
        first,
        "it was written again though nothing had changed"
    );
    let due_at: Option<DateTime<Utc>> = Some(world.now().await + TimeDelta::hours(2));
    let claim = suspend_again(world, vec![open_wait("0:paid", Kind::Signal, due_at)]).await;
    let changed = world.steps(run).await;
    assert_eq!((changed[0].due_at, changed[0].claim_token), (due_at, claim.token));
    assert_eq!(changed[0].started_at, first[0].started_at);
}

pub(super) async fn a_wait_never_opens_again_what_has_ended(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    save(&*store, step(claim, "0:paid", "1")).await;
    assert_eq!(let_go(&*store, wait(claim, 0, None)).await, LetGo::Done);
    assert_eq!(results(world, claim.run).await, [completed("0:paid", "1")]);
}

pub(super) async fn a_handed_back_run_is_claimed_after_its_delay(world: &dyn RunWorld) {
    let store = world.replica();
    let first = start_and_claim(world, &*store).await;
    die(world, &first).await;
    let (second, _) = claim(&*store).await;
    let reason = Some("the replica leaves".to_owned());
    let act = Act::HandBack { delay: HOUR, reason };
    assert_eq!(let_go(&*store, ending(second, act)).await, LetGo::Done);
    assert_eq!(status(world, first.run).await, is("running", Wake::Later));
    assert_eq!(claimed_now(world).await, 0);
    world.advance(HOUR).await;
    let (third, work) = claim(&*store).await;
    assert_eq!(
        (third.token, work.attempts),
        (3, 1),
        "handing back is no death and forgives none"
    );
    let ends = world.claim_ends(first.run).await;
    assert_eq!(ends[1].reason.as_deref(), Some("the replica leaves"));
}

pub(super) async fn a_run_that_waits_has_no_deaths_to_answer_for(world: &dyn RunWorld) {
    let store = world.replica();
    let first = start_and_claim(world, &*store).await;
    die(world, &first).await;
    let (second, work) = claim(&*store).await;
    assert_eq!(work.attempts, 1);
    assert_eq!(let_go(&*store, wait(second, 0, None)).await, LetGo::Done);
    assert_eq!(seen(world, first.run).await.attempts, 0);
}

pub(super) async fn a_paused_run_waits_and_is_handed_back_but_does_not_end(world: &dyn RunWorld) {
    let store = world.replica();
    let first = start_and_claim(world, &*store).await;
    assert_eq!(world.pause(first.run).await, "paused");
    let reason = "no money".to_owned();
    for act in [complete(first), ending(first, Act::Fail { reason })] {
        let answer = let_go(&*store, act).await;
        assert!(
            matches!(answer, LetGo::Held(poked) if poked.paused && !poked.halted),
            "{answer:?}"
        );
    }
    assert_eq!(let_go(&*store, wait(first, 0, None)).await, LetGo::Done);
    assert_eq!(status(world, first.run).await.0, "paused");
    assert_eq!(claimed_now(world).await, 0);
    assert_eq!(world.resume(first.run).await, "running");
    let (second, _) = claim(&*store).await;
    assert_eq!(world.pause(first.run).await, "paused");
    assert_eq!(let_go(&*store, hand_back(second, HOUR)).await, LetGo::Done);
    assert_eq!(
        (status(world, first.run).await.0.as_str(), claimed_now(world).await),
        ("paused", 0)
    );
}

pub(super) async fn a_run_that_is_to_stop_neither_waits_nor_ends_otherwise(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    assert_eq!(world.cancel(claim.run).await, "stopping");
    let reason = "no money".to_owned();
    for act in [
        complete(claim),
        wait(claim, 0, None),
        ending(claim, Act::Fail { reason }),
    ] {
        let answer = let_go(&*store, act).await;
        assert!(matches!(answer, LetGo::Held(poked) if poked.halted), "{answer:?}");
    }
    assert!(!world.settle_stop(claim.run).await, "its code still runs");
    assert_eq!(let_go(&*store, hand_back(claim, HOUR / 3_600)).await, LetGo::Done);
    assert!(world.settle_stop(claim.run).await);
    assert_eq!(status(world, claim.run).await, is("cancelled", Wake::Never));
}

pub(super) async fn unfinished_batches_keep_a_run_from_its_end(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    let with_batches = || Ending {
        had_batches: true,
        ..complete(claim)
    };
    for (waiting, held) in [(1, 0), (0, 1), (2, 3)] {
        world.set_batches(claim.run, waiting, held).await;
        let answer = let_go(&*store, with_batches()).await;
        assert!(
            matches!(answer, LetGo::Held(poked) if !poked.halted && !poked.paused),
            "{answer:?}"
        );
    }
    world.set_batches(claim.run, 0, 0).await;
    assert_eq!(let_go(&*store, with_batches()).await, LetGo::Done);
}

pub(super) async fn of_many_ends_at_once_one_counts(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    let many = (0..12).map(|number| {
        let store = world.replica();
        let output = format!("{number}").into_bytes();
        let act = ending(claim, Act::Complete { output: output.clone() });
        tokio::spawn(async move { (output, let_go(&*store, act).await) })
    });
    let answers: Vec<_> = futures::future::join_all(many)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let done: Vec<_> = answers.iter().filter(|(_, answer)| *answer == LetGo::Done).collect();
    assert_eq!(done.len(), 1, "{answers:?}");
    assert!(
        answers
            .iter()
            .all(|(_, answer)| matches!(answer, LetGo::Done | LetGo::Lost))
    );
    assert_eq!(seen(world, claim.run).await.output.as_ref(), Some(&done[0].0));
}

/// It is slow as long as it records something, and stuck when it does not.
pub(super) async fn code_that_runs_too_long_five_times_is_set_aside(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start(world).await;
    let overrun = |claim| {
        let reason = "it ran too long".to_owned();
        ending(claim, Act::Overrun { reason })
    };
    for number in 0..6 {
        let (held, _) = claim(&*store).await;
        save(&*store, step(held, &format!("{number}:slow"), "1")).await;
        let asked = Instant::now();
        assert_eq!(let_go(&*store, overrun(held)).await, LetGo::Done);
        let seen = seen(world, run).await;
        // It pauses for a second, which a busy machine may need to look.
        let in_time = asked.elapsed() < Duration::from_secs(1);
        let may_be = seen.wake == Wake::Later || !in_time && seen.wake == Wake::Due;
        assert!(seen.status == "running" && may_be, "{seen:?}");
        world.advance(Duration::from_secs(2)).await;
    }
    // None of these counts: it recorded something.
    for times in 1..=5 {
        let (held, work) = claim(&*store).await;
        assert_eq!(work.attempts, 0, "nobody died");
        assert_eq!(let_go(&*store, overrun(held)).await, LetGo::Done);
        let expected = if times < 5 { "running" } else { "quarantined" };
        assert_eq!(seen(world, run).await.status, expected, "{times}");
        world.advance(Duration::from_secs(2)).await;
    }
    assert_eq!(
        seen(world, run).await.reason.as_deref(),
        Some("it ran too long, five times in a row")
    );
    assert_eq!(world.resume(run).await, "running");
    let (held, _) = claim(&*store).await;
    assert_eq!(let_go(&*store, complete(held)).await, LetGo::Done);
}

pub(super) async fn what_its_code_set_of_its_attributes_is_written(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    let set = |ending: Ending, attributes: Value| Ending {
        attributes: attributes.as_object().cloned(),
        ..ending
    };
    let first = set(hand_back(claim, Duration::ZERO), json!({"city": "Bonn", "rank": 1}));
    assert_eq!(let_go(&*store, first).await, LetGo::Done);
    assert_eq!(
        Value::Object(seen(world, claim.run).await.attributes),
        json!({"city": "Bonn", "rank": 1})
    );
    let (again, _) = super::crew::claim(&*store).await;
    let second = set(complete(again), json!({"rank": 2, "city": null}));
    let late = set(complete(claim), json!({"rank": 3}));
    assert_eq!(let_go(&*store, late).await, LetGo::Lost);
    assert_eq!(let_go(&*store, second).await, LetGo::Done);
    assert_eq!(
        Value::Object(seen(world, claim.run).await.attributes),
        json!({"rank": 2})
    );
}

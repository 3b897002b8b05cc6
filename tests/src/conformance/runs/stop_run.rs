//! Runs that are to stop: what they did is undone first, by whoever has their code, unless they are forced.

use std::time::Duration;

use chrono::TimeDelta;
use lockgate::lifecycle::{Act, Kind, LetGo, NewStep, RunClaim, RunStore, StepStatus};
use lockgate::memory::RunStart;

use super::crew::*;
use super::world::{RunWorld, Wake};

/// A step that can be undone, done or only begun.
fn undoable(claim: RunClaim, path: &str, status: StepStatus) -> NewStep {
    NewStep {
        kind: Kind::Undoable,
        status,
        ..step(claim, path, "1")
    }
}

/// A suspended run that did something that can be undone.
async fn suspends_after(world: &dyn RunWorld, store: &dyn RunStore, status: StepStatus) -> RunClaim {
    let claim = start_and_claim(world, store).await;
    save(store, undoable(claim, "0:charge", status)).await;
    assert_eq!(let_go(store, wait(claim, 0, None)).await, LetGo::Done);
    claim
}

/// Whoever has the code of the one run that is to stop runs it.
async fn claim_to_undo(store: &dyn RunStore) -> RunClaim {
    let (claim, work) = claim(store).await;
    assert!(work.undoing, "{work:?}");
    claim
}

async fn undone(store: &dyn RunStore, claim: RunClaim) {
    save(store, step(claim, "undo/0:charge", "null")).await;
}

pub(super) async fn a_run_with_something_to_undo_is_woken_and_ends_when_it_is_undone(world: &dyn RunWorld) {
    for status in [StepStatus::Completed, StepStatus::Open, StepStatus::Failed] {
        let store = world.replica();
        let first = suspends_after(world, &*store, status).await;
        assert_eq!(world.cancel(first.run).await, "stopping");
        assert_eq!(seen(world, first.run).await.wake, Wake::Due);
        for _ in 0..2 {
            assert!(!world.settle_stop(first.run).await, "nothing is undone");
            world.sweep().await;
        }
        let claim = claim_to_undo(&*store).await;
        undone(&*store, claim).await;
        let poked = store.poked_runs(&[claim.run]).await.unwrap().remove(0);
        assert!(poked.halted && !poked.forced, "{poked:?}");
        assert_eq!(let_go(&*store, ending(claim, Act::Unwound)).await, LetGo::Done);
        assert!(world.settle_stop(claim.run).await);
        assert_eq!(status_of(world, claim).await, ("cancelled", Some("by a test")));
    }
}

async fn status_of(world: &dyn RunWorld, claim: RunClaim) -> (&'static str, Option<&'static str>) {
    let seen = seen(world, claim.run).await;
    let known = |text: &str| {
        let all = [
            "cancelled",
            "failed",
            "quarantined",
            "running",
            "suspended",
            "by a test",
            FORCED,
            PAST,
            CLOSED,
        ];
        all.into_iter().find(|known| *known == text)
    };
    (
        known(&seen.status).unwrap_or("another"),
        seen.reason.as_deref().map(|text| known(text).unwrap_or("another")),
    )
}

const FORCED: &str = "by a test; by force, not undone: 0:charge";
const PAST: &str = "not over before its deadline";
const CLOSED: &str = "the bank is closed";

pub(super) async fn what_is_undone_or_never_began_keeps_no_run_from_its_end(world: &dyn RunWorld) {
    let store = world.replica();
    let queued = start(world).await;
    assert_eq!(world.cancel(queued).await, "cancelled");
    let waiting = start_and_suspend(world, &*store).await;
    assert_eq!(world.cancel(waiting).await, "cancelled");
    let claim = start_and_claim(world, &*store).await;
    save(&*store, undoable(claim, "0:charge", StepStatus::Completed)).await;
    undone(&*store, claim).await;
    assert_eq!(let_go(&*store, wait(claim, 0, None)).await, LetGo::Done);
    assert_eq!(world.cancel(claim.run).await, "cancelled");
}

pub(super) async fn by_force_nothing_is_undone_and_the_reason_says_what(world: &dyn RunWorld) {
    let store = world.replica();
    let asked_twice = suspends_after(world, &*store, StepStatus::Completed).await;
    assert_eq!(world.cancel(asked_twice.run).await, "stopping");
    assert_eq!(world.force_cancel(asked_twice.run).await, "cancelled");
    let at_once = suspends_after(world, &*store, StepStatus::Open).await;
    assert_eq!(world.force_cancel(at_once.run).await, "cancelled");
    for claim in [asked_twice, at_once] {
        assert_eq!(status_of(world, claim).await, ("cancelled", Some(FORCED)));
        assert_eq!(world.force_cancel(claim.run).await, "cancelled", "it is over");
    }
    // Of one that is held its holder hears, and lets go.
    let held = start_and_claim(world, &*store).await;
    save(&*store, undoable(held, "0:charge", StepStatus::Completed)).await;
    assert_eq!(world.force_cancel(held.run).await, "stopping");
    let poked = store.poked_runs(&[held.run]).await.unwrap().remove(0);
    assert!(poked.halted && poked.forced, "{poked:?}");
    let waits = Act::WaitToUndo {
        seen: 0,
        due_at: None,
        waits: Vec::new(),
    };
    let answer = let_go(&*store, ending(held, waits)).await;
    assert!(matches!(answer, LetGo::Held(poked) if poked.forced), "{answer:?}");
    assert_eq!(let_go(&*store, hand_back(held, Duration::ZERO)).await, LetGo::Done);
    assert!(world.settle_stop(held.run).await);
    assert_eq!(status_of(world, held).await, ("cancelled", Some(FORCED)));
}

pub(super) async fn a_holder_that_dies_undoing_is_followed_by_another(world: &dyn RunWorld) {
    let store = world.replica();
    let live = start_and_claim(world, &*store).await;
    save(&*store, undoable(live, "0:charge", StepStatus::Completed)).await;
    assert_eq!(world.cancel(live.run).await, "stopping");
    // It dies before it has heard.
    die(world, &live).await;
    world.sweep().await;
    let second = claim_to_undo(&*store).await;
    // It came some way, so nobody suspects the run.
    save(&*store, step(second, "undo", "null")).await;
    die(world, &second).await;
    world.sweep().await;
    let third = claim_to_undo(&*store).await;
    assert_eq!(third.token, 3);
    undone(&*store, third).await;
    assert_eq!(let_go(&*store, ending(third, Act::Unwound)).await, LetGo::Done);
    assert!(world.settle_stop(third.run).await);
}

pub(super) async fn an_undo_that_waits_is_claimed_again_when_it_is_due(world: &dyn RunWorld) {
    let store = world.replica();
    let first = suspends_after(world, &*store, StepStatus::Completed).await;
    world.cancel(first.run).await;
    let claim = claim_to_undo(&*store).await;
    let due_at = Some(world.now().await + TimeDelta::hours(1));
    let seq = seen(world, claim.run).await.wake_seq;
    let wait = |seen| Act::WaitToUndo {
        seen,
        due_at,
        waits: vec![open_wait("undo/0:charge", Kind::Step, due_at)],
    };
    let refused = let_go(&*store, ending(claim, wait(seq - 1))).await;
    assert!(matches!(refused, LetGo::Held(poked) if poked.halted), "{refused:?}");
    assert_eq!(let_go(&*store, ending(claim, wait(seq))).await, LetGo::Done);
    world.sweep().await;
    assert_eq!(claimed(&*store, &page(1)).await, NONE);
    world.advance(HOUR).await;
    let again = claim_to_undo(&*store).await;
    let steps = world.steps(again.run).await;
    assert_eq!(
        (steps[2].path.as_str(), steps[2].status),
        ("undo/0:charge", StepStatus::Open)
    );
}

pub(super) async fn what_cannot_be_undone_sets_the_run_aside_until_a_person_says(world: &dyn RunWorld) {
    let store = world.replica();
    let first = suspends_after(world, &*store, StepStatus::Completed).await;
    world.cancel(first.run).await;
    let claim = claim_to_undo(&*store).await;
    let not_undone = || Act::NotUndone {
        reason: CLOSED.to_owned(),
        waits: vec![open_wait("undo/0:charge", Kind::Step, None)],
    };
    assert_eq!(let_go(&*store, ending(claim, not_undone())).await, LetGo::Done);
    for _ in 0..2 {
        world.sweep().await;
        assert!(!world.settle_stop(claim.run).await);
        assert_eq!(status_of(world, claim).await, ("quarantined", Some(CLOSED)));
    }
    assert_eq!(world.resume(claim.run).await, "running");
    let again = claim_to_undo(&*store).await;
    assert_eq!(let_go(&*store, ending(again, not_undone())).await, LetGo::Done);
    assert_eq!(world.force_cancel(claim.run).await, "cancelled");
    assert_eq!(status_of(world, claim).await, ("cancelled", Some(FORCED)));
}

/// Of a run that failed by itself nobody asked that it stop: resumed, it goes on undoing, and then fails.
pub(super) async fn a_failed_run_that_is_not_undone_is_resumed_as_any_other(world: &dyn RunWorld) {
    let store = world.replica();
    let held = start_and_claim(world, &*store).await;
    save(&*store, undoable(held, "0:charge", StepStatus::Completed)).await;
    let not_undone = Act::NotUndone {
        reason: CLOSED.to_owned(),
        waits: Vec::new(),
    };
    assert_eq!(let_go(&*store, ending(held, not_undone)).await, LetGo::Done);
    assert_eq!(status_of(world, held).await, ("quarantined", Some(CLOSED)));
    assert_eq!(world.resume(held.run).await, "running");
    let (again, work) = claim(&*store).await;
    assert!(!work.undoing);
    undone(&*store, again).await;
    let reason = CLOSED.to_owned();
    assert_eq!(let_go(&*store, ending(again, Act::Fail { reason })).await, LetGo::Done);
    assert_eq!(status_of(world, held).await, ("failed", Some(CLOSED)));
}

pub(super) async fn a_paused_run_that_is_to_stop_undoes_what_it_did(world: &dyn RunWorld) {
    let store = world.replica();
    let first = suspends_after(world, &*store, StepStatus::Completed).await;
    assert_eq!(world.pause(first.run).await, "paused");
    assert_eq!(world.cancel(first.run).await, "stopping");
    assert_eq!(world.pause(first.run).await, "running", "it is not paused again");
    claim_to_undo(&*store).await;
}

pub(super) async fn a_run_past_its_deadline_undoes_what_it_did(world: &dyn RunWorld) {
    let store = world.replica();
    let mut late = RunStart::new(WORKFLOW);
    late.request.deadline = Some(HOUR);
    world.start(late).await.unwrap();
    let (first, _) = claim(&*store).await;
    save(&*store, undoable(first, "0:charge", StepStatus::Completed)).await;
    assert_eq!(let_go(&*store, wait(first, 0, None)).await, LetGo::Done);
    world.advance(2 * HOUR).await;
    world.sweep().await;
    let claim = claim_to_undo(&*store).await;
    undone(&*store, claim).await;
    assert_eq!(let_go(&*store, ending(claim, Act::Unwound)).await, LetGo::Done);
    world.sweep().await;
    assert_eq!(status_of(world, claim).await, ("failed", Some(PAST)));
}

//! Taking runs from holders that died.

use std::time::Duration;

use lockgate::lifecycle::{Ended, LetGo, RunClaim, RunId, RunStore};

use super::crew::*;
use super::world::{RunWorld, Wake};

pub(super) async fn live_leases_are_left_alone(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    assert_eq!(world.sweep().await, 0);
    assert_eq!(seen(world, claim.run).await.claim, Some(claim));
}

pub(super) async fn a_lease_ends_by_itself_unless_it_is_renewed(world: &dyn RunWorld) {
    let store = world.replica();
    let claims = [
        start_and_claim(world, &*store).await,
        start_and_claim(world, &*store).await,
    ];
    // Twice two thirds of a lease.
    for _ in 0..2 {
        world.advance(HOUR * 2 / 3).await;
        assert!(world.renew(&claims[0]).await);
    }
    assert_eq!(world.sweep().await, 1);
    assert_eq!(seen(world, claims[0].run).await.claim, Some(claims[0]));
    assert_eq!(seen(world, claims[1].run).await.claim, None);
    assert!(!world.renew(&claims[1]).await, "what is lost is not renewed");
    assert!(!world.renew(&RunClaim { token: 9, ..claims[0] }).await);
}

pub(super) async fn a_run_of_a_dead_holder_is_claimed_again(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start(world).await;
    let (first, begun) = claim(&*store).await;
    world.end_leases(&first).await;
    assert_eq!(world.sweep().await, 1);
    assert_eq!(world.sweep().await, 0);
    assert_eq!(status(world, run).await, is("running", Wake::Due));
    let (second, work) = claim(&*store).await;
    assert_eq!((second.token, work.attempts), (2, 1));
    assert_eq!(work.started_at, begun.started_at, "it began with its first claim");
    let ends = world.claim_ends(run).await;
    assert_eq!((ends[0].token, ends[0].reason.as_deref()), (1, Some("lease ended")));
}

pub(super) async fn all_runs_of_a_page_are_taken_together(world: &dyn RunWorld) {
    let store = world.replica();
    for _ in 0..4 {
        start(world).await;
    }
    let got = store.claim_runs(&page(3)).await.unwrap();
    let other = store.claim_runs(&page(3)).await.unwrap();
    world.end_leases(&got[0].0).await;
    assert_eq!(world.sweep().await, 3);
    assert_eq!(seen(world, other[0].0.run).await.claim, Some(other[0].0));
}

/// Claims by the page that suits, and dies; answers the claim.
async fn kill(world: &dyn RunWorld, store: &dyn RunStore, suspected: bool) -> RunClaim {
    let page = if suspected { suspects() } else { page(10) };
    let got = store.claim_runs(&page).await.unwrap();
    assert!(!got.is_empty(), "suspected {suspected}: nothing to claim");
    die(world, &got[0].0).await;
    got[0].0
}

pub(super) async fn two_deaths_make_a_suspect_that_is_claimed_apart(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start(world).await;
    assert_eq!(claimed(&*store, &suspects()).await, NONE, "nothing is suspected yet");
    kill(world, &*store, false).await;
    assert_eq!(claimed(&*store, &suspects()).await, NONE);
    kill(world, &*store, false).await;
    assert_eq!(seen(world, run).await.attempts, 2);
    assert_eq!(claimed(&*store, &page(10)).await, NONE);
    assert_eq!(claimed(&*store, &suspects()).await, [run]);
}

pub(super) async fn suspects_are_claimed_one_at_a_time(world: &dyn RunWorld) {
    let store = world.replica();
    for _ in 0..3 {
        start(world).await;
    }
    for _ in 0..2 {
        kill(world, &*store, false).await;
    }
    let mut all = Vec::new();
    for _ in 0..3 {
        let got = claimed(&*store, &suspects()).await;
        assert_eq!(got.len(), 1, "{got:?}");
        all.extend(got);
    }
    all.sort_unstable();
    let runs: Vec<RunId> = world.runs().await.into_iter().map(|seen| seen.run).collect();
    assert_eq!(all, runs);
}

pub(super) async fn a_suspect_that_its_holder_lives_with_is_acquitted(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start(world).await;
    for _ in 0..2 {
        kill(world, &*store, false).await;
    }
    let got = store.claim_runs(&suspects()).await.unwrap();
    let claim = got[0].0;
    let other = RunClaim { token: 9, ..claim };
    assert!(!store.acquit_run(&other).await.unwrap(), "another's claim");
    assert!(store.acquit_run(&claim).await.unwrap());
    assert!(
        store.acquit_run(&claim).await.unwrap(),
        "the answer of the first was lost"
    );
    let acquitted = seen(world, run).await;
    assert_eq!((acquitted.attempts, acquitted.claim), (2, Some(claim)));
    die(world, &claim).await;
    assert!(!store.acquit_run(&claim).await.unwrap(), "it is another's now");
    // What kills slowly is set aside too, when it has killed twice as many.
    for deaths in 3..10 {
        let so_far = seen(world, run).await;
        assert_eq!((so_far.status.as_str(), so_far.attempts), ("running", deaths));
        let claim = store.claim_runs(&suspects()).await.unwrap()[0].0;
        assert!(store.acquit_run(&claim).await.unwrap());
        die(world, &claim).await;
    }
    assert_eq!(seen(world, run).await.status, "quarantined");
}

pub(super) async fn a_run_that_kills_five_holders_is_set_aside(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start(world).await;
    for death in 0..5 {
        kill(world, &*store, death >= 2).await;
    }
    let set_aside = seen(world, run).await;
    assert_eq!(
        (set_aside.status.as_str(), set_aside.wake),
        ("quarantined", Wake::Never)
    );
    assert_eq!(set_aside.reason.as_deref(), Some("its code killed 5 replicas in a row"));
    assert_eq!(claimed(&*store, &suspects()).await, NONE);
    assert_eq!(world.resume(run).await, "running");
    assert_eq!(
        claimed(&*store, &page(10)).await,
        [run],
        "a person has looked: it is no suspect any more"
    );
}

pub(super) async fn who_stood_beside_is_not_set_aside(world: &dyn RunWorld) {
    let store = world.replica();
    let (killer, beside) = (start(world).await, start(world).await);
    for _ in 0..2 {
        kill(world, &*store, false).await;
    }
    // Both are suspects now. One is held by a replica that keeps dying of the other.
    for _ in 0..3 {
        let mut held = store.claim_runs(&suspects()).await.unwrap();
        held.extend(store.claim_runs(&suspects()).await.unwrap());
        let of = |run| {
            held.iter()
                .map(|(claim, _)| *claim)
                .find(|claim| claim.run == run)
                .unwrap()
        };
        die(world, &of(killer)).await;
        assert_eq!(
            let_go(&*store, hand_back(of(beside), Duration::ZERO)).await,
            LetGo::Done
        );
    }
    assert_eq!(status(world, killer).await.0, "quarantined");
    let innocent = seen(world, beside).await;
    assert_eq!((innocent.status.as_str(), innocent.attempts), ("running", 2));
}

pub(super) async fn a_run_that_recorded_something_begins_anew(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start(world).await;
    for round in 0..8 {
        let page = if seen(world, run).await.attempts >= 2 {
            suspects()
        } else {
            page(10)
        };
        let (claim, _) = store.claim_runs(&page).await.unwrap().remove(0);
        save(&*store, step(claim, &format!("{round}:pay"), "1")).await;
        die(world, &claim).await;
        let alive = seen(world, run).await;
        assert_eq!((alive.status.as_str(), alive.attempts), ("running", 1), "round {round}");
    }
}

pub(super) async fn a_paused_run_of_a_dead_holder_stays_paused(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    world.pause(claim.run).await;
    die(world, &claim).await;
    let paused = seen(world, claim.run).await;
    assert_eq!(
        (paused.status.as_str(), paused.claim, paused.attempts),
        ("paused", None, 1)
    );
    assert_eq!(claimed(&*store, &page(10)).await, NONE);
    assert_eq!(world.resume(claim.run).await, "running");
    assert_eq!(claimed(&*store, &page(10)).await, [claim.run]);
}

pub(super) async fn a_run_that_is_to_stop_is_over_when_its_holder_is_dead(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    assert_eq!(world.cancel(claim.run).await, "stopping");
    assert_eq!(world.cancel(claim.run).await, "stopping");
    assert_eq!(world.sweep().await, 0);
    assert_eq!(seen(world, claim.run).await.stopping.as_deref(), Some("cancelled"));
    die(world, &claim).await;
    assert_eq!(status(world, claim.run).await, is("cancelled", Wake::Never));
    assert_eq!(world.cancel(claim.run).await, "cancelled");
}

pub(super) async fn a_holder_fails_its_run_though_batches_are_in_flight(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    world.set_batches(claim.run, 1, 1).await;
    let zombie = RunClaim { token: 7, ..claim };
    assert_eq!(world.fail_claimed(&zombie, "late").await, Ended::Lost);
    assert_eq!(world.fail_claimed(&claim, "no money").await, Ended::Done);
    let failing = seen(world, claim.run).await;
    assert_eq!((failing.claim, failing.stopping.as_deref()), (None, Some("failed")));
    assert_eq!(claimed(&*store, &page(10)).await, NONE);
    world.set_batches(claim.run, 1, 0).await;
    assert!(world.settle_stop(claim.run).await);
    let over = seen(world, claim.run).await;
    assert_eq!(
        (over.status.as_str(), over.reason.as_deref()),
        ("failed", Some("no money"))
    );
    assert_eq!(world.fail_claimed(&claim, "no money").await, Ended::Lost);
}

pub(super) async fn a_late_end_and_the_recovery_never_both_win(world: &dyn RunWorld) {
    let store = world.replica();
    for round in 0..20 {
        let claimed = start_and_claim(world, &*store).await;
        world.end_leases(&claimed).await;
        let late = world.replica();
        let ending = tokio::spawn(async move { let_go(&*late, complete(claimed)).await });
        let taken = world.sweep().await;
        let expected = match ending.await.unwrap() {
            LetGo::Done => ((0, is("completed", Wake::Never)), "the holder ended it"),
            _ => ((1, is("running", Wake::Due)), "it was taken from its holder"),
        };
        let found = status(world, claimed.run).await;
        assert_eq!((taken, found), expected.0, "round {round}: {}", expected.1);
        world.cancel(claimed.run).await;
    }
}

pub(super) async fn a_renewed_lease_is_not_taken(world: &dyn RunWorld) {
    let store = world.replica();
    for round in 0..20 {
        let claimed = start_and_claim(world, &*store).await;
        world.end_leases(&claimed).await;
        // The holder comes back just when somebody looks: one of them gets the run.
        let (renewed, taken) = tokio::join!(world.renew(&claimed), world.sweep());
        let held = seen(world, claimed.run).await.claim.is_some();
        assert_eq!((held, taken == 0), (renewed, renewed), "round {round}");
        world.cancel(claimed.run).await;
        if held {
            assert_eq!(let_go(&*store, hand_back(claimed, Duration::ZERO)).await, LetGo::Done);
            world.settle_stop(claimed.run).await;
        }
    }
}

pub(super) async fn what_is_over_is_neither_paused_nor_resumed(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    assert_eq!(world.resume(claim.run).await, "running", "it is not paused");
    assert_eq!(let_go(&*store, complete(claim)).await, LetGo::Done);
    for answer in [
        world.pause(claim.run).await,
        world.resume(claim.run).await,
        world.cancel(claim.run).await,
    ] {
        assert_eq!(answer, "completed");
    }
    let nobody = page(1).claim_id;
    for answer in [
        world.pause(nobody).await,
        world.resume(nobody).await,
        world.cancel(nobody).await,
    ] {
        assert_eq!(answer, "unknown");
    }
}

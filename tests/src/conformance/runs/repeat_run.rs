//! Doing again what a run did that is over.

use lockgate::inspect::NotRepeated;
use lockgate::lifecycle::{Act, Again, Kind, LetGo, NewStep, RepeatRun, RunClaim, RunId, RunStore, Saved, StepStatus};

use super::crew::*;
use super::start_children::{child, with_children};
use super::world::RunWorld;

/// A run that has recorded these steps, of which some failed, and has failed.
async fn failed(world: &dyn RunWorld, store: &dyn RunStore, steps: &[(&str, StepStatus)]) -> RunClaim {
    let claim = start_and_claim(world, store).await;
    for (path, status) in steps {
        record(store, claim, path, Kind::Step, *status).await;
    }
    fail(store, claim).await;
    claim
}

/// A step, whose result is 1 if it has one.
async fn record(store: &dyn RunStore, claim: RunClaim, path: &str, kind: Kind, status: StepStatus) {
    let ended = step(claim, path, "1");
    let result = ended.result.clone().filter(|_| status != StepStatus::Open);
    save(
        store,
        NewStep {
            kind,
            status,
            result,
            ..ended
        },
    )
    .await;
}

async fn fail(store: &dyn RunStore, claim: RunClaim) {
    let act = Act::Fail {
        reason: "no money".to_owned(),
    };
    assert_eq!(let_go(store, ending(claim, act)).await, LetGo::Done);
}

/// What the run begins with that does it again from this step.
async fn kept(world: &dyn RunWorld, of: RunId, from: Option<&str>) -> Vec<String> {
    let retry = RepeatRun {
        from: from.map(str::to_owned),
        ..RepeatRun::retry(of)
    };
    let again = world.repeat(&retry).await.unwrap();
    assert_eq!(world.repeat(&retry).await, Ok(again), "asked again it is the same");
    world.steps(again).await.into_iter().map(|step| step.path).collect()
}

pub(super) async fn a_retry_keeps_what_stands_before_the_step_that_failed(world: &dyn RunWorld) {
    use StepStatus::{Completed, Failed};
    let store = world.replica();
    let steps = [
        ("0:a", Completed),
        ("1:join/0/0:a", Completed),
        ("1:join/0/1:b", Failed),
        ("1:join/0/2:c", Completed),
        ("1:join/1/0:a", Completed),
        ("1:join/1/1:b", Completed),
        ("2:d", Completed),
    ];
    let run = failed(world, &*store, &steps).await.run;
    let beside = ["0:a", "1:join/0/0:a", "1:join/1/0:a", "1:join/1/1:b"];
    assert_eq!(kept(world, run, None).await, beside);
    assert_eq!(
        kept(world, run, Some("c")).await,
        [&beside[..2], &["1:join/0/1:b"], &beside[2..]].concat()
    );
    // What failed in another branch is done again too.
    assert_eq!(kept(world, run, Some("1:join/1/1:b")).await, beside[..3]);
    assert_eq!(kept(world, run, Some("0:a")).await, [""; 0]);
}

/// A branch waits, the other one fails and so ends first: the wait is not over.
pub(super) async fn a_retry_waits_anew_for_what_was_dropped(world: &dyn RunWorld) {
    let store = world.replica();
    let first = start_and_claim(world, &*store).await;
    save(&*store, step(first, "0:a", "1")).await;
    let act = Act::Wait {
        seen: 0,
        due_at: None,
        batches: false,
        waits: vec![open_wait("1:select/0/0:paid", Kind::Signal, None)],
    };
    assert_eq!(let_go(&*store, ending(first, act)).await, LetGo::Done);
    store.wake_runs(&[first.run]).await.unwrap();
    let (claim, _) = claim(&*store).await;
    record(&*store, claim, "1:select/1/0:remind", Kind::Step, StepStatus::Failed).await;
    let won = NewStep {
        kind: Kind::Select,
        ..step(claim, "1:select", "1")
    };
    let lost = ["1:select/0/".to_owned()];
    assert_eq!(store.settle_select(&won, &lost).await.unwrap(), Saved::Done);
    fail(&*store, claim).await;
    assert_eq!(kept(world, claim.run, None).await, ["0:a"]);
}

/// A child that was stopped with its parent did not do what it was to do; a detached one goes on, and there is no second one.
pub(super) async fn a_retry_starts_children_again_that_were_stopped(world: &dyn RunWorld) {
    let store = world.replica();
    let nobody = RunClaim {
        run: uuid::Uuid::nil(),
        token: 0,
        claim_id: uuid::Uuid::nil(),
    };
    let mut detached = child(nobody, "1:letter");
    detached.wishes.detached = true;
    let parent = with_children(world, &*store, &[child(nobody, "0:parcel"), detached]).await;
    fail(&*store, parent).await;
    world.sweep().await;
    let dropped = world.steps(parent.run).await;
    assert!(
        dropped.iter().all(|step| step.status == StepStatus::Dropped),
        "{dropped:?}"
    );
    assert_eq!(kept(world, parent.run, None).await, ["1:letter"]);
}

/// What a branch undid, or failed of, that lost a select is no concern of what comes after that.
pub(super) async fn a_retry_leaves_alone_what_lost_a_select(world: &dyn RunWorld) {
    use StepStatus::{Completed, Failed};
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    for (path, kind, status) in [
        ("0:select/0/0:paid", Kind::Step, Completed),
        // The first of equally late ones.
        ("0:select/1/0:hold", Kind::Undoable, Completed),
        ("0:select/1/1:ask", Kind::Step, Failed),
        ("undo/0:select/1/0:hold", Kind::Step, Completed),
        ("1:select/1/0:hold", Kind::Undoable, Completed),
        ("1:select/0/0:join/0/0:a", Kind::Step, Completed),
        ("2:charge", Kind::Step, Completed),
        ("3:ship", Kind::Step, Failed),
    ] {
        record(&*store, claim, path, kind, status).await;
    }
    for (select, winner) in [("0:select", "0"), ("1:select", "0")] {
        let won = NewStep {
            kind: Kind::Select,
            ..step(claim, select, winner)
        };
        save(&*store, won).await;
    }
    fail(&*store, claim).await;
    let stands = [
        "0:select",
        "0:select/0/0:paid",
        "0:select/1/0:hold",
        "0:select/1/1:ask",
        "1:select",
        "1:select/0/0:join/0/0:a",
        "1:select/1/0:hold",
        "2:charge",
        "undo/0:select/1/0:hold",
    ];
    assert_eq!(kept(world, claim.run, None).await, stands);
    // Where the select itself is decided again it counts.
    assert_eq!(kept(world, claim.run, Some("paid")).await, [""; 0]);
    let second = kept(world, claim.run, Some("1:select/0/0:join/0/0:a")).await;
    assert_eq!(second, [&stands[..4], &["1:select/1/0:hold"], &stands[8..]].concat());
}

/// Of selects within each other, what the inner ones lost counts once one of theirs is done again.
pub(super) async fn a_select_that_is_decided_again_takes_those_within_it_along(world: &dyn RunWorld) {
    use StepStatus::Completed;
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    for (path, kind) in [
        ("0:select/0/0:paid", Kind::Step),
        ("0:select/1/0:a", Kind::Step),
        ("0:select/1/1:select/0/0:book", Kind::Undoable),
        ("0:select/1/1:select/1/0:hold", Kind::Undoable),
        ("0:select/1/1:select/1/1:b", Kind::Step),
        ("undo/0:select/1/1:select/0/0:book", Kind::Step),
        ("undo/0:select/1/1:select/1/0:hold", Kind::Step),
    ] {
        record(&*store, claim, path, kind, Completed).await;
    }
    for select in ["0:select", "0:select/1/1:select"] {
        let won = NewStep {
            kind: Kind::Select,
            ..step(claim, select, "0")
        };
        save(&*store, won).await;
    }
    fail(&*store, claim).await;
    assert_eq!(kept(world, claim.run, None).await.len(), 9, "all of it stands");
    assert_eq!(kept(world, claim.run, Some("paid")).await, ["0:select/1/0:a"]);
}

/// The database says of it that it stands.
pub(super) async fn a_retry_keeps_what_could_not_be_undone(world: &dyn RunWorld) {
    use StepStatus::{Completed, Failed, Open};
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    for (path, kind, status) in [
        ("0:charge", Kind::Undoable, Completed),
        ("1:hold", Kind::Undoable, Completed),
        ("2:ship", Kind::Step, Failed),
        ("undo/0:charge", Kind::Step, Open),
        ("undo/1:hold", Kind::Step, Completed),
    ] {
        record(&*store, claim, path, kind, status).await;
    }
    fail(&*store, claim).await;
    assert_eq!(kept(world, claim.run, None).await, ["0:charge"]);
}

pub(super) async fn what_cannot_be_done_again_is_said(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start(world).await;
    let not_over = world.repeat(&RepeatRun::retry(run)).await;
    assert_eq!(not_over, Err(NotRepeated::NotOver(run, "queued".to_owned())));
    let claim = store.claim_runs(&page(1)).await.unwrap().remove(0).0;
    save(&*store, step(claim, "0:a", "1")).await;
    save(&*store, step(claim, "1:a", "1")).await;
    assert_eq!(let_go(&*store, complete(claim)).await, LetGo::Done);
    let asked = |from: &str| RepeatRun {
        from: Some(from.to_owned()),
        ..RepeatRun::retry(run)
    };
    let nobody = uuid::Uuid::from_u128(7);
    let refused = [
        (RepeatRun::retry(nobody), NotRepeated::Unknown(nobody)),
        (RepeatRun::retry(run), NotRepeated::Completed(run)),
        (
            asked("b"),
            NotRepeated::NoStep {
                run,
                step: "b".to_owned(),
            },
        ),
        (
            asked("a"),
            NotRepeated::Ambiguous {
                run,
                step: "a".to_owned(),
                paths: "0:a, 1:a".to_owned(),
            },
        ),
    ];
    for (repeat, why) in refused {
        assert_eq!(world.repeat(&repeat).await, Err(why));
    }
    let fork = RepeatRun {
        again: Again::Fork {
            params: Some(b"2".to_vec()),
            keep_message_ids: false,
        },
        ..RepeatRun::fork(run)
    };
    let fork = world.repeat(&fork).await.unwrap();
    let (claim, work) = store.claim_runs(&page(1)).await.unwrap().remove(0);
    assert_eq!((claim.run, work.params, work.steps.len()), (fork, b"2".to_vec(), 0));
    assert_eq!((work.origin_id, work.seed_id), (fork, Some(run)));
}

//! Doing again what a run did that is over.

use lockgate::inspect::NotRepeated;
use lockgate::lifecycle::{Act, Again, LetGo, NewStep, RepeatRun, RunClaim, RunId, RunStore, StepStatus};

use super::crew::*;
use super::world::RunWorld;

/// A run that has recorded these steps, of which some failed, and has failed.
async fn failed(world: &dyn RunWorld, store: &dyn RunStore, steps: &[(&str, StepStatus)]) -> RunClaim {
    let claim = start_and_claim(world, store).await;
    for (path, status) in steps {
        let step = NewStep {
            status: *status,
            ..step(claim, path, "1")
        };
        save(store, step).await;
    }
    let act = Act::Fail {
        reason: "no money".to_owned(),
    };
    assert_eq!(let_go(store, ending(claim, act)).await, LetGo::Done);
    claim
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

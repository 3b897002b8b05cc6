//! Children: started with the step that waits for them, heard of when they are over, stopped when their parent is.

use std::time::Duration;

use chrono::TimeDelta;
use lockgate::lifecycle::{
    Act, ChildEnd, ChildWishes, Ending, FleetError, Kind, LetGo, NewChild, NewStep, RunClaim, RunId, RunStore, Saved,
    StepStatus, derived_id,
};
use serde_json::json;
use uuid::Uuid;

use super::crew::*;
use super::world::{RunWorld, Wake};

pub(super) fn child(claim: RunClaim, path: &str) -> NewChild {
    NewChild {
        claim,
        path: path.to_owned(),
        begun_at: instant(),
        id: derived_id(claim.run, path),
        origin_id: derived_id(claim.run, path),
        workflow: WORKFLOW.to_owned(),
        params: br#"{ "of" : 1 }"#.to_vec(),
        wishes: ChildWishes::default(),
    }
}

/// Lets a parent wait for its children.
pub(super) fn wait_for_children(claim: RunClaim, seen: i64) -> Ending {
    let act = Act::Wait {
        seen,
        due_at: None,
        batches: false,
        waits: Vec::new(),
    };
    ending(claim, act)
}

/// A held parent with these children, which nobody has claimed.
pub(super) async fn with_children(world: &dyn RunWorld, store: &dyn RunStore, children: &[NewChild]) -> RunClaim {
    let parent = start_and_claim(world, store).await;
    let children: Vec<_> = children
        .iter()
        .map(|child| NewChild {
            claim: parent,
            id: derived_id(parent.run, &child.path),
            origin_id: derived_id(parent.run, &child.path),
            ..child.clone()
        })
        .collect();
    assert_eq!(
        store.start_children(&children).await.unwrap(),
        vec![true; children.len()]
    );
    parent
}

pub(super) fn nobody() -> RunClaim {
    RunClaim {
        run: Uuid::nil(),
        token: 1,
        claim_id: Uuid::nil(),
    }
}

async fn states(world: &dyn RunWorld, runs: &[RunId]) -> Vec<String> {
    let mut states = Vec::new();
    for run in runs {
        states.push(seen(world, *run).await.status);
    }
    states
}

async fn step_states(world: &dyn RunWorld, run: RunId) -> Vec<(String, StepStatus)> {
    let steps = world.steps(run).await;
    steps.into_iter().map(|step| (step.path, step.status)).collect()
}

fn ends_of(claim: RunClaim, path: &str) -> NewStep {
    NewStep {
        kind: Kind::Child,
        ends_open: true,
        ..step(claim, path, "7")
    }
}

pub(super) async fn a_child_is_started_with_the_step_that_waits_for_it(world: &dyn RunWorld) {
    let store = world.replica();
    let mut urgent = child(nobody(), "1:urgent");
    urgent.wishes = ChildWishes {
        queue: Some("bulk".to_owned()),
        start_at: Some(world.now().await + TimeDelta::hours(1)),
        ..ChildWishes::default()
    };
    let parent = with_children(world, &*store, &[child(nobody(), "0:one"), urgent]).await;
    let steps = world.steps(parent.run).await;
    assert!(
        steps
            .iter()
            .all(|step| (step.kind, step.status) == (Kind::Child, StepStatus::Open))
    );
    assert_eq!(
        (steps.len(), steps[0].started_at, steps[0].claim_token),
        (2, instant(), 1)
    );
    let id = derived_id(parent.run, "0:one");
    assert_eq!(status(world, id).await, is("queued", Wake::Due));
    let later = derived_id(parent.run, "1:urgent");
    assert_eq!(status(world, later).await, is("queued", Wake::Later));
    let (claim, work) = claim(&*store).await;
    assert_eq!((claim.run, work.parent_id, work.depth), (id, Some(parent.run), 1));
    assert_eq!((text(work.params), work.origin_id), (r#"{ "of" : 1 }"#.to_owned(), id));
    // A child of that one.
    let below = NewChild {
        id: derived_id(id, "0:two"),
        ..child(claim, "0:two")
    };
    assert_eq!(store.start_children(&[below]).await.unwrap(), [true]);
    let (_, work) = super::crew::claim(&*store).await;
    assert_eq!((work.parent_id, work.depth), (Some(id), 2));
    world.advance(HOUR).await;
    assert_eq!(claimed(&*store, &page_of(&[("bulk", 1)], (1, 1))).await, [later]);
}

pub(super) async fn a_child_asked_for_again_is_started_once(world: &dyn RunWorld) {
    let store = world.replica();
    let parent = with_children(world, &*store, &[child(nobody(), "0:one")]).await;
    let again = [child(parent, "0:one"), child(parent, "1:two")];
    assert_eq!(store.start_children(&again).await.unwrap(), [true, true]);
    // Nor by another holder, or when its end is recorded.
    assert_eq!(
        store.save_steps(&[ends_of(parent, "0:one")]).await.unwrap(),
        [Saved::Done]
    );
    let successor = {
        die(world, &parent).await;
        let mut got = store.claim_runs(&page(10)).await.unwrap();
        got.retain(|(claim, _)| claim.run == parent.run);
        got.remove(0).0
    };
    assert_eq!(
        store.start_children(&[child(successor, "0:one")]).await.unwrap(),
        [true]
    );
    assert_eq!(world.runs().await.len(), 3);
    assert_eq!(
        step_states(world, parent.run).await,
        [
            ("0:one".to_owned(), StepStatus::Completed),
            ("1:two".to_owned(), StepStatus::Open)
        ]
    );
}

pub(super) async fn a_zombie_starts_no_child(world: &dyn RunWorld) {
    let store = world.replica();
    let (zombie, other) = (
        start_and_claim(world, &*store).await,
        start_and_claim(world, &*store).await,
    );
    let successor = take_over(world, &*store, &zombie).await;
    let page = [child(zombie, "0:one"), child(other, "0:one"), child(successor, "1:two")];
    assert_eq!(store.start_children(&page).await.unwrap(), [false, true, true]);
    assert_eq!(world.runs().await.len(), 4);
    assert_eq!(
        step_states(world, zombie.run).await,
        [("1:two".to_owned(), StepStatus::Open)]
    );
}

pub(super) async fn a_child_with_attributes_that_are_no_scalars_is_refused(world: &dyn RunWorld) {
    let store = world.replica();
    let parent = start_and_claim(world, &*store).await;
    for wrong in [json!({"customer": null}), json!({"customer": [7]})] {
        let mut new = child(parent, "0:kid");
        new.wishes.attributes = Some(wrong);
        let answer = store.start_children(&[new]).await;
        assert!(matches!(answer, Err(FleetError::Refused(_))), "{answer:?}");
    }
    assert!(world.steps(parent.run).await.is_empty());
}

pub(super) async fn what_is_not_said_a_child_has_from_its_parent(world: &dyn RunWorld) {
    let store = world.replica();
    let old = start(world).await;
    world.advance(std::time::Duration::from_secs(20)).await;
    let mut urgent = lockgate::memory::RunStart::new(WORKFLOW);
    (urgent.priority, urgent.request.traceparent) = (2, Some("00-a-b-01".to_owned()));
    let run = world.start(urgent).await.unwrap();
    let got = store.claim_runs(&page(1)).await.unwrap();
    assert_eq!(got[0].0.run, run);
    assert_eq!(store.start_children(&[child(got[0].0, "0:one")]).await.unwrap(), [true]);
    // As urgent as its parent it goes first.
    let got = store.claim_runs(&page(1)).await.unwrap();
    assert_eq!(
        (got[0].0.run, got[0].1.traceparent.as_deref()),
        (derived_id(run, "0:one"), Some("00-a-b-01"))
    );
    assert_eq!(claimed(&*store, &page(1)).await, [old]);
}

pub(super) async fn the_ends_of_children_are_read_as_they_are(world: &dyn RunWorld) {
    let store = world.replica();
    let paths = ["0:a", "1:b", "2:c", "3:d"].map(str::to_owned);
    let parent = with_children(world, &*store, &paths.clone().map(|path| child(nobody(), &path))).await;
    assert_eq!(store.ended_children(parent.run, &paths).await.unwrap(), []);
    for (claim, _) in store.claim_runs(&page(10)).await.unwrap() {
        let act = match claim.run {
            run if run == derived_id(parent.run, "0:a") => Act::Complete {
                output: b"[1]".to_vec(),
            },
            run if run == derived_id(parent.run, "1:b") => Act::Fail {
                reason: "no money".to_owned(),
            },
            _ => continue,
        };
        assert_eq!(let_go(&*store, ending(claim, act)).await, LetGo::Done);
    }
    store
        .cancel_run(derived_id(parent.run, "2:c"), "not wanted")
        .await
        .unwrap();
    world.settle_stop(derived_id(parent.run, "2:c")).await;
    let asked = [paths.as_slice(), &["4:never".to_owned()]].concat();
    let mut ended = store.ended_children(parent.run, &asked).await.unwrap();
    ended.sort_by(|one, other| one.path.cmp(&other.path));
    let ends: Vec<_> = ended
        .iter()
        .map(|child| (child.path.as_str(), child.run, child.end.clone()))
        .collect();
    let run = |path| Some(derived_id(parent.run, path));
    assert_eq!(
        ends,
        [
            ("0:a", run("0:a"), ChildEnd::Completed(b"[1]".to_vec())),
            ("1:b", run("1:b"), ChildEnd::Failed("no money".to_owned())),
            ("4:never", None, ChildEnd::Gone),
        ],
        "what is held is not over, though it is asked to stop"
    );
}

pub(super) async fn a_parent_that_nobody_woke_is_woken_by_the_sweep(world: &dyn RunWorld) {
    let store = world.replica();
    let parent = with_children(world, &*store, &[child(nobody(), "0:one"), child(nobody(), "1:two")]).await;
    assert_eq!(let_go(&*store, wait_for_children(parent, 0)).await, LetGo::Done);
    assert_eq!(status(world, parent.run).await, is("suspended", Wake::Never));
    world.sweep().await;
    assert_eq!(seen(world, parent.run).await.wake_seq, 0, "both are under way");
    let children = store.claim_runs(&page(10)).await.unwrap();
    assert_eq!(let_go(&*store, complete(children[0].0)).await, LetGo::Done);
    world.sweep().await;
    assert_eq!(status(world, parent.run).await, is("suspended", Wake::Due));
    // One that is awake is not woken again.
    let woken = seen(world, parent.run).await.wake_seq;
    world.sweep().await;
    assert_eq!(seen(world, parent.run).await.wake_seq, woken);
    let (claim, _) = claim(&*store).await;
    let path = if children[0].0.run == derived_id(parent.run, "0:one") {
        "0:one"
    } else {
        "1:two"
    };
    assert_eq!(store.save_steps(&[ends_of(claim, path)]).await.unwrap(), [Saved::Done]);
    assert_eq!(let_go(&*store, wait_for_children(claim, woken)).await, LetGo::Done);
    world.sweep().await;
    assert_eq!(
        seen(world, parent.run).await.wake_seq,
        woken,
        "what is recorded wakes nobody"
    );
}

/// It may leave an end of a child unread for as long as it likes.
pub(super) async fn a_parent_that_was_told_is_not_woken_again(world: &dyn RunWorld) {
    let store = world.replica();
    let parent = with_children(world, &*store, &[child(nobody(), "0:one"), child(nobody(), "1:two")]).await;
    assert_eq!(let_go(&*store, wait_for_children(parent, 0)).await, LetGo::Done);
    let children = store.claim_runs(&page(10)).await.unwrap();
    assert_eq!(let_go(&*store, complete(children[0].0)).await, LetGo::Done);
    world.advance(Duration::from_secs(120)).await;
    assert_eq!(store.wake_runs(&[parent.run]).await.unwrap(), 1);
    let (claim, _) = claim(&*store).await;
    assert_eq!(let_go(&*store, wait_for_children(claim, 1)).await, LetGo::Done);
    world.sweep().await;
    assert_eq!(status(world, parent.run).await, is("suspended", Wake::Never));
    assert_eq!(let_go(&*store, complete(children[1].0)).await, LetGo::Done);
    world.sweep().await;
    assert_eq!(status(world, parent.run).await, is("suspended", Wake::Due));
}

pub(super) async fn the_children_of_a_run_that_is_over_are_cancelled(world: &dyn RunWorld) {
    let store = world.replica();
    let mut detached = child(nobody(), "2:detached");
    detached.wishes.detached = true;
    let parent = with_children(
        world,
        &*store,
        &[child(nobody(), "0:held"), child(nobody(), "1:queued"), detached],
    )
    .await;
    let of = |path| derived_id(parent.run, path);
    let held = {
        let mut got = store.claim_runs(&page(10)).await.unwrap();
        let at = got.iter().position(|(claim, _)| claim.run == of("0:held")).unwrap();
        let (held, _) = got.remove(at);
        for (claim, _) in got {
            assert_eq!(
                let_go(&*store, hand_back(claim, std::time::Duration::ZERO)).await,
                LetGo::Done
            );
        }
        held
    };
    // As long as it is under way nothing happens to them.
    store.stop_children(parent.run).await.unwrap();
    assert_eq!(states(world, &[of("1:queued")]).await, ["running"]);
    assert_eq!(let_go(&*store, complete(parent)).await, LetGo::Done);
    store.stop_children(parent.run).await.unwrap();
    assert_eq!(
        states(world, &[of("0:held"), of("1:queued"), of("2:detached")]).await,
        ["running", "cancelled", "running"]
    );
    assert_eq!(seen(world, of("0:held")).await.stopping.as_deref(), Some("cancelled"));
    assert_eq!(
        seen(world, of("1:queued")).await.reason.as_deref(),
        Some("the run that started it is over")
    );
    let dropped = step_states(world, parent.run).await;
    assert!(
        dropped.iter().all(|(_, status)| *status == StepStatus::Dropped),
        "{dropped:?}"
    );
    assert!(matches!(let_go(&*store, complete(held)).await, LetGo::Held(_)));
    assert_eq!(
        let_go(&*store, hand_back(held, std::time::Duration::ZERO)).await,
        LetGo::Done
    );
    assert!(world.settle_stop(of("0:held")).await);
    assert_eq!(claimed(&*store, &page(10)).await, [of("2:detached")]);
}

pub(super) async fn cancelling_a_run_cancels_its_children_and_theirs(world: &dyn RunWorld) {
    let store = world.replica();
    let root = with_children(world, &*store, &[child(nobody(), "0:one")]).await;
    let (one, _) = claim(&*store).await;
    let two = NewChild {
        id: derived_id(one.run, "0:two"),
        ..child(one, "0:two")
    };
    let two_id = two.id;
    assert_eq!(store.start_children(&[two]).await.unwrap(), [true]);
    for claim in [root, one] {
        assert_eq!(let_go(&*store, wait_for_children(claim, 0)).await, LetGo::Done);
    }
    assert_eq!(world.cancel(root.run).await, "cancelled");
    assert_eq!(states(world, &[root.run, one.run]).await, ["cancelled"; 2]);
    world.sweep().await;
    assert_eq!(states(world, &[root.run, one.run, two_id]).await, ["cancelled"; 3]);
    assert_eq!(
        seen(world, two_id).await.reason.as_deref(),
        Some("the run that started it is over: by a test"),
        "of a whole tree the reason is that of its root"
    );
    for run in [root.run, one.run] {
        assert!(
            step_states(world, run)
                .await
                .iter()
                .all(|(_, status)| *status == StepStatus::Dropped)
        );
    }
}

/// Whichever of them is ended first: a child's end writes to the row of its parent.
pub(super) async fn one_sweep_ends_a_parent_and_its_child_whose_holders_died(world: &dyn RunWorld) {
    let store = world.replica();
    for child_first in [true, false] {
        let parent = with_children(world, &*store, &[child(nobody(), "0:one")]).await;
        let (one, _) = claim(&*store).await;
        assert_eq!(world.cancel(parent.run).await, "stopping");
        for claim in if child_first { [one, parent] } else { [parent, one] } {
            world.end_leases(&claim).await;
        }
        world.sweep().await;
        assert_eq!(
            states(world, &[parent.run, one.run]).await,
            ["cancelled"; 2],
            "{child_first}"
        );
    }
}

pub(super) async fn a_cancelled_child_wakes_its_parent(world: &dyn RunWorld) {
    let store = world.replica();
    let parent = with_children(world, &*store, &[child(nobody(), "0:one")]).await;
    assert_eq!(let_go(&*store, wait_for_children(parent, 0)).await, LetGo::Done);
    assert_eq!(world.cancel(derived_id(parent.run, "0:one")).await, "cancelled");
    assert_eq!(status(world, parent.run).await, is("suspended", Wake::Due));
    assert_eq!(
        store.ended_children(parent.run, &["0:one".to_owned()]).await.unwrap()[0].end,
        ChildEnd::Cancelled("by a test".to_owned())
    );
}

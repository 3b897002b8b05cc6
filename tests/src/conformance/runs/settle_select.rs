//! Recording which branch of a select won, and what becomes of the others with it.

use lockgate::lifecycle::{Act, Kind, LetGo, NewStep, RunClaim, RunStore, Saved, StepStatus};
use serde_json::json;

use super::crew::*;
use super::start_children::child;
use super::world::RunWorld;

const LOST: &str = "0:select/1/";

fn won(claim: RunClaim, winner: &str) -> NewStep {
    NewStep {
        kind: Kind::Select,
        ..step(claim, "0:select", winner)
    }
}

async fn settle(store: &dyn RunStore, claim: RunClaim, winner: &str) -> Saved {
    store
        .settle_select(&won(claim, winner), &[LOST.to_owned()])
        .await
        .unwrap()
}

/// A run that waits in two branches; woken, it is held again.
async fn waits_in_branches(world: &dyn RunWorld, store: &dyn RunStore) -> RunClaim {
    let first = start_and_claim(world, store).await;
    let waits = vec![
        open_wait("0:select/0/0:paid", Kind::Signal, None),
        open_wait("0:select/1/0:sleep", Kind::Sleep, None),
        open_wait("0:select/1/1:paid", Kind::Signal, None),
    ];
    let act = Act::Wait {
        seen: 0,
        due_at: None,
        batches: false,
        waits,
    };
    assert_eq!(let_go(store, ending(first, act)).await, LetGo::Done);
    store.wake_runs(&[first.run]).await.unwrap();
    claim(store).await.0
}

async fn states(world: &dyn RunWorld, claim: RunClaim) -> Vec<(String, StepStatus)> {
    let steps = world.steps(claim.run).await;
    steps.into_iter().map(|step| (step.path, step.status)).collect()
}

fn is_state(path: &str, status: StepStatus) -> (String, StepStatus) {
    (path.to_owned(), status)
}

pub(super) async fn what_is_open_in_the_other_branches_is_dropped(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = waits_in_branches(world, &*store).await;
    assert_eq!(settle(&*store, claim, "0").await, Saved::Done);
    let expected = [
        is_state("0:select", StepStatus::Completed),
        is_state("0:select/0/0:paid", StepStatus::Open),
        is_state("0:select/1/0:sleep", StepStatus::Dropped),
        is_state("0:select/1/1:paid", StepStatus::Dropped),
    ];
    assert_eq!(states(world, claim).await, expected);
    let dropped = world.steps(claim.run).await.remove(2);
    assert_eq!(
        (dropped.due_at, dropped.finished_at),
        (None, Some(won(claim, "0").finished_at))
    );
    // What has ended there stays as it ended, and what is dropped is not ended again.
    let late = NewStep {
        kind: Kind::Sleep,
        ..step(claim, "0:select/1/0:sleep", "null")
    };
    assert_eq!(
        adopted(store.settle_step(&late).await.unwrap()).status,
        StepStatus::Dropped
    );
}

pub(super) async fn what_can_be_undone_stays_open_in_a_branch_that_lost(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    let begun = NewStep {
        kind: Kind::Undoable,
        status: StepStatus::Open,
        result: None,
        ..step(claim, "0:select/1/0:book", "")
    };
    save(&*store, begun.clone()).await;
    assert_eq!(world.steps(claim.run).await, [begun.clone().into_state()]);
    assert_eq!(begun.into_state().finished_at, None);
    assert_eq!(settle(&*store, claim, "0").await, Saved::Done);
    assert_eq!(
        states(world, claim).await[1],
        is_state("0:select/1/0:book", StepStatus::Open)
    );
}

pub(super) async fn signals_that_the_others_took_are_free_again(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start(world).await;
    for payload in [json!(1), json!(2), json!(3)] {
        send(&*store, signal(run, payload)).await;
    }
    let (claim, _) = claim(&*store).await;
    for (path, seq) in [
        ("0:select/0/0:paid", 1),
        ("0:select/1/0:paid", 2),
        ("0:select/1/1:paid", 3),
    ] {
        let take = NewStep {
            kind: Kind::Signal,
            signal_seq: Some(seq),
            ..step(claim, path, "1")
        };
        save(&*store, take).await;
    }
    assert_eq!(settle(&*store, claim, "0").await, Saved::Done);
    let taken: Vec<_> = world
        .signals(run)
        .await
        .into_iter()
        .map(|signal| signal.consumed_by)
        .collect();
    assert_eq!(taken, [Some("0:select/0/0:paid".to_owned()), None, None]);
    let news = store.read_news(&[run]).await.unwrap().remove(0);
    assert_eq!(news.signals.iter().map(|signal| signal.seq).collect::<Vec<_>>(), [2, 3]);
}

pub(super) async fn a_winner_stays_whoever_asks_again(world: &dyn RunWorld) {
    let store = world.replica();
    let first = waits_in_branches(world, &*store).await;
    for _ in 0..2 {
        assert_eq!(
            settle(&*store, first, "0").await,
            Saved::Done,
            "also after a lost answer"
        );
    }
    let state = adopted(settle(&*store, first, "1").await);
    assert_eq!(state.result.as_deref(), Some(b"0".as_slice()));
    let second = take_over(world, &*store, &first).await;
    let state = adopted(settle(&*store, second, "1").await);
    assert_eq!(
        (state.result.as_deref(), state.kind),
        (Some(b"0".as_slice()), Kind::Select)
    );
    assert_eq!(
        states(world, first).await[1],
        is_state("0:select/0/0:paid", StepStatus::Open)
    );
}

pub(super) async fn a_zombie_decides_nothing(world: &dyn RunWorld) {
    let store = world.replica();
    let zombie = waits_in_branches(world, &*store).await;
    let owner = take_over(world, &*store, &zombie).await;
    assert_eq!(settle(&*store, zombie, "0").await, Saved::Lost);
    assert_eq!(states(world, owner).await.len(), 3);
    assert!(
        states(world, owner)
            .await
            .iter()
            .all(|(_, status)| *status == StepStatus::Open)
    );
    assert_eq!(settle(&*store, owner, "0").await, Saved::Done);
}

pub(super) async fn a_fan_out_that_loses_ends_with_what_was_begun(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    world.open_fan_out(&claim, "0:select/1/0:mails").await.unwrap();
    assert_eq!(settle(&*store, claim, "0").await, Saved::Done);
    let fan_out = world.steps(claim.run).await.remove(1);
    assert_eq!((fan_out.status, fan_out.planned), (StepStatus::Open, true));
    assert!(world.complete_fan_out(claim.run, "0:select/1/0:mails").await);
}

pub(super) async fn children_of_a_branch_that_lost_are_stopped_but_for_detached_ones(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    let (wins, loses) = (child(claim, "0:select/0/0:kid"), child(claim, "0:select/1/0:kid"));
    let mut detached = child(claim, "0:select/1/1:kid");
    detached.wishes.detached = true;
    let runs = [wins.id, loses.id, detached.id];
    let started = store.start_children(&[wins, loses, detached]).await.unwrap();
    assert_eq!(started, [true; 3]);
    assert_eq!(settle(&*store, claim, "0").await, Saved::Done);
    let mut statuses = Vec::new();
    for run in runs {
        statuses.push(seen(world, run).await.status);
    }
    assert_eq!(statuses, ["queued", "cancelled", "queued"]);
    let reason = seen(world, runs[1]).await.reason;
    assert_eq!(reason.as_deref(), Some("the branch that started it lost a select"));
    let expected = [
        is_state("0:select", StepStatus::Completed),
        is_state("0:select/0/0:kid", StepStatus::Open),
        is_state("0:select/1/0:kid", StepStatus::Dropped),
    ];
    assert_eq!(states(world, claim).await[..3], expected);
}

/// As a call that was on its way when the select ended would.
pub(super) async fn the_sweep_stops_what_a_branch_started_after_it_lost(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    assert_eq!(settle(&*store, claim, "0").await, Saved::Done);
    let (wins, loses) = (child(claim, "0:select/0/0:kid"), child(claim, "0:select/1/0:kid"));
    let below = child(claim, "0:select/0/1:select/0/0:kid");
    let runs = [wins.id, loses.id, below.id];
    assert_eq!(store.start_children(&[wins, loses, below]).await.unwrap(), [true; 3]);
    let nested = NewStep {
        path: "0:select/0/1:select".to_owned(),
        ..won(claim, "1")
    };
    // Nothing is named lost, as if whoever recorded it had died before its children were stopped.
    assert_eq!(store.settle_select(&nested, &[]).await.unwrap(), Saved::Done);
    world.sweep().await;
    let mut statuses = Vec::new();
    for run in runs {
        statuses.push(seen(world, run).await.status);
    }
    assert_eq!(statuses, ["queued", "cancelled", "cancelled"]);
    let expected = [
        is_state("0:select/0/0:kid", StepStatus::Open),
        is_state("0:select/0/1:select", StepStatus::Completed),
        is_state("0:select/0/1:select/0/0:kid", StepStatus::Dropped),
        is_state("0:select/1/0:kid", StepStatus::Dropped),
    ];
    assert_eq!(states(world, claim).await[1..], expected);
}

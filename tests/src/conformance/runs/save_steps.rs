//! Checkpoints of many runs in one commit.

use lockgate::lifecycle::{FleetError, Kind, LetGo, NewStep, RunClaim, RunStore, Saved, StepStatus};
use serde_json::json;

use super::crew::*;
use super::world::RunWorld;

async fn start_and_claim_many(world: &dyn RunWorld, store: &dyn RunStore, many: u32) -> Vec<RunClaim> {
    for _ in 0..many {
        start(world).await;
    }
    let got = store.claim_runs(&page(many)).await.unwrap();
    assert_eq!(got.len(), many as usize);
    got.into_iter().map(|(claim, _)| claim).collect()
}

pub(super) async fn checkpoints_of_many_runs_are_recorded_together(world: &dyn RunWorld) {
    let store = world.replica();
    let claims = start_and_claim_many(world, &*store, 3).await;
    let mut group: Vec<NewStep> = claims
        .iter()
        .map(|claim| step(*claim, "0:pay", &claim.run.to_string()))
        .collect();
    group.push(step(claims[0], "1:ship", "null"));
    group[1].status = StepStatus::Failed;
    group[1].attempts = 3;
    group[2].result = None;
    assert_eq!(store.save_steps(&group).await.unwrap(), vec![Saved::Done; 4]);
    for (claim, given) in claims.iter().zip(&group) {
        let recorded = world.steps(claim.run).await.remove(0);
        assert_eq!(recorded, given.clone().into_state());
    }
    assert_eq!(world.steps(claims[0].run).await.len(), 2);
    assert_eq!(store.save_steps(&[]).await.unwrap(), []);
}

pub(super) async fn a_path_that_has_a_row_refuses_the_whole_group(world: &dyn RunWorld) {
    let store = world.replica();
    let claims = start_and_claim_many(world, &*store, 2).await;
    save(&*store, step(claims[1], "0:pay", "1")).await;
    let group = [step(claims[0], "0:pay", "1"), step(claims[1], "0:pay", "2")];
    let answer = store.save_steps(&group).await;
    assert!(matches!(answer, Err(FleetError::Refused(_))), "{answer:?}");
    assert_eq!(results(world, claims[0].run).await, [], "the other was written with it");
    assert_eq!(results(world, claims[1].run).await, [completed("0:pay", "1")]);
}

pub(super) async fn a_path_twice_in_a_group_refuses_it(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    let answer = store
        .save_steps(&[step(claim, "0:pay", "1"), step(claim, "0:pay", "2")])
        .await;
    assert!(matches!(answer, Err(FleetError::Refused(_))), "{answer:?}");
    assert_eq!(results(world, claim.run).await, []);
}

pub(super) async fn one_lost_claim_in_a_group_is_lost_alone(world: &dyn RunWorld) {
    let store = world.replica();
    let zombie = start_and_claim(world, &*store).await;
    let owner = take_over(world, &*store, &zombie).await;
    save(&*store, step(owner, "0:pay", "1")).await;
    let other = start_and_claim(world, &*store).await;
    // The zombie's path has a row, which is no reason to refuse the others: nothing of it is written anyway.
    let group = [
        step(other, "0:pay", "2"),
        step(zombie, "0:pay", "3"),
        step(zombie, "1:ship", "3"),
    ];
    assert_eq!(
        store.save_steps(&group).await.unwrap(),
        [Saved::Done, Saved::Lost, Saved::Lost]
    );
    assert_eq!(results(world, zombie.run).await, [completed("0:pay", "1")]);
    assert_eq!(results(world, other.run).await, [completed("0:pay", "2")]);
}

pub(super) async fn a_claim_is_told_by_its_id_and_its_token(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    let wrong = [
        RunClaim { token: 2, ..claim },
        RunClaim { token: 0, ..claim },
        RunClaim {
            claim_id: page(1).claim_id,
            ..claim
        },
        RunClaim {
            run: page(1).claim_id,
            ..claim
        },
    ];
    let group = wrong.map(|wrong| step(wrong, "0:pay", "1"));
    assert_eq!(store.save_steps(&group).await.unwrap(), vec![Saved::Lost; 4]);
    assert_eq!(results(world, claim.run).await, []);
}

pub(super) async fn a_late_checkpoint_counts_until_somebody_takes_over(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    world.end_leases(&claim).await;
    save(&*store, step(claim, "0:pay", "1")).await;
    assert_eq!(world.sweep().await, 1);
    assert_eq!(
        store.save_steps(&[step(claim, "1:ship", "2")]).await.unwrap(),
        [Saved::Lost]
    );
    assert_eq!(results(world, claim.run).await, [completed("0:pay", "1")]);
}

pub(super) async fn nothing_is_recorded_after_letting_go(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    assert_eq!(let_go(&*store, complete(claim)).await, LetGo::Done);
    assert_eq!(
        store.save_steps(&[step(claim, "0:pay", "1")]).await.unwrap(),
        [Saved::Lost]
    );
    assert_eq!(results(world, claim.run).await, []);
}

pub(super) async fn a_group_ends_open_rows(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start_and_suspend(world, &*store).await;
    send(&*store, signal(run, json!("card"))).await;
    let (owner, _) = claim(&*store).await;
    let taking = NewStep {
        kind: Kind::Signal,
        signal_seq: Some(1),
        ends_open: true,
        ..step(owner, "0:paid", "\"card\"")
    };
    let group = [taking.clone(), step(owner, "1:ship", "1")];
    assert_eq!(store.save_steps(&group).await.unwrap(), [Saved::Done, Saved::Done]);
    assert_eq!(
        results(world, run).await,
        [completed("0:paid", "\"card\""), completed("1:ship", "1")]
    );
    assert_eq!(world.steps(run).await[0].due_at, None);
    assert_eq!(world.signals(run).await[0].consumed_by.as_deref(), Some("0:paid"));
    // The same again, as when its answer was lost: it is settled, and the others are written.
    let group = [taking, step(owner, "2:mail", "1")];
    assert_eq!(store.save_steps(&group).await.unwrap(), [Saved::Done, Saved::Done]);
}

pub(super) async fn what_ends_no_open_row_is_settled_beside_the_others(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    save(&*store, step(claim, "0:pay", "1")).await;
    let ending = |path| NewStep {
        ends_open: true,
        ..step(claim, path, "2")
    };
    let answers = store
        .save_steps(&[ending("0:pay"), ending("1:new"), step(claim, "2:ship", "3")])
        .await
        .unwrap();
    assert_eq!(adopted(answers[0].clone()).result.as_deref(), Some(b"1".as_slice()));
    assert_eq!(answers[1..], [Saved::Done, Saved::Done]);
    let expected = [
        completed("0:pay", "1"),
        completed("1:new", "2"),
        completed("2:ship", "3"),
    ];
    assert_eq!(results(world, claim.run).await, expected);
}

pub(super) async fn paths_that_cannot_be_kept_are_refused(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    for path in ["", "0:a\0b"] {
        let answer = store
            .save_steps(&[step(claim, "0:pay", "1"), step(claim, path, "1")])
            .await;
        assert!(matches!(answer, Err(FleetError::Refused(_))), "{path:?}: {answer:?}");
        let answer = store.settle_step(&step(claim, path, "1")).await;
        assert!(matches!(answer, Err(FleetError::Refused(_))), "{path:?}: {answer:?}");
    }
    assert_eq!(results(world, claim.run).await, []);
}

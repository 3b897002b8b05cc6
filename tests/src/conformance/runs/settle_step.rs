//! Recording one step: the first durable result of a path counts.

use chrono::TimeDelta;
use lockgate::lifecycle::{Act, Kind, LetGo, NewStep, Saved, StepStatus};
use serde_json::json;

use super::crew::*;
use super::world::RunWorld;

pub(super) async fn a_new_step_is_recorded(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    let given = step(claim, "0:pay", "{\"paid\" : 1}");
    assert_eq!(store.settle_step(&given).await.unwrap(), Saved::Done);
    assert_eq!(world.steps(claim.run).await, [given.into_state()]);
}

pub(super) async fn asked_again_after_a_lost_answer_it_is_done(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    let given = step(claim, "0:pay", "1");
    save(&*store, given.clone()).await;
    for _ in 0..2 {
        assert_eq!(store.settle_step(&given).await.unwrap(), Saved::Done);
    }
    assert_eq!(results(world, claim.run).await, [completed("0:pay", "1")]);
}

pub(super) async fn an_earlier_holders_result_is_adopted(world: &dyn RunWorld) {
    let store = world.replica();
    let first = start_and_claim(world, &*store).await;
    save(&*store, step(first, "0:pay", "1")).await;
    let second = take_over(world, &*store, &first).await;
    let state = adopted(store.settle_step(&step(second, "0:pay", "2")).await.unwrap());
    assert_eq!((state.result.as_deref(), state.claim_token), (Some(b"1".as_slice()), 1));
    // The same result, but not of this claim: still adopted, as its instants are.
    let state = adopted(store.settle_step(&step(second, "0:pay", "1")).await.unwrap());
    assert_eq!((state.started_at, state.status), (instant(), StepStatus::Completed));
    assert_eq!(results(world, first.run).await, [completed("0:pay", "1")]);
}

pub(super) async fn a_zombies_step_is_lost(world: &dyn RunWorld) {
    let store = world.replica();
    let zombie = start_and_claim(world, &*store).await;
    save(&*store, step(zombie, "0:pay", "1")).await;
    let owner = take_over(world, &*store, &zombie).await;
    for path in ["0:pay", "1:ship"] {
        assert_eq!(store.settle_step(&step(zombie, path, "9")).await.unwrap(), Saved::Lost);
    }
    save(&*store, step(owner, "1:ship", "2")).await;
    assert_eq!(
        store.settle_step(&step(zombie, "1:ship", "9")).await.unwrap(),
        Saved::Lost
    );
    assert_eq!(
        results(world, zombie.run).await,
        [completed("0:pay", "1"), completed("1:ship", "2")]
    );
}

pub(super) async fn another_result_of_the_same_claim_is_not_taken(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    save(&*store, step(claim, "0:pay", "1")).await;
    let state = adopted(store.settle_step(&step(claim, "0:pay", "2")).await.unwrap());
    assert_eq!(state.result.as_deref(), Some(b"1".as_slice()));
    let failed = NewStep {
        status: StepStatus::Failed,
        ..step(claim, "0:pay", "1")
    };
    assert_eq!(
        adopted(store.settle_step(&failed).await.unwrap()).status,
        StepStatus::Completed
    );
    assert_eq!(results(world, claim.run).await, [completed("0:pay", "1")]);
}

pub(super) async fn an_open_row_is_ended_once(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start_and_suspend(world, &*store).await;
    let opened = world.steps(run).await.remove(0);
    assert_eq!(
        (opened.status, opened.kind, opened.claim_token),
        (StepStatus::Open, Kind::Signal, 1)
    );
    store.wake_runs(&[run]).await.unwrap();
    let (first, work) = claim(&*store).await;
    assert_eq!(work.steps, std::slice::from_ref(&opened));
    let end = |claim, result| NewStep {
        kind: Kind::Signal,
        attempts: 2,
        ..step(claim, "0:paid", result)
    };
    assert_eq!(store.settle_step(&end(first, "1")).await.unwrap(), Saved::Done);
    let ended = world.steps(run).await.remove(0);
    assert_eq!(ended.started_at, opened.started_at, "it began when it was opened");
    assert_eq!(
        (ended.status, ended.attempts, ended.claim_token),
        (StepStatus::Completed, 2, 2)
    );
    assert_eq!(ended.finished_at, Some(instant() + TimeDelta::milliseconds(7)));
    let second = take_over(world, &*store, &first).await;
    assert_eq!(adopted(store.settle_step(&end(second, "2")).await.unwrap()), ended);
}

pub(super) async fn an_open_row_of_another_kind_is_left_open(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start_and_suspend(world, &*store).await;
    store.wake_runs(&[run]).await.unwrap();
    let (owner, _) = claim(&*store).await;
    let state = adopted(store.settle_step(&step(owner, "0:paid", "1")).await.unwrap());
    assert_eq!((state.kind, state.status), (Kind::Signal, StepStatus::Open));
    assert_eq!(world.steps(run).await[0].status, StepStatus::Open);
}

pub(super) async fn a_step_that_failed_stays_failed(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    let failed = NewStep {
        status: StepStatus::Failed,
        attempts: 5,
        ..step(claim, "0:pay", "\"no money\"")
    };
    assert_eq!(store.settle_step(&failed).await.unwrap(), Saved::Done);
    let owner = take_over(world, &*store, &claim).await;
    let state = adopted(store.settle_step(&step(owner, "0:pay", "1")).await.unwrap());
    assert_eq!((state.status, state.attempts), (StepStatus::Failed, 5));
}

pub(super) async fn a_step_that_is_tried_again_keeps_its_count(world: &dyn RunWorld) {
    let store = world.replica();
    let claimed = start_and_claim(world, &*store).await;
    let due_at = Some(world.now().await + TimeDelta::hours(1));
    let mut retry = open_wait("0:pay", Kind::Step, due_at);
    retry.attempts = 3;
    let act = Act::Wait {
        seen: 0,
        due_at,
        batches: false,
        waits: vec![retry],
    };
    assert_eq!(let_go(&*store, ending(claimed, act)).await, LetGo::Done);
    world.advance(HOUR).await;
    let (owner, work) = claim(&*store).await;
    assert_eq!((work.steps[0].attempts, work.steps[0].status), (3, StepStatus::Open));
    let done = NewStep {
        attempts: 3,
        ends_open: true,
        ..step(owner, "0:pay", "1")
    };
    save(&*store, done).await;
    let recorded = world.steps(owner.run).await.remove(0);
    assert_eq!(
        (recorded.attempts, recorded.due_at, recorded.status),
        (3, None, StepStatus::Completed)
    );
}

pub(super) async fn a_signal_is_taken_once(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start(world).await;
    send(&*store, signal(run, json!(1))).await;
    send(&*store, signal(run, json!(2))).await;
    let (first, _) = claim(&*store).await;
    let take = |claim, path, seq| NewStep {
        kind: Kind::Signal,
        signal_seq: Some(seq),
        ..step(claim, path, "1")
    };
    assert_eq!(store.settle_step(&take(first, "0:paid", 1)).await.unwrap(), Saved::Done);
    let second = take_over(world, &*store, &first).await;
    // What is adopted takes nothing, and what is taken is not taken again.
    adopted(store.settle_step(&take(second, "0:paid", 2)).await.unwrap());
    assert_eq!(store.settle_step(&take(first, "1:paid", 2)).await.unwrap(), Saved::Lost);
    assert_eq!(
        store.settle_step(&take(second, "1:paid", 1)).await.unwrap(),
        Saved::Done
    );
    let taken: Vec<_> = world
        .signals(run)
        .await
        .into_iter()
        .map(|signal| signal.consumed_by)
        .collect();
    assert_eq!(taken, [Some("0:paid".to_owned()), None]);
}

pub(super) async fn of_many_at_once_one_result_counts(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    let many = (0..12).map(|number| {
        let (store, step) = (world.replica(), step(claim, "0:pay", &number.to_string()));
        tokio::spawn(async move { (number, store.settle_step(&step).await.unwrap()) })
    });
    let (mut winners, mut results) = (Vec::new(), Vec::new());
    for answer in futures::future::join_all(many).await {
        match answer.unwrap() {
            (number, Saved::Done) => winners.push(number.to_string()),
            (_, other) => results.push(text(adopted(other).result.unwrap())),
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert!(
        results.iter().all(|result| *result == winners[0]),
        "{winners:?}, but {results:?}"
    );
}

pub(super) async fn a_zombie_and_its_successor_agree_on_one_result(world: &dyn RunWorld) {
    let store = world.replica();
    for round in 0..20 {
        let zombie = start_and_claim(world, &*store).await;
        let (late, of_zombie) = (world.replica(), step(zombie, "0:pay", "\"zombie\""));
        let saving = tokio::spawn(async move {
            // As a group does: together, and by itself when that is refused.
            match late.save_steps(std::slice::from_ref(&of_zombie)).await {
                Ok(mut answers) => answers.remove(0),
                Err(_) => late.settle_step(&of_zombie).await.unwrap(),
            }
        });
        let owner = take_over(world, &*store, &zombie).await;
        let owners = store.settle_step(&step(owner, "0:pay", "\"owner\"")).await.unwrap();
        let zombies = saving.await.unwrap();
        let counts = world.steps(zombie.run).await.remove(0);
        let first = text(counts.result.clone().unwrap());
        match owners {
            Saved::Done => assert_eq!((first.as_str(), &zombies), ("\"owner\"", &Saved::Lost), "round {round}"),
            other => assert_eq!(
                (first.as_str(), adopted(other)),
                ("\"zombie\"", counts),
                "round {round}"
            ),
        }
        assert_eq!(let_go(&*store, complete(owner)).await, LetGo::Done);
    }
}

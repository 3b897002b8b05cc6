//! Starting under a debounce key.

use std::time::Duration;

use lockgate::lifecycle::{FleetError, LetGo, NewRun, RunId, Started};

use super::crew::*;
use super::world::{RunWorld, Wake};

fn debounced(params: &str, delay: Duration) -> NewRun {
    NewRun {
        params: params.as_bytes().to_vec(),
        debounce_key: Some("report-7".to_owned()),
        delay: Some(delay),
        ..NewRun::new(WORKFLOW)
    }
}

async fn first(world: &dyn RunWorld, params: &str) -> RunId {
    let run = debounced(params, Duration::from_secs(60));
    assert_eq!(world.start_new(&run).await, Started::New(run.id));
    run.id
}

pub(super) async fn a_later_start_replaces_what_waits(world: &dyn RunWorld) {
    let run = first(world, "1").await;
    world.advance(Duration::from_secs(50)).await;
    let again = debounced("2", Duration::from_secs(60));
    assert_eq!(world.start_new(&again).await, Started::Debounced(run));
    // It waits anew, and has the last input.
    world.advance(Duration::from_secs(50)).await;
    assert_eq!(status(world, run).await, is("queued", Wake::Later));
    world.advance(Duration::from_secs(11)).await;
    let (claim, work) = claim(&*world.replica()).await;
    assert_eq!((claim.run, text(work.params).as_str()), (run, "2"));
    assert_eq!(world.runs().await.len(), 1);
}

pub(super) async fn what_is_claimed_is_not_replaced(world: &dyn RunWorld) {
    let store = world.replica();
    let run = first(world, "1").await;
    world.advance(HOUR).await;
    let (held, _) = claim(&*store).await;
    let later = first(world, "2").await;
    assert_ne!(later, run);
    // Nor when it waits again.
    let_go(&*store, hand_back(held, Duration::ZERO)).await;
    let again = debounced("3", HOUR);
    assert_eq!(world.start_new(&again).await, Started::Debounced(later));
    let (_, work) = claim(&*store).await;
    assert_eq!(text(work.params), "1");
}

pub(super) async fn a_paused_run_is_replaced_and_stays_paused(world: &dyn RunWorld) {
    let run = first(world, "1").await;
    assert_eq!(world.pause(run).await, "paused");
    let again = debounced("2", Duration::ZERO);
    assert_eq!(world.start_new(&again).await, Started::Debounced(run));
    assert_eq!(claimed(&*world.replica(), &page(10)).await, NONE);
    assert_eq!(world.resume(run).await, "queued");
    let (_, work) = claim(&*world.replica()).await;
    assert_eq!(text(work.params), "2");
    // What is over has its key no more.
    let cancelled = first(world, "3").await;
    world.cancel(cancelled).await;
    assert_ne!(first(world, "4").await, cancelled);
}

pub(super) async fn keys_are_of_their_workflow(world: &dyn RunWorld) {
    let run = first(world, "1").await;
    let other = NewRun {
        debounce_key: Some("report-7".to_owned()),
        ..NewRun::new("invoices")
    };
    assert_eq!(world.start_new(&other).await, Started::New(other.id));
    let same_again = NewRun {
        debounce_key: Some("report-7".to_owned()),
        ..other.clone()
    };
    assert_eq!(
        world.start_new(&same_again).await,
        Started::Found(other.id),
        "asked again under its own id"
    );
    assert_eq!(status(world, run).await, is("queued", Wake::Later));
}

pub(super) async fn a_singleton_key_holds_whatever_the_debounce_key(world: &dyn RunWorld) {
    let store = world.replica();
    let run = |params: &str| NewRun {
        singleton_key: Some("report-7".to_owned()),
        ..debounced(params, Duration::from_secs(60))
    };
    let first = run("1");
    assert_eq!(world.start_new(&first).await, Started::New(first.id));
    assert_eq!(world.start_new(&run("2")).await, Started::Debounced(first.id));
    world.advance(HOUR).await;
    let (held, _) = claim(&*store).await;
    // It has its debounce key no more, and nobody is to ask again at once.
    assert_eq!(world.start_new(&run("3")).await, Started::Held);
    assert_eq!(let_go(&*store, complete(held)).await, LetGo::Done);
    let second = run("4");
    assert_eq!(world.start_new(&second).await, Started::New(second.id));
}

pub(super) async fn what_cannot_be_right_is_not_started(world: &dyn RunWorld) {
    let run = || NewRun::new(WORKFLOW);
    let name = |length: usize| Some("x".repeat(length));
    let wrong = [
        NewRun { priority: 21, ..run() },
        NewRun {
            queue: name(0),
            ..run()
        },
        NewRun {
            tenant: name(201),
            ..run()
        },
        NewRun {
            limit_key: name(201),
            ..run()
        },
        NewRun {
            debounce_key: name(0),
            ..run()
        },
    ];
    for run in wrong {
        let refused = world.replica().start_run(&run).await;
        assert!(matches!(refused, Err(FleetError::Refused(_))), "{refused:?}");
    }
    assert!(world.runs().await.is_empty());
    let all = NewRun {
        priority: 20,
        queue: name(200),
        tenant: name(200),
        limit_key: name(200),
        ..run()
    };
    assert_eq!(world.start_new(&all).await, Started::New(all.id));
}

//! Starting runs, as far as running their code depends on it; the verb has a suite of its own.

use chrono::{DateTime, TimeDelta, Utc};
use lockgate::lifecycle::{FleetError, LetGo, NewRun, RunRequest, Started};
use lockgate::memory::RunStart;

use super::crew::*;
use super::world::{RunWorld, Wake};

fn start_of(request: RunRequest) -> RunStart {
    RunStart {
        request: request.for_engine(),
        ..RunStart::new(WORKFLOW)
    }
}

pub(super) async fn the_same_start_again_finds_its_run(world: &dyn RunWorld) {
    let start = RunStart::new(WORKFLOW);
    let run = world.start(start.clone()).await;
    assert_eq!(run, Some(start.request.id));
    let store = world.replica();
    let (claim, _) = claim(&*store).await;
    assert_eq!(world.start(start.clone()).await, run);
    assert_eq!(let_go(&*store, complete(claim)).await, LetGo::Done);
    assert_eq!(world.start(start).await, run);
    assert_eq!(world.runs().await.len(), 1);
    assert_eq!(
        claimed(&*store, &page(10)).await,
        NONE,
        "what is over does not begin again"
    );
}

pub(super) async fn keys_and_slots_find_the_first_run(world: &dyn RunWorld) {
    let slot = world.now().await + TimeDelta::days(1);
    let by_key = || start_of(RunRequest::new(WORKFLOW).idempotency("monday"));
    let by_slot = || start_of(RunRequest::new(WORKFLOW).slot("nightly", slot));
    for (first, again) in [(by_key(), by_key()), (by_slot(), by_slot())] {
        let run = world.start(first).await;
        assert!(run.is_some());
        assert_eq!(world.start(again).await, run);
    }
    let other = RunStart {
        queue: Some(WORKFLOW.to_owned()),
        ..RunStart::new("refunds")
    };
    let elsewhere = RunStart {
        request: other.request.clone().idempotency("monday"),
        ..other
    };
    assert_eq!(
        world.start(elsewhere.clone()).await,
        Some(elsewhere.request.id),
        "a key is its workflow's"
    );
    assert_eq!(world.runs().await.len(), 3);
}

pub(super) async fn a_singleton_key_is_held_until_its_run_is_over(world: &dyn RunWorld) {
    let store = world.replica();
    let start = || start_of(RunRequest::new(WORKFLOW).singleton("nightly"));
    let run = world.start(start()).await.unwrap();
    assert_eq!(world.start(start()).await, None);
    let (claimed_first, _) = claim(&*store).await;
    assert_eq!(let_go(&*store, wait(claimed_first, 0, None)).await, LetGo::Done);
    assert_eq!(world.start(start()).await, None, "what is suspended is not over");
    assert_eq!(world.pause(run).await, "paused");
    assert_eq!(world.start(start()).await, None);
    assert_eq!(world.cancel(run).await, "cancelled");
    assert!(world.start(start()).await.is_some_and(|next| next != run));
}

pub(super) async fn a_run_past_its_deadline_fails(world: &dyn RunWorld) {
    let store = world.replica();
    let late = || {
        start_of(RunRequest {
            deadline: Some(HOUR / 2),
            ..RunRequest::new(WORKFLOW)
        })
    };
    let held = world.start(late()).await.unwrap();
    let (held_claim, _) = claim(&*store).await;
    let (waiting, endless) = (world.start(late()).await.unwrap(), start(world).await);
    let mut tomorrow = late();
    tomorrow.request.start_at = Some(world.now().await + HOUR);
    let tomorrow = world.start(tomorrow).await.unwrap();
    world.advance(HOUR / 4).await;
    world.sweep().await;
    assert_eq!(status(world, waiting).await, is("queued", Wake::Due));
    world.advance(HOUR / 2).await;
    world.sweep().await;
    assert_eq!(status(world, waiting).await, is("failed", Wake::Never));
    assert_eq!(
        seen(world, waiting).await.reason.as_deref(),
        Some("not over before its deadline")
    );
    assert_eq!(
        status(world, tomorrow).await,
        is("queued", Wake::Later),
        "it counts from the instant of the start"
    );
    let stopping = seen(world, held).await;
    assert_eq!(
        (stopping.status.as_str(), stopping.stopping.as_deref()),
        ("running", Some("failed"))
    );
    assert_eq!(let_go(&*store, hand_back(held_claim, HOUR)).await, LetGo::Done);
    world.sweep().await;
    assert_eq!(status(world, held).await, is("failed", Wake::Never));
    assert_eq!(status(world, endless).await, is("queued", Wake::Due));
}

/// Runs of two workflows, one of them urgent, one for later, one without anything.
fn mixed_page(later: DateTime<Utc>) -> Vec<NewRun> {
    let at = |start_at| NewRun {
        start_at,
        ..NewRun::new(WORKFLOW)
    };
    let elsewhere = NewRun {
        queue: Some(WORKFLOW.to_owned()),
        ..NewRun::new("refunds")
    };
    let urgent = NewRun {
        priority: 20,
        params: b"[1]".to_vec(),
        ..NewRun::new(WORKFLOW)
    };
    vec![at(None), at(Some(later)), elsewhere, urgent]
}

pub(super) async fn a_page_starts_all_of_its_runs(world: &dyn RunWorld) {
    let store = world.replica();
    let page_of_four = mixed_page(world.now().await + TimeDelta::days(1));
    store.start_runs(&page_of_four, false).await.unwrap();
    let mut seen = world.runs().await;
    seen.retain(|run| run.status == "queued" && run.claim.is_none());
    let wakes: Vec<Wake> = page_of_four
        .iter()
        .map(|start| seen.iter().find(|run| run.run == start.id).unwrap().wake)
        .collect();
    assert_eq!(wakes, [Wake::Due, Wake::Later, Wake::Due, Wake::Due]);
    let (first, run) = store.claim_runs(&page(1)).await.unwrap().remove(0);
    assert_eq!((first.run, run.params), (page_of_four[3].id, b"[1]".to_vec()));
    assert_eq!(claimed(&*store, &page(10)).await, [page_of_four[0].id]);
}

pub(super) async fn a_page_asked_for_again_starts_those_that_are_not_there(world: &dyn RunWorld) {
    let store = world.replica();
    let all = mixed_page(world.now().await);
    store.start_runs(&all[..2], false).await.unwrap();
    let refused = store.start_runs(&all, false).await;
    assert!(matches!(refused, Err(FleetError::Refused(_))), "{refused:?}");
    assert_eq!(world.runs().await.len(), 2, "all of a page or none");
    for _ in 0..2 {
        store.start_runs(&all, true).await.unwrap();
        assert_eq!(world.runs().await.len(), 4);
    }
}

pub(super) async fn a_run_of_a_key_is_found_or_held(world: &dyn RunWorld) {
    let store = world.replica();
    let keyed = |idempotency: Option<&str>, singleton: Option<&str>| NewRun {
        idempotency_key: idempotency.map(str::to_owned),
        singleton_key: singleton.map(str::to_owned),
        ..NewRun::new(WORKFLOW)
    };
    let first = keyed(Some("monday"), Some("one"));
    assert_eq!(store.start_run(&first).await.unwrap(), Started::New(first.id));
    for again in [first.clone(), keyed(Some("monday"), None)] {
        assert_eq!(store.start_run(&again).await.unwrap(), Started::Found(first.id));
    }
    assert_eq!(store.start_run(&keyed(None, Some("one"))).await.unwrap(), Started::Held);
    assert_eq!(world.runs().await.len(), 1);
}

pub(super) async fn a_run_has_the_attributes_it_is_started_with(world: &dyn RunWorld) {
    let store = world.replica();
    let attributes = serde_json::json!({"customer": 42, "city": "Bonn", "urgent": true});
    let with = |singleton: Option<&str>| NewRun {
        attributes: Some(attributes.clone()),
        singleton_key: singleton.map(str::to_owned),
        ..NewRun::new(WORKFLOW)
    };
    let (paged, alone) = (with(None), with(Some("one")));
    store
        .start_runs(&[paged.clone(), NewRun::new(WORKFLOW)], false)
        .await
        .unwrap();
    store.start_run(&alone).await.unwrap();
    for run in [paged.id, alone.id] {
        assert_eq!(serde_json::Value::Object(seen(world, run).await.attributes), attributes);
    }
    let nested = NewRun {
        attributes: Some(serde_json::json!({"city": ["Bonn"]})),
        ..NewRun::new(WORKFLOW)
    };
    let refused = store.start_runs(&[nested], false).await;
    assert!(matches!(refused, Err(FleetError::Refused(_))), "{refused:?}");
}

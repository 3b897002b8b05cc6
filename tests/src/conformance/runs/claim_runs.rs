//! Claiming pages of runs.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use lockgate::lifecycle::{Act, ClaimPage, LetGo, RunId, RunRequest};
use lockgate::memory::RunStart;
use serde_json::json;

use super::crew::*;
use super::world::{RunWorld, Wake};

pub(super) async fn a_started_run_is_claimed_with_its_input(world: &dyn RunWorld) {
    let request = RunRequest {
        params: br#"{ "order" : 7 }"#.to_vec(),
        traceparent: Some("00-a-b-01".to_owned()),
        ..RunStart::new(WORKFLOW).request
    };
    let start = RunStart {
        request,
        ..RunStart::new(WORKFLOW)
    };
    let run = world.start(start).await.unwrap();
    assert_eq!(status(world, run).await, is("queued", Wake::Due));
    let (claim, work) = claim(&*world.replica()).await;
    assert_eq!((claim.run, claim.token, work.id, work.origin_id), (run, 1, run, run));
    assert_eq!((work.workflow.as_str(), work.queue.as_str()), (WORKFLOW, WORKFLOW));
    assert_eq!(text(work.params), r#"{ "order" : 7 }"#);
    assert_eq!(work.traceparent.as_deref(), Some("00-a-b-01"));
    assert_eq!((work.attempts, work.code_version, work.wake_seq), (0, 1, 0));
    assert!(work.steps.is_empty() && work.signals.is_empty());
    let started_at = work.started_at.expect("its code runs");
    assert!(work.created_at <= started_at && started_at <= work.claimed_at);
    assert_eq!(status(world, run).await, is("running", Wake::Never));
    assert_eq!(seen(world, run).await.claim, Some(claim));
}

pub(super) async fn a_page_takes_those_that_have_waited_longest(world: &dyn RunWorld) {
    let store = world.replica();
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(start(world).await);
        world.advance(Duration::from_secs(1)).await;
    }
    for taken in [&runs[..2], &runs[2..4], &runs[4..], &[]] {
        assert_eq!(claimed(&*store, &page(2)).await, taken);
    }
}

pub(super) async fn each_queue_gives_its_share(world: &dyn RunWorld) {
    let store = world.replica();
    let mut bulk = Vec::new();
    for _ in 0..4 {
        start(world).await;
        let start = RunStart {
            queue: Some("bulk".to_owned()),
            ..RunStart::new(WORKFLOW)
        };
        bulk.push(world.start(start).await.unwrap());
    }
    let got = store
        .claim_runs(&page_of(&[(WORKFLOW, 1), ("bulk", 2)], (1, 1)))
        .await
        .unwrap();
    let of_bulk = got
        .iter()
        .filter(|(claim, work)| bulk.contains(&claim.run) && work.queue == "bulk");
    assert_eq!((got.len(), of_bulk.count()), (3, 2));
    let rest = claimed(&*store, &page(10)).await;
    assert_eq!(rest.len(), 3, "a queue of its own is not the workflow's: {rest:?}");
    assert!(rest.iter().all(|run| !bulk.contains(run)));
}

pub(super) async fn a_held_run_is_not_claimed_again(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    assert_eq!(claimed(&*world.replica(), &page(10)).await, NONE);
    // Nor when its lease has ended: somebody must take it away first.
    world.end_leases(&claim).await;
    assert_eq!(claimed(&*world.replica(), &page(10)).await, NONE);
}

pub(super) async fn a_run_is_not_claimed_before_its_time(world: &dyn RunWorld) {
    let store = world.replica();
    let mut later = RunStart::new(WORKFLOW);
    later.request.start_at = Some(world.now().await + TimeDelta::hours(1));
    let run = world.start(later).await.unwrap();
    assert_eq!(status(world, run).await, is("queued", Wake::Later));
    assert_eq!(claimed(&*store, &page(10)).await, NONE);
    world.advance(HOUR).await;
    assert_eq!(claimed(&*store, &page(10)).await, [run]);
}

async fn start_urgent(world: &dyn RunWorld, priority: u8, start_in: TimeDelta) -> RunId {
    let mut start = RunStart {
        priority,
        ..RunStart::new(WORKFLOW)
    };
    start.request.start_at = Some(world.now().await + start_in);
    world.start(start).await.unwrap()
}

pub(super) async fn an_urgent_run_overtakes_as_far_as_its_priority_goes(world: &dyn RunWorld) {
    let store = world.replica();
    let old = start(world).await;
    world.advance(Duration::from_secs(20)).await;
    let (first, younger) = (
        start_urgent(world, 2, TimeDelta::zero()).await,
        start_urgent(world, 1, TimeDelta::zero()).await,
    );
    // Two steps are worth 30 seconds, one only 15.
    for run in [first, old, younger] {
        assert_eq!(claimed(&*store, &page(1)).await, [run]);
    }
}

pub(super) async fn no_priority_brings_a_run_before_its_time(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start_urgent(world, 20, TimeDelta::seconds(60)).await;
    assert_eq!(claimed(&*store, &page(10)).await, NONE);
    world.advance(Duration::from_secs(61)).await;
    assert_eq!(claimed(&*store, &page(10)).await, [run]);
}

pub(super) async fn a_run_waits_for_the_one_before_it(world: &dyn RunWorld) {
    let store = world.replica();
    let before = start(world).await;
    let after = RunStart {
        after_run: Some(before),
        ..RunStart::new(WORKFLOW)
    };
    let after = world.start(after).await.unwrap();
    let (claim, _) = claim(&*store).await;
    assert_eq!(claim.run, before);
    assert_eq!(claimed(&*store, &page(10)).await, NONE);
    assert_eq!(let_go(&*store, complete(claim)).await, LetGo::Done);
    assert_eq!(claimed(&*store, &page(10)).await, [after]);
}

pub(super) async fn what_is_paused_or_over_is_not_claimed(world: &dyn RunWorld) {
    let store = world.replica();
    let (paused, cancelled, kept) = (start(world).await, start(world).await, start(world).await);
    assert_eq!(world.pause(paused).await, "paused");
    assert_eq!(world.cancel(cancelled).await, "cancelled");
    assert_eq!(claimed(&*store, &page(10)).await, [kept]);
    assert_eq!(world.resume(paused).await, "queued");
    assert_eq!(claimed(&*store, &page(10)).await, [paused]);
}

pub(super) async fn a_run_set_aside_is_claimed_when_it_is_resumed(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    let reason = "the code differs".to_owned();
    assert_eq!(
        let_go(&*store, ending(claim, Act::Quarantine { reason })).await,
        LetGo::Done
    );
    let set_aside = seen(world, claim.run).await;
    assert_eq!(
        (set_aside.status.as_str(), set_aside.reason.as_deref()),
        ("quarantined", Some("the code differs"))
    );
    assert_eq!(claimed(&*store, &page(10)).await, NONE);
    assert_eq!(world.resume(claim.run).await, "running");
    assert_eq!(claimed(&*store, &page(10)).await, [claim.run]);
    assert_eq!(seen(world, claim.run).await.reason, None);
}

pub(super) async fn a_page_never_takes_a_run_of_a_version_it_cannot_replay(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start(world).await;
    let versions = |oldest, newest| page_of(&[(WORKFLOW, 10)], (oldest, newest));
    let mut got = store.claim_runs(&versions(2, 3)).await.unwrap();
    let (claim, work) = got.pop().expect("a run that has not begun takes whatever is newest");
    assert_eq!((work.code_version, seen(world, run).await.code_version), (3, Some(3)));
    die(world, &claim).await;
    for (oldest, newest) in [(1, 2), (4, 4), (1, 1)] {
        assert_eq!(
            claimed(&*store, &versions(oldest, newest)).await,
            NONE,
            "{oldest}..={newest}"
        );
    }
    let (claim, work) = store.claim_runs(&versions(1, 4)).await.unwrap().remove(0);
    assert_eq!(
        (work.code_version, work.attempts),
        (3, 1),
        "it keeps the version that it began with"
    );
    die(world, &claim).await;
    let mut behind = versions(1, 3);
    behind.runnable[0].version = 2;
    behind.suspects = true;
    let (_, work) = store.claim_runs(&behind).await.unwrap().remove(0);
    assert_eq!(work.code_version, 3, "code that begins with an older one may replay it");
}

pub(super) async fn a_workflow_whose_code_is_not_here_is_left_alone(world: &dyn RunWorld) {
    let store = world.replica();
    let start = RunStart {
        queue: Some(WORKFLOW.to_owned()),
        ..RunStart::new("refunds")
    };
    world.start(start).await.unwrap();
    assert_eq!(claimed(&*store, &page(10)).await, NONE);
    let nobodys = ClaimPage {
        runnable: Vec::new(),
        ..page(10)
    };
    assert_eq!(claimed(&*store, &nobodys).await, NONE);
}

pub(super) async fn a_claim_whose_answer_was_lost_is_read_again(world: &dyn RunWorld) {
    let store = world.replica();
    for _ in 0..3 {
        start(world).await;
    }
    let lost = page(2);
    let mut got = store.claim_runs(&lost).await.unwrap();
    let mut read = store.read_claimed_runs(&lost).await.unwrap();
    got.sort_by_key(|(claim, _)| claim.run);
    read.sort_by_key(|(claim, _)| claim.run);
    let claims = |page: &[(_, _)]| page.iter().map(|(claim, _)| *claim).collect::<Vec<_>>();
    assert_eq!((claims(&read), read.len()), (claims(&got), 2));
    assert_eq!(read[0].1.claimed_at, got[0].1.claimed_at);
    assert!(
        store.read_claimed_runs(&page(2)).await.unwrap().is_empty(),
        "another claim got nothing"
    );
    assert_eq!(let_go(&*store, complete(claims(&got)[0])).await, LetGo::Done);
    assert_eq!(
        store.read_claimed_runs(&lost).await.unwrap().len(),
        1,
        "what was let go of is not held"
    );
}

pub(super) async fn a_claim_brings_what_is_recorded_and_what_waits(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start(world).await;
    send(&*store, signal(run, json!(1))).await;
    let (first, work) = claim(&*store).await;
    assert_eq!(
        work.signals.len(),
        1,
        "a signal before the first claim is there at once"
    );
    assert_eq!(work.wake_seq, 1);
    save(&*store, step(first, "0:pay", "7")).await;
    send(&*store, signal(run, json!(2))).await;
    let mut taking = step(first, "1:paid", "1");
    taking.signal_seq = Some(1);
    save(&*store, taking).await;
    die(world, &first).await;
    let (second, work) = claim(&*store).await;
    assert_eq!((second.token, work.wake_seq), (2, 2));
    let paths: BTreeSet<&str> = work.steps.iter().map(|step| step.path.as_str()).collect();
    assert_eq!(paths, BTreeSet::from(["0:pay", "1:paid"]));
    let pay = work.step("0:pay").unwrap();
    assert_eq!((pay.started_at, pay.claim_token), (instant(), 1));
    assert_eq!(pay.finished_at, Some(instant() + TimeDelta::milliseconds(7)));
    assert_eq!(work.signals.iter().map(|signal| signal.seq).collect::<Vec<_>>(), [2]);
}

pub(super) async fn many_replicas_claim_each_run_once(world: &dyn RunWorld) {
    let mut runs = BTreeSet::new();
    for _ in 0..30 {
        runs.insert(start(world).await);
    }
    let replicas = (0..8).map(|_| {
        let store = world.replica();
        tokio::spawn(async move { claimed(&*store, &page(7)).await })
    });
    let mut got = Vec::new();
    for page in futures::future::join_all(replicas).await {
        got.extend(page.unwrap());
    }
    let once: BTreeSet<RunId> = got.iter().copied().collect();
    assert_eq!(once.len(), got.len(), "a run was claimed twice");
    got.extend(claimed(&*world.replica(), &page(30)).await);
    assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), runs, "a run was overlooked");
}

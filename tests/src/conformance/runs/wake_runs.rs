//! Waking runs, and hearing of what happened to those that are held.

use std::time::Duration;

use chrono::TimeDelta;
use lockgate::lifecycle::{Kind, LetGo, NewStep, RunId, StepStatus};
use lockgate::memory::RunStart;
use serde_json::json;
use uuid::Uuid;

use super::crew::*;
use super::world::{RunWorld, Wake};

pub(super) async fn a_suspended_run_is_claimed_when_it_is_woken(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start_and_suspend(world, &*store).await;
    assert_eq!(claimed(&*store, &page(10)).await, NONE);
    assert_eq!(store.wake_runs(&[run]).await.unwrap(), 1);
    assert_eq!(status(world, run).await, is("suspended", Wake::Due));
    let (_, work) = claim(&*store).await;
    assert_eq!((work.id, work.wake_seq), (run, 1));
}

pub(super) async fn only_what_is_not_over_is_woken_once_each(world: &dyn RunWorld) {
    let store = world.replica();
    let (over, queued, suspended) = (
        start_and_claim(world, &*store).await,
        start_and_claim(world, &*store).await,
        start_and_claim(world, &*store).await,
    );
    assert_eq!(let_go(&*store, complete(over)).await, LetGo::Done);
    assert_eq!(let_go(&*store, wait(suspended, 0, None)).await, LetGo::Done);
    let all = [over.run, queued.run, suspended.run, suspended.run, Uuid::now_v7()];
    assert_eq!(store.wake_runs(&all).await.unwrap(), 2);
    let counts = [(over.run, 0), (queued.run, 1), (suspended.run, 1)];
    for (run, woken) in counts {
        assert_eq!(seen(world, run).await.wake_seq, woken);
    }
    assert_eq!(store.wake_runs(&[]).await.unwrap(), 0);
}

pub(super) async fn a_queued_run_that_is_woken_keeps_its_time(world: &dyn RunWorld) {
    let store = world.replica();
    let mut later = RunStart::new(WORKFLOW);
    later.request.start_at = Some(world.now().await + TimeDelta::hours(1));
    let run = world.start(later).await.unwrap();
    assert_eq!(store.wake_runs(&[run]).await.unwrap(), 1);
    assert_eq!(status(world, run).await, is("queued", Wake::Later));
    assert_eq!(claimed(&*store, &page(10)).await, NONE);
}

pub(super) async fn a_paused_run_that_is_woken_stays_paused(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start_and_suspend(world, &*store).await;
    assert_eq!(world.pause(run).await, "paused");
    assert_eq!(store.wake_runs(&[run]).await.unwrap(), 1);
    assert_eq!(
        (status(world, run).await.0.as_str(), seen(world, run).await.wake_seq),
        ("paused", 1)
    );
    assert_eq!(claimed(&*store, &page(10)).await, NONE);
    assert_eq!(world.resume(run).await, "running");
    assert_eq!(claimed(&*store, &page(10)).await, [run]);
}

pub(super) async fn a_paused_run_that_has_not_begun_keeps_its_time(world: &dyn RunWorld) {
    let store = world.replica();
    let mut later = RunStart::new(WORKFLOW);
    later.request.start_at = Some(world.now().await + TimeDelta::hours(1));
    let run = world.start(later).await.unwrap();
    assert_eq!(world.pause(run).await, "paused");
    assert_eq!(world.resume(run).await, "queued");
    assert_eq!(status(world, run).await, is("queued", Wake::Later));
    assert_eq!(world.resume(run).await, "queued", "what is not paused is not resumed");
    world.advance(HOUR).await;
    assert_eq!(claimed(&*store, &page(10)).await, [run]);
}

pub(super) async fn a_holder_hears_what_others_did_to_its_run(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    let look = async || {
        let seen = store.poked_runs(&[claim.run, Uuid::now_v7()]).await.unwrap();
        assert_eq!(seen.len(), 1, "what is gone is left out");
        assert_eq!(seen[0].run, claim.run);
        (seen[0].halted, seen[0].paused, seen[0].wake_seq)
    };
    assert_eq!(look().await, (false, false, 0));
    store.wake_runs(&[claim.run]).await.unwrap();
    assert_eq!(look().await, (false, false, 1));
    world.pause(claim.run).await;
    assert_eq!(look().await, (false, true, 1));
    world.resume(claim.run).await;
    assert_eq!(look().await, (false, false, 2));
    assert_eq!(
        seen(world, claim.run).await.claim,
        Some(claim),
        "all of this leaves the claim alone"
    );
    world.cancel(claim.run).await;
    assert_eq!(look().await, (true, false, 2));
    assert_eq!(let_go(&*store, hand_back(claim, Duration::ZERO)).await, LetGo::Done);
    assert!(world.settle_stop(claim.run).await);
    assert_eq!(look().await, (true, false, 2));
}

pub(super) async fn the_news_is_what_nobody_took(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    let other = start_and_claim(world, &*store).await;
    for number in 1..=3 {
        send(&*store, signal(claim.run, json!(number))).await;
    }
    let taking = NewStep {
        signal_seq: Some(2),
        ..step(claim, "0:paid", "2")
    };
    save(&*store, taking).await;
    world.open_fan_out(&claim, "1:reports").await.unwrap();
    assert!(world.complete_fan_out(claim.run, "1:reports").await);
    let mut news = store.read_news(&[claim.run, other.run, Uuid::now_v7()]).await.unwrap();
    news.sort_by_key(|news| news.run);
    assert_eq!(
        news.iter().map(|news| (news.run, news.wake_seq)).collect::<Vec<_>>(),
        [(claim.run, 4), (other.run, 0)]
    );
    let waiting: Vec<i64> = news[0].signals.iter().map(|signal| signal.seq).collect();
    assert_eq!(waiting, [1, 3]);
    let fan_outs: Vec<_> = news[0]
        .fan_outs
        .iter()
        .map(|step| (step.path.as_str(), step.kind, step.status))
        .collect();
    assert_eq!(fan_outs, [("1:reports", Kind::FanOut, StepStatus::Completed)]);
    assert!(news[1].signals.is_empty() && news[1].fan_outs.is_empty());
}

/// Suspends a run until so long from now.
async fn sleep(world: &dyn RunWorld, hours: i64) -> RunId {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    let due_at = world.now().await + TimeDelta::hours(hours);
    assert_eq!(let_go(&*store, wait(claim, 0, Some(due_at))).await, LetGo::Done);
    claim.run
}

/// In how many whole hours, rounded up, the next run of these queues is due.
async fn due_in_hours(world: &dyn RunWorld, queues: &[&str]) -> Option<u64> {
    let queues: Vec<String> = queues.iter().map(|queue| (*queue).to_owned()).collect();
    let due = world.replica().next_due(&queues).await.unwrap();
    due.map(|due| due.as_secs_f64() / 3_600.0)
        .map(|hours| hours.ceil() as u64)
}

pub(super) async fn nothing_is_due_where_nothing_sleeps(world: &dyn RunWorld) {
    let store = world.replica();
    assert_eq!(due_in_hours(world, &[WORKFLOW]).await, None);
    start_and_suspend(world, &*store).await;
    start_and_claim(world, &*store).await;
    assert_eq!(
        due_in_hours(world, &[WORKFLOW]).await,
        None,
        "who waits for a signal is not due by itself"
    );
    assert_eq!(due_in_hours(world, &[]).await, None);
}

pub(super) async fn the_first_sleeper_says_when_something_is_due(world: &dyn RunWorld) {
    let late = sleep(world, 5).await;
    assert_eq!(due_in_hours(world, &[WORKFLOW]).await, Some(5));
    let soon = sleep(world, 2).await;
    assert_eq!(due_in_hours(world, &["bulk", WORKFLOW]).await, Some(2));
    assert_eq!(due_in_hours(world, &["bulk"]).await, None);
    world.advance(HOUR).await;
    assert_eq!(due_in_hours(world, &[WORKFLOW]).await, Some(1));
    world.pause(soon).await;
    assert_eq!(
        due_in_hours(world, &[WORKFLOW]).await,
        Some(4),
        "what is paused is not due"
    );
    world.cancel(late).await;
    assert_eq!(due_in_hours(world, &[WORKFLOW]).await, None);
}

pub(super) async fn what_is_due_already_does_not_hide_the_next(world: &dyn RunWorld) {
    sleep(world, 3).await;
    start(world).await;
    assert_eq!(due_in_hours(world, &[WORKFLOW]).await, Some(3));
}

//! Ending a run as failed.

use lockgate::lifecycle::ManagerError;
use uuid::Uuid;

use super::assert_refused;
use super::harness::{Harness, batch, shape, start, start_for_engine};

async fn assert_failed(harness: &dyn Harness, run: Uuid, reason: &str) {
    assert_eq!(
        harness.status(run).await,
        Some(("failed".to_owned(), Some(reason.to_owned())))
    );
}

pub(super) async fn a_failed_run_keeps_its_reason(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    handle.fail_run(run, "no database").await.unwrap();
    assert_failed(harness, run, "no database").await;
}

pub(super) async fn any_reason_can_be_kept(harness: &dyn Harness) {
    let handle = harness.handle();
    let long = "é🚪".repeat(20_000);
    // A run must not stay unfinished because of how its failure is worded.
    for (reason, kept) in [
        ("", ""),
        ("a'b\n\"c\"", "a'b\n\"c\""),
        (&long, &long),
        ("a\0b", "a\u{fffd}b"),
    ] {
        let run = start(&*handle).await;
        handle.fail_run(run, reason).await.unwrap();
        handle.fail_run(run, reason).await.unwrap();
        assert_failed(harness, run, kept).await;
    }
}

pub(super) async fn failing_hands_back_what_is_held(harness: &dyn Harness) {
    let (holder, other) = (harness.handle(), harness.handle());
    let run = start(&*holder).await;
    holder.claim_batch(run, 1, &[1, 2]).await.unwrap();
    other.claim_batch(run, 2, &[3]).await.unwrap();
    holder.fail_run(run, "no database").await.unwrap();
    let expected = [batch(1, "recoverable", &[1, 2]), batch(2, "recoverable", &[3])];
    assert_eq!(shape(harness, run).await, expected);
    assert_refused!(holder.release_batch(run, 1).await, ManagerError::NotOwner { .. });
    assert_refused!(other.release_batch(run, 2).await, ManagerError::NotOwner { .. });
    assert_refused!(other.claim_batch(run, 2, &[3]).await, ManagerError::NotActive { .. });
    assert_eq!(shape(harness, run).await, expected);
    // Handing back is no death.
    assert!(harness.batches(run).await.iter().all(|seen| seen.attempts == 0));
}

pub(super) async fn done_batches_stay_done_in_a_failed_run(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    handle.claim_batch(run, 1, &[1]).await.unwrap();
    handle.release_batch(run, 1).await.unwrap();
    handle.fail_run(run, "no database").await.unwrap();
    handle.release_batch(run, 1).await.unwrap();
    assert_eq!(shape(harness, run).await, vec![batch(1, "done", &[1])]);
}

pub(super) async fn failing_again_with_the_same_reason_is_harmless(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    handle.fail_run(run, "no database").await.unwrap();
    let history = harness.history(run).await;
    for again in [handle, harness.handle()] {
        again.fail_run(run, "no database").await.unwrap();
    }
    assert_eq!(harness.history(run).await, history);
}

pub(super) async fn the_first_reason_stays(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    handle.fail_run(run, "no database").await.unwrap();
    assert_refused!(handle.fail_run(run, "no broker").await, ManagerError::NotActive { .. });
    assert_failed(harness, run, "no database").await;
}

pub(super) async fn a_completed_run_does_not_fail(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    handle.complete_run(run).await.unwrap();
    assert_refused!(handle.fail_run(run, "too late").await, ManagerError::NotActive { .. });
    assert_eq!(harness.status(run).await, Some(("completed".to_owned(), None)));
}

pub(super) async fn an_unknown_run_does_not_fail(harness: &dyn Harness) {
    let answer = harness.handle().fail_run(Uuid::new_v4(), "no database").await;
    assert_refused!(answer, ManagerError::NotActive { .. });
}

pub(super) async fn the_engines_run_is_not_failed_by_a_caller(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start_for_engine(&*handle).await;
    assert_refused!(handle.fail_run(run, "no database").await, ManagerError::NotOwner { .. });
    assert_eq!(harness.status(run).await, Some(("queued".to_owned(), None)));
}

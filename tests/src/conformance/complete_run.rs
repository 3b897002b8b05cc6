//! Ending a run with success.

use lockgate::lifecycle::ManagerError;
use uuid::Uuid;

use super::assert_refused;
use super::harness::{Change, Harness, start, start_for_engine};

async fn assert_status(harness: &dyn Harness, run: Uuid, status: &str) {
    assert_eq!(harness.status(run).await, Some((status.to_owned(), None)));
}

pub(super) async fn a_run_without_batches_completes(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    handle.complete_run(run).await.unwrap();
    assert_status(harness, run, "completed").await;
}

pub(super) async fn a_run_completes_when_all_batches_are_done(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    for number in 1..=3 {
        handle.claim_batch(run, number, &[number.into()]).await.unwrap();
        handle.release_batch(run, number).await.unwrap();
    }
    // Whoever holds nothing may complete it, too.
    harness.handle().complete_run(run).await.unwrap();
    assert_status(harness, run, "completed").await;
}

pub(super) async fn held_batches_keep_a_run_open(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    for number in 1..=3 {
        handle.claim_batch(run, number, &[number.into()]).await.unwrap();
    }
    handle.release_batch(run, 2).await.unwrap();
    assert_refused!(
        handle.complete_run(run).await,
        ManagerError::Unfinished { batches: 2, .. }
    );
    harness.end_leases().await;
    assert_refused!(
        handle.complete_run(run).await,
        ManagerError::Unfinished { batches: 2, .. }
    );
    assert_status(harness, run, "running").await;
}

pub(super) async fn recoverable_batches_keep_a_run_open(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    handle.claim_batch(run, 1, &[1]).await.unwrap();
    harness.end_leases().await;
    handle.recover_stale_ids(run).await.unwrap();
    assert_refused!(
        handle.complete_run(run).await,
        ManagerError::Unfinished { batches: 1, .. }
    );
    assert_status(harness, run, "running").await;
}

pub(super) async fn completing_again_is_harmless_and_leaves_one_record(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    for again in [&handle, &handle, &harness.handle()] {
        again.complete_run(run).await.unwrap();
    }
    let change = |from: Option<&str>, to: &str| Change {
        batch: None,
        from: from.map(Into::into),
        to: to.into(),
    };
    let expected = [change(None, "running"), change(Some("running"), "completed")];
    assert_eq!(harness.history(run).await, expected);
}

pub(super) async fn a_failed_run_does_not_complete(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    handle.fail_run(run, "no database").await.unwrap();
    assert_refused!(handle.complete_run(run).await, ManagerError::NotActive { .. });
    assert_eq!(
        harness.status(run).await,
        Some(("failed".to_owned(), Some("no database".to_owned())))
    );
}

pub(super) async fn an_unknown_run_does_not_complete(harness: &dyn Harness) {
    match harness.handle().complete_run(Uuid::new_v4()).await {
        Err(ManagerError::NotActive { state, .. }) => assert_eq!(state, "unknown"),
        answer => panic!("answered {answer:?}"),
    }
}

pub(super) async fn the_engines_run_is_not_completed_by_a_caller(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start_for_engine(&*handle).await;
    assert_refused!(handle.complete_run(run).await, ManagerError::NotOwner { .. });
    assert_status(harness, run, "queued").await;
}

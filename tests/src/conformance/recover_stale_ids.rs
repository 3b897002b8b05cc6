//! Taking over what dead holders left.

use lockgate::lifecycle::ManagerError;
use uuid::Uuid;

use super::assert_refused;
use super::harness::{Harness, batch, shape, start, start_for_engine};

pub(super) async fn live_leases_are_left_alone(harness: &dyn Harness) {
    let (dead, alive) = (harness.handle(), harness.handle());
    let run = start(&*alive).await;
    alive.claim_batch(run, 1, &[1]).await.unwrap();
    assert!(alive.recover_stale_ids(run).await.unwrap().is_empty());
    alive.release_batch(run, 1).await.unwrap();
    dead.claim_batch(run, 2, &[2]).await.unwrap();
    harness.end_leases().await;
    alive.claim_batch(run, 3, &[3]).await.unwrap();
    assert_eq!(dead.recover_stale_ids(run).await.unwrap(), vec![2]);
    let expected = [
        batch(1, "done", &[1]),
        batch(2, "recoverable", &[2]),
        batch(3, "claimed", &[3]),
    ];
    assert_eq!(shape(harness, run).await, expected);
    alive.release_batch(run, 3).await.unwrap();
}

pub(super) async fn ended_leases_give_their_ids_ascending(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    let odd: Vec<i64> = (0..100).map(|n| 2 * n + 1).collect();
    handle.claim_batch(run, 1, &odd).await.unwrap();
    harness.handle().claim_batch(run, 2, &[-4, 50, 300]).await.unwrap();
    harness.handle().claim_batch(run, 3, &[i64::MIN, 0]).await.unwrap();
    harness.end_leases().await;
    let mut expected = [odd, vec![-4, 50, 300, i64::MIN, 0]].concat();
    expected.sort_unstable();
    assert_eq!(handle.recover_stale_ids(run).await.unwrap(), expected);
}

pub(super) async fn recovering_twice_returns_the_same_ids(harness: &dyn Harness) {
    let (handle, other) = (harness.handle(), harness.handle());
    let run = start(&*handle).await;
    handle.claim_batch(run, 1, &[1, 2]).await.unwrap();
    harness.end_leases().await;
    assert_eq!(handle.recover_stale_ids(run).await.unwrap(), vec![1, 2]);
    let before = (harness.batches(run).await, harness.history(run).await);
    assert_eq!(handle.recover_stale_ids(run).await.unwrap(), vec![1, 2]);
    assert_eq!(other.recover_stale_ids(run).await.unwrap(), vec![1, 2]);
    assert_eq!((harness.batches(run).await, harness.history(run).await), before);
}

pub(super) async fn a_crash_between_recover_and_claim_loses_nothing(harness: &dyn Harness) {
    let first = harness.handle();
    let run = start(&*first).await;
    first.claim_batch(run, 1, &[1, 2]).await.unwrap();
    harness.end_leases().await;
    assert_eq!(first.recover_stale_ids(run).await.unwrap(), vec![1, 2]);
    drop(first);
    let second = harness.handle();
    assert_eq!(second.recover_stale_ids(run).await.unwrap(), vec![1, 2]);
    second.claim_batch(run, 2, &[1, 2]).await.unwrap();
    second.release_batch(run, 2).await.unwrap();
    second.complete_run(run).await.unwrap();
}

pub(super) async fn done_items_are_never_recovered(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    handle.claim_batch(run, 1, &[1]).await.unwrap();
    handle.claim_batch(run, 2, &[2]).await.unwrap();
    handle.release_batch(run, 1).await.unwrap();
    harness.end_leases().await;
    assert_eq!(handle.recover_stale_ids(run).await.unwrap(), vec![2]);
}

pub(super) async fn claimed_again_items_are_not_recovered(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    handle.claim_batch(run, 1, &[1, 2]).await.unwrap();
    harness.end_leases().await;
    handle.recover_stale_ids(run).await.unwrap();
    handle.claim_batch(run, 5, &[1]).await.unwrap();
    assert_eq!(handle.recover_stale_ids(run).await.unwrap(), vec![2]);
    harness.end_leases().await;
    assert_eq!(handle.recover_stale_ids(run).await.unwrap(), vec![1, 2]);
}

pub(super) async fn planned_batches_are_recovered_too(harness: &dyn Harness) {
    let (dead, handle) = (harness.handle(), harness.handle());
    let run = start_for_engine(&*handle).await;
    harness.plan(run, 1, &[1, 2, 9]).await;
    harness.plan(run, 2, &[10, 11]).await;
    dead.claim_batch(run, 1, &[1, 2, 9]).await.unwrap();
    harness.end_leases().await;
    // What is planned and free was never stuck.
    assert_eq!(handle.recover_stale_ids(run).await.unwrap(), vec![1, 2, 9]);
    assert_refused!(handle.claim_batch(run, 1, &[1, 2]).await, ManagerError::WrongIds { .. });
    assert_refused!(
        handle.claim_batch(run, 3, &[1, 2, 9]).await,
        ManagerError::NotClaimable { .. }
    );
    handle.claim_batch(run, 1, &[1, 2, 9]).await.unwrap();
    assert_refused!(dead.release_batch(run, 1).await, ManagerError::NotOwner { .. });
    handle.release_batch(run, 1).await.unwrap();
}

pub(super) async fn a_run_without_batches_has_nothing_stale(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    assert!(handle.recover_stale_ids(run).await.unwrap().is_empty());
}

pub(super) async fn recovery_touches_only_its_run(harness: &dyn Harness) {
    let handle = harness.handle();
    let (run, other) = (start(&*handle).await, start(&*handle).await);
    handle.claim_batch(run, 1, &[1]).await.unwrap();
    handle.claim_batch(other, 1, &[2]).await.unwrap();
    harness.end_leases().await;
    assert_eq!(handle.recover_stale_ids(run).await.unwrap(), vec![1]);
    assert_eq!(shape(harness, other).await, vec![batch(1, "claimed", &[2])]);
    handle.release_batch(other, 1).await.unwrap();
}

pub(super) async fn unknown_and_ended_runs_have_nothing_to_recover(harness: &dyn Harness) {
    let handle = harness.handle();
    assert_refused!(
        handle.recover_stale_ids(Uuid::new_v4()).await,
        ManagerError::NotActive { .. }
    );
    let (completed, failed) = (start(&*handle).await, start(&*handle).await);
    handle.complete_run(completed).await.unwrap();
    handle.claim_batch(failed, 1, &[1]).await.unwrap();
    handle.fail_run(failed, "no database").await.unwrap();
    for run in [completed, failed] {
        assert_refused!(handle.recover_stale_ids(run).await, ManagerError::NotActive { .. });
    }
}

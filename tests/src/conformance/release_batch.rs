//! Confirming success, under the claim and only under it.

use lockgate::lifecycle::{ManagerError, TaskRunManager};
use uuid::Uuid;

use super::assert_refused;
use super::harness::{Harness, batch, shape, start};

pub(super) async fn a_released_batch_is_done(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    handle.claim_batch(run, 1, &[1, 2, 3]).await.unwrap();
    handle.claim_batch(run, 2, &[4]).await.unwrap();
    handle.release_batch(run, 1).await.unwrap();
    assert_eq!(
        shape(harness, run).await,
        vec![batch(1, "done", &[1, 2, 3]), batch(2, "claimed", &[4])]
    );
}

pub(super) async fn releasing_again_is_harmless(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    handle.claim_batch(run, 1, &[1]).await.unwrap();
    handle.release_batch(run, 1).await.unwrap();
    let before = (harness.batches(run).await, harness.history(run).await);
    handle.release_batch(run, 1).await.unwrap();
    assert_eq!((harness.batches(run).await, harness.history(run).await), before);
    handle.complete_run(run).await.unwrap();
    handle.release_batch(run, 1).await.unwrap();
}

async fn assert_not_owner(handle: &dyn TaskRunManager, harness: &dyn Harness, run: Uuid, number: i32) {
    let before = (harness.batches(run).await, harness.history(run).await);
    for _ in 0..2 {
        assert_refused!(handle.release_batch(run, number).await, ManagerError::NotOwner { .. });
    }
    assert_eq!((harness.batches(run).await, harness.history(run).await), before);
}

pub(super) async fn a_handle_without_the_claim_is_not_the_owner(harness: &dyn Harness) {
    let (holder, other) = (harness.handle(), harness.handle());
    let run = start(&*holder).await;
    holder.claim_batch(run, 1, &[1]).await.unwrap();
    assert_not_owner(&*other, harness, run, 1).await;
    holder.release_batch(run, 1).await.unwrap();
    assert_not_owner(&*other, harness, run, 1).await;
}

pub(super) async fn what_was_never_claimed_cannot_be_released(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    handle.claim_batch(run, 1, &[1]).await.unwrap();
    assert_not_owner(&*handle, harness, run, 2).await;
    assert_refused!(
        handle.release_batch(Uuid::new_v4(), 1).await,
        ManagerError::NotOwner { .. }
    );
}

pub(super) async fn a_late_release_counts_until_somebody_took_over(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    handle.claim_batch(run, 1, &[1]).await.unwrap();
    harness.end_leases().await;
    handle.release_batch(run, 1).await.unwrap();
    assert!(handle.recover_stale_ids(run).await.unwrap().is_empty());
    assert_eq!(shape(harness, run).await, vec![batch(1, "done", &[1])]);
}

pub(super) async fn a_release_after_recovery_is_refused_and_changes_nothing(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    handle.claim_batch(run, 1, &[1]).await.unwrap();
    harness.end_leases().await;
    handle.recover_stale_ids(run).await.unwrap();
    assert_not_owner(&*handle, harness, run, 1).await;
    assert_eq!(shape(harness, run).await, vec![batch(1, "recoverable", &[1])]);
}

pub(super) async fn a_release_after_takeover_is_refused_and_changes_nothing(harness: &dyn Harness) {
    let (zombie, heir) = (harness.handle(), harness.handle());
    let run = start(&*zombie).await;
    zombie.claim_batch(run, 1, &[1, 2]).await.unwrap();
    harness.end_leases().await;
    heir.recover_stale_ids(run).await.unwrap();
    heir.claim_batch(run, 1, &[1, 2]).await.unwrap();
    assert_not_owner(&*zombie, harness, run, 1).await;
    heir.release_batch(run, 1).await.unwrap();
    assert_not_owner(&*zombie, harness, run, 1).await;
}

pub(super) async fn a_release_after_regrouping_is_refused(harness: &dyn Harness) {
    let (zombie, heir) = (harness.handle(), harness.handle());
    let run = start(&*zombie).await;
    zombie.claim_batch(run, 1, &[1, 2]).await.unwrap();
    zombie.claim_batch(run, 2, &[3, 4]).await.unwrap();
    harness.end_leases().await;
    heir.recover_stale_ids(run).await.unwrap();
    heir.claim_batch(run, 3, &[2, 3, 4]).await.unwrap();
    for number in [1, 2, 3] {
        assert_not_owner(&*zombie, harness, run, number).await;
    }
    assert_eq!(
        shape(harness, run).await,
        vec![batch(1, "recoverable", &[1]), batch(3, "claimed", &[2, 3, 4])]
    );
}

pub(super) async fn a_handle_that_lost_a_batch_may_claim_it_again(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    handle.claim_batch(run, 1, &[1]).await.unwrap();
    harness.end_leases().await;
    assert_eq!(handle.recover_stale_ids(run).await.unwrap(), vec![1]);
    handle.claim_batch(run, 1, &[1]).await.unwrap();
    handle.release_batch(run, 1).await.unwrap();
    handle.complete_run(run).await.unwrap();
}

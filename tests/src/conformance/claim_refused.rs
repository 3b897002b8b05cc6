//! Claims that are refused, and change nothing.

use lockgate::lifecycle::ManagerError;
use uuid::Uuid;

use super::assert_refused;
use super::harness::{Harness, batch, shape, start, start_for_engine};

pub(super) async fn claiming_again_with_other_ids_is_refused(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    handle.claim_batch(run, 1, &[1, 2]).await.unwrap();
    for ids in [&[1][..], &[1, 2, 3], &[3]] {
        assert_refused!(handle.claim_batch(run, 1, ids).await, ManagerError::NotClaimable { .. });
    }
    assert_eq!(shape(harness, run).await, vec![batch(1, "claimed", &[1, 2])]);
    handle.release_batch(run, 1).await.unwrap();
}

pub(super) async fn a_number_held_by_another_handle_is_refused(harness: &dyn Harness) {
    let (holder, other) = (harness.handle(), harness.handle());
    let run = start(&*holder).await;
    holder.claim_batch(run, 1, &[1, 2]).await.unwrap();
    for ids in [&[1, 2][..], &[3]] {
        assert_refused!(other.claim_batch(run, 1, ids).await, ManagerError::NotClaimable { .. });
    }
    assert_eq!(shape(harness, run).await, vec![batch(1, "claimed", &[1, 2])]);
    holder.release_batch(run, 1).await.unwrap();
}

pub(super) async fn a_done_number_is_refused(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    handle.claim_batch(run, 1, &[1, 2]).await.unwrap();
    handle.release_batch(run, 1).await.unwrap();
    for ids in [&[1, 2][..], &[3]] {
        assert_refused!(handle.claim_batch(run, 1, ids).await, ManagerError::NotClaimable { .. });
    }
    assert_eq!(shape(harness, run).await, vec![batch(1, "done", &[1, 2])]);
}

pub(super) async fn items_of_a_held_batch_are_refused(harness: &dyn Harness) {
    let (holder, other) = (harness.handle(), harness.handle());
    let run = start(&*holder).await;
    holder.claim_batch(run, 1, &[10, 20, 30]).await.unwrap();
    for handle in [&holder, &other] {
        for ids in [&[10][..], &[20], &[30], &[5, 30, 40], &[10, 20, 30]] {
            assert_refused!(handle.claim_batch(run, 2, ids).await, ManagerError::NotClaimable { .. });
        }
    }
    assert_eq!(shape(harness, run).await, vec![batch(1, "claimed", &[10, 20, 30])]);
}

pub(super) async fn items_of_a_done_batch_are_refused(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    handle.claim_batch(run, 1, &[10, 20, 30]).await.unwrap();
    handle.release_batch(run, 1).await.unwrap();
    assert_refused!(
        handle.claim_batch(run, 2, &[1, 20]).await,
        ManagerError::NotClaimable { .. }
    );
    assert_eq!(shape(harness, run).await, vec![batch(1, "done", &[10, 20, 30])]);
}

pub(super) async fn one_taken_item_refuses_the_whole_claim(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    handle.claim_batch(run, 1, &[500]).await.unwrap();
    let ids: Vec<i64> = (0..1_000).collect();
    assert_refused!(
        handle.claim_batch(run, 2, &ids).await,
        ManagerError::NotClaimable { batch: 2, .. }
    );
    assert_eq!(shape(harness, run).await, vec![batch(1, "claimed", &[500])]);
    assert_refused!(handle.release_batch(run, 2).await, ManagerError::NotOwner { .. });
}

pub(super) async fn an_unplanned_number_of_the_engines_run_is_refused(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start_for_engine(&*handle).await;
    harness.plan(run, 1, &[1, 2]).await;
    for ids in [&[1, 2][..], &[3]] {
        assert_refused!(handle.claim_batch(run, 2, ids).await, ManagerError::NotClaimable { .. });
    }
    assert_eq!(shape(harness, run).await, vec![batch(1, "free", &[1, 2])]);
}

pub(super) async fn unknown_and_ended_runs_take_no_claims(harness: &dyn Harness) {
    let handle = harness.handle();
    assert_refused!(
        handle.claim_batch(Uuid::new_v4(), 1, &[1]).await,
        ManagerError::NotActive { .. }
    );
    let (completed, failed) = (start(&*handle).await, start(&*handle).await);
    handle.complete_run(completed).await.unwrap();
    handle.fail_run(failed, "no database").await.unwrap();
    for (run, ended_as) in [(completed, "completed"), (failed, "failed")] {
        match handle.claim_batch(run, 1, &[1]).await {
            Err(ManagerError::NotActive { state, .. }) => assert_eq!(state, ended_as),
            answer => panic!("answered {answer:?}"),
        }
        assert!(shape(harness, run).await.is_empty());
    }
}

pub(super) async fn an_ended_lease_is_not_claimable_before_recovery(harness: &dyn Harness) {
    let (holder, other) = (harness.handle(), harness.handle());
    let run = start(&*holder).await;
    holder.claim_batch(run, 1, &[1]).await.unwrap();
    harness.end_leases().await;
    assert_refused!(other.claim_batch(run, 1, &[1]).await, ManagerError::NotClaimable { .. });
    assert_refused!(other.claim_batch(run, 2, &[1]).await, ManagerError::NotClaimable { .. });
    assert_eq!(other.recover_stale_ids(run).await.unwrap(), vec![1]);
    other.claim_batch(run, 2, &[1]).await.unwrap();
    assert_eq!(shape(harness, run).await, vec![batch(2, "claimed", &[1])]);
}

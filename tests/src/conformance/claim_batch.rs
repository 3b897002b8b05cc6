//! Claiming by number and ids.

use lockgate::lifecycle::ManagerError;
use uuid::Uuid;

use super::assert_refused;
use super::harness::{Harness, batch, shape, start, start_for_engine};

pub(super) async fn an_unknown_number_creates_the_batch(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    handle.claim_batch(run, 7, &[1]).await.unwrap();
    handle.claim_batch(run, 3, &[2, 3]).await.unwrap();
    assert_eq!(
        shape(harness, run).await,
        vec![batch(3, "claimed", &[2, 3]), batch(7, "claimed", &[1])]
    );
}

pub(super) async fn ids_are_kept_exactly_in_any_shape(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    let clustered: Vec<i64> = (0..300).chain(1_000..1_300).chain([5_000]).collect();
    let sparse: Vec<i64> = (0..500).map(|n| 10_000 + n * n).collect();
    let unordered = vec![-5, 9_000, -7, -6];
    for (number, ids) in [(1, clustered), (2, sparse), (3, unordered)] {
        handle.claim_batch(run, number, &ids).await.unwrap();
        let mut ascending = ids;
        ascending.sort_unstable();
        let seen = harness
            .batches(run)
            .await
            .into_iter()
            .find(|seen| seen.number == number)
            .unwrap();
        assert_eq!(seen.ids, ascending);
    }
}

pub(super) async fn the_smallest_and_largest_ids_and_numbers_are_usable(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    let at_the_end: Vec<i64> = std::iter::once(5).chain(i64::MAX - 50..=i64::MAX - 1).collect();
    handle.claim_batch(run, i32::MIN, &[i64::MIN, i64::MAX]).await.unwrap();
    handle.claim_batch(run, i32::MAX, &at_the_end).await.unwrap();
    handle.claim_batch(run, 0, &[i64::MIN + 1]).await.unwrap();
    handle.claim_batch(run, -1, &[0]).await.unwrap();
    let numbers = [i32::MIN, -1, 0, i32::MAX];
    assert_eq!(
        harness
            .batches(run)
            .await
            .iter()
            .map(|seen| seen.number)
            .collect::<Vec<_>>(),
        numbers
    );
    harness.end_leases().await;
    let recovered = handle.recover_stale_ids(run).await.unwrap();
    assert_eq!((recovered.len(), recovered[0], recovered[54]), (55, i64::MIN, i64::MAX));
    // The number at the end of the range is claimed again, and a rest of it still finds a number.
    handle
        .claim_batch(run, i32::MAX, &[i64::MAX - 1, i64::MIN])
        .await
        .unwrap();
    let left = handle.recover_stale_ids(run).await.unwrap();
    assert_eq!(left.len(), 53);
    handle.claim_batch(run, 1, &left).await.unwrap();
    for number in [1, i32::MAX] {
        handle.release_batch(run, number).await.unwrap();
    }
    handle.complete_run(run).await.unwrap();
}

pub(super) async fn ten_thousand_ids_are_one_batch(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    let dense: Vec<i64> = (0..10_000).collect();
    let sparse: Vec<i64> = (0..10_000).map(|n| 20_000 + n * 3).collect();
    handle.claim_batch(run, 1, &dense).await.unwrap();
    handle.claim_batch(run, 2, &sparse).await.unwrap();
    assert_eq!(
        shape(harness, run).await,
        vec![batch(1, "claimed", &dense), batch(2, "claimed", &sparse)]
    );
}

pub(super) async fn no_ids_and_doubled_ids_are_invalid(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    let far_too_many: Vec<i64> = (0..1_000_001).collect();
    for ids in [&[][..], &[1, 1], &[3, 1, 2, 3], &[i64::MIN, i64::MIN], &far_too_many] {
        assert_refused!(handle.claim_batch(run, 1, ids).await, ManagerError::Invalid(_));
    }
    assert!(shape(harness, run).await.is_empty());
}

pub(super) async fn claiming_again_with_the_same_ids_changes_nothing(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    handle.claim_batch(run, 1, &[1, 2, 5]).await.unwrap();
    let (before, history) = (harness.batches(run).await, harness.history(run).await);
    handle.claim_batch(run, 1, &[5, 2, 1]).await.unwrap();
    assert_eq!(
        (harness.batches(run).await, harness.history(run).await),
        (before, history)
    );
    handle.release_batch(run, 1).await.unwrap();
}

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

pub(super) async fn batches_may_interleave(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    let (odd, even): (Vec<i64>, Vec<i64>) = (0..200).partition(|id| id % 2 == 1);
    handle.claim_batch(run, 1, &odd).await.unwrap();
    handle.claim_batch(run, 2, &even).await.unwrap();
    assert_eq!(
        shape(harness, run).await,
        vec![batch(1, "claimed", &odd), batch(2, "claimed", &even)]
    );
}

pub(super) async fn two_runs_may_have_the_same_items(harness: &dyn Harness) {
    let handle = harness.handle();
    for _ in 0..2 {
        let run = start(&*handle).await;
        handle.claim_batch(run, 1, &[1, 2, 3]).await.unwrap();
        handle.release_batch(run, 1).await.unwrap();
        handle.complete_run(run).await.unwrap();
    }
}

pub(super) async fn a_planned_number_takes_exactly_its_ids(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start_for_engine(&*handle).await;
    harness.plan(run, 1, &[1, 2, 4]).await;
    harness.plan(run, 2, &[5, 6]).await;
    for ids in [&[1, 2][..], &[1, 2, 3], &[1, 2, 4, 5], &[1, 2, 3, 4], &[5, 6]] {
        assert_refused!(
            handle.claim_batch(run, 1, ids).await,
            ManagerError::WrongIds { batch: 1, .. }
        );
    }
    assert_eq!(
        shape(harness, run).await,
        vec![batch(1, "free", &[1, 2, 4]), batch(2, "free", &[5, 6])]
    );
    handle.claim_batch(run, 1, &[4, 1, 2]).await.unwrap();
    handle.claim_batch(run, 1, &[1, 2, 4]).await.unwrap();
    assert_refused!(
        harness.handle().claim_batch(run, 1, &[1, 2, 4]).await,
        ManagerError::NotClaimable { .. }
    );
    handle.release_batch(run, 1).await.unwrap();
    assert_eq!(
        shape(harness, run).await,
        vec![batch(1, "done", &[1, 2, 4]), batch(2, "free", &[5, 6])]
    );
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

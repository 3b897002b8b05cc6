//! Claiming by number and ids.

use lockgate::lifecycle::ManagerError;

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

//! Recovered items move to new claims, in any grouping.

use lockgate::lifecycle::{ManagerError, RunId, TaskRunManager};

use super::assert_refused;
use super::harness::{Harness, batch, shape, start};

/// A run whose batches 1, 2, … with these items lost their holder.
async fn recovered(harness: &dyn Harness, handle: &dyn TaskRunManager, batches: &[&[i64]]) -> RunId {
    let run = start(handle).await;
    let dead = harness.handle();
    for (number, ids) in (1..).zip(batches) {
        dead.claim_batch(run, number, ids).await.unwrap();
    }
    harness.end_leases().await;
    let mut all: Vec<i64> = batches.concat();
    all.sort_unstable();
    assert_eq!(handle.recover_stale_ids(run).await.unwrap(), all);
    run
}

pub(super) async fn recovered_batches_merge_into_one(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = recovered(harness, &*handle, &[&[1, 2, 3], &[7, 9], &[4]]).await;
    handle.claim_batch(run, 10, &[1, 2, 3, 4, 7, 9]).await.unwrap();
    assert_eq!(
        shape(harness, run).await,
        vec![batch(10, "claimed", &[1, 2, 3, 4, 7, 9])]
    );
    assert!(handle.recover_stale_ids(run).await.unwrap().is_empty());
    handle.release_batch(run, 10).await.unwrap();
    handle.complete_run(run).await.unwrap();
}

pub(super) async fn a_recovered_batch_splits_into_many(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = recovered(harness, &*handle, &[&[1, 2, 3, 4, 5, 6]]).await;
    handle.claim_batch(run, 2, &[1, 3, 5]).await.unwrap();
    assert_eq!(
        shape(harness, run).await,
        vec![batch(1, "recoverable", &[2, 4, 6]), batch(2, "claimed", &[1, 3, 5])]
    );
    handle.claim_batch(run, 3, &[2]).await.unwrap();
    harness.handle().claim_batch(run, 4, &[4, 6]).await.unwrap();
    let claimed = [
        batch(2, "claimed", &[1, 3, 5]),
        batch(3, "claimed", &[2]),
        batch(4, "claimed", &[4, 6]),
    ];
    assert_eq!(shape(harness, run).await, claimed);
}

pub(super) async fn recovered_and_new_items_mix(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = recovered(harness, &*handle, &[&[1, 2], &[5, 6]]).await;
    handle.claim_batch(run, 3, &[2, 3, 4, 5]).await.unwrap();
    let expected = [
        batch(1, "recoverable", &[1]),
        batch(2, "recoverable", &[6]),
        batch(3, "claimed", &[2, 3, 4, 5]),
    ];
    assert_eq!(shape(harness, run).await, expected);
}

pub(super) async fn a_number_is_claimed_again_with_part_of_its_items(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = recovered(harness, &*handle, &[&[1, 2, 3, 9]]).await;
    handle.claim_batch(run, 1, &[2, 9]).await.unwrap();
    assert_eq!(handle.recover_stale_ids(run).await.unwrap(), vec![1, 3]);
    let batches = harness.batches(run).await;
    assert_eq!(batches.len(), 2);
    let rest = batches.iter().find(|seen| seen.status == "recoverable").unwrap();
    assert_eq!((rest.number != 1, &rest.ids[..]), (true, &[1, 3][..]));
    // The number that the rest was given is no obstacle to whoever counts on it.
    handle.claim_batch(run, rest.number, &[50, 51]).await.unwrap();
    assert_eq!(handle.recover_stale_ids(run).await.unwrap(), vec![1, 3]);
}

pub(super) async fn a_number_is_claimed_again_with_items_of_others(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = recovered(harness, &*handle, &[&[1, 2], &[3, 4], &[5]]).await;
    handle.claim_batch(run, 2, &[1, 2, 5]).await.unwrap();
    handle.claim_batch(run, 1, &[3, 4]).await.unwrap();
    assert_eq!(
        shape(harness, run).await,
        vec![batch(1, "claimed", &[3, 4]), batch(2, "claimed", &[1, 2, 5])]
    );
}

pub(super) async fn what_is_left_over_is_still_recovered(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = recovered(harness, &*handle, &[&[1, 2, 3], &[4, 5, 6]]).await;
    handle.claim_batch(run, 3, &[2, 5]).await.unwrap();
    for other in [harness.handle(), handle] {
        assert_eq!(other.recover_stale_ids(run).await.unwrap(), vec![1, 3, 4, 6]);
        assert_refused!(
            other.complete_run(run).await,
            ManagerError::Unfinished { batches: 3, .. }
        );
    }
}

pub(super) async fn a_refused_regrouping_moves_nothing(harness: &dyn Harness) {
    let (handle, other) = (harness.handle(), harness.handle());
    let run = recovered(harness, &*handle, &[&[1, 2], &[3, 4]]).await;
    other.claim_batch(run, 9, &[4]).await.unwrap();
    let before = (harness.batches(run).await, harness.history(run).await);
    assert_refused!(
        handle.claim_batch(run, 5, &[1, 2, 3, 4]).await,
        ManagerError::NotClaimable { .. }
    );
    assert_refused!(
        handle.claim_batch(run, 9, &[1, 2]).await,
        ManagerError::NotClaimable { .. }
    );
    assert_refused!(
        handle.claim_batch(run, 1, &[1, 4]).await,
        ManagerError::NotClaimable { .. }
    );
    assert_eq!((harness.batches(run).await, harness.history(run).await), before);
}

pub(super) async fn any_grouping_of_many_batches_keeps_every_item(harness: &dyn Harness) {
    let handle = harness.handle();
    let all: Vec<i64> = (0..600).collect();
    let batches: Vec<Vec<i64>> = all.chunks(40).map(<[i64]>::to_vec).collect();
    let slices: Vec<&[i64]> = batches.iter().map(Vec::as_slice).collect();
    let run = recovered(harness, &*handle, &slices).await;
    for (number, step) in (100..).zip([7, 5, 3, 2, 1]) {
        let stuck = handle.recover_stale_ids(run).await.unwrap();
        let chosen: Vec<i64> = stuck.iter().copied().step_by(step).collect();
        handle.claim_batch(run, number, &chosen).await.unwrap();
        let mut kept: Vec<i64> = harness
            .batches(run)
            .await
            .into_iter()
            .flat_map(|seen| seen.ids)
            .collect();
        kept.sort_unstable();
        assert_eq!(kept, all);
    }
    for number in 100..105 {
        handle.release_batch(run, number).await.unwrap();
    }
    handle.complete_run(run).await.unwrap();
}

pub(super) async fn tokens_grow_when_a_number_is_used_again(harness: &dyn Harness) {
    let handle = harness.handle();
    let run = start(&*handle).await;
    let mut last_token = 0;
    for death in 0..3 {
        handle.claim_batch(run, 1, &[1, 2]).await.unwrap();
        let seen = &harness.batches(run).await[0];
        assert!(seen.token > last_token, "{} after {last_token}", seen.token);
        assert_eq!(seen.attempts, death);
        last_token = seen.token;
        harness.end_leases().await;
        handle.recover_stale_ids(run).await.unwrap();
    }
}

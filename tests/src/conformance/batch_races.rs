//! Many claim, regroup, release and recover at once: what each of them was told must add up.

use std::sync::Arc;

use lockgate::lifecycle::{ManagerError, RunId};

use super::at_once::{Handle, TASKS, at_once, many_handles};
use super::harness::{Harness, shape, start};

/// Every task claims windows of ten ids that overlap those of others; answers which ids each was granted.
async fn claim_windows(handles: &[Handle], run: RunId) -> Vec<Vec<i64>> {
    at_once(handles, |task, handle| async move {
        let mut granted = Vec::new();
        for window in 0..8 {
            let start = ((window * 7 + task * 5) % 60) as i64;
            let ids: Vec<i64> = (start..start + 10).collect();
            match handle.claim_batch(run, (task * 100 + window) as i32, &ids).await {
                Ok(()) => granted.extend(ids),
                Err(ManagerError::NotClaimable { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        granted
    })
    .await
}

async fn check_windows(harness: &dyn Harness, handles: Vec<Handle>) {
    let run = start(&*handles[0]).await;
    let mut granted = claim_windows(&handles, run).await.concat();
    granted.sort_unstable();
    assert!(
        granted.windows(2).all(|pair| pair[0] < pair[1]),
        "an id was granted twice: {granted:?}"
    );
    assert!(granted.len() >= 20, "hardly anything was granted: {granted:?}");
    let mut stored: Vec<i64> = shape(harness, run)
        .await
        .into_iter()
        .flat_map(|(_, _, ids)| ids)
        .collect();
    stored.sort_unstable();
    assert_eq!(stored, granted);
}

pub(super) async fn two_workers_never_claim_one_id(harness: &dyn Harness) {
    check_windows(harness, many_handles(harness)).await;
}

pub(super) async fn tasks_of_one_handle_never_claim_one_id_twice(harness: &dyn Harness) {
    check_windows(harness, vec![harness.handle(); TASKS]).await;
}

pub(super) async fn regrouping_by_many_moves_each_id_once(harness: &dyn Harness) {
    let dead = harness.handle();
    let run = start(&*dead).await;
    for number in 0..12i64 {
        let ids: Vec<i64> = (number * 6..number * 6 + 6).collect();
        dead.claim_batch(run, -1 - number as i32, &ids).await.unwrap();
    }
    harness.end_leases().await;
    assert_eq!(
        dead.recover_stale_ids(run).await.unwrap(),
        (0..72).collect::<Vec<i64>>()
    );
    let handles = many_handles(harness);
    let mut granted = claim_windows(&handles, run).await.concat();
    granted.sort_unstable();
    assert!(
        granted.windows(2).all(|pair| pair[0] < pair[1]),
        "an id was granted twice: {granted:?}"
    );
    // Each id is either granted to one or still waits.
    let waiting = dead.recover_stale_ids(run).await.unwrap();
    let mut all = [granted, waiting].concat();
    all.sort_unstable();
    assert_eq!(all, (0..72).collect::<Vec<i64>>());
}

pub(super) async fn recovery_by_many_finds_everything(harness: &dyn Harness) {
    let dead = harness.handle();
    let run = start(&*dead).await;
    for number in 0..20 {
        dead.claim_batch(run, number, &[number.into()]).await.unwrap();
    }
    harness.end_leases().await;
    let answers = at_once(&many_handles(harness), |_, handle| async move {
        handle.recover_stale_ids(run).await.unwrap()
    })
    .await;
    for answer in answers {
        assert_eq!(answer, (0..20).collect::<Vec<i64>>());
    }
    let recoveries = harness
        .history(run)
        .await
        .into_iter()
        .filter(|change| change.to == "recoverable")
        .count();
    assert_eq!(recoveries, 20);
    assert!(harness.batches(run).await.iter().all(|seen| seen.attempts == 1));
}

pub(super) async fn release_and_recovery_never_both_win(harness: &dyn Harness) {
    let holder = harness.handle();
    let run = start(&*holder).await;
    for number in 0..TASKS as i32 {
        holder.claim_batch(run, number, &[number.into()]).await.unwrap();
    }
    harness.end_leases().await;
    // Even tasks release each a batch, odd ones recover.
    let handles: Vec<Handle> = (0..TASKS).map(|_| Arc::clone(&holder)).collect();
    let released = at_once(&handles, |task, handle| async move {
        if task % 2 == 1 {
            handle.recover_stale_ids(run).await.unwrap();
            return None;
        }
        handle
            .release_batch(run, task as i32)
            .await
            .is_ok()
            .then_some(task as i64)
    })
    .await;
    let mut all = [
        released.into_iter().flatten().collect(),
        holder.recover_stale_ids(run).await.unwrap(),
    ]
    .concat();
    all.sort_unstable();
    assert_eq!(all, (0..TASKS as i64).collect::<Vec<i64>>());
}

pub(super) async fn dying_workers_deliver_every_id_once(harness: &dyn Harness) {
    let run = start(&*harness.handle()).await;
    let plan: Vec<i64> = (0..240).collect();
    for (number, ids) in (0..).zip(plan.chunks(20)) {
        harness.handle().claim_batch(run, number, ids).await.unwrap();
    }
    let mut delivered = Vec::new();
    for generation in 0..20 {
        harness.end_leases().await;
        let round = at_once(&many_handles(harness), |task, worker| async move {
            let stuck = worker.recover_stale_ids(run).await.unwrap();
            let mine: Vec<i64> = stuck
                .into_iter()
                .filter(|id| *id as usize % TASKS == task)
                .take(5)
                .collect();
            let number = 1_000 + (generation * TASKS + task) as i32;
            if mine.is_empty() || worker.claim_batch(run, number, &mine).await.is_err() {
                return Vec::new();
            }
            // A third of the workers die before they release; the lease brings their items back.
            let dies = (generation + task) % 3 == 0;
            if dies || worker.release_batch(run, number).await.is_err() {
                Vec::new()
            } else {
                mine
            }
        })
        .await;
        delivered.extend(round.concat());
        if delivered.len() == plan.len() {
            break;
        }
    }
    delivered.sort_unstable();
    assert_eq!(delivered, plan);
    harness.handle().complete_run(run).await.unwrap();
}

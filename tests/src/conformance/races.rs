//! Many at once: what each of them was told must add up.

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::join_all;
use lockgate::lifecycle::{ManagerError, RunId, RunRequest, TaskRunManager};

use super::harness::{Harness, shape, start, start_as};

const TASKS: usize = 12;

type Handle = Arc<dyn TaskRunManager>;

/// One handle a task.
fn many_handles(harness: &dyn Harness) -> Vec<Handle> {
    (0..TASKS).map(|_| harness.handle()).collect()
}

/// Runs one task for each handle, all at once, and answers what they found, in the handles' order.
async fn at_once<T, Work, Done>(handles: &[Handle], work: Work) -> Vec<T>
where
    T: Send + 'static,
    Work: Fn(usize, Handle) -> Done,
    Done: Future<Output = T> + Send + 'static,
{
    let gate = Arc::new(tokio::sync::Barrier::new(handles.len()));
    let tasks = handles.iter().enumerate().map(|(index, handle)| {
        let (gate, done) = (Arc::clone(&gate), work(index, Arc::clone(handle)));
        tokio::spawn(async move {
            gate.wait().await;
            done.await
        })
    });
    join_all(tasks).await.into_iter().map(Result::unwrap).collect()
}

pub(super) async fn starts_with_one_singleton_key_make_one_run(harness: &dyn Harness) {
    for handles in [many_handles(harness), vec![harness.handle(); TASKS]] {
        let answers = at_once(&handles, |_, handle| async move {
            start_as(&*handle, RunRequest::new("reports").singleton("nightly")).await
        })
        .await;
        let started: Vec<RunId> = answers.into_iter().flatten().collect();
        assert_eq!(started.len(), 1, "{started:?}");
        handles[0].complete_run(started[0]).await.unwrap();
    }
    assert_eq!(harness.runs().await.len(), 2);
}

pub(super) async fn starts_with_one_idempotency_key_make_one_run(harness: &dyn Harness) {
    for (key, handles) in [("a", many_handles(harness)), ("b", vec![harness.handle(); TASKS])] {
        let answers = at_once(&handles, |_, handle| async move {
            start_as(&*handle, RunRequest::new("reports").idempotency(key)).await
        })
        .await;
        let runs: HashSet<RunId> = answers
            .into_iter()
            .map(|run| run.expect("nothing else is in the way"))
            .collect();
        assert_eq!(runs.len(), 1);
    }
    assert_eq!(harness.runs().await.len(), 2);
}

pub(super) async fn starts_with_both_keys_make_one_run(harness: &dyn Harness) {
    let answers = at_once(&many_handles(harness), |_, handle| async move {
        start_as(
            &*handle,
            RunRequest::new("reports").singleton("nightly").idempotency("monday"),
        )
        .await
    })
    .await;
    let runs: HashSet<Option<RunId>> = answers.into_iter().collect();
    assert_eq!((runs.len(), harness.runs().await.len()), (1, 1), "{runs:?}");
}

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

pub(super) async fn completion_by_many_happens_once(harness: &dyn Harness) {
    let handles = many_handles(harness);
    let run = start(&*handles[0]).await;
    // Everybody releases the batch of its own and then tries, so the last ones race.
    for (number, handle) in (0..).zip(&handles) {
        handle.claim_batch(run, number, &[number.into()]).await.unwrap();
    }
    let answers = at_once(&handles, |task, handle| async move {
        handle.release_batch(run, task as i32).await.unwrap();
        handle.complete_run(run).await
    })
    .await;
    assert!(
        answers.iter().any(Result::is_ok),
        "nobody completed the run: {answers:?}"
    );
    let late = at_once(&handles, |_, handle| async move { handle.complete_run(run).await }).await;
    assert!(late.iter().all(Result::is_ok), "{late:?}");
    let completions = harness
        .history(run)
        .await
        .into_iter()
        .filter(|change| change.to == "completed")
        .count();
    assert_eq!(completions, 1);
}

pub(super) async fn completion_never_overtakes_a_claim(harness: &dyn Harness) {
    for _ in 0..5 {
        let handles = many_handles(harness);
        let run = start(&*handles[0]).await;
        let answers = at_once(&handles, |task, handle| async move {
            match task % 2 {
                0 => handle.complete_run(run).await.is_ok(),
                _ => handle.claim_batch(run, task as i32, &[task as i64]).await.is_ok(),
            }
        })
        .await;
        let completed = answers.iter().step_by(2).any(|ok| *ok);
        let claimed = answers.iter().skip(1).step_by(2).any(|ok| *ok);
        assert!(completed != claimed, "completed {completed}, claimed {claimed}");
    }
}

pub(super) async fn failure_and_completion_never_both_win(harness: &dyn Harness) {
    for _ in 0..5 {
        let handles = many_handles(harness);
        let run = start(&*handles[0]).await;
        let answers = at_once(&handles, |task, handle| async move {
            match task % 2 {
                0 => handle.complete_run(run).await.is_ok(),
                _ => handle.fail_run(run, "no database").await.is_ok(),
            }
        })
        .await;
        let completed = answers.iter().step_by(2).all(|ok| *ok);
        let failed = answers.iter().skip(1).step_by(2).all(|ok| *ok);
        assert!(completed != failed, "{answers:?}");
        assert_eq!(harness.history(run).await.len(), 2);
    }
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

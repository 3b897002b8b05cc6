//! Many start or end runs at once.

use std::collections::HashSet;

use lockgate::lifecycle::{RunId, RunRequest};

use super::at_once::{TASKS, at_once, many_handles};
use super::harness::{Harness, start, start_as};

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

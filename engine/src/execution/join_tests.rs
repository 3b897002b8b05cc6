//! The same for many: what a replay begins again, and what it does not.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::run_task_tests::{Code, Effect, code, seconds};
use super::trial::{Death, Journal, Trial};
use crate::workflow::{Context, fatal};

/// Of two at once the first one fails by an error of its own, after the second one and a third have gone on.
fn failing_late(journal: Journal, handles: bool) -> Code {
    code(move |ctx| {
        let journal = journal.clone();
        async move {
            let each = |ctx: Context, item: u32| {
                let journal = journal.clone();
                async move {
                    match item {
                        0 => {
                            ctx.sleep(seconds(3_600)).await?;
                            anyhow::bail!("item 0 is wrong")
                        }
                        1 => journal.undoable(&ctx, "one", 1).await,
                        _ => {
                            journal.undoable(&ctx, "more", item).await?;
                            ctx.sleep(seconds(7_200)).await?;
                            Ok(item)
                        }
                    }
                }
            };
            let error = ctx.join_all(0..9, 2, each).await.unwrap_err();
            anyhow::ensure!(handles, error);
            ctx.sleep(seconds(60)).await?;
            Ok(error.to_string())
        }
    })
}

#[tokio::test]
async fn items_that_were_begun_are_come_to_again_though_an_earlier_one_has_failed_by_then() {
    for death in (0..=8).flat_map(|at| [Death::Before(at), Death::After(at)]) {
        let journal = Journal::default();
        let trial = Trial::dying(failing_late(journal.clone(), true), Some(death));
        trial.play().await;
        trial.gives("\"item 0 is wrong\"", death);
        let begun = |item: u32| trial.rows().iter().any(|row| row.contains(&format!("join/{item}/")));
        assert_eq!((begun(2), begun(3)), (true, false), "{death:?} {:?}", trial.rows());
    }
}

#[tokio::test]
async fn what_items_did_behind_one_that_failed_is_undone() {
    for death in (0..=12).flat_map(|at| [Death::Before(at), Death::After(at)]) {
        let journal = Journal::default();
        let trial = Trial::dying(failing_late(journal.clone(), false), Some(death));
        trial.play().await;
        assert_eq!(
            trial.end(),
            ("failed", "item 0 is wrong".to_owned()),
            "{death:?} {:?}",
            trial.rows()
        );
        let mut undone = journal.undone();
        undone.dedup();
        assert_eq!(undone, ["undo more 2", "undo one 1"], "{death:?} {:?}", journal.notes());
    }
}

#[tokio::test]
async fn a_replay_begins_no_further_items_before_a_recorded_failure_is_told() {
    let trial = Trial::new(code(|ctx| async move {
        let each = |ctx: Context, item: u32| async move {
            match item {
                0 => ctx.sleep(seconds(3_600)).await,
                1 => {
                    ctx.step("try", || async { Err::<(), _>(fatal(anyhow::anyhow!("no"))) })
                        .await
                }
                _ => ctx.step("more", || async { anyhow::Ok(()) }).await,
            }
        };
        let error = ctx.join_all(0..9, 2, each).await.unwrap_err();
        ctx.sleep(seconds(60)).await?;
        Ok(error.to_string())
    }));
    trial.play().await;
    assert_eq!(trial.output(), "\"step 0:join/1/0:try failed in attempt 1: no\"");
    let rows = [
        "0:join/0/0:sleep completed",
        "0:join/1/0:try failed",
        "1:sleep completed",
    ];
    assert_eq!(trial.rows(), rows);
}

/// A failure that its item handles keeps the others waiting for no longer than it takes to tell it.
#[tokio::test]
async fn items_go_on_beside_one_that_handles_a_recorded_failure() {
    let trial = Trial::new(code(|ctx| async move {
        let begun = ctx.now();
        let each = |ctx: Context, item: u32| async move {
            if item > 0 {
                return ctx.sleep(seconds(10)).await;
            }
            let failed: anyhow::Result<()> = ctx
                .step("try", || async { Err::<(), _>(fatal(anyhow::anyhow!("no"))) })
                .await;
            anyhow::ensure!(failed.is_err());
            ctx.sleep(seconds(1_000)).await
        };
        ctx.join_all(0..9, 2, each).await?;
        Ok((ctx.now() - begun).num_seconds().to_string())
    }));
    trial.play().await;
    assert_eq!(trial.output(), "\"1000\"", "{:?}", trial.end());
}

/// Pauses between calls, and how long an answer is waited for, are the item's own.
#[tokio::test]
async fn what_an_item_waits_counts_from_its_own_begin() {
    for death in (0..=8).flat_map(|at| [Death::Before(at), Death::After(at)]) {
        let trial = Trial::dying(
            code(|ctx| async move {
                let begun = ctx.now();
                let each = |ctx: Context, item: u32| async move {
                    if item.is_multiple_of(2) {
                        return ctx.sleep(seconds(100)).await;
                    }
                    let late = ctx.select(
                        |ctx| async move { ctx.wait_signal::<()>("answer", None).await },
                        |ctx| async move { ctx.sleep(seconds(10)).await },
                    );
                    late.await?;
                    anyhow::ensure!(ctx.wait_signal::<()>("go", Some(seconds(1_000))).await?.is_none());
                    Ok(())
                };
                ctx.join_all(0..4, 1, each).await?;
                Ok((ctx.now() - begun).num_seconds().to_string())
            }),
            Some(death),
        );
        trial.play().await;
        trial.gives("\"2220\"", death);
    }
}

#[tokio::test]
async fn no_more_are_under_way_than_may_be_and_all_of_them_are_done_once() {
    for death in (0..=12).flat_map(|at| [Death::Before(at), Death::After(at)]) {
        let effect = Effect::default();
        let done = effect.clone();
        let trial = Trial::dying(
            code(move |ctx| {
                let effect = done.clone();
                async move {
                    let under_way = Arc::new(AtomicU32::new(0));
                    let each = |ctx: Context, item: u64| {
                        let (effect, under_way) = (effect.clone(), under_way.clone());
                        async move {
                            let beside = under_way.fetch_add(1, Ordering::SeqCst);
                            anyhow::ensure!(beside < 3, "{beside} others at once");
                            effect.step(&ctx, "do").await?;
                            ctx.sleep(Duration::from_secs(item % 4 * 100)).await?;
                            under_way.fetch_sub(1, Ordering::SeqCst);
                            Ok(item)
                        }
                    };
                    let all = ctx.join_all(0..20, 3, each).await?;
                    Ok(format!("{}", all.iter().copied().eq(0..20)))
                }
            }),
            Some(death),
        );
        trial.play().await;
        assert_eq!(trial.output(), "\"true\"", "{death:?} {:?}", trial.end());
        assert!((20..=23).contains(&effect.count()), "{death:?}: {}", effect.count());
    }
}

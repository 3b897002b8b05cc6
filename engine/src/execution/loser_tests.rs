//! What becomes of what a branch did that lost a select, and of what it awaited.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use uuid::Uuid;

use super::child_tests::{Digest, elsewhere, end_digest};
use super::run_task_tests::{Code, code, seconds};
use super::trial::{Death, Journal, Trial, until};
use crate::lifecycle::{Fleet, ItemIds, Kind, NewStep, PlanChunk, PlannedBatch, RunStore, Saved, StepStatus};
use crate::workflow::{Context, Either, RetryPolicy, StepOptions};

/// A branch that did this loses to a nap of a minute, and then the run naps on.
fn loses_after(book: impl Fn(Context) -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync + 'static) -> Code {
    let book = Arc::new(book);
    code(move |ctx| {
        let book = book.clone();
        async move {
            let first = ctx.select(
                move |ctx| async move {
                    book(ctx.clone()).await?;
                    ctx.sleep(seconds(600)).await
                },
                |ctx| async move { ctx.sleep(seconds(60)).await },
            );
            anyhow::ensure!(matches!(first.await?, Either::Second(())));
            ctx.sleep(seconds(60)).await?;
            Ok("done".to_owned())
        }
    })
}

/// The run is let go of between the tries, and its holders may die meanwhile.
#[tokio::test]
async fn what_a_loser_did_is_undone_however_long_that_takes() {
    let losing = |journal: Journal| {
        loses_after(move |ctx| {
            let journal = journal.clone();
            let retry = RetryPolicy {
                first: seconds(600),
                longest: seconds(600),
                ..RetryPolicy::default()
            };
            let options = StepOptions::default().retry(retry);
            let undo = move |_: Option<u32>| {
                journal.note("undo book");
                let is_first = journal.count("undo book") == 1;
                async move {
                    anyhow::ensure!(!is_first, "the desk is closed");
                    Ok(())
                }
            };
            let booked = ctx.step_with_undo("book", options, || async { anyhow::Ok(1) }, undo);
            booked.map_ok(|_| ()).boxed()
        })
    };
    for death in (0..=12).flat_map(|at| [Death::Before(at), Death::After(at)]) {
        let journal = Journal::default();
        let trial = Trial::dying(losing(journal.clone()), Some(death));
        trial.play().await;
        trial.gives("\"done\"", death);
        assert!(
            (2..=3).contains(&journal.count("undo book")),
            "{death:?} {:?}",
            journal.notes()
        );
        let undone = "undo/0:select/0/0:book completed".to_owned();
        assert!(trial.rows().contains(&undone), "{death:?} {:?}", trial.rows());
    }
}

/// Its code is dropped after the grace of a cancellation, and with it what was about to undo the loser.
#[tokio::test]
async fn an_undo_of_a_loser_that_is_dropped_on_its_way_is_done_all_the_same() {
    let journal = Journal::default();
    let noted = journal.clone();
    let trial = Arc::new(Trial::new(loses_after(move |ctx| {
        let journal = noted.clone();
        let undo = move |_: Option<u32>| {
            journal.note("undo book");
            let hangs = journal.count("undo book") == 1;
            async move {
                match hangs {
                    true => std::future::pending().await,
                    false => anyhow::Ok(()),
                }
            }
        };
        let booked = ctx.step_with_undo("book", StepOptions::default(), || async { anyhow::Ok(1) }, undo);
        booked.map_ok(|_| ()).boxed()
    })));
    let playing = tokio::spawn({
        let trial = trial.clone();
        async move { trial.play().await }
    });
    until("it is being undone", || journal.count("undo book") == 1).await;
    assert_eq!(trial.cancel().await, "stopping");
    playing.await.unwrap();
    assert_eq!(trial.end(), ("cancelled", "enough".to_owned()), "{:?}", trial.rows());
    assert_eq!(journal.count("undo book"), 2);
    let undone = "undo/0:select/0/0:book completed".to_owned();
    assert!(trial.rows().contains(&undone), "{:?}", trial.rows());
}

/// What a branch awaits of the code around the select is not lost with it.
#[tokio::test]
async fn what_was_begun_outside_a_select_may_be_awaited_in_it_and_after_it() {
    for death in (0..=10).flat_map(|at| [Death::Before(at), Death::After(at)]) {
        let trial = Trial::dying(
            code(|ctx| async move {
                let child = Arc::new(ctx.start_child::<Digest>(&1, elsewhere()).await?);
                let raced = child.clone();
                let first = ctx.select(
                    |_| async move { raced.result().await },
                    |ctx| async move { ctx.sleep(seconds(60)).await },
                );
                anyhow::ensure!(matches!(first.await?, Either::Second(())));
                ctx.sleep(seconds(60)).await?;
                Ok(child.result().await?.to_string())
            }),
            Some(death),
        );
        trial.play().await;
        assert_eq!(
            trial.view().status,
            "suspended",
            "{death:?} {:?} {:?}",
            trial.end(),
            trial.rows()
        );
        end_digest(&trial, "7").await;
        trial.play().await;
        trial.gives("\"7\"", death);
    }
}

/// Its holder has a fan-out of which a batch is begun, then records that it lost, and all that work on it die.
async fn lose_a_fan_out(trial: &Trial) {
    let (claim, _) = trial.claim().await.unwrap();
    let path = "0:select/0/0:send";
    trial.store.open_fan_out(&claim, path).unwrap();
    let chunk = PlanChunk {
        path: path.to_owned(),
        after: None,
        batches: vec![PlannedBatch {
            ids: ItemIds::new(vec![1, 2, 3]).unwrap(),
        }],
        last: true,
    };
    trial.store.plan_chunk(&claim, &chunk).await.unwrap();
    let begun = trial.store.claim_next_batch(trial.run, Uuid::now_v7()).await;
    assert!(begun.unwrap().is_some());
    let won = NewStep {
        claim,
        path: "0:select".to_owned(),
        kind: Kind::Select,
        status: StepStatus::Completed,
        result: Some(b"1".to_vec()),
        started_at: Utc::now(),
        finished_at: Utc::now(),
        attempts: 0,
        signal_seq: None,
        ends_open: false,
    };
    let lost = ["0:select/0/".to_owned()];
    assert_eq!(trial.store.settle_select(&won, &lost).await.unwrap(), Saved::Done);
    trial.store.end_all_leases();
    trial.store.sweep();
}

/// Nothing waits for them, but they were begun.
#[tokio::test]
async fn batches_that_a_loser_began_are_sent_while_its_run_sleeps() {
    let trial = Trial::new(code(|ctx| async move {
        let first = ctx.select(
            |ctx: Context| async move { ctx.sleep(seconds(600)).await },
            |ctx: Context| async move { ctx.sleep(seconds(60)).await },
        );
        anyhow::ensure!(matches!(first.await?, Either::Second(())));
        ctx.sleep(seconds(86_400)).await?;
        Ok("done".to_owned())
    }));
    lose_a_fan_out(&trial).await;
    assert!(trial.turn().await);
    assert_eq!(trial.view().status, "running", "{:?}", trial.rows());
    let runnable = trial.shared.registry.runnable();
    let to_send = trial.store.claimable_runs(&runnable, &[], None, 10).await;
    assert_eq!(to_send.unwrap(), [trial.run]);
}

/// Nothing else would say so: freeing them wakes nobody.
#[tokio::test]
async fn signals_that_are_free_again_are_read_however_often_that_fails() {
    let trial = Trial::new(code(|ctx| async move {
        let first = ctx.select(
            |ctx: Context| async move {
                let signal: Option<u32> = ctx.wait_signal("go", None).await?;
                ctx.sleep(seconds(86_400)).await?;
                Ok(signal)
            },
            |ctx| async move { ctx.sleep(Duration::from_millis(20)).await },
        );
        anyhow::ensure!(matches!(first.await?, Either::Second(())));
        let signal: Option<u32> = ctx.wait_signal("go", Some(seconds(60))).await?;
        Ok(format!("{signal:?}"))
    }));
    trial.send("go", 7).await;
    trial.is_deaf_once();
    trial.play().await;
    assert!(trial.was_deaf(), "they were not asked for");
    assert_eq!(trial.output(), "\"Some(7)\"", "{:?} {:?}", trial.end(), trial.rows());
}

/// Whoever looks out for what reached runs tells of it once.
#[tokio::test]
async fn a_signal_that_could_not_be_read_is_read_again_while_another_branch_is_busy() {
    let trial = Trial::new(code(|ctx| async move {
        let first = ctx.select(
            |ctx: Context| async move { ctx.wait_signal::<u32>("go", None).await },
            |ctx: Context| async move { ctx.step("busy", std::future::pending::<anyhow::Result<u32>>).await },
        );
        match first.await? {
            Either::First(signal) => Ok(format!("{signal:?}")),
            Either::Second(_) => Ok("busy".to_owned()),
        }
    }));
    let tells = async {
        until("its code runs", || trial.shared.book.run_count() == 1).await;
        trial.send("go", 7).await;
        trial.is_deaf_once();
        trial.tell().await;
        until("it could not be read", || trial.was_deaf()).await;
        loop {
            trial.tell().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        turned = trial.turn() => assert!(turned),
        () = tells => {}
    }
    assert_eq!(trial.output(), "\"Some(7)\"", "{:?} {:?}", trial.end(), trial.rows());
}

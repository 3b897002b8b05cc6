//! How code selects between branches, and what becomes of those that lose.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};

use super::child_tests::{Digest, elsewhere, end_digest};
use super::run_task_tests::{Code, Effect, code, seconds};
use super::trial::{Death, Journal, Trial, until};
use crate::workflow::{Context, Either, RetryPolicy, StepOptions};

/// Waits for a signal until a day is over, and says which came first.
fn approval(effect: Effect) -> Code {
    code(move |ctx| {
        let effect = effect.clone();
        async move {
            let (asks, waits) = (effect.clone(), effect.clone());
            let first = ctx.select(
                |ctx| async move {
                    asks.step(&ctx, "ask").await?;
                    let signal: Option<u32> = ctx.wait_signal("go", None).await?;
                    Ok(signal)
                },
                |ctx| async move {
                    ctx.sleep(seconds(86_400)).await?;
                    waits.step(&ctx, "escalate").await
                },
            );
            let said = match first.await? {
                Either::First(signal) => format!("signal {signal:?}"),
                Either::Second(_) => "late".to_owned(),
            };
            let after = ctx.now();
            effect.step(&ctx, "last").await?;
            ctx.sleep(seconds(60)).await?;
            anyhow::ensure!(ctx.now() >= after);
            Ok(said)
        }
    })
}

#[tokio::test]
async fn the_first_branch_to_end_counts_and_the_others_wait_is_dropped() {
    let effect = Effect::default();
    let trial = Trial::new(approval(effect.clone()));
    assert!(trial.turn().await);
    trial.send("go", 7).await;
    trial.play().await;
    assert_eq!(
        (trial.output(), effect.count()),
        ("\"signal Some(7)\"".to_owned(), 2),
        "{:?}",
        trial.end()
    );
    assert_eq!(
        trial.rows(),
        [
            "0:select completed",
            "0:select/0/0:ask completed",
            "0:select/0/1:go completed",
            "0:select/1/0:sleep dropped",
            "1:last completed",
            "2:sleep completed"
        ]
    );
    let late = Trial::new(approval(Effect::default()));
    late.play().await;
    assert_eq!(late.output(), "\"late\"", "{:?}", late.end());
    assert!(
        late.rows().contains(&"0:select/0/1:go dropped".to_owned()),
        "{:?}",
        late.rows()
    );
}

#[tokio::test]
async fn whoever_dies_the_recorded_winner_stays_and_the_others_code_is_not_run_again() {
    for death in (1..=10).flat_map(|at| [Death::Before(at), Death::After(at)]) {
        let effect = Effect::default();
        let trial = Trial::dying(approval(effect.clone()), Some(death));
        trial.play().await;
        assert_eq!(trial.output(), "\"late\"", "{death:?} {:?}", trial.end());
        assert!((3..=4).contains(&effect.count()), "{death:?}: {}", effect.count());
    }
}

/// A signal that only a loser took is there for who waits for it later, also when it was recorded as taken long before.
#[tokio::test]
async fn a_signal_that_a_loser_took_is_free_again() {
    let taking = |long: bool| {
        code(move |ctx| async move {
            let first = ctx.select(
                move |ctx: Context| async move {
                    let signal: Option<u32> = ctx.wait_signal("go", None).await?;
                    ctx.sleep(seconds(86_400)).await?;
                    Ok(signal)
                },
                move |ctx| async move {
                    ctx.sleep(if long {
                        seconds(3_600)
                    } else {
                        Duration::from_millis(20)
                    })
                    .await
                },
            );
            anyhow::ensure!(matches!(first.await?, Either::Second(())));
            let signal: Option<u32> = ctx.wait_signal("go", Some(seconds(60))).await?;
            Ok(format!("{signal:?}"))
        })
    };
    for long in [false, true] {
        for death in (0..=8).flat_map(|at| [Death::Before(at), Death::After(at)]) {
            let trial = Trial::dying(taking(long), Some(death));
            trial.send("go", 7).await;
            trial.play().await;
            assert_eq!(
                trial.output(),
                "\"Some(7)\"",
                "{long} {death:?} {:?} {:?}",
                trial.end(),
                trial.rows()
            );
            let taken = &trial.store.signals(trial.run)[0];
            assert_eq!(taken.consumed_by.as_deref(), Some("1:go"), "{long} {death:?}");
        }
    }
}

#[tokio::test]
async fn a_failure_wins_as_any_other_end_does() {
    let trial = Trial::new(code(|ctx| async move {
        let first = ctx.select(
            |ctx| async move {
                ctx.step("try", || async {
                    Err::<u32, _>(crate::workflow::fatal(anyhow::anyhow!("no")))
                })
                .await
            },
            |ctx| async move { ctx.sleep(seconds(60)).await },
        );
        let error = first.await.unwrap_err().to_string();
        ctx.sleep(seconds(600)).await?;
        Ok(error)
    }));
    trial.play().await;
    assert_eq!(
        trial.output(),
        "\"step 0:select/0/0:try failed in attempt 1: no\"",
        "{:?}",
        trial.end()
    );
}

#[tokio::test]
async fn many_branches_and_selects_within_selects() {
    let nested = |effect: Effect| {
        code(move |ctx| {
            let effect = effect.clone();
            async move {
                let branches = (0..5u64).map(|number| {
                    let effect = effect.clone();
                    move |ctx: Context| async move {
                        let inner = ctx.select(
                            move |ctx| async move { ctx.sleep(seconds(1_000 - number * 100)).await },
                            |ctx| async move { ctx.sleep(seconds(2_000)).await },
                        );
                        anyhow::ensure!(matches!(inner.await?, Either::First(())));
                        effect.step(&ctx, "won").await?;
                        Ok(number)
                    }
                });
                let (winner, number) = ctx.select_all(branches).await?;
                ctx.sleep(seconds(60)).await?;
                Ok(format!("{winner} {number}"))
            }
        })
    };
    for death in (0..=12).flat_map(|at| [Death::Before(at), Death::After(at)]) {
        let effect = Effect::default();
        let trial = Trial::dying(nested(effect.clone()), Some(death));
        trial.play().await;
        assert_eq!(trial.output(), "\"4 4\"", "{death:?} {:?}", trial.end());
        assert!((1..=2).contains(&effect.count()), "{death:?}");
    }
}

#[tokio::test]
async fn what_a_loser_did_is_undone_when_it_loses() {
    let losing = |journal: Journal| {
        code(move |ctx| {
            let journal = journal.clone();
            async move {
                journal.undoable(&ctx, "before", 1).await?;
                let (loses, wins) = (journal.clone(), journal.clone());
                let first = ctx.select(
                    |ctx| async move {
                        loses.undoable(&ctx, "book a", 2).await?;
                        loses.undoable(&ctx, "book b", 3).await?;
                        ctx.sleep(seconds(600)).await
                    },
                    |ctx| async move {
                        wins.undoable(&ctx, "hold", 4).await?;
                        ctx.sleep(seconds(60)).await
                    },
                );
                anyhow::ensure!(matches!(first.await?, Either::Second(())));
                journal.note("after");
                ctx.sleep(seconds(60)).await?;
                Ok("done".to_owned())
            }
        })
    };
    let most = {
        let trial = Trial::new(losing(Journal::default()));
        trial.play().await;
        trial.writes()
    };
    for death in (0..=most).flat_map(|at| [Death::Before(at), Death::After(at)]) {
        let journal = Journal::default();
        let trial = Trial::dying(losing(journal.clone()), Some(death));
        trial.play().await;
        assert_eq!(
            trial.output(),
            "\"done\"",
            "{death:?} {:?} {:?}",
            trial.end(),
            trial.rows()
        );
        let mut undone = journal.undone();
        undone.dedup();
        assert_eq!(
            undone,
            ["undo book b 3", "undo book a 2"],
            "{death:?} {:?}",
            journal.notes()
        );
        let notes = journal.notes();
        let at = |what: &str| notes.iter().position(|note| note == what);
        assert!(at("undo book a 2") < at("after"), "{death:?} {notes:?}");
    }
}

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
        assert_eq!(
            trial.output(),
            "\"done\"",
            "{death:?} {:?} {:?}",
            trial.end(),
            trial.rows()
        );
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
        assert_eq!(
            trial.output(),
            "\"7\"",
            "{death:?} {:?} {:?}",
            trial.end(),
            trial.rows()
        );
    }
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

#[tokio::test]
async fn code_that_selects_otherwise_sets_the_run_aside() {
    let two = || {
        code(|ctx| async move {
            let branches =
                (1..=2u64).map(|number| move |ctx: Context| async move { ctx.sleep(seconds(90 - number)).await });
            let (winner, ()) = ctx.select_all(branches).await?;
            ctx.sleep(seconds(600)).await?;
            Ok(winner.to_string())
        })
    };
    let other = |text: &'static str, code: Code| async move {
        let trial = Trial::new(two());
        assert!(trial.turn().await && trial.turn().await);
        let other = trial.replaced(code);
        other.play().await;
        let (status, reason) = other.end();
        assert!(status == "quarantined" && reason.contains(text), "{status} {reason}");
        assert_eq!(trial.store.resume_run(trial.run), "running");
        trial.play().await;
        assert_eq!(trial.output(), "\"1\"");
    };
    let one = code(|ctx| async move {
        ctx.select_all([|ctx: Context| async move { ctx.sleep(seconds(1)).await }])
            .await?;
        Ok(String::new())
    });
    other("at place 0:select it now has 1 branches, and in run", one).await;
    let none = code(|ctx| async move {
        ctx.sleep(seconds(60)).await?;
        Ok(String::new())
    });
    other("recorded \"select\" (select) there", none).await;
    let joined = code(|ctx| async move {
        ctx.branches(2).await?;
        Ok(String::new())
    });
    other("it now does \"join\" (join)", joined).await;
}

/// Which of several came first is not recorded by a select of somebody else's: it is said, and nothing goes wrong silently.
#[tokio::test]
async fn a_foreign_select_over_steps_sets_the_run_aside_with_the_way_out() {
    let raced = Trial::new(code(|ctx| async move {
        tokio::select! {
            _ = ctx.wait_signal::<u32>("go", None) => {}
            work = ctx.step("work", || async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                anyhow::Ok(())
            }) => work?,
        }
        let _: u32 = ctx.step("more", || async { anyhow::Ok(1) }).await?;
        Ok(String::new())
    }));
    raced.play().await;
    let (status, reason) = raced.end();
    assert_eq!(status, "quarantined", "{reason}");
    assert!(
        reason.contains("dropped step 0:go before it ended") && reason.contains("use ctx.select"),
        "{reason}"
    );
    assert_eq!(raced.rows(), ["1:work completed"]);

    let timed = Trial::new(code(|ctx| async move {
        let slow = ctx.step("slow", || async { std::future::pending::<anyhow::Result<u32>>().await });
        Ok(format!(
            "{}",
            tokio::time::timeout(Duration::from_millis(5), slow).await.is_err()
        ))
    }));
    timed.play().await;
    let (status, reason) = timed.end();
    assert!(
        status == "quarantined" && reason.contains("dropped step 0:slow"),
        "{status} {reason}"
    );
}

#[tokio::test]
async fn code_that_ends_while_a_step_is_under_way_is_set_aside() {
    let trial = Trial::new(code(|ctx| async move {
        let (begun, begins) = tokio::sync::oneshot::channel();
        let mut begun = Some(begun);
        let step = ctx.step("forgotten", move || {
            let _ = begun.take().map(|begun| begun.send(()));
            async { std::future::pending::<anyhow::Result<u32>>().await }
        });
        tokio::spawn(step);
        begins.await?;
        Ok(String::new())
    }));
    trial.play().await;
    let (status, reason) = trial.end();
    assert_eq!(status, "quarantined", "{reason}");
    assert!(
        reason.contains("ended while step 0:forgotten was under way"),
        "{reason}"
    );
}

/// A join whose one branch fails drops the others: that is no mistake, whether the code goes on or not.
#[tokio::test]
async fn what_a_failed_join_drops_is_not_held_against_the_code() {
    let trial = Trial::new(code(|ctx| async move {
        let branches = ctx.branches(2).await?;
        let of = |number: usize| {
            let ctx = branches[number].clone();
            async move {
                match number {
                    0 => {
                        ctx.step("no", || async {
                            Err::<(), _>(crate::workflow::fatal(anyhow::anyhow!("no")))
                        })
                        .await
                    }
                    _ => {
                        let _: u32 = ctx.step("yes", || async { anyhow::Ok(1) }).await?;
                        ctx.sleep(seconds(60)).await
                    }
                }
            }
        };
        let failed = futures::try_join!(of(0), of(1)).unwrap_err();
        ctx.sleep(seconds(60)).await?;
        Ok(failed.to_string())
    }));
    trial.play().await;
    // It was let go of once, for its own nap: what the other branch waits for is nothing that a replay waits for.
    assert_eq!(trial.view().token, 2);
    assert_eq!(
        trial.output(),
        "\"step 0:join/0/0:no failed in attempt 1: no\"",
        "{:?}",
        trial.end()
    );
}

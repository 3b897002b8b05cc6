//! How code selects between branches, and what becomes of those that lose.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::run_task_tests::{Code, Effect, code, seconds};
use super::trial::{Death, Journal, Trial};
use crate::workflow::{Context, Either};

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
        trial.gives("\"done\"", death);
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

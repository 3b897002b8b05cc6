//! How runs undo what they did: when their code fails, when they are cancelled, and whoever dies meanwhile.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use super::run_task_tests::{Code, code, seconds};
use super::trial::{Death, Journal, Trial};
use crate::workflow::{Context, RetryPolicy, StepOptions, fatal};

/// Reserves, charges, sleeps, and fails to ship.
fn order(journal: Journal) -> Code {
    code(move |ctx| {
        let journal = journal.clone();
        async move {
            journal.undoable(&ctx, "reserve", 7).await?;
            journal.undoable(&ctx, "charge", 8).await?;
            ctx.sleep(seconds(60)).await?;
            fails(&ctx, "ship").await?;
            Ok(String::new())
        }
    })
}

fn fails(ctx: &Context, name: &str) -> impl Future<Output = anyhow::Result<()>> + Send + use<> {
    ctx.step(name, || async { Err::<(), _>(fatal(anyhow::anyhow!("no truck"))) })
}

const NO_TRUCK: &str = "step 3:ship failed in attempt 1: no truck";

#[tokio::test]
async fn what_a_failed_run_did_is_undone_last_one_first() {
    let journal = Journal::default();
    let trial = Trial::new(order(journal.clone()));
    trial.play().await;
    assert_eq!(trial.end(), ("failed", NO_TRUCK.to_owned()), "{:?}", trial.rows());
    assert_eq!(
        journal.notes(),
        ["reserve", "charge", "undo charge 8", "undo reserve 7"]
    );
    let undone = ["undo completed", "undo/0:reserve completed", "undo/1:charge completed"];
    assert_eq!(trial.rows()[4..], undone, "{:?}", trial.rows());
}

#[tokio::test]
async fn whoever_dies_when_everything_is_undone_and_one_at_most_twice() {
    let most = {
        let trial = Trial::new(order(Journal::default()));
        trial.play().await;
        trial.writes()
    };
    assert!(most >= 10, "{most}");
    for death in (1..=most).flat_map(|at| [Death::Before(at), Death::After(at)]) {
        let journal = Journal::default();
        let trial = Trial::dying(order(journal.clone()), Some(death));
        trial.play().await;
        let notes = journal.notes();
        assert_eq!(
            trial.end(),
            ("failed", NO_TRUCK.to_owned()),
            "{death:?} {notes:?} {:?}",
            trial.rows()
        );
        // What died with its holder's memory is undone without what it returned, or the second time with it.
        for name in ["reserve", "charge"] {
            let undone = journal.undone().iter().filter(|note| note.contains(name)).count();
            assert!((1..=2).contains(&undone), "{death:?} {notes:?}");
            assert!((1..=2).contains(&journal.count(name)), "{death:?} {notes:?}");
        }
        assert!(
            notes.len() <= 5,
            "{death:?}: one thing at most is done again: {notes:?}"
        );
        let first = |what: &str| notes.iter().position(|note| note.starts_with(what));
        assert!(first("undo charge") < first("undo reserve"), "{death:?} {notes:?}");
    }
}

#[tokio::test]
async fn a_suspended_run_is_woken_to_undo_what_it_did_and_one_that_did_nothing_is_not() {
    let journal = Journal::default();
    let trial = Trial::new(order(journal.clone()));
    assert!(trial.turn().await);
    assert_eq!(trial.view().status, "suspended");
    assert_eq!(trial.cancel().await, "stopping");
    trial.play().await;
    assert_eq!(trial.end(), ("cancelled", "enough".to_owned()), "{:?}", trial.rows());
    assert_eq!(journal.undone(), ["undo charge 8", "undo reserve 7"]);

    let idle = Trial::new(code(|ctx| async move {
        ctx.sleep(seconds(60)).await?;
        Ok(String::new())
    }));
    assert!(idle.turn().await);
    assert_eq!(idle.cancel().await, "cancelled");
}

#[tokio::test]
async fn whoever_dies_a_cancelled_run_is_undone() {
    for death in (1..=16).flat_map(|at| [Death::Before(at), Death::After(at)]) {
        let journal = Journal::default();
        let trial = Trial::dying(order(journal.clone()), Some(death));
        while trial.view().status != "suspended" && trial.turn().await {}
        trial.cancel().await;
        trial.play().await;
        let (status, _) = trial.end();
        assert!(
            ["cancelled", "failed"].contains(&status),
            "{death:?} {:?}",
            trial.rows()
        );
        for name in ["reserve", "charge"] {
            let undone = journal.undone().iter().filter(|note| note.contains(name)).count();
            assert!((1..=2).contains(&undone), "{death:?} {:?}", journal.notes());
        }
    }
}

#[tokio::test]
async fn by_force_a_run_ends_with_what_it_did_and_says_so() {
    let journal = Journal::default();
    let trial = Trial::new(order(journal.clone()));
    assert!(trial.turn().await);
    assert_eq!(trial.cancel().await, "stopping");
    assert_eq!(trial.store.force_cancel_run(trial.run, "at once"), "cancelled");
    let reason = "at once; by force, not undone: 1:charge, 0:reserve";
    assert_eq!(trial.end(), ("cancelled", reason.to_owned()));
    assert!(!trial.turn().await);
    assert_eq!(journal.undone(), [""; 0]);
}

/// A live run: the step under way ends, the wait beside it does not go on, nothing new begins.
#[tokio::test]
async fn live_code_comes_to_its_end_by_errors_after_what_is_under_way() {
    let journal = Journal::default();
    let noted = journal.clone();
    let trial = Arc::new(Trial::new(code(move |ctx| {
        let journal = noted.clone();
        async move {
            journal.undoable(&ctx, "reserve", 7).await?;
            let (slow, asked) = (journal.clone(), ctx.clone());
            let work = ctx.step("work", move || {
                let (journal, ctx) = (slow.clone(), asked.clone());
                async move {
                    journal.note("begun");
                    while !ctx.is_cancelled() {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    journal.note("ended");
                    anyhow::Ok(())
                }
            });
            let both = futures::try_join!(work, ctx.wait_signal::<u32>("go", None));
            let error = both.unwrap_err().to_string();
            let more: anyhow::Result<u32> = ctx.step("more", || async { anyhow::Ok(1) }).await;
            journal.note(error);
            more?;
            Ok(String::new())
        }
    })));
    let playing = tokio::spawn({
        let trial = trial.clone();
        async move { trial.play().await }
    });
    while journal.count("begun") == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(trial.cancel().await, "stopping");
    playing.await.unwrap();
    assert_eq!(trial.end(), ("cancelled", "enough".to_owned()));
    let refused = "step 2:go is not done: the run is to come to its end";
    assert_eq!(
        journal.notes(),
        ["reserve", "begun", "ended", refused, "undo reserve 7"]
    );
    assert_eq!(trial.rows()[..2], ["0:reserve completed", "1:work completed"]);
}

#[tokio::test]
async fn code_that_does_not_come_to_its_end_is_dropped_after_a_while() {
    let journal = Journal::default();
    let noted = journal.clone();
    let trial = Arc::new(Trial::new(code(move |ctx| {
        let journal = noted.clone();
        async move {
            journal.undoable(&ctx, "reserve", 7).await?;
            let never = ctx.step("never", move || {
                journal.note("begun");
                async { std::future::pending::<anyhow::Result<()>>().await }
            });
            never.await?;
            Ok(String::new())
        }
    })));
    let playing = tokio::spawn({
        let trial = trial.clone();
        async move { trial.play().await }
    });
    while journal.count("begun") == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(trial.cancel().await, "stopping");
    playing.await.unwrap();
    assert_eq!(trial.end(), ("cancelled", "enough".to_owned()));
    assert_eq!(journal.undone(), ["undo reserve 7"]);
}

#[tokio::test]
async fn a_live_run_that_is_forced_is_left_where_it_is() {
    let journal = Journal::default();
    let noted = journal.clone();
    let trial = Arc::new(Trial::new(code(move |ctx| {
        let journal = noted.clone();
        async move {
            journal.undoable(&ctx, "reserve", 7).await?;
            journal.note("begun");
            std::future::pending::<()>().await;
            Ok(String::new())
        }
    })));
    let playing = tokio::spawn({
        let trial = trial.clone();
        async move { trial.play().await }
    });
    while journal.count("begun") == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(trial.store.force_cancel_run(trial.run, "at once"), "stopping");
    trial.tell().await;
    playing.await.unwrap();
    let reason = "at once; by force, not undone: 0:reserve";
    assert_eq!(trial.end(), ("cancelled", reason.to_owned()));
    assert_eq!(journal.undone(), [""; 0]);
}

/// Branches beside the one that failed have done something too, and come to it again in a replay, whichever fails first.
#[tokio::test]
async fn what_branches_did_is_undone_in_the_order_in_which_it_was_done() {
    let branching = |journal: Journal| {
        code(move |ctx| {
            let journal = journal.clone();
            async move {
                let branches = ctx.branches(2).await?;
                let of = |number: usize| {
                    let (ctx, journal) = (branches[number].clone(), journal.clone());
                    async move {
                        if number == 1 {
                            journal.undoable(&ctx, "b1", 1).await?;
                            journal.undoable(&ctx, "b2", 2).await?;
                            ctx.sleep(seconds(7_200)).await?;
                            return Ok(());
                        }
                        ctx.sleep(seconds(3_600)).await?;
                        journal.undoable(&ctx, "a", 3).await?;
                        fails(&ctx, "ship").await
                    }
                };
                futures::try_join!(of(0), of(1))?;
                Ok(String::new())
            }
        })
    };
    let most = {
        let trial = Trial::new(branching(Journal::default()));
        trial.play().await;
        trial.writes()
    };
    for death in (1..=most).flat_map(|at| [Death::Before(at), Death::After(at)]) {
        let journal = Journal::default();
        let trial = Trial::dying(branching(journal.clone()), Some(death));
        trial.play().await;
        let (status, reason) = trial.end();
        assert_eq!(status, "failed", "{death:?} {reason} {:?}", trial.rows());
        let mut undone = journal.undone();
        undone.dedup();
        assert_eq!(
            undone,
            ["undo a 3", "undo b2 2", "undo b1 1"],
            "{death:?} {:?}",
            journal.notes()
        );
    }
}

#[tokio::test]
async fn an_undo_that_fails_for_good_sets_the_run_aside_and_is_tried_again() {
    let journal = Journal::default();
    let noted = journal.clone();
    let stubborn = move |fails_still: bool| {
        let journal = noted.clone();
        code(move |ctx| {
            let journal = journal.clone();
            async move {
                journal.undoable(&ctx, "reserve", 7).await?;
                let noted = journal.clone();
                let options = StepOptions::default().retry(RetryPolicy::none());
                let charge = ctx.step_with_undo(
                    "charge",
                    options,
                    || async { anyhow::Ok(8) },
                    move |_: Option<u32>| {
                        noted.note("undo charge");
                        async move {
                            anyhow::ensure!(!fails_still, "the bank is closed");
                            Ok(())
                        }
                    },
                );
                charge.await?;
                anyhow::bail!("no truck")
            }
        })
    };
    let trial = Trial::new(stubborn(true));
    trial.play().await;
    let reason = "no truck; and what it did is not all undone: step undo/1:charge failed in attempt 1: the bank is closed; \
                  resume it to try that again, or cancel it by force";
    assert_eq!(trial.end(), ("quarantined", reason.to_owned()));
    assert_eq!(journal.undone(), ["undo charge", "undo reserve 7"]);
    assert!(
        trial.rows().contains(&"undo/1:charge open".to_owned()),
        "{:?}",
        trial.rows()
    );

    let later = trial.replaced(stubborn(false));
    assert_eq!(trial.store.resume_run(trial.run), "running");
    later.play().await;
    assert_eq!(later.end(), ("failed", "no truck".to_owned()));
    assert_eq!(journal.undone(), ["undo charge", "undo reserve 7", "undo charge"]);
}

/// Cancelled while an undo waits for its next try, and forced only then.
#[tokio::test]
async fn a_cancelled_run_whose_undo_fails_waits_and_ends_by_force_alone() {
    let trial = Trial::new(code(|ctx| async move {
        let retry = RetryPolicy {
            attempts: 2,
            first: seconds(600),
            longest: seconds(600),
            ..RetryPolicy::default()
        };
        let charge = ctx.step_with_undo(
            "charge",
            StepOptions::default().retry(retry),
            || async { anyhow::Ok(8) },
            |_: Option<u32>| async { Err(anyhow::anyhow!("the bank is closed")) },
        );
        charge.await?;
        ctx.sleep(seconds(60)).await?;
        Ok(String::new())
    }));
    assert!(trial.turn().await);
    trial.cancel().await;
    // It is let go of between the tries.
    assert!(trial.turn().await);
    let view = trial.view();
    assert!(
        view.claim.is_none() && view.wake_at.is_some() && view.stopping.is_some(),
        "{view:?}"
    );
    trial.play().await;
    let (status, reason) = trial.end();
    assert_eq!(status, "quarantined", "{reason}");
    assert!(
        reason.starts_with("it was to stop; and what it did is not all undone: step undo/0:charge failed in attempt 2")
    );
    trial.store.sweep();
    assert_eq!(trial.view().status, "quarantined", "nothing ends it behind its back");
    assert_eq!(trial.store.force_cancel_run(trial.run, "by hand"), "cancelled");
    assert_eq!(trial.end().1, "by hand; by force, not undone: 0:charge");
}

#[tokio::test]
async fn a_step_that_failed_is_undone_without_a_result() {
    let journal = Journal::default();
    let noted = journal.clone();
    let trial = Trial::new(code(move |ctx| {
        let journal = noted.clone();
        async move {
            let charge = ctx.step_with_undo(
                "charge",
                StepOptions::default().retry(RetryPolicy::none()),
                || async { Err::<u32, _>(anyhow::anyhow!("no answer")) },
                move |charged: Option<u32>| {
                    journal.note(format!("undo {charged:?}"));
                    async { anyhow::Ok(()) }
                },
            );
            charge.await?;
            Ok(String::new())
        }
    }));
    trial.play().await;
    assert_eq!(
        trial.end(),
        ("failed", "step 0:charge failed in attempt 1: no answer".to_owned())
    );
    assert_eq!(journal.notes(), ["undo None"]);
}

#[tokio::test]
async fn a_panic_of_the_code_is_undone_and_one_of_an_undo_is_said() {
    let journal = Journal::default();
    let noted = journal.clone();
    let trial = Trial::new(code(move |ctx| {
        let journal = noted.clone();
        async move {
            journal.undoable(&ctx, "reserve", 7).await?;
            let charge = ctx.step_with_undo(
                "charge",
                StepOptions::default(),
                || async { anyhow::Ok(1) },
                |_: Option<u32>| async { anyhow::Ok(assert!(std::hint::black_box(false), "torn receipt")) },
            );
            charge.await?;
            assert!(std::hint::black_box(false), "there is no truck");
            Ok(String::new())
        }
    }));
    trial.play().await;
    let (status, reason) = trial.end();
    assert_eq!(status, "quarantined");
    assert!(
        reason.starts_with("the workflow's code panicked: there is no truck; and what it did is not all undone: ")
            && reason.contains("undo/1:charge failed in attempt 1: its code panicked: torn receipt"),
        "{reason}"
    );
    assert_eq!(journal.undone(), ["undo reserve 7"]);
}

#[tokio::test]
async fn other_code_that_no_longer_says_how_sets_the_run_aside() {
    let journal = Journal::default();
    let trial = Trial::new(order(journal.clone()));
    assert!(trial.turn().await);
    let other = trial.replaced(code(|_| async move { anyhow::bail!("changed") }));
    trial.cancel().await;
    other.play().await;
    let (status, reason) = other.end();
    assert_eq!(status, "quarantined", "{reason}");
    assert!(
        reason.contains("step 1:charge: its code, run again, did not come to where it says how"),
        "{reason}"
    );
    assert_eq!(journal.undone(), [""; 0]);
    assert_eq!(trial.store.resume_run(trial.run), "running");
    trial.play().await;
    assert_eq!(trial.end(), ("cancelled", "enough".to_owned()));
    assert_eq!(journal.undone(), ["undo charge 8", "undo reserve 7"]);
}

/// The error is the code's own, and what it drops beside was begun: the run fails, and all of it is undone.
#[tokio::test]
async fn a_branch_that_fails_by_itself_undoes_what_the_others_began() {
    let journal = Journal::default();
    let noted = journal.clone();
    let trial = Trial::new(code(move |ctx| {
        let journal = noted.clone();
        async move {
            let branches = ctx.branches(2).await?;
            let (begun, begins) = tokio::sync::oneshot::channel::<()>();
            let (slow, fast) = (branches[0].clone(), branches[1].clone());
            let (undoes, mut begun) = (journal.clone(), Some(begun));
            let slow = slow.step_with_undo(
                "book",
                StepOptions::default(),
                move || {
                    let _ = begun.take().map(|begun| begun.send(()));
                    async { std::future::pending::<anyhow::Result<u32>>().await }
                },
                move |booked| {
                    undoes.note(format!("undo book {booked:?}"));
                    async { anyhow::Ok(()) }
                },
            );
            let fails = async {
                journal.undoable(&fast, "hold", 1).await?;
                begins.await?;
                Err::<(), _>(anyhow::anyhow!("changed my mind"))
            };
            futures::try_join!(slow, fails)?;
            Ok(String::new())
        }
    }));
    trial.play().await;
    assert_eq!(
        trial.end(),
        ("failed", "changed my mind".to_owned()),
        "{:?}",
        trial.rows()
    );
    assert_eq!(journal.undone(), ["undo book None", "undo hold 1"]);
}

//! How the code of a run is left that is paused, that is to stop, or whose replica stops.
#![allow(clippy::unwrap_used)]

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::Semaphore;

use super::child_tests::{Digest, elsewhere};
use super::run_task_tests::{Code, code};
use super::trial::{Journal, Trial, until};
use crate::workflow::Context;

/// Two chains of steps side by side, each of which goes on when the test lets it; the first one ends with a child.
fn overlapping(journal: Journal, gates: [Arc<Semaphore>; 2]) -> Code {
    code(move |ctx| {
        let (journal, gates) = (journal.clone(), gates.clone());
        async move {
            let branches = ctx.branches(2).await?;
            let steps = |number: usize| {
                let (ctx, journal, gate) = (branches[number].clone(), journal.clone(), gates[number].clone());
                async move {
                    for turn in 0..if number == 0 { 2 } else { 9 } {
                        let (journal, gate) = (journal.clone(), gate.clone());
                        ctx.step("step", move || {
                            let (journal, gate) = (journal.clone(), gate.clone());
                            async move {
                                journal.note(format!("{number} {turn}"));
                                gate.acquire().await?.forget();
                                anyhow::Ok(())
                            }
                        })
                        .await?;
                    }
                    if number == 0 {
                        ctx.start_child::<Digest>(&1, elsewhere()).await?;
                    }
                    anyhow::Ok(())
                }
            };
            futures::try_join!(steps(0), steps(1))?;
            Ok(String::new())
        }
    })
}

#[tokio::test]
async fn a_run_whose_steps_overlap_is_left_when_it_is_paused_and_when_its_replica_stops() {
    for drains in [false, true] {
        let (journal, gates) = (Journal::default(), [0, 1].map(|_| Arc::new(Semaphore::new(0))));
        let trial = Arc::new(Trial::new(overlapping(journal.clone(), gates.clone())));
        let turn = tokio::spawn({
            let trial = trial.clone();
            async move { trial.turn().await }
        });
        let begins = |what: &'static str| {
            let journal = journal.clone();
            async move { until(what, || journal.count(what) == 1).await }
        };
        begins("0 0").await;
        begins("1 0").await;
        gates[0].add_permits(1);
        begins("0 1").await;
        if drains {
            trial.shared.stopping.cancel();
        } else {
            trial.store.pause_run(trial.run, "by a test");
            trial.tell().await;
        }
        for (gate, step) in [(1, "0:join/1/0:step completed"), (0, "0:join/0/1:step completed")] {
            gates[gate].add_permits(1);
            until(step, || trial.rows().contains(&step.to_owned())).await;
        }
        assert!(turn.await.unwrap());
        let (view, rows) = (trial.view(), trial.rows());
        let status = if drains { "running" } else { "paused" };
        assert_eq!((view.status, view.claim), (status, None), "{rows:?}");
        assert_eq!(journal.notes(), ["0 0", "1 0", "0 1"], "nothing new began: {rows:?}");
        assert_eq!(rows.len(), 3, "{rows:?}");
    }
}

/// What is held back by a pause is refused when the run is to stop, and begins when it is resumed.
#[tokio::test]
async fn a_step_that_a_pause_holds_back_goes_on_as_the_run_does() {
    for stops in [false, true] {
        let (journal, gates) = (Journal::default(), [0, 1].map(|_| Arc::new(Semaphore::new(0))));
        let trial = Arc::new(Trial::new(overlapping(journal.clone(), gates.clone())));
        let played = tokio::spawn({
            let trial = trial.clone();
            async move { trial.play().await }
        });
        until("both have begun", || journal.notes().len() == 2).await;
        trial.store.pause_run(trial.run, "by a test");
        trial.tell().await;
        gates[0].add_permits(1);
        let step = "0:join/0/0:step completed";
        until(step, || trial.rows().contains(&step.to_owned())).await;
        if stops {
            trial.cancel().await;
        } else {
            trial.store.resume_run(trial.run);
            trial.tell().await;
        }
        gates.iter().for_each(|gate| gate.add_permits(20));
        let view = played.await.unwrap();
        let status = if stops { "cancelled" } else { "completed" };
        assert_eq!(view.status, status, "{:?} {:?}", trial.end(), trial.rows());
        assert_eq!(journal.count("0 1"), u32::from(!stops) as usize);
        assert_eq!(view.token, 1, "it was not let go of meanwhile");
    }
}

/// The code looks once more at a wait that is refused, and never again.
#[tokio::test]
async fn a_refusal_that_the_code_does_not_look_at_costs_nothing() {
    let (journal, polls) = (Journal::default(), Arc::new(AtomicU32::new(0)));
    let (noted, polled) = (journal.clone(), polls.clone());
    let trial = Arc::new(Trial::new(code(move |ctx: Context| {
        let (journal, polls, asked) = (noted.clone(), polled.clone(), ctx.clone());
        async move {
            let mut work = ctx
                .step("work", move || {
                    let (journal, ctx) = (journal.clone(), asked.clone());
                    async move {
                        journal.note("begun");
                        while !ctx.is_cancelled() {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                        anyhow::Ok(())
                    }
                })
                .fuse();
            let mut wait = ctx.wait_signal::<()>("go", None);
            let mut is_refused = false;
            poll_fn(|cx| {
                polls.fetch_add(1, Ordering::SeqCst);
                let _ = work.poll_unpin(cx);
                if !is_refused {
                    is_refused = ctx.is_cancelled();
                    let _ = wait.poll_unpin(cx);
                }
                Poll::<()>::Pending
            })
            .await;
            Ok(String::new())
        }
    })));
    let turn = tokio::spawn({
        let trial = trial.clone();
        async move { trial.turn().await }
    });
    until("it works", || journal.count("begun") == 1).await;
    trial.cancel().await;
    turn.await.unwrap();
    assert_eq!(trial.end().0, "cancelled", "it is dropped after its grace");
    let polls = polls.load(Ordering::SeqCst);
    assert!(polls < 100, "polled {polls} times in vain");
}

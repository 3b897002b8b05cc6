//! Children as the code of their parent meets them, and runs that go on as others.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::run_task_tests::{Effect, code, seconds};
use super::trial::{Death, RUN, Trial, page, until};
use crate::lifecycle::*;
use crate::workflow::{ChildOptions, Context, StepError, Workflow};

/// A workflow that nobody here runs.
pub(super) struct Digest;

impl Workflow for Digest {
    const NAME: &'static str = "digest";
    type Input = u32;
    type Output = u32;

    async fn run(&self, _: Context, input: u32) -> anyhow::Result<u32> {
        Ok(input)
    }
}

pub(super) fn elsewhere() -> ChildOptions {
    ChildOptions::default().elsewhere()
}

/// Takes so many of the children of a trial that wait to be run.
async fn take_digests(trial: &Trial, take: u32) -> HashMap<RunId, RunClaim> {
    let runnable = Runnable {
        workflow: "digest".to_owned(),
        version: 1,
        replays: 1..=1,
    };
    let claimed = trial.store.claim_runs(&page("digest", take, vec![runnable])).await;
    let claims = claimed.unwrap().into_iter();
    claims.map(|(claim, _)| (claim.run, claim)).collect()
}

/// They end so, and their parent is woken as by a sweep.
async fn end_digests(trial: &Trial, ends: impl IntoIterator<Item = (RunClaim, Act)>) {
    for (claim, act) in ends {
        let ending = Ending {
            claim,
            act,
            had_batches: false,
            attributes: None,
        };
        assert_eq!(trial.store.let_go_runs(&[ending]).await.unwrap(), [LetGo::Done]);
    }
    trial.store.sweep();
}

fn completed(output: &str) -> Act {
    Act::Complete {
        output: output.as_bytes().to_vec(),
    }
}

fn failed(reason: &str) -> Act {
    Act::Fail {
        reason: reason.to_owned(),
    }
}

/// Ends a child of a trial.
async fn end_one(trial: &Trial, act: Act) {
    let claim = take_digests(trial, 1).await.into_values().next().unwrap();
    end_digests(trial, [(claim, act)]).await;
}

/// It ends with that output.
pub(super) async fn end_digest(trial: &Trial, output: &str) {
    end_one(trial, completed(output)).await;
}

#[tokio::test]
async fn a_thousand_children_are_started_in_pages_and_answer_in_the_order_of_their_items() {
    let trial = Trial::new(code(|ctx| async move {
        let each = |ctx: Context, item: u32| async move {
            let child = ctx.start_child::<Digest>(&item, elsewhere()).await?;
            assert_eq!(child.id(), derived_id(RUN, &format!("0:join/{item}/0:digest")));
            child.result().await
        };
        let all = ctx.join_all(0..1_000, 1_000, each).await?;
        assert!(all.iter().copied().eq((0..1_000).map(|item| item * 2)));
        Ok(all.len().to_string())
    }));
    assert!(trial.turn().await);
    assert_eq!((trial.view().status, trial.rows().len()), ("suspended", 1_000));
    let starts = trial.starts();
    assert!(starts.iter().sum::<usize>() == 1_000 && starts.len() < 20, "{starts:?}");
    let claims = take_digests(&trial, 1_000).await;
    for page in [0..400, 400..1_000] {
        let ends = page.rev().map(|item: u32| {
            let child = derived_id(RUN, &format!("0:join/{item}/0:digest"));
            (claims[&child], completed(&(item * 2).to_string()))
        });
        end_digests(&trial, ends).await;
        trial.turn().await;
    }
    let view = trial.view();
    assert_eq!((view.status, trial.output()), ("completed", "\"1000\"".to_owned()));
    assert_eq!((view.token, trial.waits()), (3, 2));
    assert!(trial.store.views().iter().all(|run| run.status == "completed"));
}

/// The sweep wakes only who sleeps.
#[tokio::test]
async fn a_parent_that_nobody_tells_hears_of_the_end_while_its_code_is_held() {
    let (heard, over) = (Arc::new(tokio::sync::Notify::new()), Effect::default());
    let ends = over.clone();
    let trial = Arc::new(Trial::new(code(move |ctx| {
        let (heard, ends) = (heard.clone(), ends.clone());
        async move {
            let child = ctx.start_child::<Digest>(&1, elsewhere().named("one")).await?;
            let waits = heard.clone();
            let long = ctx.step("long", move || {
                let waits = waits.clone();
                async move {
                    waits.notified().await;
                    anyhow::Ok(())
                }
            });
            let waits = async {
                let output = child.result().await?;
                ends.step(&ctx, "after").await?;
                heard.notify_one();
                anyhow::Ok(output)
            };
            let (output, ()) = futures::try_join!(waits, long)?;
            Ok(output.to_string())
        }
    })));
    let parent = trial.clone();
    let drives = tokio::spawn(async move { parent.turn().await });
    until("the child is started", || !trial.starts().is_empty()).await;
    let claim = take_digests(&trial, 1).await.into_values().next().unwrap();
    let ending = Ending {
        claim,
        act: completed("4"),
        had_batches: false,
        attributes: None,
    };
    // Who ends it dies before it can say so.
    assert_eq!(trial.store.let_go_runs(&[ending]).await.unwrap(), [LetGo::Done]);
    trial.store.sweep();
    trial.tell().await;
    assert_eq!(over.count(), 0);
    trial.shared.book.poke_parents();
    assert!(drives.await.unwrap());
    assert_eq!(
        (trial.output(), over.count()),
        ("\"4\"".to_owned(), 1),
        "{:?}",
        trial.end()
    );
}

#[tokio::test]
async fn a_child_that_fails_is_told_with_its_reason_and_in_every_replay() {
    let effect = Effect::default();
    let done = effect.clone();
    let trial = Trial::new(code(move |ctx| {
        let effect = done.clone();
        async move {
            let child = ctx.start_child::<Digest>(&1, elsewhere().named("one")).await?;
            let error = child.result().await.unwrap_err();
            let StepError::Child { cancelled, reason, .. } = error.downcast_ref::<StepError>().unwrap() else {
                unreachable!("{error}")
            };
            let told = format!("{cancelled} {reason} {}", error.to_string().starts_with("child "));
            effect.step(&ctx, "after").await?;
            ctx.wait_signal::<()>("go", None).await?;
            Ok(told)
        }
    }));
    trial.turn().await;
    end_one(&trial, failed("no money")).await;
    trial.turn().await;
    trial.send("go", ()).await;
    trial.play().await;
    assert_eq!(trial.output(), "\"false no money true\"");
    assert_eq!((trial.step("0:one").status, effect.count()), (StepStatus::Failed, 1));
}

#[tokio::test]
async fn children_that_nobody_waits_for_are_stopped_when_their_parent_ends() {
    let trial = Trial::new(code(|ctx| async move {
        ctx.start_child::<Digest>(&1, elsewhere()).await?;
        Ok(String::new())
    }));
    trial.play().await;
    let child = trial.store.view(derived_id(RUN, "0:digest")).unwrap();
    assert_eq!((trial.end().0, child.status), ("completed", "cancelled"));
}

#[tokio::test]
async fn a_result_that_is_too_large_is_refused_by_name() {
    let trial = Trial::new(code(|ctx| async move {
        let error = ctx
            .start_child::<Digest>(&1, elsewhere())
            .await?
            .result()
            .await
            .unwrap_err();
        Ok(error.to_string())
    }));
    trial.turn().await;
    end_digest(&trial, &"1".repeat(300_000)).await;
    trial.play().await;
    let told = trial.output();
    assert!(
        told.contains("step 0:digest returned 300000 bytes, more than 262144"),
        "{told}"
    );
}

#[tokio::test]
async fn bad_options_of_children_are_refused_in_words() {
    let trial = Trial::new(code(|ctx| async move {
        let urgent = ctx
            .start_child::<Digest>(&1, elsewhere().priority(21))
            .await
            .unwrap_err();
        let nameless = ctx
            .start_child::<Digest>(&1, elsewhere().named("a/b"))
            .await
            .unwrap_err();
        let unmarked = ctx
            .start_child::<Digest>(&1, elsewhere().attribute("customer", None::<String>))
            .await
            .unwrap_err();
        Ok(format!("{urgent}; {nameless}; {unmarked}"))
    }));
    trial.play().await;
    let told = trial.output();
    for words in [
        "priority 21 of a child is above 20",
        "has a slash",
        "attribute customer is not a string, a number or a boolean",
    ] {
        assert!(told.contains(words), "{told}");
    }
    assert!(trial.rows().is_empty() && trial.starts().is_empty());
}

/// Another binary has it: its replay would start the child where this code went another way.
#[tokio::test]
async fn a_run_whose_child_is_of_no_workflow_here_fails_whatever_its_code_makes_of_it() {
    let trial = Trial::new(code(|ctx| async move {
        let child = ctx.start_child::<Digest>(&1, ChildOptions::default()).await;
        if let Err(error) = child {
            let _ = ctx.step("instead", || async { anyhow::Ok(1) }).await;
            return Ok(format!("without it: {error}"));
        }
        Ok("with it".to_owned())
    }));
    trial.play().await;
    let (status, why) = trial.end();
    assert_eq!(status, "failed", "{why}");
    let words = "there is no workflow digest in this binary, which has tested: add it";
    assert!(why.contains(words), "{why}");
    assert!(
        trial.rows().is_empty() && trial.starts().is_empty(),
        "{:?}",
        trial.rows()
    );
}

#[tokio::test]
async fn of_many_that_fail_the_first_item_counts_and_no_further_ones_begin() {
    let trial = Trial::new(code(|ctx| async move {
        let each = |ctx: Context, item: u32| async move {
            if item == 1 {
                // It ends after the other has failed.
                ctx.wait_signal::<()>("late", None).await?;
            }
            ctx.step("try", move || async move {
                anyhow::ensure!(item == 0, crate::workflow::fatal(anyhow::anyhow!("item {item}")));
                Ok(item)
            })
            .await
        };
        let error = ctx.join_all(0..1_000, 3, each).await.unwrap_err();
        ctx.wait_signal::<()>("go", None).await?;
        Ok(error.to_string())
    }));
    trial.turn().await;
    trial.send("late", ()).await;
    trial.turn().await;
    trial.send("go", ()).await;
    trial.play().await;
    assert!(trial.output().contains("item 1"), "{:?}", trial.end());
    assert!(trial.rows().len() <= 7, "{:?}", trial.rows());
}

#[tokio::test]
async fn a_run_goes_on_as_another_with_its_next_input() {
    let trial = Trial::new(code(|ctx| async move {
        let error = ctx.continue_as_new::<Digest>(&1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a run of workflow tested cannot go on as one of digest"
        );
        ctx.continue_as_new::<super::run_task_tests::Code>(&())
    }));
    trial.turn().await;
    let (next, run) = trial.claim().await.unwrap();
    assert_eq!(
        (trial.end().0, run.params.as_slice()),
        ("completed", b"null".as_slice())
    );
    let why = trial.store.changes(RUN).pop().unwrap().reason;
    assert_eq!(why, Some(format!("continued as {}", next.run)));
}

/// Live as in a replay, and whether it asks again later or at the same time.
#[tokio::test]
async fn who_asks_twice_for_a_childs_result_is_told_the_same_twice() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    let trial = Trial::new(code(move |ctx| {
        let told = heard.clone();
        async move {
            let child = ctx.start_child::<Digest>(&1, elsewhere()).await?;
            let (one, two) = futures::join!(child.result(), child.result());
            let (one, two, first) = (one?, two?, ctx.now());
            tokio::time::sleep(std::time::Duration::from_millis(3)).await;
            let (three, second) = (child.result().await?, ctx.now());
            told.lock().unwrap().push((one, two, three, first, second));
            ctx.sleep(seconds(60)).await?;
            Ok(String::new())
        }
    }));
    assert!(trial.turn().await);
    end_digest(&trial, "7").await;
    trial.play().await;
    assert_eq!(trial.end().0, "completed", "{:?}", trial.end());
    let told = told.lock().unwrap();
    let (one, two, three, first, second) = told[0];
    assert_eq!((one, two, three, first), (7, 7, 7, second));
    assert_eq!(told.len(), 2);
    assert_eq!(told[0], told[1]);
}

/// What a branch was told before a death it is told again at once, whatever the others wait for.
#[tokio::test]
async fn a_recorded_failure_is_told_again_beside_a_branch_that_waits() {
    let effect = Effect::default();
    let done = effect.clone();
    let trial = Trial::new(code(move |ctx| {
        let effect = done.clone();
        async move {
            let branches = ctx.branches(2).await?;
            let child = async {
                let child = branches[0].start_child::<Digest>(&1, elsewhere()).await?;
                let error = child.result().await.unwrap_err();
                effect.step(&branches[0], "after").await?;
                anyhow::Ok(error.to_string())
            };
            let (told, waited) = futures::join!(child, branches[1].wait_signal::<()>("go", None));
            waited?;
            told
        }
    }));
    trial.turn().await;
    end_one(&trial, failed("no money")).await;
    trial.dies(Death::After(1));
    trial.turn().await;
    let told = trial.step("0:join/0/0:digest").status;
    assert_eq!((told, effect.count()), (StepStatus::Failed, 0));
    trial.turn().await;
    assert_eq!(effect.count(), 1, "its branch goes on");
    trial.send("go", ()).await;
    assert_eq!(trial.play().await.status, "completed");
}

//! Children as the code of their parent meets them, and runs that go on as others.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use uuid::Uuid;

use super::fake::{RUN, Stage, Trouble};
use super::run_task_tests::{Effect, code, seconds};
use super::trial::Trial;
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

fn completed(output: &str) -> ChildEnd {
    ChildEnd::Completed(output.as_bytes().to_vec())
}

#[tokio::test]
async fn a_thousand_children_are_started_in_pages_and_answer_in_the_order_of_their_items() {
    let stage = Stage::new(code(|ctx| async move {
        let each = |ctx: Context, item: u32| async move {
            let child = ctx.start_child::<Digest>(&item, elsewhere()).await?;
            assert_eq!(child.id(), derived_id(RUN, &format!("0:join/{item}/0:digest")));
            child.result().await
        };
        let all = ctx.join_all(0..1_000, 1_000, each).await?;
        assert!(all.iter().copied().eq((0..1_000).map(|item| item * 2)));
        Ok(all.len().to_string())
    }));
    assert!(stage.turn().await);
    {
        let row = stage.store.row();
        assert_eq!((row.status, row.steps.len()), ("suspended", 1_000));
        assert_eq!(row.starts.iter().sum::<usize>(), 1_000);
        assert!(row.starts.len() < 20, "{:?}", row.starts);
    }
    for page in [0..400, 400..1_000] {
        for item in page.rev() {
            stage
                .store
                .end_child(&format!("0:join/{item}/0:digest"), completed(&(item * 2).to_string()));
        }
        stage.turn().await;
    }
    let row = stage.store.row();
    assert_eq!((row.status, row.output.as_deref()), ("completed", Some("\"1000\"")));
    assert_eq!((row.token, row.waits, row.stopped_children), (3, 2, false));
}

#[tokio::test]
async fn a_child_that_fails_is_told_with_its_reason_and_in_every_replay() {
    let effect = Effect::default();
    let done = effect.clone();
    let stage = Stage::new(code(move |ctx| {
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
    stage.turn().await;
    stage.store.end_child("0:one", ChildEnd::Failed("no money".to_owned()));
    stage.turn().await;
    stage.store.send("go", "null");
    let row = stage.play().await;
    assert_eq!(row.output.as_deref(), Some("\"false no money true\""), "{row:?}");
    assert_eq!((row.steps["0:one"].status, effect.count()), (StepStatus::Failed, 1));
}

#[tokio::test]
async fn children_that_nobody_waits_for_are_stopped_when_their_parent_ends() {
    let stage = Stage::new(code(|ctx| async move {
        ctx.start_child::<Digest>(&1, elsewhere()).await?;
        Ok(String::new())
    }));
    let row = stage.play().await;
    assert_eq!((row.status, row.stopped_children), ("completed", true));
}

#[tokio::test]
async fn a_result_that_is_too_large_is_refused_by_name() {
    let stage = Stage::new(code(|ctx| async move {
        let error = ctx
            .start_child::<Digest>(&1, elsewhere())
            .await?
            .result()
            .await
            .unwrap_err();
        Ok(error.to_string())
    }));
    stage.turn().await;
    stage.store.end_child("0:digest", completed(&"1".repeat(300_000)));
    let row = stage.play().await;
    let told = row.output.as_deref().unwrap();
    assert!(
        told.contains("step 0:digest returned 300000 bytes, more than 262144"),
        "{told}"
    );
}

#[tokio::test]
async fn a_workflow_that_is_not_here_and_bad_options_are_refused_in_words() {
    let stage = Stage::new(code(|ctx| async move {
        let unknown = ctx
            .start_child::<Digest>(&1, ChildOptions::default())
            .await
            .unwrap_err();
        let urgent = ctx
            .start_child::<Digest>(&1, elsewhere().priority(21))
            .await
            .unwrap_err();
        let nameless = ctx
            .start_child::<Digest>(&1, elsewhere().named("a/b"))
            .await
            .unwrap_err();
        Ok(format!("{unknown}; {urgent}; {nameless}"))
    }));
    let row = stage.play().await;
    let told = row.output.as_deref().unwrap();
    for words in [
        "there is no workflow digest in this binary, which has tested: add it",
        "priority 21 of a child is above 20",
        "has a slash",
    ] {
        assert!(told.contains(words), "{told}");
    }
    assert!(row.steps.is_empty() && row.starts.is_empty());
}

#[tokio::test]
async fn of_many_that_fail_the_first_item_counts_and_no_further_ones_begin() {
    let stage = Stage::new(code(|ctx| async move {
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
    stage.turn().await;
    stage.store.send("late", "null");
    stage.turn().await;
    stage.store.send("go", "null");
    let row = stage.play().await;
    assert!(row.output.as_deref().unwrap().contains("item 1"), "{row:?}");
    assert!(row.steps.len() <= 7, "{:?}", row.steps.keys());
}

#[tokio::test]
async fn a_run_goes_on_as_another_with_its_next_input() {
    let stage = Stage::new(code(|ctx| async move {
        let error = ctx.continue_as_new::<Digest>(&1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a run of workflow tested cannot go on as one of digest"
        );
        ctx.continue_as_new::<super::run_task_tests::Code>(&())
    }));
    let row = stage.play().await;
    assert_eq!((row.status, row.output.as_deref()), ("continued", Some("null")));
}

/// Ends the child of a trial, which is woken as by a sweep.
pub(super) async fn end_digest(trial: &Trial, output: &str) {
    let page = ClaimPage {
        claim_id: Uuid::new_v4(),
        shares: vec![Share {
            queue: "digest".to_owned(),
            take: 1,
        }],
        runnable: vec![Runnable {
            workflow: "digest".to_owned(),
            version: 1,
            replays: 1..=1,
        }],
        suspects: false,
    };
    let (claim, _) = trial.store.claim_runs(&page).await.unwrap().remove(0);
    let ending = Ending {
        claim,
        act: Act::Complete {
            output: output.as_bytes().to_vec(),
        },
        had_batches: false,
        attributes: None,
    };
    assert_eq!(trial.store.let_go_runs(&[ending]).await.unwrap(), [LetGo::Done]);
    trial.store.sweep();
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
    let stage = Stage::new(code(move |ctx| {
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
    stage.turn().await;
    let path = "0:join/0/0:digest";
    stage.store.end_child(path, ChildEnd::Failed("no money".to_owned()));
    stage.store.trouble(Trouble::LostAfter(1));
    stage.turn().await;
    assert_eq!(
        (stage.store.row().steps[path].status, effect.count()),
        (StepStatus::Failed, 0)
    );
    stage.turn().await;
    assert_eq!(effect.count(), 1, "its branch goes on");
    stage.store.send("go", "null");
    assert_eq!(stage.play().await.status, "completed");
}

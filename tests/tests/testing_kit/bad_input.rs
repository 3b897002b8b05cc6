//! Code that does what it should not: each time the run says which step it was, what is wrong and what to do, and nothing
//! else happens.

use std::collections::BTreeMap;
use std::time::Duration;

use lockgate::client::{RunError, RunStatus};
use lockgate::testing::{Effects, TestEngine};
use lockgate::workflow::{Context, RetryPolicy, StepOptions, Workflow};

/// JSON has no such keys.
type Pairs = BTreeMap<(u8, u8), u8>;

fn pairs() -> Pairs {
    BTreeMap::from([((1, 2), 3)])
}

/// Does with what is no JSON what it is told to.
struct NoJson(Effects);

impl Workflow for NoJson {
    const NAME: &'static str = "no-json";
    type Input = String;
    type Output = Pairs;

    async fn run(&self, ctx: Context, what: String) -> anyhow::Result<Pairs> {
        let effects = self.0.clone();
        let counted = move || {
            effects.did("count");
            async { anyhow::Ok(pairs()) }
        };
        match what.as_str() {
            "step" => ctx.step("count", counted).await,
            "child" => {
                ctx.run_child::<TakesPairs>(&pairs()).await?;
                Ok(Pairs::new())
            }
            _ => Ok(pairs()),
        }
    }
}

struct TakesPairs;

impl Workflow for TakesPairs {
    const NAME: &'static str = "takes-pairs";
    type Input = Pairs;
    type Output = ();

    async fn run(&self, _: Context, _: Pairs) -> anyhow::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_is_no_json_fails_its_run_and_names_the_step() {
    for (what, says) in [
        (
            "step",
            "step 0:count failed in attempt 1: its result is not JSON: key must be a string",
        ),
        (
            "child",
            "the input of workflow takes-pairs is not JSON: key must be a string",
        ),
        ("output", "the workflow's output is not JSON: key must be a string"),
    ] {
        let effects = Effects::default();
        let engine = TestEngine::new().workflow(NoJson(effects.clone())).workflow(TakesPairs);
        let run = engine.start::<NoJson>(&what.to_owned()).await;
        match run.result().await {
            Err(RunError::Failed { reason, .. }) => assert!(reason.contains(says), "{what}: {reason}"),
            other => panic!("{what}: {other:?}"),
        }
        // Doing it again would not help, and no child was started.
        assert_eq!(effects.count("count"), u32::from(what == "step"), "{what}");
        assert!(engine.runs_of(TakesPairs::NAME).is_empty());
    }
}

/// Starts itself, and waits for that.
struct Ouroboros;

impl Workflow for Ouroboros {
    const NAME: &'static str = "ouroboros";
    type Input = ();
    type Output = ();

    async fn run(&self, ctx: Context, (): ()) -> anyhow::Result<()> {
        ctx.run_child::<Self>(&()).await
    }
}

#[tokio::test]
async fn a_workflow_that_starts_itself_is_stopped_and_named() {
    let engine = TestEngine::new().workflow(Ouroboros);
    let run = engine.start::<Ouroboros>(&()).await;
    match run.result().await {
        Err(RunError::Failed { reason, .. }) => assert!(
            reason.ends_with(
                "step 0:ouroboros starts nothing: children nest deeper than 64; does workflow ouroboros start itself?"
            ),
            "{reason}"
        ),
        other => panic!("{other:?}"),
    }
    let runs = engine.runs_of(Ouroboros::NAME);
    assert_eq!(runs.len(), 65, "the first one, and as many below");
    let ended = runs.into_iter().map(|run| engine.run::<()>(run).status());
    assert!(ended.into_iter().all(|status| status == RunStatus::Failed));
}

/// Uses one name again and again, at one place after the other and in branches.
struct SameName(Effects);

impl Workflow for SameName {
    const NAME: &'static str = "same-name";
    type Input = ();
    type Output = Vec<u32>;

    async fn run(&self, ctx: Context, (): ()) -> anyhow::Result<Vec<u32>> {
        let work = |ctx: &Context| {
            let effects = self.0.clone();
            ctx.step("work", move || {
                let times = effects.did("work");
                async move { anyhow::Ok(times) }
            })
        };
        let mut told = vec![work(&ctx).await?, work(&ctx).await?];
        ctx.sleep(Duration::from_secs(60)).await?;
        let branches = ctx.branches(2).await?;
        for branch in &branches {
            told.push(work(branch).await?);
        }
        Ok(told)
    }
}

#[tokio::test]
async fn a_name_that_is_used_again_is_a_step_of_its_own() {
    let effects = Effects::default();
    let engine = TestEngine::new().workflow(SameName(effects.clone()));
    let run = engine.start::<SameName>(&()).await;
    run.assert_completed_with(&vec![1, 2, 3, 4]).await;
    for (path, times) in [
        ("0:work", 1),
        ("1:work", 2),
        ("3:join/0/0:work", 3),
        ("3:join/1/0:work", 4),
    ] {
        run.assert_step(path, &times);
    }
    assert_eq!(effects.count("work"), 4, "replays do none of them again");
}

/// Panics in a step, or hangs in one.
struct Careless;

impl Workflow for Careless {
    const NAME: &'static str = "careless";
    type Input = bool;
    type Output = u32;

    async fn run(&self, ctx: Context, hangs: bool) -> anyhow::Result<u32> {
        let options = StepOptions::default()
            .timeout(Duration::from_secs(5))
            .retry(RetryPolicy::none());
        let step = ctx.step_with("charge", options, move || async move {
            assert!(hangs, "the card is torn");
            std::future::pending::<()>().await;
            anyhow::Ok(1)
        });
        step.await
    }
}

#[tokio::test]
async fn a_step_that_panics_or_never_returns_fails_its_run_and_the_others_go_on() {
    let effects = Effects::default();
    let engine = TestEngine::new()
        .workflow(Careless)
        .workflow(SameName(effects.clone()))
        .patience(Duration::from_millis(200));
    let panics = engine.start::<Careless>(&false).await;
    panics
        .assert_failed_with("the workflow's code panicked: the card is torn")
        .await;
    let hangs = engine.start::<Careless>(&true).await;
    let beside = engine.start::<SameName>(&()).await;
    engine.advance(Duration::from_secs(6)).await;
    hangs
        .assert_failed_with("step 0:charge took longer than 5s in attempt 1")
        .await;
    beside.assert_completed_with(&vec![1, 2, 3, 4]).await;
}

//! Crashes on demand.

use std::time::Duration;

use lockgate::testing::{Effects, TestEngine, every_crash};
use lockgate::workflow::{Context, Workflow};

const HOUR: Duration = Duration::from_secs(3_600);

/// Charges, sleeps, and ships, or ships without having been asked.
struct Order {
    effects: Effects,
    /// Whoever believes that a step is done once.
    naive: bool,
}

impl Workflow for Order {
    const NAME: &'static str = "order";
    type Input = ();
    type Output = String;

    async fn run(&self, ctx: Context, (): ()) -> anyhow::Result<String> {
        let done = |what: &'static str| {
            let effects = self.effects.clone();
            move || {
                effects.did(what);
                async { anyhow::Ok(()) }
            }
        };
        let id = ctx.uuid();
        ctx.step("charge", done("charge")).await?;
        ctx.sleep(HOUR).await?;
        let go: Option<u32> = ctx.wait_signal("go", Some(HOUR)).await?;
        let branches = ctx.branches(2).await?;
        let (left, right) = futures::join!(
            branches[0].step("label", done("label")),
            branches[1].step("ship", done("ship"))
        );
        left.and(right)?;
        anyhow::ensure!(!self.naive || self.effects.count("ship") == 1, "shipped twice");
        Ok(format!("{id} {go:?}"))
    }
}

fn order(effects: &Effects) -> Order {
    Order {
        effects: effects.clone(),
        naive: false,
    }
}

#[tokio::test]
async fn a_crash_before_a_steps_record_does_it_again_and_one_after_does_not() {
    for (engine, times) in [
        (TestEngine::new().crash_before("1:charge"), 2),
        (TestEngine::new().crash_after("1:charge"), 1),
        (TestEngine::new().crash_before("4:join/1/0:ship"), 1),
        (TestEngine::new(), 1),
    ] {
        let effects = Effects::default();
        let engine = engine.workflow(order(&effects));
        let run = engine.start::<Order>(&()).await;
        run.result().await.unwrap();
        assert_eq!(effects.count("charge"), times);
        effects.assert_at_least_once("ship");
    }
}

#[tokio::test]
async fn it_crashes_everywhere_and_ends_all_the_same() {
    let effects = Effects::default();
    let engine = TestEngine::new().crash_everywhere().workflow(order(&effects));
    let run = engine.start::<Order>(&()).await;
    run.result().await.unwrap();
    // A claim has one side; every other of the run's eight writes has two.
    assert!(engine.crashes() >= 13, "{}", engine.crashes());
    assert_eq!(effects.count("charge"), 2, "once before its record");
}

#[tokio::test]
async fn every_crash_is_tried_and_time_stands_still_meanwhile() {
    let outputs = std::sync::Mutex::new(std::collections::BTreeSet::new());
    let crashed = every_crash(async |engine| {
        let effects = Effects::default();
        let engine = engine.workflow(order(&effects));
        let run = engine.start::<Order>(&()).await;
        engine.advance(HOUR + HOUR / 2).await;
        run.assert_waits_at("3:go");
        run.signal("go", &7).await;
        let output = run.result().await.unwrap();
        outputs.lock().unwrap().insert(output);
        for what in ["charge", "label", "ship"] {
            effects.assert_at_least_once(what);
            assert!(effects.count(what) <= 2);
        }
    })
    .await;
    assert!(crashed >= 15, "{crashed}");
    assert_eq!(
        outputs.into_inner().unwrap().len(),
        1,
        "what is drawn is the same in every pass"
    );
}

#[tokio::test]
#[should_panic(expected = "with a crash before write ")]
async fn the_crash_that_a_test_fails_at_is_named() {
    every_crash(async |engine| {
        let effects = Effects::default();
        let engine = engine.workflow(Order {
            effects: effects.clone(),
            naive: true,
        });
        let run = engine.start::<Order>(&()).await;
        run.result().await.unwrap();
    })
    .await;
}

/// The next version of the order, which cannot replay the first.
struct Changed;

impl Workflow for Changed {
    const NAME: &'static str = "order";
    type Input = ();
    type Output = String;

    async fn run(&self, ctx: Context, (): ()) -> anyhow::Result<String> {
        let _ = ctx.uuid();
        ctx.step("refund", || async { anyhow::Ok(()) }).await?;
        Ok("refunded".to_owned())
    }
}

#[tokio::test]
async fn other_code_takes_over_as_after_a_deployment() {
    let effects = Effects::default();
    let engine = TestEngine::new().workflow(order(&effects));
    let run = engine.start::<Order>(&()).await;
    engine.run_until_idle().await;
    let engine = engine.workflow(Changed);
    let error = run.result().await.unwrap_err().to_string();
    assert!(error.contains("it now does \"refund\" (step)"), "{error}");
    let engine = engine.workflow(order(&effects));
    run.resume();
    run.result().await.unwrap();
    engine.start::<Order>(&()).await.result().await.unwrap();
    assert_eq!(effects.count("charge"), 2);
}

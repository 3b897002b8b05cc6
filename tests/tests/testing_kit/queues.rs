//! Where and in what order runs are claimed, what they are found by, and how they are told and stopped.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockgate::client::{RunError, RunStatus};
use lockgate::lifecycle::QueueSettings;
use lockgate::testing::{Effects, TestEngine};
use lockgate::workflow::{Context, StepOptions, Workflow};
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

/// Notes what it was given, in the order in which its runs come.
#[derive(Clone, Default)]
struct Turns(Arc<Mutex<Vec<String>>>);

impl Turns {
    fn taken(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Workflow for Turns {
    const NAME: &'static str = "turns";
    type Input = String;
    type Output = String;

    async fn run(&self, ctx: Context, what: String) -> anyhow::Result<String> {
        let (turns, noted) = (self.clone(), what.clone());
        ctx.step("note", move || {
            turns.0.lock().unwrap().push(noted.clone());
            async { anyhow::Ok(()) }
        })
        .await?;
        Ok(what)
    }
}

fn one_at_a_time() -> QueueSettings {
    QueueSettings::new(Turns::NAME).max_running(1)
}

#[tokio::test]
async fn in_a_fair_queue_tenants_take_turns() {
    for (settings, order) in [
        (one_at_a_time().fair(), ["a 1", "b 1", "a 2", "a 3"]),
        (one_at_a_time(), ["a 1", "a 2", "a 3", "b 1"]),
    ] {
        let turns = Turns::default();
        let engine = TestEngine::new().workflow(turns.clone()).queue(settings);
        let then = engine.now() + MINUTE;
        for what in ["a 1", "a 2", "a 3", "b 1"] {
            let start = engine.start::<Turns>(&what.to_owned()).at(then);
            let _ = start.tenant(&what[..1]).await;
        }
        engine.advance(MINUTE * 2).await;
        assert_eq!(turns.taken(), order);
    }
}

#[tokio::test]
async fn what_has_priority_goes_first() {
    let turns = Turns::default();
    let engine = TestEngine::new().workflow(turns.clone()).queue(one_at_a_time());
    let then = engine.now() + MINUTE;
    for (what, priority) in [("ordinary", 0), ("urgent", 20)] {
        let start = engine.start::<Turns>(&what.to_owned()).priority(priority);
        let _ = start.at(then).await;
    }
    engine.advance(MINUTE * 2).await;
    assert_eq!(turns.taken(), ["urgent", "ordinary"]);
}

#[tokio::test]
#[should_panic(expected = "cannot be started: priority 21 is above 20")]
async fn a_priority_that_there_is_not_is_refused() {
    let engine = TestEngine::new().workflow(Turns::default());
    let _ = engine.start::<Turns>(&String::new()).priority(21).await;
}

#[tokio::test]
async fn a_debounced_run_waits_for_the_last_start_by_the_clock_of_the_test() {
    let turns = Turns::default();
    let engine = TestEngine::new().workflow(turns.clone());
    let begun = engine.now();
    let half = MINUTE / 2;
    let report = async |what: &str, key: &str| {
        let start = engine.start::<Turns>(&what.to_owned());
        start.debounce(key, half).await
    };
    let first = report("stale", "acme").await;
    let other = report("other", "initech").await;
    engine.advance(half / 2).await;
    let second = report("fresh", "acme").await;
    assert_eq!((first.id(), first.status()), (second.id(), RunStatus::Queued));
    assert_ne!(first.id(), other.id());
    first.assert_completed_with(&"fresh").await;
    assert_eq!((engine.now() - begun).num_seconds(), 45);
    assert_eq!(turns.taken(), ["other", "fresh"]);
    let third = report("next", "acme").await;
    assert_ne!(third.id(), first.id(), "that one has begun");
}

/// Adds up what it is told until it is told to stop, and says what it has so far.
struct Adding(Effects);

impl Workflow for Adding {
    const NAME: &'static str = "adding";
    type Input = ();
    type Output = i64;

    async fn run(&self, ctx: Context, (): ()) -> anyhow::Result<i64> {
        let (done, undone) = (self.0.clone(), self.0.clone());
        ctx.step_with_undo(
            "open",
            StepOptions::default(),
            move || {
                done.did("open");
                async { anyhow::Ok(()) }
            },
            move |_| {
                undone.did("close");
                async { anyhow::Ok(()) }
            },
        )
        .await?;
        let mut sum = 0;
        while let Some(number) = ctx.wait_signal::<i64>("add", Some(MINUTE)).await? {
            sum += number;
            ctx.set_attribute("sum", sum)?;
        }
        Ok(sum)
    }
}

#[tokio::test]
async fn runs_have_attributes_and_are_told_once_under_a_key() {
    let engine = TestEngine::new().workflow(Adding(Effects::default()));
    let run = engine.start::<Adding>(&()).attribute("customer", 42).await;
    for (key, number) in [("one", 1), ("one", 1), ("two", 1)] {
        run.signal_once(key, "add", &number).await;
    }
    engine.run_until_idle().await;
    assert_eq!(
        (run.attribute("customer"), run.attribute("sum"), run.attribute("city")),
        (Some(json!(42)), Some(json!(2)), None)
    );
    run.assert_completed_with(&2).await;
}

#[tokio::test]
async fn by_force_a_run_ends_with_what_it_did() {
    let effects = Effects::default();
    let engine = TestEngine::new().workflow(Adding(effects.clone()));
    let (forced, asked) = (engine.start::<Adding>(&()).await, engine.start::<Adding>(&()).await);
    engine.run_until_idle().await;
    forced.force_cancel("enough");
    match forced.result().await {
        Err(RunError::Cancelled { reason, .. }) => {
            assert_eq!(reason, "enough; by force, not undone: 0:open");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((effects.count("open"), effects.count("close")), (2, 0));
    asked.cancel("enough");
    let _ = asked.result().await;
    assert_eq!(effects.count("close"), 1);
}

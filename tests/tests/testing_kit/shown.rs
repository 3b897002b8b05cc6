//! What a run shows, in memory.

use std::time::Duration;

use lockgate::testing::{TestEngine, every_crash};
use lockgate::workflow::{Context, StepError, Workflow};
use lockgate_tests::bounded::{Loading, Progress};

#[tokio::test]
async fn what_a_run_shows_is_read_wherever_it_crashes() {
    let crashed = every_crash(async |engine| {
        let engine = engine.workflow(Loading);
        let run = engine.start::<Loading>(&()).await;
        for done in 0..3 {
            engine.advance(Duration::from_secs(1)).await;
            assert_eq!(run.shown("progress"), Some(Progress { done }));
            run.signal("next", &()).await;
        }
        run.result().await.unwrap();
        assert_eq!(run.shown("progress"), Some(Progress { done: 3 }));
        assert_eq!(run.shown::<String>("part 2").as_deref(), Some("loaded"));
        assert_eq!(run.shown::<String>("part 3"), None);
    })
    .await;
    assert!(crashed >= 10, "{crashed}");
}

/// Shows more than it may, and then what cannot be shown.
struct Boaster;

impl Workflow for Boaster {
    const NAME: &'static str = "boaster";
    type Input = String;
    type Output = StepError;

    async fn run(&self, ctx: Context, text: String) -> anyhow::Result<StepError> {
        match ctx.show("all", &text).await {
            Ok(()) => ctx.show("zero", "\0").await.map(|()| unreachable!("it was shown")),
            Err(error) => error.downcast(),
        }
    }
}

#[tokio::test]
async fn what_is_too_large_or_cannot_be_read_is_not_shown() {
    let engine = TestEngine::new().workflow(Boaster);
    let run = engine.start::<Boaster>(&"x".repeat(20_000)).await;
    let error = run.result().await.unwrap().to_string();
    assert_eq!(
        error,
        "step 0:all returned 20002 bytes, more than 16384: store it elsewhere and return a reference"
    );
    let run = engine.start::<Boaster>(&"short".to_owned()).await;
    let error = run.result().await.unwrap_err().to_string();
    assert!(
        error.contains("what is shown as \"zero\" has a zero character"),
        "{error}"
    );
    assert_eq!(run.shown::<String>("all").as_deref(), Some("short"));
}

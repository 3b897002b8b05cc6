//! How code is run: replays, waits, retries, and code that differs from the one that ran.
#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::fake::{FakeStore, Stage, Trouble};
use crate::lifecycle::StepStatus;
use crate::telemetry::catalogue::STEP_RETRIES;
use crate::telemetry::meters;
use crate::workflow::{Context, RetryPolicy, StepError, StepOptions, Workflow, fatal};

type Run = Box<dyn Fn(Context) -> BoxFuture<'static, anyhow::Result<String>> + Send + Sync>;

/// A workflow made of a closure.
pub(super) struct Code(Run);

impl Workflow for Code {
    const NAME: &'static str = "tested";
    type Input = ();
    type Output = String;

    async fn run(&self, ctx: Context, (): ()) -> anyhow::Result<String> {
        (self.0)(ctx).await
    }
}

pub(super) fn code<Fut>(run: impl Fn(Context) -> Fut + Send + Sync + 'static) -> Code
where
    Fut: Future<Output = anyhow::Result<String>> + Send + 'static,
{
    Code(Box::new(move |ctx| run(ctx).boxed()))
}

/// Counts how often something was really done.
#[derive(Clone, Default)]
pub(super) struct Effect(Arc<AtomicU32>);

impl Effect {
    pub(super) fn count(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    /// A step that says how often it was done.
    pub(super) fn step(&self, ctx: &Context, name: &str) -> impl Future<Output = anyhow::Result<u32>> + Send + use<> {
        let done = self.0.clone();
        ctx.step(name, move || {
            let done = done.clone();
            async move { anyhow::Ok(done.fetch_add(1, Ordering::SeqCst) + 1) }
        })
    }
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn steps_answer_what_they_recorded_and_are_done_once() {
    let effect = Effect::default();
    let done = effect.clone();
    let stage = Stage::new(code(move |ctx| {
        let effect = done.clone();
        async move {
            let first = effect.step(&ctx, "first").await?;
            ctx.sleep(seconds(3600)).await?;
            let second = effect.step(&ctx, "second").await?;
            Ok(format!("{first} {second}"))
        }
    }));
    let row = stage.play().await;
    assert_eq!(
        (row.status, row.output.as_deref()),
        ("completed", Some("\"1 2\"")),
        "{row:?}"
    );
    assert_eq!((row.token, row.waits, effect.count()), (2, 1, 2));
    let paths: Vec<&str> = row.steps.keys().map(String::as_str).collect();
    assert_eq!(paths, ["0:first", "1:sleep", "2:second"]);
}

#[tokio::test]
async fn a_death_at_each_checkpoint_does_at_most_that_step_again() {
    for after in [false, true] {
        for at in 1..=4 {
            let effect = Effect::default();
            let done = effect.clone();
            let stage = Stage::new(code(move |ctx| {
                let effect = done.clone();
                async move {
                    let begun = ctx.now();
                    let (uuid, random) = (ctx.uuid(), ctx.random::<u64>());
                    for name in ["a", "b", "c"] {
                        effect.step(&ctx, name).await?;
                    }
                    ctx.sleep(seconds(60)).await?;
                    let slept = ctx.now() - begun;
                    anyhow::ensure!(slept >= chrono::TimeDelta::seconds(60), "it slept {slept}");
                    Ok(format!("{uuid} {random}"))
                }
            }));
            stage.store.trouble(if after {
                Trouble::LostAfter(at)
            } else {
                Trouble::LostBefore(at)
            });
            let row = stage.play().await;
            assert_eq!(row.status, "completed", "{at} {after}: {row:?}");
            let again = u32::from(!after && at <= 3);
            assert_eq!(effect.count(), 3 + again, "{at} {after}");
            assert_eq!(row.steps.len(), 4);
        }
    }
}

#[tokio::test]
async fn what_the_code_is_told_is_the_same_in_every_replay() {
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = told.clone();
    let stage = Stage::new(code(move |ctx| {
        let told = heard.clone();
        async move {
            let mut now = vec![format!("{} {}", ctx.now(), ctx.random::<u32>())];
            for nap in 1..=3 {
                ctx.step("work", || async {
                    tokio::time::sleep(Duration::from_millis(3)).await;
                    anyhow::Ok(())
                })
                .await?;
                now.push(format!("{} {}", ctx.now(), ctx.uuid()));
                told.lock().unwrap().push(now.clone());
                ctx.sleep(seconds(nap * 100)).await?;
                now.push(ctx.now().to_string());
                told.lock().unwrap().push(now.clone());
            }
            Ok(String::new())
        }
    }));
    assert_eq!(stage.play().await.status, "completed");
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 1 + 3 + 5 + 6);
    let longest = told.last().unwrap();
    for shorter in told.iter() {
        assert_eq!(shorter[..], longest[..shorter.len()]);
    }
}

#[tokio::test]
async fn a_signal_is_taken_once_and_in_order() {
    let stage = Stage::new(code(|ctx| async move {
        let first: Option<String> = ctx.wait_signal("go", None).await?;
        let second: Option<String> = ctx.wait_signal("go", None).await?;
        let third: Option<String> = ctx.wait_signal("go", Some(seconds(60))).await?;
        Ok(format!("{first:?} {second:?} {third:?}"))
    }));
    assert!(stage.turn().await);
    assert_eq!(stage.store.row().status, "suspended");
    stage.store.send("other", "\"x\"");
    stage.store.send("go", "\"a\"");
    stage.store.send("go", "\"b\"");
    let row = stage.play().await;
    assert_eq!(
        row.output.as_deref(),
        Some(r#""Some(\"a\") Some(\"b\") None""#),
        "{row:?}"
    );
    assert_eq!(
        row.consumed.iter().collect::<Vec<_>>(),
        [(&2, &"0:go".to_owned()), (&3, &"1:go".to_owned())]
    );
}

#[tokio::test]
async fn a_signal_that_comes_while_the_run_is_let_go_of_is_not_lost() {
    let stage = Stage::new(code(|ctx| async move {
        let _: () = ctx.step("work", || async { anyhow::Ok(()) }).await?;
        let go: Option<u32> = ctx.wait_signal("go", None).await?;
        Ok(format!("{go:?}"))
    }));
    let (claim, run) = stage.store.claim().unwrap();
    // It comes after the run was claimed: what was claimed knows nothing of it.
    stage.store.send("go", "7");
    super::run_task::drive(stage.shared.clone(), claim, run, std::time::Instant::now()).await;
    let row = stage.store.row();
    assert_eq!(
        (row.status, row.output.as_deref(), row.waits),
        ("completed", Some("\"Some(7)\""), 0),
        "{row:?}"
    );
}

#[tokio::test]
async fn a_step_is_tried_again_and_its_failure_recorded_in_the_same_words() {
    let repeated = || meters().total(&STEP_RETRIES, None);
    let before = repeated();
    let tries = Effect::default();
    let tried = tries.clone();
    let stage = Stage::new(code(move |ctx| {
        let tried = tried.clone();
        async move {
            let retry = RetryPolicy {
                attempts: 3,
                first: Duration::from_millis(1),
                ..RetryPolicy::default()
            };
            let failed = ctx
                .step_with("charge", StepOptions::default().retry(retry), move || {
                    tried.0.fetch_add(1, Ordering::SeqCst);
                    async { Err::<(), _>(anyhow::anyhow!("no answer")) }
                })
                .await
                .unwrap_err();
            ctx.sleep(seconds(60)).await?;
            let error = failed.downcast_ref::<StepError>().unwrap();
            assert!(matches!(error, StepError::Failed { attempts: 3, .. }));
            Ok(failed.to_string())
        }
    }));
    let row = stage.play().await;
    assert_eq!(
        row.output.as_deref(),
        Some("\"step 0:charge failed in attempt 3: no answer\""),
        "{row:?}"
    );
    assert_eq!((tries.count(), row.steps["0:charge"].status), (3, StepStatus::Failed));
    assert!(repeated() >= before + 2);
}

#[tokio::test]
async fn a_long_pause_between_tries_lets_go_of_the_run_and_keeps_the_count() {
    let tries = Effect::default();
    let tried = tries.clone();
    let stage = Stage::new(code(move |ctx| {
        let tried = tried.clone();
        async move {
            let retry = RetryPolicy {
                attempts: 3,
                first: seconds(30),
                ..RetryPolicy::default()
            };
            let step = ctx.step_with("charge", StepOptions::default().retry(retry), move || {
                tried.0.fetch_add(1, Ordering::SeqCst);
                async { Err::<(), _>(anyhow::anyhow!("no answer")) }
            });
            Ok(step.await.unwrap_err().to_string())
        }
    }));
    let row = stage.play().await;
    assert_eq!(
        (row.output.as_deref(), row.waits, tries.count()),
        (Some("\"step 0:charge failed in attempt 3: no answer\""), 2, 3),
        "{row:?}"
    );
}

#[tokio::test]
async fn what_cannot_get_better_is_not_tried_again() {
    let tries = Effect::default();
    let tried = tries.clone();
    let stage = Stage::new(code(move |ctx| {
        let tried = tried.clone();
        async move {
            let once = tried.clone();
            let stolen = ctx.step("charge", move || {
                once.0.fetch_add(1, Ordering::SeqCst);
                async { Err::<(), _>(fatal(anyhow::anyhow!("the card is stolen"))) }
            });
            let stolen = stolen.await.unwrap_err().to_string();
            let large = ctx.step("report", move || {
                tried.0.fetch_add(1, Ordering::SeqCst);
                async { anyhow::Ok("x".repeat(300_000)) }
            });
            Ok(format!("{stolen}; {}", large.await.unwrap_err()))
        }
    }));
    let row = stage.play().await;
    assert_eq!(
        row.output.as_deref(),
        Some(
            "\"step 0:charge failed in attempt 1: the card is stolen; step 1:report returned 300002 bytes, more than \
             262144: store it elsewhere and return a reference\""
        ),
        "{row:?}"
    );
    assert_eq!(tries.count(), 2);
}

#[tokio::test]
async fn a_try_that_takes_too_long_is_dropped() {
    let stage = Stage::new(code(|ctx| async move {
        let options = StepOptions::default()
            .retry(RetryPolicy::none())
            .timeout(Duration::from_millis(5));
        let step = ctx.step_with("hang", options, || async {
            std::future::pending::<()>().await;
            anyhow::Ok(())
        });
        Ok(step.await.unwrap_err().to_string())
    }));
    assert_eq!(
        stage.play().await.output.as_deref(),
        Some("\"step 0:hang took longer than 5ms in attempt 1\"")
    );
}

#[tokio::test]
async fn steps_side_by_side_keep_the_run_while_one_of_them_works() {
    let stage = Stage::new(code(|ctx| async move {
        let work = ctx.step("work", || async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            anyhow::Ok(1)
        });
        let (worked, slept, went) = futures::join!(
            work,
            ctx.sleep(Duration::from_millis(10)),
            ctx.wait_signal::<u32>("go", Some(seconds(3600)))
        );
        slept?;
        Ok(format!("{} {:?}", worked?, went?))
    }));
    assert!(stage.turn().await);
    {
        let row = stage.store.row();
        // The nap was over in place, and only the signal is waited for.
        assert_eq!((row.status, row.waits), ("suspended", 1), "{row:?}");
        assert_eq!(row.steps["0:work"].status, StepStatus::Completed);
        assert_eq!(row.steps["1:sleep"].status, StepStatus::Completed);
        assert_eq!(row.steps["2:go"].status, StepStatus::Open);
    }
    let row = stage.play().await;
    assert_eq!(row.output.as_deref(), Some("\"1 None\""), "{row:?}");
}

#[tokio::test]
async fn other_code_sets_the_run_aside_and_the_old_code_goes_on() {
    let one = || {
        code(|ctx| async move {
            let _: u32 = ctx.step("charge", || async { anyhow::Ok(1) }).await?;
            let _: Option<u32> = ctx.wait_signal("go", None).await?;
            Ok("done".to_owned())
        })
    };
    let store = Arc::new(FakeStore::default());
    assert!(Stage::on(store.clone(), one()).turn().await);
    store.send("go", "1");
    let other = Stage::on(
        store.clone(),
        code(|ctx| async move {
            let refunded: anyhow::Result<u32> = ctx.step("refund", || async { anyhow::Ok(1) }).await;
            // Code that swallows the answer gets no further either.
            Ok(format!("{refunded:?}"))
        }),
    );
    {
        let row = other.play().await;
        assert_eq!(row.status, "quarantined", "{row:?}");
        let reason = row.reason.as_deref().unwrap_or_default();
        assert!(
            reason.contains("at place 0 it now does \"refund\" (step), run ")
                && reason.contains("recorded \"charge\" (step) there"),
            "{reason}"
        );
    }
    store.resume();
    let row = Stage::on(store.clone(), one()).play().await.output.clone();
    assert_eq!(row.as_deref(), Some("\"done\""));
}

#[tokio::test]
async fn code_that_leaves_a_recorded_step_out_sets_the_run_aside() {
    let store = Arc::new(FakeStore::default());
    let stage = Stage::on(
        store.clone(),
        code(|ctx| async move {
            let _: u32 = ctx.step("charge", || async { anyhow::Ok(1) }).await?;
            ctx.sleep(seconds(60)).await?;
            Ok(String::new())
        }),
    );
    assert!(stage.turn().await);
    let row = Stage::on(store, code(|_| async move { Ok(String::new()) }))
        .play()
        .await
        .reason
        .clone();
    assert!(row.unwrap().contains("it ended without \"charge\" (step)"));
}

#[tokio::test]
async fn a_change_is_taken_by_new_runs_and_not_by_those_that_were_past_it() {
    let changed = || {
        code(|ctx| async move {
            let version = ctx.version("vat", 1..=2).await?;
            let _: u32 = ctx.step("charge", || async { anyhow::Ok(1) }).await?;
            ctx.sleep(seconds(60)).await?;
            Ok(format!("{version}"))
        })
    };
    assert_eq!(Stage::new(changed()).play().await.output.as_deref(), Some("\"2\""));
    let old = Stage::new(code(|ctx| async move {
        let _: u32 = ctx.step("charge", || async { anyhow::Ok(1) }).await?;
        ctx.sleep(seconds(60)).await?;
        Ok(String::new())
    }));
    assert!(old.turn().await);
    let stage = Stage::on(old.store.clone(), changed());
    assert_eq!(stage.play().await.output.as_deref(), Some("\"1\""));
}

/// Whoever polls the code hears of steps that are awaited elsewhere: the run is let go of, and left when it is lost.
#[tokio::test]
async fn steps_in_a_task_of_the_codes_own_are_steps_too() {
    let stage = Stage::new(code(|ctx| async move {
        let alone = tokio::spawn(async move {
            ctx.sleep(seconds(60)).await?;
            let one: u32 = ctx.step("one", || async { anyhow::Ok(1) }).await?;
            let two: u32 = ctx.step("two", || async { anyhow::Ok(2) }).await?;
            anyhow::Ok(one + two)
        });
        Ok(alone.await??.to_string())
    }));
    assert_eq!(stage.play().await.output.as_deref(), Some("\"3\""));
    let stage = Stage::new(code(|ctx| async move {
        let alone = tokio::spawn(async move { ctx.step("one", || async { anyhow::Ok(1) }).await });
        Ok(alone.await??.to_string())
    }));
    stage.store.trouble(Trouble::LostBefore(1));
    let row = stage.play().await;
    assert_eq!((row.output.as_deref(), row.token), (Some("\"1\""), 2));
}

#[tokio::test]
async fn a_panic_of_the_code_fails_its_run_alone() {
    let stage = Stage::new(code(|ctx| async move {
        let _: u32 = ctx.step("charge", || async { anyhow::Ok(1) }).await?;
        let nothing: Option<String> = ctx.slot().map(|slot| slot.to_string());
        Ok(nothing.expect("there is something"))
    }));
    let row = stage.play().await;
    assert_eq!(
        (row.status, row.reason.as_deref()),
        ("failed", Some("the workflow's code panicked: there is something"))
    );
}

#[tokio::test]
async fn a_name_that_breaks_paths_fails_its_step() {
    let stage = Stage::new(code(|ctx| async move {
        let step: anyhow::Result<u32> = ctx.step("a/b", || async { anyhow::Ok(1) }).await;
        Ok(step.unwrap_err().to_string())
    }));
    let output = stage.play().await.output.clone().unwrap();
    assert!(output.contains("has a slash or a control character"), "{output}");
}

//! How code is run: replays, waits, retries, and code that differs from the one that ran.
#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::trial::{Death, RUN, Trial};
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
    let trial = Trial::new(code(move |ctx| {
        let effect = done.clone();
        async move {
            let first = effect.step(&ctx, "first").await?;
            ctx.sleep(seconds(3600)).await?;
            let second = effect.step(&ctx, "second").await?;
            Ok(format!("{first} {second}"))
        }
    }));
    let token = trial.play().await.token;
    assert_eq!(trial.output(), "\"1 2\"", "{:?}", trial.end());
    assert_eq!((token, trial.waits(), effect.count()), (2, 1, 2));
    assert_eq!(
        trial.rows(),
        ["0:first completed", "1:sleep completed", "2:second completed"]
    );
}

/// More than comes with a page of claims.
#[tokio::test]
async fn a_large_record_is_read_before_the_code_is_run_again() {
    let effect = Effect::default();
    let done = effect.clone();
    let trial = Trial::new(code(move |ctx| {
        let effect = done.clone();
        async move {
            let large = ctx.step("large", || async { anyhow::Ok("x".repeat(200_000)) }).await?;
            let once = effect.step(&ctx, "once").await?;
            ctx.sleep(seconds(3600)).await?;
            Ok(format!("{} {once}", large.len()))
        }
    }));
    assert!(trial.turn().await);
    let claimed = trial.claim().await.unwrap();
    assert!(claimed.1.unread && claimed.1.steps.is_empty());
    trial.drive(claimed).await;
    assert_eq!(
        (trial.output(), effect.count()),
        ("\"200000 1\"".to_owned(), 1),
        "{:?}",
        trial.end()
    );
}

#[tokio::test]
async fn a_death_at_each_write_does_at_most_one_step_again() {
    let story = |effect: Effect| {
        code(move |ctx| {
            let effect = effect.clone();
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
        })
    };
    let alive = Trial::new(story(Effect::default()));
    alive.play().await;
    // Three steps, the wait, its end, and the end of the run.
    assert_eq!(alive.writes(), 6);
    for death in (1..=6).flat_map(|at| [Death::Before(at), Death::After(at)]) {
        let effect = Effect::default();
        let trial = Trial::dying(story(effect.clone()), Some(death));
        trial.play().await;
        trial.gives(&alive.output(), death);
        let again = u32::from(matches!(death, Death::Before(1..=3)));
        assert_eq!((effect.count(), trial.rows().len()), (3 + again, 4), "{death:?}");
    }
}

#[tokio::test]
async fn what_the_code_is_told_is_the_same_in_every_replay() {
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = told.clone();
    let trial = Trial::new(code(move |ctx| {
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
    assert_eq!(trial.play().await.status, "completed");
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 1 + 3 + 5 + 6);
    let longest = told.last().unwrap();
    for shorter in told.iter() {
        assert_eq!(shorter[..], longest[..shorter.len()]);
    }
}

#[tokio::test]
async fn a_signal_is_taken_once_and_in_order() {
    let trial = Trial::new(code(|ctx| async move {
        let first: Option<String> = ctx.wait_signal("go", None).await?;
        let second: Option<String> = ctx.wait_signal("go", None).await?;
        let third: Option<String> = ctx.wait_signal("go", Some(seconds(60))).await?;
        Ok(format!("{first:?} {second:?} {third:?}"))
    }));
    assert!(trial.turn().await);
    assert_eq!(trial.view().status, "suspended");
    for (name, payload) in [("other", "x"), ("go", "a"), ("go", "b")] {
        trial.send(name, payload).await;
    }
    trial.play().await;
    assert_eq!(trial.output(), r#""Some(\"a\") Some(\"b\") None""#, "{:?}", trial.end());
    let signals = trial.store.signals(RUN).into_iter();
    let taken_by: Vec<Option<String>> = signals.map(|signal| signal.consumed_by).collect();
    assert_eq!(taken_by, [None, Some("0:go".to_owned()), Some("1:go".to_owned())]);
}

#[tokio::test]
async fn a_signal_that_comes_while_the_run_is_let_go_of_is_not_lost() {
    let trial = Trial::new(code(|ctx| async move {
        let _: () = ctx.step("work", || async { anyhow::Ok(()) }).await?;
        let go: Option<u32> = ctx.wait_signal("go", None).await?;
        Ok(format!("{go:?}"))
    }));
    let claimed = trial.claim().await.unwrap();
    // It comes after the run was claimed: what was claimed knows nothing of it.
    trial.send("go", 7).await;
    trial.drive(claimed).await;
    assert_eq!(
        (trial.output(), trial.waits()),
        ("\"Some(7)\"".to_owned(), 0),
        "{:?}",
        trial.end()
    );
}

#[tokio::test]
async fn a_step_is_tried_again_and_its_failure_recorded_in_the_same_words() {
    let repeated = || meters().total(&STEP_RETRIES, None);
    let before = repeated();
    let tries = Effect::default();
    let tried = tries.clone();
    let trial = Trial::new(code(move |ctx| {
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
    trial.play().await;
    assert_eq!(trial.output(), "\"step 0:charge failed in attempt 3: no answer\"");
    assert_eq!((tries.count(), trial.step("0:charge").status), (3, StepStatus::Failed));
    assert!(repeated() >= before + 2);
}

#[tokio::test]
async fn a_long_pause_between_tries_lets_go_of_the_run_and_keeps_the_count() {
    let tries = Effect::default();
    let tried = tries.clone();
    let trial = Trial::new(code(move |ctx| {
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
    trial.play().await;
    assert_eq!(trial.output(), "\"step 0:charge failed in attempt 3: no answer\"");
    assert_eq!((trial.waits(), tries.count()), (2, 3));
}

#[tokio::test]
async fn what_cannot_get_better_is_not_tried_again() {
    let tries = Effect::default();
    let tried = tries.clone();
    let trial = Trial::new(code(move |ctx| {
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
    trial.play().await;
    assert_eq!(
        trial.output(),
        "\"step 0:charge failed in attempt 1: the card is stolen; step 1:report returned 300002 bytes, more than 262144: \
         store it elsewhere and return a reference\""
    );
    assert_eq!(tries.count(), 2);
}

#[tokio::test]
async fn a_try_that_takes_too_long_is_dropped() {
    let trial = Trial::new(code(|ctx| async move {
        let options = StepOptions::default()
            .retry(RetryPolicy::none())
            .timeout(Duration::from_millis(5));
        let step = ctx.step_with("hang", options, || async {
            std::future::pending::<()>().await;
            anyhow::Ok(())
        });
        Ok(step.await.unwrap_err().to_string())
    }));
    trial.play().await;
    assert_eq!(trial.output(), "\"step 0:hang took longer than 5ms in attempt 1\"");
}

#[tokio::test]
async fn steps_side_by_side_keep_the_run_while_one_of_them_works() {
    let trial = Trial::new(code(|ctx| async move {
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
    assert!(trial.turn().await);
    // The nap was over in place, and only the signal is waited for.
    assert_eq!((trial.view().status, trial.waits()), ("suspended", 1));
    assert_eq!(trial.rows(), ["0:work completed", "1:sleep completed", "2:go open"]);
    trial.play().await;
    assert_eq!(trial.output(), "\"1 None\"");
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
    let trial = Trial::new(one());
    assert!(trial.turn().await);
    trial.send("go", 1).await;
    let other = trial.replaced(code(|ctx| async move {
        let refunded: anyhow::Result<u32> = ctx.step("refund", || async { anyhow::Ok(1) }).await;
        // Code that swallows the answer gets no further either.
        Ok(format!("{refunded:?}"))
    }));
    other.play().await;
    let (status, reason) = other.end();
    assert!(
        status == "quarantined"
            && reason.contains("at place 0 it now does \"refund\" (step), run ")
            && reason.contains("recorded \"charge\" (step) there"),
        "{reason}"
    );
    trial.store.resume_run(RUN);
    let old = trial.replaced(one());
    old.play().await;
    assert_eq!(old.output(), "\"done\"");
}

#[tokio::test]
async fn code_that_leaves_a_recorded_step_out_sets_the_run_aside() {
    let trial = Trial::new(code(|ctx| async move {
        let _: u32 = ctx.step("charge", || async { anyhow::Ok(1) }).await?;
        ctx.sleep(seconds(60)).await?;
        Ok(String::new())
    }));
    assert!(trial.turn().await);
    let shorter = trial.replaced(code(|_| async move { Ok(String::new()) }));
    shorter.play().await;
    let (_, reason) = shorter.end();
    assert!(reason.contains("it ended without \"charge\" (step)"), "{reason}");
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
    let new = Trial::new(changed());
    new.play().await;
    assert_eq!(new.output(), "\"2\"");
    let old = Trial::new(code(|ctx| async move {
        let _: u32 = ctx.step("charge", || async { anyhow::Ok(1) }).await?;
        ctx.sleep(seconds(60)).await?;
        Ok(String::new())
    }));
    assert!(old.turn().await);
    let replaced = old.replaced(changed());
    replaced.play().await;
    assert_eq!(replaced.output(), "\"1\"");
}

#[tokio::test]
async fn a_run_that_goes_round_keeps_the_version_of_its_first_rounds() {
    let rounds = |changes: bool| {
        code(move |ctx| async move {
            let mut versions = Vec::new();
            for _ in 0..4 {
                if changes {
                    versions.push(ctx.version("vat", 1..=2).await?);
                }
                let _: u32 = ctx.step("charge", || async { anyhow::Ok(1) }).await?;
                if versions.last() == Some(&2) {
                    let _: u32 = ctx.step("vat", || async { anyhow::Ok(1) }).await?;
                }
                ctx.sleep(seconds(60)).await?;
            }
            Ok(format!("{versions:?}"))
        })
    };
    let old = Trial::new(rounds(false));
    assert!(old.turn().await && old.turn().await, "it is in its second round");
    let changed = old.replaced(rounds(true));
    changed.play().await;
    assert_eq!(changed.output(), "\"[1, 1, 1, 1]\"", "{:?}", changed.end());
    let new = Trial::new(rounds(true));
    new.play().await;
    assert_eq!(new.output(), "\"[2, 2, 2, 2]\"");
}

/// Whoever polls the code hears of steps that are awaited elsewhere: the run is let go of, and left when it is lost.
#[tokio::test]
async fn steps_in_a_task_of_the_codes_own_are_steps_too() {
    let trial = Trial::new(code(|ctx| async move {
        let alone = tokio::spawn(async move {
            ctx.sleep(seconds(60)).await?;
            let one: u32 = ctx.step("one", || async { anyhow::Ok(1) }).await?;
            let two: u32 = ctx.step("two", || async { anyhow::Ok(2) }).await?;
            anyhow::Ok(one + two)
        });
        Ok(alone.await??.to_string())
    }));
    trial.play().await;
    assert_eq!(trial.output(), "\"3\"");
    let alone = code(|ctx| async move {
        let alone = tokio::spawn(async move { ctx.step("one", || async { anyhow::Ok(1) }).await });
        Ok(alone.await??.to_string())
    });
    let trial = Trial::dying(alone, Some(Death::Before(1)));
    assert_eq!((trial.play().await.token, trial.output()), (2, "\"1\"".to_owned()));
}

#[tokio::test]
async fn a_panic_of_the_code_fails_its_run_alone() {
    let trial = Trial::new(code(|ctx| async move {
        let _: u32 = ctx.step("charge", || async { anyhow::Ok(1) }).await?;
        let nothing: Option<String> = ctx.slot().map(|slot| slot.to_string());
        Ok(nothing.expect("there is something"))
    }));
    trial.play().await;
    let why = "the workflow's code panicked: there is something";
    assert_eq!(trial.end(), ("failed", why.to_owned()));
}

#[tokio::test]
async fn a_name_that_breaks_paths_fails_its_step() {
    let trial = Trial::new(code(|ctx| async move {
        let step: anyhow::Result<u32> = ctx.step("a/b", || async { anyhow::Ok(1) }).await;
        Ok(step.unwrap_err().to_string())
    }));
    trial.play().await;
    let output = trial.output();
    assert!(output.contains("has a slash or a control character"), "{output}");
}

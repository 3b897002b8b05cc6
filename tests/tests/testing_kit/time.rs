//! Time, signals and operators.

use std::time::{Duration, Instant};

use lockgate::client::{RunError, RunStatus};
use lockgate::lifecycle::QueueSettings;
use lockgate::testing::{Effects, TestEngine};
use lockgate::workflow::{Context, RetryPolicy, StepOptions, Workflow};

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Waits for an approval, and does something when it came in time.
struct Approval(Effects);

impl Workflow for Approval {
    const NAME: &'static str = "approval";
    type Input = String;
    type Output = String;

    async fn run(&self, ctx: Context, what: String) -> anyhow::Result<String> {
        let approved: Option<bool> = ctx.wait_signal("approval", Some(DAY)).await?;
        let Some(true) = approved else {
            return Ok(format!("{what}: {approved:?}"));
        };
        let effects = self.0.clone();
        let done = ctx.step("act", move || {
            let times = effects.did("act");
            async move { anyhow::Ok(times) }
        });
        Ok(format!("{what}: done {}", done.await?))
    }
}

#[tokio::test]
async fn a_signal_is_taken_and_a_deadline_passes() {
    let effects = Effects::default();
    let engine = TestEngine::new().workflow(Approval(effects.clone()));
    let (sent, late) = (
        engine.start::<Approval>(&"sent".to_owned()).await,
        engine.start::<Approval>(&"late".to_owned()).await,
    );
    engine.run_until_idle().await;
    sent.assert_waits_at("0:approval");
    assert_eq!(sent.status(), RunStatus::Suspended);
    engine.advance(DAY / 2).await;
    sent.signal("approval", &true).await;
    engine.run_until_idle().await;
    sent.assert_step("1:act", &1);
    assert_eq!(sent.result().await.unwrap(), "sent: done 1");
    assert_eq!(late.status(), RunStatus::Suspended, "its day is not over");
    late.assert_completed_with(&"late: None").await;
    assert_eq!(
        (engine.now() - chrono::TimeDelta::days(1)).to_string(),
        "2026-01-01 00:00:00 UTC"
    );
    effects.assert_once("act");
}

/// Sleeps so many days, a day at a time.
struct Sleeper;

impl Workflow for Sleeper {
    const NAME: &'static str = "sleeper";
    type Input = u32;
    type Output = i64;

    async fn run(&self, ctx: Context, days: u32) -> anyhow::Result<i64> {
        let begun = ctx.now();
        for _ in 0..days {
            ctx.sleep(DAY).await?;
            ctx.sleep(Duration::from_millis(300)).await?;
        }
        Ok((ctx.now() - begun).num_days())
    }
}

#[tokio::test]
async fn a_year_of_sleep_takes_no_time() {
    let engine = TestEngine::new().workflow(Sleeper);
    let begun = Instant::now();
    let run = engine.start::<Sleeper>(&365).await;
    run.assert_completed_with(&365).await;
    // 365 times a claim, a replay of all so far, and two checkpoints; mostly the replays.
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_runs_on_threads_of_their_own_agree_on_the_time() {
    let engine = TestEngine::new().workflow(Sleeper);
    let mut runs = Vec::new();
    for days in 1..=50 {
        runs.push((engine.start::<Sleeper>(&days).await, i64::from(days)));
    }
    for (run, days) in runs {
        run.assert_completed_with(&days).await;
    }
}

/// Tries something that fails until told otherwise.
struct Retries(Effects);

impl Workflow for Retries {
    const NAME: &'static str = "retries";
    type Input = ();
    type Output = u32;

    async fn run(&self, ctx: Context, (): ()) -> anyhow::Result<u32> {
        let effects = self.0.clone();
        let retry = RetryPolicy {
            attempts: 6,
            first: Duration::from_secs(5),
            ..RetryPolicy::default()
        };
        let hung = ctx.step_with(
            "hang",
            StepOptions::default().retry(RetryPolicy::none()).timeout(DAY),
            || async {
                std::future::pending::<()>().await;
                anyhow::Ok(())
            },
        );
        let tried = ctx.step_with("charge", StepOptions::default().retry(retry), move || {
            let times = effects.did("charge");
            async move {
                anyhow::ensure!(times >= 5, "no answer");
                Ok(times)
            }
        });
        let (hung, tried) = futures::join!(hung, tried);
        anyhow::ensure!(hung.unwrap_err().to_string().contains("took longer than"));
        tried
    }
}

#[tokio::test]
async fn pauses_between_tries_and_timeouts_go_by_the_clock_of_the_test() {
    let effects = Effects::default();
    let engine = TestEngine::new()
        .workflow(Retries(effects.clone()))
        .patience(Duration::from_millis(20));
    let run = engine.start::<Retries>(&()).await;
    let begun = Instant::now();
    engine.advance(DAY).await;
    engine.advance(DAY).await;
    run.assert_completed_with(&5).await;
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
    assert_eq!(effects.count("charge"), 5);
}

#[tokio::test]
async fn runs_are_paused_resumed_cancelled_and_overdue() {
    let engine = TestEngine::new().workflow(Sleeper);
    let (paused, cancelled) = (engine.start::<Sleeper>(&1).await, engine.start::<Sleeper>(&2).await);
    let overdue = engine.start::<Sleeper>(&3).deadline(DAY).await;
    let later = engine.start::<Sleeper>(&1).at(engine.now() + DAY * 10).await;
    engine.run_until_idle().await;
    paused.pause("by a test");
    cancelled.cancel("by a test");
    assert!(matches!(cancelled.result().await, Err(RunError::Cancelled { reason, .. }) if reason == "by a test"));
    engine.advance(DAY * 5).await;
    overdue.assert_failed_with("not over before its deadline").await;
    assert_eq!(
        (paused.status(), later.status()),
        (RunStatus::Paused, RunStatus::Queued)
    );
    paused.resume();
    paused.assert_completed_with(&1).await;
    later.assert_completed_with(&1).await;
}

#[tokio::test]
#[should_panic(expected = "waits for 0:approval (signal), and nothing more happens")]
async fn a_run_that_waits_for_nobody_fails_its_test() {
    struct Forever;
    impl Workflow for Forever {
        const NAME: &'static str = "forever";
        type Input = ();
        type Output = ();
        async fn run(&self, ctx: Context, (): ()) -> anyhow::Result<()> {
            ctx.wait_signal::<()>("approval", None).await.map(|_| ())
        }
    }
    let engine = TestEngine::new().workflow(Forever);
    let _ = engine.start::<Forever>(&()).await.result().await;
}

#[tokio::test]
async fn the_limits_of_a_queue_hold_by_the_clock_of_the_test() {
    let settings = QueueSettings {
        rate_per_s: Some(1.0),
        burst: Some(1),
        ..QueueSettings::new("slow")
    };
    let engine = TestEngine::new().workflow(Sleeper).queue(settings);
    let begun = engine.now();
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(engine.start::<Sleeper>(&0).queue("slow").await);
    }
    for run in runs {
        run.assert_completed_with(&0).await;
    }
    let took = engine.now() - begun;
    assert!((3..=5).contains(&took.num_seconds()), "{took}");
}

/// Counts down, each time as a run of its own.
struct Countdown;

impl Workflow for Countdown {
    const NAME: &'static str = "countdown";
    type Input = u32;
    type Output = String;

    async fn run(&self, ctx: Context, left: u32) -> anyhow::Result<String> {
        ctx.sleep(DAY).await?;
        match left {
            0 => Ok("liftoff".to_owned()),
            left => ctx.continue_as_new::<Self>(&(left - 1)),
        }
    }
}

#[tokio::test]
async fn a_run_that_goes_on_as_others_has_the_last_ones_result() {
    let engine = TestEngine::new().workflow(Countdown);
    let begun = engine.now();
    let run = engine.start::<Countdown>(&2).await;
    engine.advance(DAY * 3 / 2).await;
    assert_eq!(
        run.status(),
        RunStatus::Suspended,
        "as `RunHandle::status` says: of the one that goes on"
    );
    run.assert_waits_at("0:sleep");
    run.assert_completed_with(&"liftoff").await;
    assert_eq!((engine.now() - begun).num_days(), 3);
    assert_eq!(engine.runs_of(Countdown::NAME).len(), 3);
}

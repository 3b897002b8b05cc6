//! What a retry does again of branches that lost, and of children that were stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lockgate::client::{RunError, RunStatus};
use lockgate::testing::{Effects, TestEngine};
use lockgate::workflow::{ChildOptions, Context, Either, Workflow, fatal};

const HOUR: Duration = Duration::from_secs(3_600);

/// Whether the mail server is up.
struct Mail(Arc<AtomicBool>);

/// Waits for a decision and reminds of it meanwhile.
struct Approval;

impl Workflow for Approval {
    const NAME: &'static str = "approval";
    type Input = ();
    type Output = String;

    async fn run(&self, ctx: Context, (): ()) -> anyhow::Result<String> {
        let first = ctx.select(
            |ctx| async move { ctx.wait_signal::<bool>("decision", None).await },
            |ctx| async move {
                ctx.sleep(HOUR).await?;
                let is_up = ctx
                    .resource::<Mail>()
                    .is_some_and(|mail| mail.0.load(Ordering::Relaxed));
                let remind =
                    move || async move { is_up.then_some(()).ok_or_else(|| fatal(anyhow::anyhow!("no mail"))) };
                ctx.step("remind", remind).await?;
                ctx.sleep(HOUR).await
            },
        );
        Ok(match first.await? {
            Either::First(decision) => format!("{decision:?}"),
            Either::Second(()) => "nobody".to_owned(),
        })
    }
}

#[tokio::test]
async fn a_decision_is_waited_for_again_when_reminding_of_it_failed() {
    let is_up = Arc::new(AtomicBool::new(false));
    let engine = TestEngine::new().workflow(Approval).resource(Mail(is_up.clone()));
    let run = engine.start::<Approval>(&()).await;
    engine.advance(HOUR).await;
    run.assert_failed_with("no mail").await;
    is_up.store(true, Ordering::Relaxed);
    let again = run.retry("mail is back").unwrap();
    again.signal("decision", &true).await;
    assert_eq!(again.result().await.unwrap(), "Some(true)");
}

/// Packs a parcel once it is told to.
struct Parcel(Effects);

impl Workflow for Parcel {
    const NAME: &'static str = "parcel";
    type Input = ();
    type Output = ();

    async fn run(&self, ctx: Context, (): ()) -> anyhow::Result<()> {
        ctx.sleep(HOUR).await?;
        let effects = self.0.clone();
        ctx.step("pack", move || {
            effects.did("pack");
            async { anyhow::Ok(()) }
        })
        .await
    }
}

/// Has a parcel packed, by a child of its own or by one that outlives it.
struct Order;

impl Workflow for Order {
    const NAME: &'static str = "order";
    type Input = bool;
    type Output = ();

    async fn run(&self, ctx: Context, detached: bool) -> anyhow::Result<()> {
        let options = match detached {
            true => ChildOptions::default().detached(),
            false => ChildOptions::default(),
        };
        ctx.start_child::<Parcel>(&(), options).await?.result().await
    }
}

#[tokio::test]
async fn a_child_that_was_stopped_with_its_parent_does_its_work_in_the_retry() {
    let effects = Effects::default();
    let engine = TestEngine::new().workflow(Order).workflow(Parcel(effects.clone()));
    let order = engine.start::<Order>(&false).await;
    engine.run_until_idle().await;
    order.cancel("not today");
    assert!(matches!(order.result().await, Err(RunError::Cancelled { .. })));
    let again = order.retry("today").unwrap();
    again.result().await.unwrap();
    assert_eq!(effects.count("pack"), 1);
}

#[tokio::test]
async fn a_detached_child_is_not_started_twice_and_who_waits_for_it_is_told_why_not() {
    let effects = Effects::default();
    let engine = TestEngine::new().workflow(Order).workflow(Parcel(effects.clone()));
    let order = engine.start::<Order>(&true).await;
    engine.run_until_idle().await;
    order.cancel("not today");
    assert!(matches!(order.result().await, Err(RunError::Cancelled { .. })));
    let again = order.retry("today").unwrap();
    again
        .assert_failed_with("the run that this one does again was over before it heard the end")
        .await;
    assert_eq!(engine.runs_of(Parcel::NAME).len(), 1);
}

/// Waits two days for an answer.
struct Question;

impl Workflow for Question {
    const NAME: &'static str = "question";
    type Input = ();
    type Output = Option<u32>;

    async fn run(&self, ctx: Context, (): ()) -> anyhow::Result<Option<u32>> {
        ctx.step("ask", || async { anyhow::Ok(()) }).await?;
        ctx.wait_signal("answer", Some(48 * HOUR)).await
    }
}

#[tokio::test]
async fn a_retry_waits_for_an_answer_as_long_as_a_first_run_does() {
    let engine = TestEngine::new().workflow(Question);
    let run = engine.start::<Question>(&()).await;
    engine.advance(HOUR).await;
    run.cancel("by mistake");
    engine.advance(7 * 24 * HOUR).await;
    let [answered, unanswered] = ["answered", "unanswered"].map(|reason| run.retry(reason).unwrap());
    engine.advance(47 * HOUR).await;
    answered.signal("answer", &42).await;
    assert_eq!(answered.result().await.unwrap(), Some(42));
    assert_eq!(unanswered.status(), RunStatus::Suspended);
    engine.advance(2 * HOUR).await;
    assert_eq!(unanswered.result().await.unwrap(), None);
}

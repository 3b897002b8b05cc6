//! Runs that are over, done again in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use lockgate::inspect::NotRepeated;
use lockgate::lifecycle::{Again, RepeatRun};
use lockgate::testing::{Effects, TestEngine};
use lockgate::workflow::{Context, Workflow, fatal};
use uuid::Uuid;

/// Whether there is a truck.
struct Truck(Arc<AtomicBool>);

/// Charges, and ships when there is a truck; answers the amount under a key.
struct Shipment(Effects);

impl Workflow for Shipment {
    const NAME: &'static str = "shipment";
    type Input = i64;
    type Output = (i64, Uuid);

    async fn run(&self, ctx: Context, amount: i64) -> anyhow::Result<(i64, Uuid)> {
        let (effects, key) = (self.0.clone(), ctx.uuid());
        let charged: i64 = ctx
            .step("charge", move || {
                effects.did("charge");
                async move { anyhow::Ok(amount) }
            })
            .await?;
        let truck = ctx
            .resource::<Truck>()
            .context("nobody said whether there is a truck")?;
        let ship = move || {
            let there = truck.0.load(Ordering::Relaxed);
            async move { there.then_some(()).ok_or_else(|| fatal(anyhow::anyhow!("no truck"))) }
        };
        ctx.step("ship", ship).await?;
        Ok((charged, key))
    }
}

#[tokio::test]
async fn a_retry_begins_where_its_run_failed_and_a_fork_where_it_is_told() {
    let effects = Effects::default();
    let truck = Arc::new(AtomicBool::new(false));
    let engine = TestEngine::new()
        .workflow(Shipment(effects.clone()))
        .resource(Truck(truck.clone()));
    let failed = engine.start::<Shipment>(&17).await;
    failed.assert_failed_with("no truck").await;
    assert!(matches!(
        engine.run::<()>(Uuid::nil()).retry("nobody").unwrap_err(),
        NotRepeated::Unknown(_)
    ));
    truck.store(true, Ordering::Relaxed);
    let again = failed.retry("there is a truck").unwrap();
    let (amount, key) = again.result().await.unwrap();
    assert_eq!((amount, effects.count("charge")), (17, 1), "it is charged once");
    let from_the_beginning = RepeatRun {
        again: Again::Fork {
            params: Some(b"18".to_vec()),
            keep_message_ids: false,
        },
        ..RepeatRun::fork(again.id())
    };
    let fork = again.repeat(from_the_beginning).unwrap();
    assert_eq!(fork.result().await.unwrap(), (18, key), "it draws the same");
    assert_eq!(effects.count("charge"), 2);
    assert_eq!(engine.runs_of("shipment").len(), 3);
}

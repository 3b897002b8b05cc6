//! An order: its items are reserved, it is paid, it is shipped; and when it cannot be, all of it is taken back.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt;
use lockgate::workflow::{Context, StepOptions, Workflow, fatal};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::shop::Payments;

// The document from here.
/// The workflow `process-order`: reserve, charge, ship. When a step fails for good, or the run is cancelled or late, what
/// was done before is undone: the parcel is recalled first, then the money goes back, then the items.
pub struct ProcessOrder;

/// An order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOrder {
    /// Its number.
    pub id: i64,
    /// What is ordered.
    pub item: String,
    /// How many.
    pub quantity: i32,
    /// What it costs.
    pub cents: i64,
    /// Where it goes.
    pub address: String,
}

impl Workflow for ProcessOrder {
    const NAME: &'static str = "process-order";
    type Input = NewOrder;
    type Output = Uuid;

    async fn run(&self, ctx: Context, order: NewOrder) -> anyhow::Result<Uuid> {
        let (id, cents, reserved) = (order.id, order.cents, order.clone());
        // Rows of this database: done once, undone once.
        ctx.transaction_with_undo(
            "reserve",
            StepOptions::default(),
            move |connection| reserve(connection, reserved.clone()).boxed(),
            move |connection, ()| release(connection, id).boxed(),
        )
        .await?;
        // A service of somebody else: done at least once, so under a key, which is the same in every try of this run and
        // another one when the run is retried after a refund; and undone by it, also when nobody knows whether it was done.
        let (key, payments) = (ctx.run_id(), ctx.resource::<Payments>());
        let payments: Arc<Payments> = payments.context("the engine was given no payment service")?;
        let refunds = payments.clone();
        let options = StepOptions::default().timeout(Duration::from_secs(30));
        let charge = move || {
            let payments = payments.clone();
            async move { payments.charge(key, id, cents).await.map(|()| key) }
        };
        // A retry of what was charged by an earlier run undoes it under the key that it was charged by.
        let refund = move |charged: Option<Uuid>| {
            let refunds = refunds.clone();
            async move { refunds.refund(charged.unwrap_or(key), id, cents).await }
        };
        ctx.step_with_undo("charge", options, charge, refund).await?;
        // The last step too: a cancellation may come between it and the end of the run.
        ctx.transaction_with_undo(
            "ship",
            StepOptions::default(),
            move |connection| ship(connection, order.clone()).boxed(),
            move |connection, ()| recall(connection, id).boxed(),
        )
        .await?;
        Ok(key)
    }
}
// To here.

async fn reserve(connection: &mut PgConnection, order: NewOrder) -> anyhow::Result<()> {
    let reserved = sqlx::query(include_str!("../sql/shop/reserve.sql"))
        .bind(order.id)
        .bind(&order.item)
        .bind(order.quantity)
        .execute(connection)
        .await?;
    match reserved.rows_affected() {
        0 => Err(fatal(anyhow::anyhow!(
            "there are not {} of {}, or order {} has its own already",
            order.quantity,
            order.item,
            order.id
        ))),
        _ => Ok(()),
    }
}

async fn release(connection: &mut PgConnection, order: i64) -> anyhow::Result<()> {
    let released = sqlx::query(include_str!("../sql/shop/release.sql")).bind(order);
    released.execute(connection).await?;
    Ok(())
}

async fn ship(connection: &mut PgConnection, order: NewOrder) -> anyhow::Result<()> {
    if order.address.trim().is_empty() {
        return Err(fatal(anyhow::anyhow!("order {} has no address", order.id)));
    }
    let shipped = sqlx::query(include_str!("../sql/shop/ship.sql"));
    let shipped = shipped.bind(order.id).bind(order.address).execute(connection).await?;
    match shipped.rows_affected() {
        0 => Err(fatal(anyhow::anyhow!("order {} has left the house before", order.id))),
        _ => Ok(()),
    }
}

async fn recall(connection: &mut PgConnection, order: i64) -> anyhow::Result<()> {
    let recalled = sqlx::query(include_str!("../sql/shop/recall.sql")).bind(order);
    recalled.execute(connection).await?;
    Ok(())
}

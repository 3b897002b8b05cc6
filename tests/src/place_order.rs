//! The example of docs/workflows.md, as it is compiled and run; a test holds the two together.

use std::time::Duration;

use futures::FutureExt;
use lockgate::workflow::{Context, StepOptions, Workflow};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

// The document from here.
/// Charges an order once somebody has approved it, and books it.
pub struct PlaceOrder;

/// What is ordered.
#[derive(Serialize, Deserialize)]
pub struct Order {
    /// Its number.
    pub id: i64,
    /// What it costs.
    pub cents: i64,
}

impl Workflow for PlaceOrder {
    const NAME: &'static str = "place-order";
    type Input = Order;
    type Output = String;

    async fn run(&self, ctx: Context, order: Order) -> anyhow::Result<String> {
        let a_day = Duration::from_secs(24 * 3600);
        let approved: Option<bool> = ctx.wait_signal("approval", Some(a_day)).await?;
        if approved != Some(true) {
            return Ok("not approved".to_owned());
        }
        // The payment service sees the same key in every try, and so charges once.
        let (key, cents) = (ctx.uuid(), order.cents);
        let options = StepOptions::default().timeout(Duration::from_secs(30));
        let receipt: String = ctx.step_with("charge", options, move || charge(key, cents)).await?;
        let (id, booked) = (order.id, receipt.clone());
        ctx.transaction("book", move |connection| book(connection, id, booked.clone()).boxed())
            .await?;
        ctx.sleep(Duration::from_secs(2)).await?;
        let _: () = ctx.step("thank", move || thank(id)).await?;
        Ok(receipt)
    }
}

async fn charge(key: Uuid, cents: i64) -> anyhow::Result<String> {
    Ok(format!("{cents} cents under {key}"))
}

async fn book(connection: &mut PgConnection, order: i64, receipt: String) -> anyhow::Result<()> {
    sqlx::query("insert into bookings (order_id, receipt) values ($1, $2)")
        .bind(order)
        .bind(receipt)
        .execute(connection)
        .await?;
    Ok(())
}
// To here.

async fn thank(_order: i64) -> anyhow::Result<()> {
    Ok(())
}

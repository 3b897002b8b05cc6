//! The example of docs/queues.md: a queue with limits, and starts into it.

use std::time::Duration;

use lockgate::client::{Client, RunHandle, StartError};
use lockgate::lifecycle::QueueSettings;
use lockgate::workflow::{Context, Workflow};
use lockgate::{Engine, EngineBuilder};

// The document from here.
/// Makes the report of a customer.
pub struct MakeReport;

impl Workflow for MakeReport {
    const NAME: &'static str = "make-report";
    type Input = String;
    type Output = ();

    async fn run(&self, ctx: Context, customer: String) -> anyhow::Result<()> {
        ctx.step("make", move || make(customer.clone())).await
    }
}

async fn make(customer: String) -> anyhow::Result<()> {
    anyhow::ensure!(!customer.is_empty(), "nobody wants a report");
    Ok(())
}

/// An engine whose reports leave the reporting database some room.
pub fn engine() -> EngineBuilder {
    let reports = QueueSettings::new("reports")
        .max_running(20)
        .max_per_key(2)
        .rate_per_s(50.0)
        .fair()
        .max_attempt(Duration::from_secs(15 * 60));
    Engine::builder().workflow(MakeReport).queue(reports)
}

/// Starts a report half a minute after the last wish of the customer.
pub async fn wish(client: &Client, customer: &str) -> Result<RunHandle<()>, StartError> {
    client
        .start::<MakeReport>(&customer.to_owned())
        .queue("reports")
        .tenant(customer)
        .limit_key(customer)
        .debounce(format!("report of {customer}"), Duration::from_secs(30))
        .send()
        .await
}
// To here.

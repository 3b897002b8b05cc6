//! What runs return, and how much that may be.

use std::time::Duration;

use lockgate::Engine;
use lockgate::client::{Client, RunError};
use lockgate::workflow::{Context, Workflow};
use lockgate_tests::TestDatabase;
use lockgate_tests::beside::InProcess;
use uuid::Uuid;

/// Returns so many characters.
struct Talker;

impl Workflow for Talker {
    const NAME: &'static str = "talker";
    type Input = usize;
    type Output = String;

    async fn run(&self, _: Context, length: usize) -> anyhow::Result<String> {
        Ok("x".repeat(length))
    }
}

async fn ended(client: &Client, length: usize) -> (Uuid, Result<String, RunError>) {
    let run = client.start::<Talker>(&length).send().await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), run.result()).await;
    (run.id(), ended.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_returns_a_mebibyte_and_fails_with_more() {
    let place = TestDatabase::new().await;
    let engine = Engine::builder().workflow(Talker);
    let _replica = InProcess::start(&engine, place.url(), |_| {});
    let client = Client::new(place.database());
    let (run, fits) = ended(&client, (1 << 20) - 2).await;
    assert_eq!(fits.unwrap().len(), (1 << 20) - 2);
    let length = "select octet_length(lockgate.run_result($1)::text) + 1000 * lockgate.run_input($1)::integer";
    let length: i32 = sqlx::query_scalar(length)
        .bind(run)
        .fetch_one(place.pool())
        .await
        .unwrap();
    assert_eq!(length, (1 << 20) + 1000 * ((1 << 20) - 2));
    let (_, more) = ended(&client, 3 << 20).await;
    let reason = more.unwrap_err().to_string();
    let says = "workflow talker returned 3145730 bytes, more than 1048576: store it elsewhere and return a reference";
    assert!(reason.ends_with(says), "{reason}");
}

//! R36.3: outcomes of what came over HTTP are handled apart from the threads that serve it.

use std::sync::Arc;

use lockgate::delivery::{
    BreakerPolicy, Breakers, Direct, DirectSettings, EmailTriggerCommand, Handover, KeyHash, NotificationOrchestrator,
    OrchestratorParts, Topics,
};
use lockgate::postgres::PostgresFallback;
use lockgate_tests::TestDatabase;
use lockgate_tests::api::{TestApi, settings};
use lockgate_tests::blocked::Blocked;
use lockgate_tests::replica::PATIENCE;
use uuid::Uuid;

use super::scripted::{Fate, Scripted, delivered};
use super::{COMMAND, SEND};

const REQUESTS: usize = 300;
const LINES: usize = 20_000;

/// This test's runtime, on which the server runs too, has one thread: a handler that blocked it would be seen.
#[tokio::test]
async fn a_handler_that_blocks_for_ever_holds_up_no_request() {
    let database = TestDatabase::new().await;
    let handler = Arc::new(Blocked::default());
    let orchestrator = NotificationOrchestrator::start(OrchestratorParts {
        publisher: Scripted::new(|_| Fate::Settle(delivered(0))),
        breakers: Arc::new(Breakers::new(BreakerPolicy::default())),
        store: Arc::new(PostgresFallback::new(database.database(), Uuid::new_v4())),
        topics: Topics::new(&[("email".to_owned(), "mail".to_owned())].into()),
        key_hash: KeyHash::with_secret(b"secret"),
        settings: DirectSettings::default(),
        handler: Some(handler.clone()),
    });
    let orchestrator = orchestrator.unwrap();
    let command: EmailTriggerCommand<'_> = serde_json::from_str(COMMAND).unwrap();
    let first = orchestrator.submit(Direct::new(command));
    assert!(matches!(first, Handover::Accepted), "{first:?}");
    handler.blocks().await;
    let api = TestApi::start(Arc::new(orchestrator.clone()), database.database(), None, settings()).await;
    let client = api.client().await;
    for _ in 0..REQUESTS {
        assert_eq!(client.post(SEND, COMMAND).await.is(202).json()["outcome"], "delivered");
    }
    let lines = format!("{COMMAND}\n").repeat(LINES);
    let told = client.post_lines(lines).await.lines();
    assert!(told.len() >= LINES, "{}", told.len());
    let stats = orchestrator.stats();
    assert_eq!(stats.delivered, (1 + REQUESTS + LINES) as u64);
    // Nobody waits for room among the notices: those that find none are dropped, and counted.
    assert!(stats.notices_dropped > 0, "{}", stats.notices_dropped);
    handler.release();
    assert_eq!(orchestrator.stop(PATIENCE).await.unplaced, 0);
}

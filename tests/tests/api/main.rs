//! The HTTP API over real Postgres: every status, tokens and roles, bulk, limits, drain, and a replica that only serves.
#![allow(clippy::unwrap_used, clippy::panic)]

mod bulk;
mod drain;
mod limits;
mod outbox;
mod outcomes;
mod queues;
mod run_acts;
mod runs;
#[path = "../delivery_support/scripted.rs"]
#[allow(dead_code)]
mod scripted;
mod send;
mod tokens;

use std::sync::Arc;

use lockgate::delivery::{CommandDoor, HandedOver};
use lockgate::workflow::Registry;
use lockgate_tests::TestDatabase;
use lockgate_tests::api::{Client, TestApi, settings};
use lockgate_tests::doors::ScriptedDoor;
use lockgate_workflows::DailyTaskReports;

const SEND: &str = "/api/v1/email-commands";
const COMMAND: &str =
    r#"{"recipientEmail":"ada@example.org","templateId":"welcome","templateContext":{"name":"Ada"},"locale":"de"}"#;

fn stored() -> Arc<ScriptedDoor> {
    ScriptedDoor::new(|_| HandedOver::Stored)
}

/// A server with a door on a database of its own.
async fn serve(door: Arc<dyn CommandDoor>) -> (TestDatabase, TestApi, Client) {
    let database = TestDatabase::new().await;
    let mut registry = Registry::default();
    registry.add(DailyTaskReports);
    let api = TestApi::start(door, database.database(), Some(registry), settings()).await;
    let client = api.client().await;
    (database, api, client)
}

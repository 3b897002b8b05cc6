//! The HTTP API holds to its own OpenAPI document whatever is sent to it: a fuzzer makes requests of the document.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use lockgate::delivery::HandedOver;
use lockgate_tests::api::{TOKEN, TestApi, settings};
use lockgate_tests::doors::ScriptedDoor;
use lockgate_tests::{TestDatabase, skipped};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fuzzer_finds_nothing_that_the_document_does_not_say() {
    let database = TestDatabase::new().await;
    // Any name is a workflow's, so that the fuzzer has runs to look at and to act on.
    // One in four is not taken, so that 503 is seen too.
    let door = ScriptedDoor::new(|command| match command.message_id.as_bytes()[15] % 4 {
        0 => HandedOver::NotAccepted,
        1 => HandedOver::Delivered {
            partition: 0,
            offset: 1,
        },
        _ => HandedOver::Stored,
    });
    let api = TestApi::start(door.clone(), database.database(), None, settings()).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/dev/schemathesis.sh");
    let output = Command::new(script)
        .arg(format!("http://{}", api.address))
        .env("LOCKGATE_API_TOKEN", TOKEN)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    if let Some(why) = said.strip_prefix("skipped: ") {
        skipped(why.trim_end());
        return;
    }
    eprintln!("{said}");
    assert!(door.seen().len() > 10, "hardly a command was accepted: {said}");
    let runs: i64 = sqlx::query_scalar("select count(*) from lockgate.task_runs")
        .fetch_one(database.pool())
        .await
        .unwrap();
    assert!(runs > 10, "hardly a run was started: {said}");
}

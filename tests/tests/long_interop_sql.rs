//! The SQL API from outside: psql, and a driver of another language.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;

use lockgate::delivery::{EmailTriggerCommand, keyed_id};
use lockgate_tests::{TestDatabase, skipped};
use serde_json::Value;
use uuid::Uuid;

/// A Python with psycopg in a folder of its own; none where it cannot be had.
fn python() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop-venv");
    let python = folder.join("bin/python");
    let works = |program: &Path| {
        let imports = Command::new(program).args(["-c", "import psycopg"]).output();
        imports.is_ok_and(|output| output.status.success())
    };
    if !works(&python) {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&folder).status();
        let installed = Command::new(folder.join("bin/pip"))
            .args(["install", "--quiet", "psycopg[binary]==3.*"])
            .status();
        if !made.is_ok_and(|status| status.success()) || !installed.is_ok_and(|status| status.success()) {
            return None;
        }
    }
    works(&python).then_some(python)
}

async fn waiting(database: &TestDatabase) -> Vec<(Uuid, String, Option<String>, String, bool)> {
    sqlx::query_as(
        "select message_id, command_type, convert_from(key, 'UTF8'), convert_from(payload, 'UTF8'),
                not_before > clock_timestamp()
           from lockgate.outbox order by seq",
    )
    .fetch_all(database.pool())
    .await
    .unwrap()
}

#[tokio::test]
async fn a_python_service_enqueues_in_its_own_transactions() {
    let database = TestDatabase::new().await;
    let Some(python) = python() else {
        skipped("python3 with venv and psycopg cannot be had here");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/enqueue.py");
    let output = Command::new(python).arg(script).arg(database.url()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let id = |name: &str| found[name].as_str().unwrap().parse::<Uuid>().unwrap();
    assert_eq!(
        (id("email"), id("again")),
        (keyed_id("email", "signup-7"), keyed_id("email", "signup-7"))
    );
    assert_eq!(id("rolled_back"), keyed_id("email", "never"));
    let [email, sms] = &waiting(&database).await[..] else {
        panic!("not two commands wait")
    };
    let command: EmailTriggerCommand<'_> = serde_json::from_str(&email.3).unwrap();
    assert_eq!(
        (command.template_context["name"].as_str(), command.locale.as_ref()),
        (Some("Ada ü"), "pt-BR")
    );
    assert_eq!((email.0, email.2.as_deref(), email.4), (id("email"), Some("7"), false));
    assert_eq!(
        (sms.0, sms.1.as_str(), sms.2.as_deref(), sms.4),
        (id("sms"), "sms", Some("k"), true)
    );
    assert_eq!(sms.3, r#"{"to": "+49", "n": 1}"#);
    let runs: Vec<Uuid> = sqlx::query_scalar("select id from lockgate.task_runs")
        .fetch_all(database.pool())
        .await
        .unwrap();
    assert_eq!(runs, [id("run")]);
    let refused: Vec<&str> = found["refused"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(
        refused[0].starts_with("enqueue_email: recipientEmail") && !refused[0].contains("nobody"),
        "{refused:?}"
    );
    assert!(refused[1].starts_with("enqueue_command: payload"), "{refused:?}");
    assert_eq!(found["denied"], "42501");
}

/// The psql beside the server that the tests run on, else the one on the path.
fn psql() -> Command {
    let state = std::env::var_os("LOCKGATE_SERVICES_DIR").map(PathBuf::from);
    let folder = state.and_then(|state| std::fs::read_to_string(state.join("postgres/bin")).ok());
    let beside = folder
        .map(|folder| Path::new(folder.trim()).join("psql"))
        .filter(|psql| psql.exists());
    Command::new(beside.unwrap_or_else(|| "psql".into()))
}

#[tokio::test]
async fn psql_enqueues_and_says_what_is_wrong() {
    let database = TestDatabase::new().await;
    let run = |sql: &str| {
        psql()
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .arg(database.url())
            .output()
    };
    let call = "select lockgate.enqueue_email('ada@example.org', 'welcome', '{\"name\": \"Ada\"}', 'de', idempotency_key => 'signup-7')";
    let Ok(output) = run(call) else {
        skipped("there is no psql here");
        return;
    };
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.trim(), keyed_id("email", "signup-7").to_string());
    let output = run("begin; select lockgate.enqueue_command('sms', '{}'); rollback").unwrap();
    assert!(output.status.success());
    let output = run("select lockgate.enqueue_email('nobody', 'welcome')").unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        said.contains("ERROR:  enqueue_email: recipientEmail is not an e-mail address; nothing was enqueued"),
        "{said}"
    );
    assert_eq!(waiting(&database).await.len(), 1);
}

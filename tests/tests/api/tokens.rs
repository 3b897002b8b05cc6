//! Tokens: made once, known by their hash, bound to roles, ended by date or by hand (R36.11).

use std::time::Duration;

use lockgate_tests::TestDatabase;
use lockgate_tests::api::{Client, TestApi, settings};
use lockgate_tests::cli::Program;
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::wait_until;
use serde_json::json;
use sqlx::Executor;

use super::{COMMAND, SEND, serve, stored};

const BIN: &str = env!("CARGO_BIN_EXE_lockgate-test");
const RUNS: &str = "/api/v1/runs";

async fn create(program: &Program, args: &[&str]) -> String {
    let all = [&["tokens", "create"], args, &["--output", "json"]].concat();
    let created = program.run(&all).await.exits(0).json();
    created["token"].as_str().unwrap().to_owned()
}

/// The same client with a token of these roles.
pub(super) async fn with_roles(database: &TestDatabase, client: &Client, roles: &str) -> Client {
    let program = Program::new(BIN, database.url());
    client.with_token(&create(&program, &[&format!("has-{roles}"), "--roles", roles]).await)
}

#[tokio::test]
async fn a_token_may_do_what_its_roles_say_and_nothing_else() {
    let (database, _api, client) = serve(stored()).await;
    let program = Program::new(BIN, database.url());
    let start = r#"{"workflow":"daily-task-reports"}"#;
    for (role, sends, reads, starts) in [
        ("send", 202, 403, 403),
        ("read", 403, 200, 403),
        ("operate", 403, 403, 201),
    ] {
        let token = create(&program, &[&format!("only-{role}"), "--roles", role]).await;
        let client = client.with_token(&token);
        let _ = client.post(SEND, COMMAND).await.is(sends);
        let _ = client.get(RUNS).await.is(reads);
        let _ = client.post(RUNS, start).await.is(starts);
    }
    let actor = client.get(RUNS).await.is(200).json()["runs"][0]["actor"].to_string();
    assert!(actor.contains("for only-operate"), "{actor}");
    let all = create(&program, &["all", "--roles", "send,operate,read"]).await;
    let _ = client.with_token(&all).post(SEND, COMMAND).await.is(202);
}

#[tokio::test]
async fn whoever_has_no_valid_token_gets_nothing() {
    let (_database, api, client) = serve(stored()).await;
    let unknown = format!("lockgate_{}", "0".repeat(64));
    for token in ["", "x", &unknown, "Basic abc", &"y".repeat(4000)] {
        let answer = client.with_token(token).post(SEND, COMMAND).await.is(401);
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        answer.is_problem(401, "");
    }
    let bare = reqwest::get(format!("http://{}{RUNS}", api.address)).await.unwrap();
    assert_eq!(bare.status(), 401);
    for open in [
        "/healthz",
        "/readyz",
        "/api/v1/openapi.json",
        "/api/v1/schemas/email-trigger-command.v1.json",
    ] {
        let answer = reqwest::get(format!("http://{}{open}", api.address)).await.unwrap();
        assert_eq!(answer.status(), 200, "{open}");
    }
}

#[tokio::test]
async fn a_revoked_or_expired_token_is_refused_within_seconds() {
    let (database, _api, client) = serve(stored()).await;
    let program = Program::new(BIN, database.url());
    let revoked = client.with_token(&create(&program, &["revoked", "--roles", "send"]).await);
    let expires = client.with_token(&create(&program, &["expires", "--roles", "send", "--expires", "1s"]).await);
    let stays = client.with_token(&create(&program, &["stays", "--roles", "send", "--expires", "90d"]).await);
    let _ = revoked.post(SEND, COMMAND).await.is(202);
    program.run(&["tokens", "revoke", "revoked"]).await.exits(0);
    for over in [revoked, expires] {
        wait_until(PATIENCE, "the token is refused", async || {
            over.post(SEND, COMMAND).await.status == 401
        })
        .await;
    }
    let _ = stays.post(SEND, COMMAND).await.is(202);
}

#[tokio::test]
async fn tokens_are_listed_without_what_they_are() {
    let database = TestDatabase::new().await;
    let program = Program::new(BIN, database.url()).env("LOCKGATE_ACTOR", "anna");
    let token = create(&program, &["shop", "--roles", "send,read"]).await;
    let taken = program
        .run(&["tokens", "create", "shop", "--roles", "send"])
        .await
        .exits(4);
    taken.says(&["a token in force has the name shop", "nothing was changed"]);
    program
        .run(&["tokens", "create", "a shop", "--roles", "send"])
        .await
        .exits(2);
    program
        .run(&["tokens", "create", "other", "--roles", "everything"])
        .await
        .exits(2);
    program.run(&["tokens", "revoke", "nobody"]).await.exits(3);
    let listed = program.run(&["tokens", "list", "--output", "json"]).await.exits(0);
    assert!(
        !listed.out.contains(&token) && !listed.out.contains("hash"),
        "{}",
        listed.out
    );
    let listed = listed.json();
    assert_eq!(
        (&listed[0]["name"], &listed[0]["roles"]),
        (&json!("shop"), &json!(["send", "read"]))
    );
    assert!(
        listed[0]["created_by"].as_str().unwrap().ends_with(" for anna"),
        "{listed}"
    );
    let kept: i64 =
        sqlx::query_scalar("select count(*) from lockgate.api_tokens where hash = sha256(convert_to($1, 'UTF8'))")
            .bind(&token)
            .fetch_one(database.pool())
            .await
            .unwrap();
    assert_eq!(kept, 1, "the table has the hash");
    program.run(&["tokens", "revoke", "shop"]).await.exits(0);
    create(&program, &["shop", "--roles", "send"]).await;
    let listed = program.run(&["tokens", "list"]).await.exits(0).out;
    assert_eq!(
        listed.lines().filter(|line| line.starts_with("shop\t")).count(),
        2,
        "{listed}"
    );
}

#[tokio::test]
async fn commands_go_on_under_a_known_token_while_the_database_is_away() {
    let database = TestDatabase::new().await;
    let mut short = database.settings();
    short.deadline = Duration::from_secs(3);
    let engine = lockgate::postgres::Database::new(&short).unwrap();
    let api = TestApi::start(stored(), engine, None, settings()).await;
    let client = api.client().await;
    let program = Program::new(BIN, database.url());
    let known = client.with_token(&create(&program, &["known", "--roles", "send,read"]).await);
    let stranger = client.with_token(&create(&program, &["stranger", "--roles", "send"]).await);
    let _ = known.post(SEND, COMMAND).await.is(202);
    let used: bool =
        sqlx::query_scalar("select last_used_at is not null from lockgate.api_tokens where name = 'known'")
            .fetch_one(database.pool())
            .await
            .unwrap();
    assert!(used);
    // Every look at tokens and runs now waits for a lock that is not given back.
    let mut blocker = database.pool().begin().await.unwrap();
    blocker
        .execute("lock table lockgate.api_tokens, lockgate.task_runs in access exclusive mode")
        .await
        .unwrap();
    let mut believed = 0;
    wait_until(PATIENCE, "the answer about the token is old", async || {
        let _ = known.post(SEND, COMMAND).await.is(202);
        believed += 1;
        stranger.post(SEND, COMMAND).await.is_problem(503, "");
        known.get(RUNS).await.is_problem(503, "");
        believed >= 2
    })
    .await;
    blocker.rollback().await.unwrap();
    wait_until(PATIENCE, "the stranger is let in", async || {
        stranger.post(SEND, COMMAND).await.status == 202
    })
    .await;
}

/// Nobody queues behind a look that cannot be answered.
#[tokio::test]
async fn requests_under_an_unknown_token_do_not_wait_in_a_row_while_the_database_is_away() {
    let database = TestDatabase::new().await;
    let api = TestApi::start(stored(), database.database(), None, settings()).await;
    let client = api.client().await;
    let program = Program::new(BIN, database.url());
    let stranger = client.with_token(&create(&program, &["stranger", "--roles", "send"]).await);
    let mut blocker = database.pool().begin().await.unwrap();
    blocker
        .execute("lock table lockgate.api_tokens in access exclusive mode")
        .await
        .unwrap();
    let begun = std::time::Instant::now();
    let asked = (0..20).map(|_| async { stranger.post(SEND, COMMAND).await.is_problem(503, "") });
    futures::future::join_all(asked).await;
    // One look takes a second; twenty in a row would take twenty.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    blocker.rollback().await.unwrap();
}

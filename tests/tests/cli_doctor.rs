//! `doctor`: each check says ok when it is, and names the evidence and the fix when it is not. And the pooler's self-test.
#![allow(clippy::unwrap_used, clippy::panic)]

use rustix::process::Signal;
use std::time::Duration;

use lockgate::postgres::{Between, DatabaseSettings, test_pooler};
use lockgate_tests::cli::{Finished, Program};
use lockgate_tests::{PgBouncer, TestDatabase};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor};

const BIN: &str = env!("CARGO_BIN_EXE_lockgate-test");

fn on(url: &str) -> Program {
    Program::new(BIN, url).env("KAFKA_BROKERS", "unused:9092")
}

async fn doctor(program: &Program) -> Finished {
    program.run(&["doctor", "--output", "json"]).await
}

fn check(found: &Finished, id: &str) -> Value {
    let checks = found.json();
    let one = checks.as_array().unwrap().iter().find(|check| check["id"] == id);
    one.unwrap_or_else(|| panic!("no check {id} in {checks}")).clone()
}

/// Holds a check to its status; when it is bad it must say what to do.
#[track_caller]
fn assert_check(found: &Finished, id: &str, status: &str, evidence: &str) {
    let check = check(found, id);
    assert_eq!(check["status"], status, "{check}");
    assert!(check["evidence"].as_str().unwrap().contains(evidence), "{check}");
    let fix = check["fix"].as_str().unwrap_or_default();
    assert_eq!(matches!(status, "fail" | "warn"), !fix.is_empty(), "{check}");
}

#[tokio::test]
async fn a_fresh_installation_is_healthy_but_empty() {
    let database = TestDatabase::new().await;
    let found = doctor(&on(database.url())).await.exits(0);
    assert_check(&found, "config.values", "ok", "every value");
    assert_check(&found, "postgres.reachable", "ok", "Postgres 1");
    assert_check(&found, "postgres.tls", "ok", "does not leave this machine");
    assert_check(&found, "postgres.version", "ok", "supported");
    assert_check(&found, "postgres.pooler", "ok", "straight to the server");
    assert_check(&found, "postgres.schema", "ok", "version");
    assert_check(&found, "postgres.privileges", "ok", "all that a replica does");
    assert_check(&found, "postgres.clock", "ok", "differ by");
    assert_check(&found, "postgres.snapshots", "ok", "no snapshot");
    assert_check(&found, "fleet.replicas", "warn", "no replica is alive");
    assert_check(&found, "fleet.leader", "warn", "no replica leads");
    assert_check(&found, "fleet.stuck", "ok", "all moves");
    assert_check(&found, "fleet.invariants", "ok", "nothing is as it must never be");
    assert_check(
        &found,
        "kafka.topic.email_commands",
        "ok",
        "3 partitions; it takes messages of 1048588 bytes",
    );
    assert_check(&found, "kafka.tls", "warn", "plaintext on the way to unused: nothing");
    let table = on(database.url()).run(&["doctor"]).await.exits(0).out;
    assert!(table.starts_with("check\tstatus\tevidence\tfix\n"), "{table}");
}

#[tokio::test]
async fn a_fleet_is_looked_at() {
    let database = TestDatabase::new().await;
    let id = "01890000-0000-7000-8000-00000000000a";
    let fleet = format!(
        "insert into lockgate.replicas (id, version, roles, workflows, stale_after, breakers) values ('{id}', 'v', '{{worker}}',
             '{{daily-mail,weekly-mail}}', '1 hour', '[{{\"topic\": \"mails\", \"state\": \"open\", \"since\": null, \"reason\": null}}]');
         insert into lockgate.leader_lease values ('engine', 1, '{id}', clock_timestamp(), clock_timestamp() + interval '1 hour')"
    );
    database
        .pool()
        .execute(sqlx::raw_sql(AssertSqlSafe(fleet)))
        .await
        .unwrap();
    let found = doctor(&on(database.url())).await.exits(0);
    assert_check(
        &found,
        "fleet.replicas",
        "ok",
        "1 replicas are alive, none with brokers",
    );
    assert_check(&found, "fleet.leader", "ok", id);
    assert_check(&found, "fleet.breakers", "warn", "mails is open on replica");
    database
        .pool()
        .execute("update lockgate.replicas set workflows = '{daily-mail}', window_size = 100")
        .await
        .unwrap();
    let found = doctor(&on(database.url())).await.exits(0);
    assert_check(&found, "fleet.replicas", "warn", "no live replica has weekly-mail");
    assert_check(&found, "fleet.stuck", "warn", "breaker_open of topic mails");
    let twice = "insert into lockgate.transitions (entity, key, to_status, term)
        values ('leader', 'engine', 'elected', 1), ('leader', 'engine', 'elected', 1)";
    database.pool().execute(twice).await.unwrap();
    let found = doctor(&on(database.url())).await.exits(6);
    assert_check(&found, "fleet.invariants", "fail", "V03 term 1: elected 2 times");
}

#[tokio::test]
async fn one_run_is_looked_at() {
    let database = TestDatabase::new().await;
    let run: uuid::Uuid = sqlx::query_scalar("select lockgate.start_run('nightly')")
        .fetch_one(database.pool())
        .await
        .unwrap();
    let program = on(database.url());
    let look = async || {
        let asked = ["doctor", "--run", &run.to_string(), "--output", "json"];
        program.run(&asked).await
    };
    let found = look().await.exits(0);
    assert_eq!(found.json().as_array().unwrap().len(), 2);
    assert_check(&found, "run.invariants", "ok", "nothing of it is as it must never be");
    assert_check(&found, "run.stuck", "ok", "it is queued");
    database
        .pool()
        .execute("update lockgate.task_runs set deadline_at = clock_timestamp() - interval '1 hour', claim_token = 3")
        .await
        .unwrap();
    let found = look().await.exits(6);
    assert_check(&found, "run.invariants", "fail", "I18 the run: claimed 3 times");
    assert_check(&found, "run.stuck", "warn", "run_overdue of");
    let nobody = ["doctor", "--run", "01890000-0000-7000-8000-00000000000a"];
    let found = program.run(&nobody).await.exits(3);
    assert!(found.err.contains("there is no run"), "{found:?}");
}

#[tokio::test]
async fn an_unreachable_postgres_fails_one_check_and_skips_the_rest() {
    let found = doctor(&on("postgres://nobody:geheim@127.0.0.1:9/nothing"))
        .await
        .exits(6);
    assert_check(&found, "postgres.reachable", "fail", "connection failed");
    assert_check(&found, "postgres.schema", "skip", "cannot be reached");
    assert_check(&found, "kafka.topic.email_commands", "ok", "");
    assert!(
        !found.out.contains("geheim") && found.err.contains("1 of "),
        "{found:?}"
    );
    let found = doctor(&Program::without_database(BIN)).await.exits(6);
    assert_check(&found, "postgres.reachable", "fail", "no database is named");
    assert_check(
        &found,
        "kafka.config",
        "skip",
        "not configured: fan-outs, the outbox and redelivery wait",
    );
}

#[tokio::test]
async fn schema_privileges_and_limits_are_looked_at() {
    let database = TestDatabase::empty().await;
    let found = doctor(&on(database.url())).await.exits(6);
    assert_check(&found, "postgres.schema", "fail", "no lockgate schema");
    assert_check(&found, "postgres.privileges", "skip", "does not fit");
    let database = TestDatabase::new().await;
    let found = asked_by_a_login(&database, |name| {
        format!(
            "create role {name} login; grant usage on schema lockgate to {name};
             grant select on all tables in schema lockgate to {name}"
        )
    });
    let found = found.await.exits(6);
    assert_check(&found, "postgres.privileges", "fail", "insert on task_runs");
    let privileges = check(&found, "postgres.privileges")["evidence"].to_string();
    assert!(!privileges.contains("select on task_runs"), "{privileges}");
    let found = doctor(&on(database.url()).env("LOCKGATE_DATABASE_MAX_CONNECTIONS", "900"))
        .await
        .exits(6);
    assert_check(
        &found,
        "postgres.connections",
        "fail",
        "a replica of all roles takes up to 912",
    );
    let url = format!("{}?options=-c%20default_transaction_read_only=on", database.url());
    assert_check(
        &doctor(&on(&url)).await.exits(6),
        "postgres.settings",
        "fail",
        "takes no writes",
    );
    let url = format!("{}?options=-c%20synchronous_commit=off", database.url());
    assert_check(
        &doctor(&on(&url)).await.exits(6),
        "postgres.settings",
        "fail",
        "synchronous_commit is off",
    );
}

/// What the doctor says to a login that is made for it and goes afterwards.
async fn asked_by_a_login(database: &TestDatabase, makes: impl Fn(&str) -> String) -> Finished {
    let name = format!("doctor_{}", uuid::Uuid::new_v4().simple());
    let drops = format!("drop owned by {name}; drop role {name}");
    let run = async |sql| {
        database
            .pool()
            .execute(sqlx::raw_sql(AssertSqlSafe(sql)))
            .await
            .unwrap()
    };
    run(makes(&name)).await;
    let url = database.url().replacen("postgres@", &format!("{name}@"), 1);
    let found = doctor(&on(&url)).await;
    run(drops).await;
    found
}

/// The same of a member of that role with the operators' ten connections and the reader's own setting.
async fn asked_by_a_member_of(role: &str, database: &TestDatabase) -> Finished {
    let read_only = if role == "lockgate_reader" { "on" } else { "off" };
    let makes = |name: &str| {
        format!(
            "create role {name} login connection limit 10 in role {role};
             alter role {name} set default_transaction_read_only = {read_only}"
        )
    };
    asked_by_a_login(database, makes).await
}

#[tokio::test]
async fn people_are_not_measured_as_replicas() {
    let database = TestDatabase::new().await;
    for role in ["lockgate_operator", "lockgate_reader"] {
        let found = asked_by_a_member_of(role, &database).await.exits(0);
        let rights = format!("connected with the rights of {role}, with which no replica works");
        assert_check(&found, "postgres.privileges", "warn", &rights);
        assert_check(&found, "postgres.connections", "warn", &rights);
        assert_check(&found, "postgres.schema", "ok", "version");
        assert_check(&found, "postgres.settings", "ok", "idle transactions end after");
        assert_check(&found, "fleet.stuck", "ok", "all moves");
        assert_check(&found, "fleet.invariants", "ok", "nothing is as it must never be");
    }
    // A replica's login is measured as one, and ten connections are too few for it.
    let found = asked_by_a_member_of("lockgate_engine", &database).await.exits(6);
    assert_check(&found, "postgres.privileges", "ok", "all that a replica does");
    assert_check(&found, "postgres.connections", "fail", "10 connections can be had");
}

#[tokio::test]
async fn configuration_that_cannot_work_fails_key_by_key() {
    let database = TestDatabase::new().await;
    let program = on(database.url())
        .env("LOCKGATE_LEASE_RENEW", "50s")
        .env("LOCKGATE_WORKER_BATCH_SIZE", "0");
    let found = doctor(&program).await.exits(6);
    assert_check(&found, "config.lease.renew", "fail", "lease.renew = 50s");
    assert_check(&found, "config.worker.batch_size", "fail", "out of range");
    assert_check(&found, "postgres.reachable", "ok", "");
}

#[tokio::test]
async fn kafka_is_looked_at_topic_by_topic() {
    let database = TestDatabase::new().await;
    let program = on(database.url());
    let found = doctor(&program.clone().env("TEST_TOPIC", "missing")).await.exits(6);
    assert_check(&found, "kafka.topic.email_commands", "fail", "does not exist");
    let found = doctor(&program.clone().env("TEST_TOPIC", "denied")).await.exits(6);
    assert_check(&found, "kafka.topic.email_commands", "fail", "not authorised");
    let found = doctor(&program.clone().env("TEST_TOPIC", "unreachable")).await.exits(6);
    assert_check(&found, "kafka.reachable", "fail", "no broker answered");
    let found = doctor(&program.clone().env("TEST_TOPIC", "small")).await.exits(0);
    assert_check(
        &found,
        "kafka.topic.email_commands",
        "warn",
        "it takes 1000 bytes, this client sends up to 1000000",
    );
    program
        .env("TEST_TOPIC", "missing")
        .run(&["doctor", "--skip-kafka"])
        .await
        .exits(0);
}

async fn between(url: &str) -> Between {
    test_pooler(&DatabaseSettings::new(url), Duration::from_secs(60))
        .await
        .unwrap()
        .between
}

#[tokio::test]
async fn the_pooler_test_tells_poolers_apart() {
    let database = TestDatabase::new().await;
    assert_eq!(between(database.url()).await, Between::Direct);
    let cases = [
        ("pool_mode = transaction\ndefault_pool_size = 8", Between::BarePooler),
        (
            "pool_mode = transaction\ndefault_pool_size = 8\nmin_pool_size = 4\nserver_round_robin = 1",
            Between::BarePooler,
        ),
        ("pool_mode = statement\ndefault_pool_size = 8", Between::StatementPooler),
        ("pool_mode = session\ndefault_pool_size = 8", Between::Direct),
    ];
    for (settings, expected) in cases {
        let bouncer = PgBouncer::before(database.url(), settings).await;
        for _ in 0..3 {
            assert_eq!(between(&bouncer.url(database.url())).await, expected, "{settings}");
        }
    }
}

#[tokio::test]
async fn a_pooler_that_mixes_answers_is_refused_unless_pooler_mode_is_on() {
    let database = TestDatabase::new().await;
    let settings = "pool_mode = transaction\nignore_startup_parameters = extra_float_digits,options";
    let bouncer = PgBouncer::before(database.url(), settings).await;
    let program = on(&bouncer.url(database.url()));
    let found = doctor(&program).await.exits(6);
    assert_check(&found, "postgres.pooler", "fail", "does not track prepared statements");
    let finished = program.run(&["run"]).await.exits(4);
    finished.says(&[
        "would mix up answers; nothing was changed",
        "hint: set database.pooler_mode = true",
    ]);
    let safe = program.env("LOCKGATE_DATABASE_POOLER_MODE", "true");
    assert_check(
        &doctor(&safe).await.exits(0),
        "postgres.pooler",
        "ok",
        "does not track prepared statements",
    );
    let started = safe
        .run(&["start", "daily-mail", "--output", "json"])
        .await
        .exits(0)
        .json();
    let run = started["run_id"].as_str().unwrap();
    for args in [
        &["runs", "show", run][..],
        &["runs", "why", run],
        &["runs", "proof", run],
        &["runs", "cancel", run],
    ] {
        safe.run(args).await.exits(0);
    }
    let mut replica = safe.start(&["run"]);
    replica.says("running").await;
    replica.signal(Signal::TERM);
    assert_eq!(replica.ended().await.0, 0);
    let direct = safe.env("DATABASE_URL_DIRECT", &bouncer.url(database.url()));
    assert_check(
        &doctor(&direct).await.exits(6),
        "postgres.direct",
        "fail",
        "does not track prepared statements",
    );
}

#[tokio::test]
async fn a_pooler_that_refuses_startup_parameters_is_named() {
    let database = TestDatabase::new().await;
    let bouncer = PgBouncer::before(database.url(), "pool_mode = transaction").await;
    let finished = on(&bouncer.url(database.url())).run(&["runs", "list"]).await.exits(5);
    finished.says(&[
        "unsupported startup parameter",
        "hint: a pooler may stand before the server",
    ]);
}

#[tokio::test]
async fn pooler_mode_without_a_pooler_is_pointed_out() {
    let database = TestDatabase::new().await;
    let found = doctor(&on(database.url()).env("LOCKGATE_DATABASE_POOLER_MODE", "true"))
        .await
        .exits(0);
    assert_check(&found, "postgres.pooler", "warn", "straight to the server");
}

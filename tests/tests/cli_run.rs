//! `run`: waiting for servers that are not there yet, refusing what cannot work, draining on signals; and `migrate`.
#![allow(clippy::unwrap_used)]

use lockgate_tests::cli::Program;
use lockgate_tests::{TestDatabase, free_port};
use rustix::process::Signal;
use sqlx::Executor;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

const BIN: &str = env!("CARGO_BIN_EXE_lockgate-test");

fn on(database: &TestDatabase) -> Program {
    Program::new(BIN, database.url()).env("KAFKA_BROKERS", "unused:9092")
}

#[tokio::test]
async fn a_signal_drains_and_exits_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let database = TestDatabase::new().await;
        let mut replica = on(&database).start(&["run", "--roles", "worker"]);
        let said = replica.says("running as worker").await;
        assert!(
            said.iter()
                .any(|line| line.starts_with("Postgres 1") && line.ends_with(" answers")),
            "{said:?}"
        );
        assert!(
            said.iter()
                .any(|line| line == "topic email_commands answers, 3 partitions"),
            "{said:?}"
        );
        replica.signal(signal);
        let (exit, said) = replica.ended().await;
        assert_eq!(exit, 0, "{said:?}");
        assert!(said.iter().any(|line| line == "drained"), "{said:?}");
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let database = TestDatabase::new().await;
    let mut replica = on(&database).env("TEST_DRAIN", "never").start(&["run"]);
    replica.says("running as leader,worker").await;
    replica.signal(Signal::TERM);
    replica.says("draining").await;
    replica.signal(Signal::TERM);
    let (exit, said) = replica.ended().await;
    assert_eq!(exit, 130, "{said:?}");
    assert!(said.join("\n").contains("recovered when its leases end"), "{said:?}");
}

#[tokio::test]
async fn a_drain_that_fails_exits_1() {
    let database = TestDatabase::new().await;
    let mut replica = on(&database).env("TEST_DRAIN", "fails").start(&["run"]);
    replica.says("running").await;
    replica.signal(Signal::TERM);
    let (exit, said) = replica.ended().await;
    assert_eq!(exit, 1, "{said:?}");
    assert!(
        said.join("\n")
            .contains("error: the replica ended: a batch could not be handed back"),
        "{said:?}"
    );
}

/// Many tries fail for one reason; a busy machine may have another, such as that a try took too long.
fn says_each_reason_once(said: &str, beginning: &str) {
    let mut lines: Vec<&str> = said.lines().filter(|line| line.contains(beginning)).collect();
    let all = lines.len();
    lines.dedup();
    assert!(lines.len() == all && (1..=3).contains(&all), "{said}");
}

#[tokio::test]
async fn an_unreachable_postgres_is_waited_for_with_one_line_and_no_longer_than_asked() {
    let program = Program::new(BIN, "postgres://nobody@127.0.0.1:9/nothing").env("KAFKA_BROKERS", "unused:9092");
    let finished = program.run(&["run", "--wait", "2s"]).await.exits(5);
    says_each_reason_once(&finished.err, "waiting for Postgres: ");
    finished.says(&["error: Postgres cannot be used", "nothing was changed", "hint: "]);
}

#[tokio::test]
async fn a_postgres_that_comes_up_is_used() {
    let database = TestDatabase::new().await;
    // A port that nobody listens on until the gate opens.
    let port = free_port();
    let real = database
        .url()
        .split(['@', '/'])
        .find(|part| part.contains(':') && !part.ends_with(':'))
        .unwrap()
        .to_owned();
    let url = database.url().replace(&real, &format!("127.0.0.1:{port}"));
    let mut replica = Program::new(BIN, &url)
        .env("KAFKA_BROKERS", "unused:9092")
        .start(&["run"]);
    replica.says("waiting for Postgres: connection failed").await;
    let gate = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let relay = tokio::spawn(async move {
        loop {
            let (mut client, _) = gate.accept().await.unwrap();
            let mut server = TcpStream::connect(&real).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    let said = replica.says("running").await;
    assert!(
        said.iter()
            .any(|line| line.starts_with("Postgres ") && line.ends_with(" answers")),
        "{said:?}"
    );
    replica.signal(Signal::TERM);
    assert_eq!(replica.ended().await.0, 0);
    relay.abort();
}

#[tokio::test]
async fn a_signal_while_it_waits_exits_0() {
    let program = Program::new(BIN, "postgres://nobody@127.0.0.1:9/nothing").env("KAFKA_BROKERS", "unused:9092");
    let mut replica = program.start(&["run"]);
    replica.says("waiting for Postgres").await;
    replica.signal(Signal::TERM);
    let (exit, said) = replica.ended().await;
    assert_eq!(exit, 0, "{said:?}");
    assert!(said.join("\n").contains("stopped before it had started"), "{said:?}");
}

#[tokio::test]
async fn what_waiting_cannot_mend_ends_it_at_once() {
    let database = TestDatabase::new().await;
    let cases = [
        (
            "missing",
            4,
            "topic email_commands does not exist",
            "hint: create topic email_commands",
        ),
        (
            "denied",
            5,
            "not authorised for topic email_commands",
            "hint: allow this client",
        ),
    ];
    for (topic, code, what, hint) in cases {
        let finished = on(&database).env("TEST_TOPIC", topic).run(&["run"]).await.exits(code);
        finished.says(&[what, "nothing was changed", hint]);
    }
    let finished = on(&database)
        .env("TEST_TOPIC", "unreachable")
        .run(&["run", "--wait", "1s"])
        .await
        .exits(5);
    says_each_reason_once(&finished.err, "waiting for Kafka: ");
    let finished = on(&database).run(&["run", "--set", "lease.renew=59s"]).await.exits(2);
    finished.says(&["lease.renew = 59s: two missed renewals lose a lease of 1m; set it to 20s or less"]);
    let finished = on(&TestDatabase::empty().await).run(&["run"]).await.exits(4);
    finished.says(&["the database has no lockgate schema", "hint: run `migrate up`"]);
    let gone = format!("{}_gone", database.url());
    let finished = Program::new(BIN, &gone)
        .env("KAFKA_BROKERS", "unused:9092")
        .run(&["run"])
        .await
        .exits(5);
    finished.says(&["does not exist", "hint: create the database"]);
}

#[tokio::test]
async fn brokers_that_are_not_configured_are_not_waited_for() {
    let database = TestDatabase::new().await;
    let mut replica = Program::new(BIN, database.url()).start(&["run", "--wait", "1s"]);
    let said = replica.says("running as leader,worker").await;
    assert!(!said.iter().any(|line| line.contains("Kafka")), "{said:?}");
    replica.signal(Signal::TERM);
    assert_eq!(replica.ended().await.0, 0);
}

#[tokio::test]
async fn migrations_go_up_down_and_up_again() {
    let database = TestDatabase::empty().await;
    let program = Program::new(BIN, database.url());
    program.run(&["migrate", "status", "--check"]).await.exits(6);
    let up = program
        .run(&["migrate", "up", "--output", "json"])
        .await
        .exits(0)
        .json();
    let all = up.as_array().unwrap().len();
    assert!(all >= 11 && up[0]["version"] == 1 && up[0]["applied"] == true, "{up}");
    let again = program.run(&["migrate", "up", "--output", "json"]).await.exits(0);
    assert_eq!(again.json(), serde_json::json!([]));
    program.run(&["migrate", "status", "--check"]).await.exits(0);
    program.run(&["migrate", "down"]).await.exits(2);
    let asked = program.run(&["migrate", "down", "--to", "9"]).await.exits(2);
    asked.says(&[
        "would be reverted and what they hold would be lost; nothing was changed",
        "hint: add --yes",
    ]);
    assert_eq!(asked.out.lines().count(), all - 9 + 1, "{}", asked.out);
    program.run(&["migrate", "status", "--check"]).await.exits(0);
    let down = program
        .run(&["migrate", "down", "--to", "0", "--yes", "--output", "json"])
        .await
        .exits(0)
        .json();
    assert_eq!(down.as_array().unwrap().len(), all);
    program.run(&["runs", "list"]).await.exits(4);
    program.run(&["migrate", "up"]).await.exits(0);
    program.run(&["runs", "list"]).await.exits(0);
}

#[tokio::test]
async fn two_migrators_at_once_both_succeed() {
    let database = TestDatabase::empty().await;
    let program = Program::new(BIN, database.url());
    let up = ["migrate", "up", "--output", "json"];
    let (one, two) = tokio::join!(program.run(&up), program.run(&up));
    let (one, two) = (one.exits(0).json(), two.exits(0).json());
    let applied = one.as_array().unwrap().len() + two.as_array().unwrap().len();
    let known: i64 = sqlx::query_scalar("select count(*) from lockgate.migrations")
        .fetch_one(database.pool())
        .await
        .unwrap();
    assert_eq!(
        applied as i64, known,
        "each migration is applied by one of them: {one} {two}"
    );
}

#[tokio::test]
async fn a_migration_that_fails_says_what_stays() {
    let database = TestDatabase::empty().await;
    let program = Program::new(BIN, database.url());
    program.run(&["migrate", "up", "--to", "3"]).await.exits(0);
    // In the way of the fourth.
    database
        .pool()
        .execute("create table lockgate.replicas (id int)")
        .await
        .unwrap();
    let finished = program.run(&["migrate", "up"]).await.exits(1);
    finished.says(&[
        "already exists",
        "the migration that failed was rolled back, those before it stay",
    ]);
    let status = program
        .run(&["migrate", "status", "--output", "json"])
        .await
        .exits(0)
        .json();
    assert_eq!(
        (&status[2]["applied"], &status[3]["applied"]),
        (&true.into(), &false.into())
    );
}

#[tokio::test]
async fn the_roles_script_is_printed() {
    let printed = Program::without_database(BIN)
        .run(&["migrate", "roles", "--print"])
        .await
        .exits(0);
    assert!(
        printed.out.contains("lockgate_engine") && !printed.out.contains("error"),
        "{}",
        printed.out
    );
}

#[tokio::test]
async fn a_read_only_server_is_waited_for_within_bounds() {
    let database = TestDatabase::new().await;
    let url = format!("{}?options=-c%20default_transaction_read_only=on", database.url());
    let program = Program::new(BIN, &url).env("KAFKA_BROKERS", "unused:9092");
    let finished = program.run(&["run", "--wait", "1s"]).await.exits(5);
    finished.says(&[
        "to take writes: it is read-only",
        "hint: name the primary in DATABASE_URL",
    ]);
}

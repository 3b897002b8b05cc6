//! What the command line says when it is used wrongly or finds nothing usable: exit code, words, nothing on stdout.
#![allow(clippy::unwrap_used)]

use lockgate_tests::TestDatabase;
use lockgate_tests::cli::Program;

const BIN: &str = env!("CARGO_BIN_EXE_lockgate-test");
const NOBODY: &str = "01890000-0000-7000-8000-000000000000";

fn on(database: &TestDatabase) -> Program {
    Program::new(BIN, database.url())
}

/// Nothing listens on the discard port of this machine.
fn nowhere() -> Program {
    Program::new(BIN, "postgres://somebody:geheim@127.0.0.1:9/nothing")
}

#[tokio::test]
async fn help_lists_the_commands_and_the_exit_codes() {
    let help = Program::without_database(BIN).run(&["--help"]).await.exits(0);
    for word in [
        "migrate",
        "start",
        "runs",
        "batches",
        "replicas",
        "doctor",
        "completions",
        "greet",
        "Exit codes:",
        "130",
    ] {
        assert!(help.out.contains(word), "no {word} in {}", help.out);
    }
    Program::without_database(BIN).run(&["--version"]).await.exits(0);
}

#[tokio::test]
async fn wrong_arguments_exit_2() {
    let program = Program::without_database(BIN);
    let wrong: [&[&str]; 8] = [
        &[],
        &["nonsense"],
        &["runs", "show", "not-a-uuid"],
        &["runs", "list", "--status", "lazy"],
        &["batches", "list", NOBODY, "--limit", "0"],
        &["start", "daily-mail", "--at", "tomorrow"],
        &["start", "daily-mail", "--timeout", "3s"],
        &["run", "--roles", "leader,king"],
    ];
    for args in wrong {
        let finished = program.run(args).await.exits(2);
        assert!(
            finished.out.is_empty() && !finished.err.is_empty(),
            "{args:?}: {finished:?}"
        );
    }
    program
        .run(&["run", "--roles", "king"])
        .await
        .says(&["unknown role \"king\""]);
}

#[tokio::test]
async fn a_missing_database_and_a_wrong_url_exit_2_and_say_what_to_set() {
    let finished = Program::without_database(BIN).run(&["runs", "list"]).await.exits(2);
    finished.says(&["error: no database is named", "DATABASE_URL", "hint: "]);
    let finished = Program::new(BIN, "mysql:/geheim").run(&["runs", "list"]).await.exits(2);
    finished.says(&[
        "error: DATABASE_URL cannot be used",
        "postgres://user@host:port/database",
    ]);
    assert!(!finished.err.contains("geheim"), "{}", finished.err);
}

#[tokio::test]
async fn an_unreachable_postgres_exits_5_at_once_and_keeps_the_password() {
    let commands: [&[&str]; 5] = [
        &["runs", "list"],
        &["migrate", "up"],
        &["migrate", "status"],
        &["start", "daily-mail"],
        &["replicas", "list"],
    ];
    for args in commands {
        let finished = nowhere().run(args).await.exits(5);
        finished.says(&[
            "error: Postgres cannot be used",
            "nothing was changed",
            "hint: check that the server runs",
        ]);
        assert!(
            finished.out.is_empty() && !finished.err.contains("geheim"),
            "{finished:?}"
        );
    }
}

#[tokio::test]
async fn a_database_that_does_not_exist_exits_5_with_its_own_hint() {
    let database = TestDatabase::empty().await;
    let url = format!("{}_gone", database.url());
    let finished = Program::new(BIN, &url).run(&["runs", "list"]).await.exits(5);
    finished.says(&["does not exist", "hint: create the database"]);
}

#[tokio::test]
async fn configuration_that_cannot_be_used_exits_2_and_names_the_key() {
    let program = nowhere();
    let finished = program
        .clone()
        .env("LOCKGATE_LEASE_DURATON", "3s")
        .run(&["runs", "list"])
        .await
        .exits(2);
    finished.says(&[
        "unknown key LOCKGATE_LEASE_DURATON",
        "did you mean LOCKGATE_LEASE_DURATION?",
    ]);
    let finished = program
        .run(&["config", "show", "--set", "worker.batchsize=5"])
        .await
        .exits(2);
    finished.says(&["unknown key worker.batchsize (--set); did you mean worker.batch_size?"]);
    let finished = program
        .run(&["config", "show", "--set", "lease.duration=60"])
        .await
        .exits(2);
    finished.says(&["lease.duration = 60 (--set)", "such as 30s"]);
    let finished = program.run(&["config", "show", "--set", "lease"]).await.exits(2);
    finished.says(&["expected KEY=VALUE"]);
    let finished = program
        .run(&["config", "show", "--config", "/no/such/file.toml"])
        .await
        .exits(2);
    finished.says(&["/no/such/file.toml cannot be read"]);
    let finished = program
        .run(&["config", "show", "--set", "worker.batch_size=0"])
        .await
        .exits(2);
    finished.says(&["worker.batch_size = 0: out of range; set it from 1 to 10000"]);
    assert!(finished.out.contains("worker.batch_size"), "what is wrong is shown too");
}

#[tokio::test]
async fn config_show_names_origins_and_hides_secrets() {
    let program = nowhere().env("LOCKGATE_LEASE_RENEW", "7s");
    let shown = program
        .run(&["config", "show", "--set", "worker.poll=2s", "--output", "json"])
        .await
        .exits(0);
    let values = shown.json();
    let value = |key: &str| {
        values
            .as_array()
            .unwrap()
            .iter()
            .find(|value| value["key"] == key)
            .unwrap()
            .clone()
    };
    assert_eq!(value("lease.renew")["origin"], "$LOCKGATE_LEASE_RENEW");
    assert_eq!(value("worker.poll")["origin"], "--set");
    assert_eq!(value("lease.sweep")["origin"], "default");
    assert_eq!(
        value("database.url")["value"],
        "postgres://somebody:***@127.0.0.1:9/nothing"
    );
    assert!(!shown.out.contains("geheim"));
}

#[tokio::test]
async fn a_missing_schema_exits_4_and_says_how_to_make_it() {
    let database = TestDatabase::empty().await;
    for args in [
        &["runs", "list"][..],
        &["start", "daily-mail"],
        &["runs", "why", NOBODY],
    ] {
        let finished = on(&database).run(args).await.exits(4);
        finished.says(&[
            "the database has no lockgate schema; nothing was changed",
            "hint: run `migrate up`",
        ]);
    }
}

#[tokio::test]
async fn a_schema_too_old_or_too_new_exits_4() {
    let database = TestDatabase::empty().await;
    on(&database).run(&["migrate", "up", "--to", "3"]).await.exits(0);
    let finished = on(&database).run(&["runs", "list"]).await.exits(4);
    finished.says(&["the schema is at version 3, this binary needs", "migrate up"]);
    on(&database).run(&["migrate", "up"]).await.exits(0);
    sqlx::query("update lockgate.migrations set min_writer = 9999 where version = 1")
        .execute(database.pool())
        .await
        .unwrap();
    let finished = on(&database).run(&["runs", "list"]).await.exits(4);
    finished.says(&["takes writers of version 9999 or newer", "hint: use a newer binary"]);
}

#[tokio::test]
async fn a_read_only_server_changes_nothing_and_says_so() {
    let database = TestDatabase::new().await;
    let url = format!("{}?options=-c%20default_transaction_read_only=on", database.url());
    let finished = Program::new(BIN, &url).run(&["start", "daily-mail"]).await.exits(1);
    finished.says(&["read-only transaction", "nothing was changed", "name the primary"]);
}

#[tokio::test]
async fn unknown_runs_exit_3_in_every_command() {
    let database = TestDatabase::new().await;
    let commands: [&[&str]; 8] = [
        &["runs", "show", NOBODY],
        &["runs", "cancel", NOBODY],
        &["runs", "pause", NOBODY],
        &["runs", "resume", NOBODY],
        &["runs", "why", NOBODY],
        &["runs", "proof", NOBODY],
        &["runs", "item", NOBODY, "1"],
        &["batches", "list", NOBODY],
    ];
    for args in commands {
        let finished = on(&database).run(args).await.exits(3);
        finished.says(&[
            &format!("error: there is no run {NOBODY}; nothing was changed"),
            "hint: ",
        ]);
        assert!(finished.out.is_empty(), "{finished:?}");
    }
}

#[tokio::test]
async fn completions_and_commands_of_the_binary_need_no_database() {
    let program = Program::without_database(BIN);
    let script = program.run(&["completions", "bash"]).await.exits(0);
    assert!(
        script.out.contains("complete") && script.out.contains("lockgate-test"),
        "{}",
        script.out
    );
    let greeted = program.run(&["greet", "moon", "--output", "json"]).await.exits(0);
    assert_eq!(greeted.json(), serde_json::json!({ "greeted": "moon" }));
    program.run(&["greet", "nobody"]).await.exits(3);
    program.run(&["greet"]).await.exits(2);
}

#[tokio::test]
async fn readers_look_and_operators_act() {
    let database = TestDatabase::new().await;
    let run: String = sqlx::query_scalar("select lockgate.start_run('daily-mail')::text")
        .fetch_one(database.pool())
        .await
        .unwrap();
    let looks: [&[&str]; 8] = [
        &["outbox", "list", "--all"],
        &["runs", "list"],
        &["runs", "show", &run],
        &["runs", "why", &run],
        &["runs", "proof", &run],
        &["runs", "item", &run, "1"],
        &["batches", "list", &run],
        &["replicas", "list"],
    ];
    let acts: [&[&str]; 3] = [
        &["runs", "pause", &run],
        &["runs", "resume", &run],
        &["runs", "cancel", &run],
    ];
    for (role, code) in [("lockgate_reader", 1), ("lockgate_operator", 0)] {
        let url = database.url().replacen("postgres@", &format!("{role}@"), 1);
        assert_ne!(url, database.url());
        for args in looks {
            Program::new(BIN, &url).run(args).await.exits(0);
        }
        for args in acts {
            let finished = Program::new(BIN, &url).run(args).await.exits(code);
            if code != 0 {
                finished.says(&[
                    "permission denied",
                    "nothing was changed",
                    "hint: the role lacks a privilege",
                ]);
            }
        }
    }
}

#[tokio::test]
async fn config_shows_origins_when_asked_and_prints_a_sample_whatever_else_is_wrong() {
    let program = nowhere();
    let show = ["config", "show", "--set", "worker.poll=2s"];
    let line = |out: &str| {
        out.lines()
            .find(|line| line.starts_with("worker.poll"))
            .unwrap()
            .to_owned()
    };
    let plain = program.run(&show).await.exits(0);
    assert!(!line(&plain.out).contains("--set"), "{}", plain.out);
    let origins = program.run(&[&show[..], &["--origin"]].concat()).await.exits(0);
    assert!(line(&origins.out).contains("2s\t--set\t"), "{}", origins.out);
    let broken = program.env("LOCKGATE_LEASE_DURATION", "long");
    let sample = broken.run(&["config", "sample"]).await.exits(0);
    assert_eq!(sample.out, lockgate::config::sample());
    let reference = broken.run(&["config", "reference"]).await.exits(0);
    assert_eq!(reference.out, lockgate::config::reference());
}

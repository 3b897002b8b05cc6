//! Queues from the command line, and starts into them: exit codes, JSON shapes, and what is left in the tables.
#![allow(clippy::unwrap_used)]

use lockgate_tests::TestDatabase;
use lockgate_tests::cli::{Finished, Program};
use serde_json::{Value, json};

const BIN: &str = env!("CARGO_BIN_EXE_lockgate-test");

struct Scene {
    database: TestDatabase,
    program: Program,
}

impl Scene {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let program = Program::new(BIN, database.url());
        Self { database, program }
    }

    async fn run(&self, args: &[&str]) -> Finished {
        self.program.run(args).await
    }

    async fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["--output", "json"]).collect();
        self.run(&args).await.exits(0).json()
    }
}

#[tokio::test]
async fn a_queue_is_set_looked_at_paused_and_removed() {
    let scene = Scene::new().await;
    let set = [
        "queues",
        "set",
        "mails",
        "--max-running",
        "5",
        "--max-per-key",
        "2",
        "--rate",
        "0.5",
        "--fair",
        "--holds",
        "run",
        "--max-attempt",
        "10m",
        "--reason",
        "small",
        "--actor",
        "mia",
    ];
    assert_eq!(scene.json(&set).await, json!({"name": "mails", "state": "new"}));
    assert_eq!(scene.json(&set).await["state"], "same");
    let started = scene
        .json(&["start", "daily-mail", "--queue", "mails", "--priority", "3"])
        .await;
    assert_eq!(started["outcome"], "new");
    let shown = scene.json(&["queues", "show", "mails"]).await;
    for (field, value) in [
        ("waiting", json!(1)),
        ("running", json!(0)),
        ("max_running", json!(5)),
        ("max_per_key", json!(2)),
        ("rate_per_s", json!(0.5)),
        ("burst", json!(1)),
        ("fair", json!(true)),
        ("holds", json!("run")),
        ("max_attempt_s", json!(600.0)),
        ("paused_at", json!(null)),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    assert!(shown["actor"].as_str().unwrap().ends_with(" for mia"), "{shown}");
    assert_eq!(
        scene.json(&["queues", "pause", "mails", "--reason", "down"]).await["state"],
        "paused"
    );
    let listed = scene.json(&["queues", "list"]).await;
    assert_eq!(listed[0]["pause_reason"], "down");
    let run = started["run_id"].as_str().unwrap();
    let why = scene.run(&["runs", "why", run]).await.exits(0);
    assert!(why.out.contains("its queue mails was paused"), "{}", why.out);
    assert_eq!(scene.json(&["queues", "resume", "mails"]).await["state"], "active");
    assert_eq!(scene.json(&["queues", "remove", "mails"]).await["state"], "removed");
    for gone in [
        ["queues", "remove", "mails"],
        ["queues", "resume", "mails"],
        ["queues", "show", "none"],
    ] {
        scene.run(&gone).await.exits(3);
    }
}

#[tokio::test]
async fn a_limit_is_changed_and_the_others_kept() {
    let scene = Scene::new().await;
    let set = |args: &'static str| {
        let args: Vec<&str> = "queues set mails".split(' ').chain(args.split(' ')).collect();
        let scene = &scene;
        async move { scene.json(&args).await["state"].clone() }
    };
    scene
        .run(&["queues", "set", "mails", "--keep", "--fair"])
        .await
        .exits(3);
    set("--max-running 5 --max-per-key 2 --rate 3 --burst 9 --fair --holds run --max-attempt 10m").await;
    let shown = async || {
        let shown = scene.json(&["queues", "show", "mails"]).await;
        let fields = [
            "max_running",
            "max_per_key",
            "rate_per_s",
            "burst",
            "fair",
            "holds",
            "max_attempt_s",
        ];
        fields.map(|field| shown[field].clone())
    };
    assert_eq!(set("--keep --max-running 7").await, "changed");
    let rest = [json!(2), json!(3.0), json!(9), json!(true), json!("run"), json!(600.0)];
    assert_eq!(shown().await, [&[json!(7)], rest.as_slice()].concat()[..]);
    assert_eq!(set("--keep --rate 20").await, "changed");
    assert_eq!(
        shown().await[2..4],
        [json!(20.0), json!(20)],
        "a rate has a burst of its own"
    );
    assert_eq!(set("--max-running 8").await, "changed");
    let reset = [
        json!(8),
        json!(null),
        json!(null),
        json!(null),
        json!(false),
        json!("code"),
        json!(null),
    ];
    assert_eq!(shown().await, reset, "without --keep what is not given is no limit");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let scene = Scene::new().await;
    for (args, why) in [
        (&["queues", "set", "q", "--max-running", "0"][..], "0 is not in"),
        (
            &["queues", "set", "q", "--max-running", "1", "--max-per-key", "2"],
            "never be reached",
        ),
        (&["queues", "set", "q", "--rate=-1"], "from 0.000001"),
        (&["queues", "set", "q", "--burst", "3"], "--rate"),
        (&["queues", "set", "", "--fair"], "empty"),
        (&["queues", "set", "q", "--max-attempt", "1ms"], "from a second"),
        (&["start", "daily-mail", "--priority", "21"], "21 is not in"),
        (&["start", "daily-mail", "--queue", ""], "empty"),
    ] {
        let refused = scene.run(args).await.exits(2);
        assert!(refused.err.contains(why), "{args:?}: {}", refused.err);
    }
    let set: i64 = sqlx::query_scalar("select count(*) from lockgate.queues")
        .fetch_one(scene.database.pool())
        .await
        .unwrap();
    assert_eq!(set, 0);
}

#[tokio::test]
async fn a_later_start_under_a_debounce_key_replaces_what_waits() {
    let scene = Scene::new().await;
    let start = async |params: &str| {
        scene
            .json(&[
                "start",
                "daily-mail",
                "--debounce",
                "k",
                "--at",
                "+1h",
                "--params",
                params,
            ])
            .await
    };
    let (first, second) = (start(r#"{"n": 1}"#).await, start(r#"{"n": 2}"#).await);
    assert_eq!(second, json!({"run_id": first["run_id"], "outcome": "debounced"}));
    let params: Vec<u8> = sqlx::query_scalar("select params from lockgate.task_runs")
        .fetch_one(scene.database.pool())
        .await
        .unwrap();
    assert_eq!(params, br#"{"n": 2}"#);
}

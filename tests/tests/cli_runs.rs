//! Starting, looking at, stopping and proving runs: JSON shapes, exit codes and what is left in the tables.
#![allow(clippy::unwrap_used, clippy::panic)]

use lockgate::lifecycle::{NewRun, Started};
use lockgate::postgres::{Database, DatabaseSettings, Operator};
use lockgate_tests::TestDatabase;
use lockgate_tests::cli::{Finished, Program};
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor};

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

    async fn sql(&self, text: &str) {
        self.database
            .pool()
            .execute(sqlx::raw_sql(AssertSqlSafe(text)))
            .await
            .unwrap();
    }

    async fn run(&self, args: &[&str]) -> Finished {
        self.program.run(args).await
    }

    async fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["--output", "json"]).collect();
        self.run(&args).await.exits(0).json()
    }

    /// Starts a run and gives its id.
    async fn start(&self) -> String {
        self.json(&["start", "daily-mail"]).await["run_id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    async fn one<T>(&self, sql: &'static str) -> T
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        sqlx::query_scalar(sql).fetch_one(self.database.pool()).await.unwrap()
    }

    /// A run with a finished batch of four delivered items.
    async fn delivered(&self) -> String {
        let run = self.start().await;
        self.sql(&format!(
            "update lockgate.task_runs set status = 'completed', started_at = clock_timestamp(), wake_at = null,
                    finished_at = clock_timestamp() where id = '{run}';
             insert into lockgate.run_steps (run_id, path, kind, status, planned_at, planned_items, planned_batches)
                 values ('{run}', '0:mails', 'fan_out', 'completed', clock_timestamp(), 4, 1);
             insert into lockgate.run_batches (run_id, seq, step, status, first_id, last_id, n_items, delivered, refused,
                    unknown, skipped, vanished, finished_at)
                 values ('{run}', 1, '0:mails', 'done', 11, 14, 4, 4, 0, 0, 0, 0, clock_timestamp());
             insert into lockgate.transitions (entity, run_id, batch_seq, from_status, to_status)
                 values ('batch', '{run}', 1, 'claimed', 'done')"
        ))
        .await;
        run
    }
}

#[tokio::test]
async fn start_prints_the_run_and_keeps_the_exact_bytes() {
    let scene = Scene::new().await;
    let params = "{ \"day\" : \"2026-01-31\", \"null\": \"\\u0000\" }";
    let args = [
        "start",
        "daily-mail",
        "--params",
        params,
        "--pace",
        "7",
        "--deadline",
        "90s",
        "--actor",
        "somebody",
    ];
    let answer = scene.json(&args).await;
    assert_eq!(
        answer.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["outcome", "run_id"]
    );
    assert_eq!(answer["outcome"], "new");
    let kept: Vec<u8> = scene.one("select params from lockgate.task_runs").await;
    assert_eq!(kept, params.as_bytes());
    let row: String = scene
        .one("select format('%s %s %s %s', workflow, pace_per_s, actor, deadline_at - created_at) from lockgate.task_runs")
        .await;
    // Who is logged in is always named, and first.
    assert!(
        row.starts_with("daily-mail 7 ") && row.ends_with(" for somebody 00:01:30"),
        "{row}"
    );
    let text = scene.run(&["start", "daily-mail"]).await.exits(0).out;
    assert!(text.trim_end().ends_with("\tnew"), "{text}");
}

#[tokio::test]
async fn params_may_come_from_a_file() {
    let scene = Scene::new().await;
    let path = std::env::temp_dir().join(format!("lockgate-params-{}.json", uuid::Uuid::now_v7()));
    std::fs::write(&path, "[1, 2]\n").unwrap();
    scene
        .run(&["start", "daily-mail", "--params", &format!("@{}", path.display())])
        .await
        .exits(0);
    let kept: Vec<u8> = scene.one("select params from lockgate.task_runs").await;
    assert_eq!(kept, b"[1, 2]\n");
    std::fs::remove_file(path).unwrap();
    let finished = scene
        .run(&["start", "daily-mail", "--params", "@/no/such/file"])
        .await
        .exits(2);
    finished.says(&["--params @/no/such/file cannot be read", "nothing was changed"]);
}

#[tokio::test]
async fn bad_params_and_empty_keys_start_nothing() {
    let scene = Scene::new().await;
    let finished = scene
        .run(&["start", "daily-mail", "--params", "{day: 1}"])
        .await
        .exits(2);
    finished.says(&[
        "error: --params is not JSON: key must be a string at line 1 column 2",
        "hint: give a JSON document",
    ]);
    let finished = scene.run(&["start", "daily-mail", "--key", ""]).await.exits(2);
    finished.says(&["--key is empty"]);
    scene.run(&["start", "daily-mail", "--pace", "0"]).await.exits(2);
    assert_eq!(scene.one::<i64>("select count(*) from lockgate.task_runs").await, 0);
}

#[tokio::test]
async fn an_unknown_workflow_exits_3_and_names_the_nearest() {
    let scene = Scene::new().await;
    let finished = scene.run(&["start", "dayly-mail"]).await.exits(3);
    finished.says(&[
        "error: there is no workflow dayly-mail; nothing was changed",
        "hint: did you mean daily-mail?",
    ]);
    let finished = scene.run(&["start", "something-else"]).await.exits(3);
    finished.says(&["hint: this binary has: daily-mail, weekly-mail"]);
    assert_eq!(scene.one::<i64>("select count(*) from lockgate.task_runs").await, 0);
}

#[tokio::test]
async fn the_same_key_finds_the_same_run() {
    let scene = Scene::new().await;
    let first = scene.json(&["start", "daily-mail", "--key", "monday"]).await;
    let second = scene.json(&["start", "daily-mail", "--key", "monday"]).await;
    assert_eq!(
        (&second["run_id"], &second["outcome"]),
        (&first["run_id"], &json!("found"))
    );
    assert_eq!(scene.one::<i64>("select count(*) from lockgate.task_runs").await, 1);
}

#[tokio::test]
async fn a_held_singleton_key_exits_4_and_names_the_key() {
    let scene = Scene::new().await;
    let run = scene.json(&["start", "daily-mail", "--singleton", "mail"]).await["run_id"].clone();
    let finished = scene
        .run(&["start", "weekly-mail", "--singleton", "mail", "--output", "json"])
        .await
        .exits(4);
    finished.says(&[
        "error: another unfinished run holds singleton key mail; nothing was changed",
        "hint: ",
    ]);
    assert!(finished.out.is_empty());
    scene.run(&["runs", "cancel", run.as_str().unwrap()]).await.exits(0);
    scene
        .run(&["start", "weekly-mail", "--singleton", "mail"])
        .await
        .exits(0);
}

#[tokio::test]
async fn a_contended_singleton_key_exits_4_after_trying() {
    let scene = Scene::new().await;
    let mut holder = scene.database.pool().begin().await.unwrap();
    holder
        .execute("select pg_advisory_xact_lock(hashtextextended('mail', 0))")
        .await
        .unwrap();
    let finished = scene
        .run(&["start", "daily-mail", "--singleton", "mail"])
        .await
        .exits(4);
    finished.says(&[
        "singleton key mail is contended",
        "nothing was changed",
        "hint: try again",
    ]);
    holder.rollback().await.unwrap();
    scene
        .run(&["start", "daily-mail", "--singleton", "mail"])
        .await
        .exits(0);
}

#[tokio::test]
async fn a_start_whose_answer_is_lost_is_asked_for_again_and_starts_one_run() {
    let scene = Scene::new().await;
    // The first insert loses its connection; a sequence remembers that beyond the rollback.
    scene
        .sql(
            "create sequence public.tries;
             create function public.cut() returns trigger language plpgsql security definer as $$ begin
                 if nextval('public.tries') = 1 then perform pg_terminate_backend(pg_backend_pid()); end if;
                 return new;
             end $$;
             create trigger cut after insert on lockgate.task_runs for each row execute function public.cut()",
        )
        .await;
    assert_eq!(scene.json(&["start", "daily-mail"]).await["outcome"], "new");
    assert_eq!(scene.one::<i64>("select count(*) from lockgate.task_runs").await, 1);
    assert_eq!(scene.one::<i64>("select last_value from public.tries").await, 2);
    let settings = DatabaseSettings::new(scene.database.url());
    let operator = Operator::new(Database::new(&settings).unwrap(), None);
    let request = NewRun::new("daily-mail");
    let answers = [
        operator.start_by_hand(&request).await.unwrap(),
        operator.start_by_hand(&request).await.unwrap(),
    ];
    assert_eq!(answers, [Started::New(request.id), Started::Found(request.id)]);
}

#[tokio::test]
async fn waiting_ends_with_the_run() {
    let ends = [
        ("'completed', finished_at = clock_timestamp()", 0, "completed"),
        ("'failed', reason = 'boom', finished_at = now()", 1, "failed"),
        ("'quarantined', reason = 'boom'", 1, "quarantined"),
    ];
    for (end, code, status) in ends {
        let scene = Scene::new().await;
        let program = scene.program.clone();
        let mut waiting = program.start(&["start", "daily-mail", "--wait", "--output", "json"]);
        waiting.says("(new)").await;
        let end = format!("update lockgate.task_runs set status = {end}");
        scene.sql(&end).await;
        let (exit, said) = waiting.ended().await;
        assert_eq!(exit, code, "{said:?}");
        if code == 1 {
            assert!(said.join("\n").contains(&format!("{status}: boom")), "{said:?}");
        }
        let listed = scene.json(&["runs", "list"]).await;
        assert_eq!(listed[0]["status"], status);
    }
}

#[tokio::test]
async fn waiting_can_be_bounded_and_interrupted_and_the_run_goes_on() {
    let scene = Scene::new().await;
    let args = [
        "start",
        "daily-mail",
        "--wait",
        "--timeout",
        "300ms",
        "--output",
        "json",
    ];
    let finished = scene.run(&args).await.exits(1);
    finished.says(&["the time is over and run", "it goes on"]);
    assert_eq!(finished.json()["status"], "queued");
    let mut waiting = scene.program.start(&["start", "daily-mail", "--wait"]);
    waiting.says("(new)").await;
    waiting.signal(Signal::INT);
    let (exit, said) = waiting.ended().await;
    assert_eq!(exit, 130, "{said:?}");
    assert!(said.join("\n").contains("goes on"), "{said:?}");
    assert_eq!(
        scene
            .one::<i64>("select count(*) from lockgate.task_runs where finished_at is null")
            .await,
        2
    );
}

#[tokio::test]
async fn runs_are_listed_newest_first_and_filtered() {
    let scene = Scene::new().await;
    let first = scene.start().await;
    let second = scene.json(&["start", "weekly-mail"]).await["run_id"].clone();
    let all = scene.json(&["runs", "list"]).await;
    assert_eq!((&all[0]["run_id"], &all[1]["run_id"]), (&second, &json!(first)));
    assert!(
        all[0]["created_at"].as_str().unwrap().ends_with('Z'),
        "RFC 3339 in UTC: {all}"
    );
    let weekly = scene.json(&["runs", "list", "--workflow", "weekly-mail"]).await;
    assert_eq!(weekly.as_array().unwrap().len(), 1);
    assert_eq!(scene.json(&["runs", "list", "--status", "completed"]).await, json!([]));
    assert_eq!(scene.json(&["runs", "list", "--limit", "1"]).await[0]["run_id"], second);
    let lines = scene.run(&["runs", "list", "--output", "jsonl"]).await.exits(0).out;
    let parsed: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(parsed.len(), 2);
    let table = scene.run(&["runs", "list"]).await.exits(0).out;
    assert!(
        table.starts_with("run\tworkflow\tstatus\t") && table.lines().count() == 3,
        "{table}"
    );
}

#[tokio::test]
async fn control_characters_in_stored_text_do_not_reach_the_terminal() {
    let scene = Scene::new().await;
    let run = scene.start().await;
    scene
        .run(&["runs", "pause", &run, "--reason", "red \u{1b}[31m\ttab"])
        .await
        .exits(0);
    for args in [&["runs", "list"][..], &["runs", "show", &run], &["runs", "why", &run]] {
        let out = scene.run(args).await.exits(0).out;
        assert!(
            out.contains("red  [31m tab") && !out.contains('\u{1b}'),
            "{args:?}: {out:?}"
        );
    }
}

#[tokio::test]
async fn show_gives_steps_batches_and_history() {
    let scene = Scene::new().await;
    let run = scene.delivered().await;
    let shown = scene.json(&["runs", "show", &run]).await;
    assert_eq!(shown["run_id"], json!(run));
    assert_eq!(shown["batches"], json!({ "done": 1 }));
    let step = &shown["steps"][0];
    assert_eq!(
        (&step["path"], &step["done_items"], &step["delivered"]),
        (&json!("0:mails"), &json!(4), &json!(4))
    );
    assert_eq!(shown["transitions"][0]["to_status"], "queued");
    assert!(shown.get("params").is_none(), "inputs may hold personal data");
    let text = scene.run(&["runs", "show", &run]).await.exits(0).out;
    assert!(
        text.contains("0:mails\tfan_out\tcompleted\t-\t0\t4\twhole\t4\t4\t1"),
        "{text}"
    );
    let step = format!("insert into lockgate.run_steps (run_id, path, kind) values ('{run}', '1:go', 'signal')");
    scene.sql(&step).await;
    let text = scene.run(&["runs", "show", &run]).await.exits(0).out;
    assert!(text.contains("1:go\tsignal\topen\t-\t0\t–\t–"), "{text}");
    let batches = scene.json(&["batches", "list", &run]).await;
    assert_eq!(
        (
            &batches[0]["batch_seq"],
            &batches[0]["items"],
            &batches[0]["not_before"]
        ),
        (&json!(1), &json!(4), &Value::Null)
    );
    assert_eq!(
        scene.json(&["batches", "list", &run, "--state", "free"]).await,
        json!([])
    );
}

#[tokio::test]
async fn runs_are_paused_resumed_and_cancelled_in_somebodys_name() {
    let scene = Scene::new().await;
    let run = scene.start().await;
    let act = |verb: &'static str| {
        let (scene, run) = (&scene, run.clone());
        async move { scene.json(&["runs", verb, &run, "--actor", "somebody"]).await["status"].clone() }
    };
    assert_eq!(act("pause").await, "paused");
    assert_eq!(act("pause").await, "paused", "asking twice is no error");
    assert_eq!(act("resume").await, "queued");
    act("pause").await;
    scene.json(&["runs", "resume", &run, "--reason", "mended"]).await;
    let shown = scene.json(&["runs", "show", &run]).await;
    let changes = shown["transitions"].as_array().unwrap().iter();
    let resumed = changes.filter(|change| change["from_status"] == "paused");
    let reasons: Vec<_> = resumed.map(|change| change["reason"].clone()).collect();
    assert_eq!(reasons, ["resumed", "mended"]);
    assert_eq!(act("cancel").await, "cancelled");
    assert_eq!(act("cancel").await, "cancelled");
    let actors: i64 = scene
        .one("select count(*) from lockgate.transitions where actor like '% for somebody'")
        .await;
    assert!(actors >= 3, "{actors}");
    for verb in ["pause", "resume"] {
        let finished = scene.run(&["runs", verb, &run]).await.exits(4);
        finished.says(&[
            &format!("error: run {run} is cancelled; nothing was changed"),
            "runs why",
        ]);
    }
}

#[tokio::test]
async fn the_proof_holds_or_names_batch_and_item() {
    let scene = Scene::new().await;
    let run = scene.delivered().await;
    let proof = scene.json(&["runs", "proof", &run]).await;
    assert_eq!(
        (&proof["holds"], &proof["planned"], &proof["delivered"]),
        (&json!(true), &json!(4), &json!(4))
    );
    assert_eq!(proof["problems"], json!([]));
    scene
        .sql("update lockgate.run_batches set delivered = 3, unknown = 1, unknown_ids = '\\x0102'")
        .await;
    let finished = scene.run(&["runs", "proof", &run, "--output", "json"]).await.exits(6);
    let broken = finished.json();
    assert_eq!(broken["holds"], false);
    let named = |problem: &str| {
        let problems = broken["problems"].as_array().unwrap();
        problems
            .iter()
            .find(|found| found["problem"] == problem)
            .unwrap_or_else(|| panic!("no {problem} in {broken}"))
            .clone()
    };
    assert_eq!(
        (&named("not_stored")["batch_seq"], &named("not_stored")["item_id"]),
        (&json!(1), &json!(13))
    );
    assert_eq!(named("audit")["batch_seq"], 1);
    let text = scene.run(&["runs", "proof", &run]).await.exits(6).out;
    assert!(
        text.contains("the proof does not hold") && text.contains("not_stored batch 1 item 13: "),
        "{text}"
    );
}

#[tokio::test]
async fn replicas_are_listed_with_their_state() {
    let scene = Scene::new().await;
    scene
        .sql(
            "insert into lockgate.replicas (id, version, roles, workflows, stale_after, draining, stopped_at, seen_at) values
               ('01890000-0000-7000-8000-00000000000a', 'v', '{worker}', '{daily-mail}', '1 hour', false, null, clock_timestamp()),
               ('01890000-0000-7000-8000-00000000000b', 'v', '{worker}', '{daily-mail}', '1 hour', true, null, clock_timestamp()),
               ('01890000-0000-7000-8000-00000000000c', 'v', '{worker}', '{}', '1 hour', false, clock_timestamp(), clock_timestamp()),
               ('01890000-0000-7000-8000-00000000000d', 'v', '{worker}', '{}', '1 second', false, null, '2026-01-01');
             insert into lockgate.leader_lease values ('engine', 3, '01890000-0000-7000-8000-00000000000b', clock_timestamp(),
               clock_timestamp() + interval '1 minute')",
        )
        .await;
    let state = |listed: &Value, last: &str| {
        let found = listed
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["replica_id"].as_str().unwrap().ends_with(last));
        found.map(|row| {
            (
                row["state"].as_str().unwrap().to_owned(),
                row["leader"].as_bool().unwrap(),
            )
        })
    };
    let live = scene.json(&["replicas", "list"]).await;
    assert_eq!(state(&live, "a"), Some(("live".into(), false)));
    assert_eq!(state(&live, "b"), Some(("draining".into(), true)));
    assert_eq!(live.as_array().unwrap().len(), 2);
    let all = scene.json(&["replicas", "list", "--all"]).await;
    assert_eq!(state(&all, "c").unwrap().0, "stopped");
    assert_eq!(state(&all, "d").unwrap().0, "gone");
}

#[tokio::test]
async fn a_run_in_pruning_has_no_proof_and_says_why() {
    let scene = Scene::new().await;
    let run = scene.start().await;
    scene
        .sql(&format!(
            "update lockgate.task_runs set status = 'cancelled', finished_at = clock_timestamp(),
                    pruning_since = '2026-03-01 06:00Z' where id = '{run}'"
        ))
        .await;
    let finished = scene.run(&["runs", "proof", &run]).await.exits(3);
    finished.says(&["retention has been deleting run", "since 2026-03-01 06:00:00Z"]);
}

//! `runs why`: every cause, made in the tables as the engine makes it, and named by the binary.
#![allow(clippy::unwrap_used)]

mod queue;

use lockgate_tests::TestDatabase;
use lockgate_tests::cli::Program;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor};

const BIN: &str = env!("CARGO_BIN_EXE_lockgate-test");
const REPLICA: &str = "01890000-0000-7000-8000-00000000000a";

/// A database with one run of `daily-mail`, one live worker that has its code, and a leader.
struct Scene {
    database: TestDatabase,
    run: String,
}

impl Scene {
    async fn new() -> Self {
        Self::started("select lockgate.start_run('daily-mail')::text").await
    }

    async fn started(start: &'static str) -> Self {
        let database = TestDatabase::new().await;
        let run = sqlx::query_scalar(start).fetch_one(database.pool()).await.unwrap();
        let scene = Self { database, run };
        scene
            .sql(&format!(
                "insert into lockgate.replicas (id, version, roles, workflows, stale_after, window_size)
                     values ('{REPLICA}', 'test', '{{worker,leader}}', '{{daily-mail}}', '1 hour', 100);
                 insert into lockgate.leader_lease values ('engine', 1, '{REPLICA}', clock_timestamp(), clock_timestamp() + interval '1 hour')"
            ))
            .await;
        scene
    }

    async fn sql(&self, text: &str) {
        self.database
            .pool()
            .execute(sqlx::raw_sql(AssertSqlSafe(text)))
            .await
            .unwrap();
    }

    /// Its code has run and opened a fan-out, planned to its end.
    async fn planned(self) -> Self {
        self.sql(&format!(
            "update lockgate.task_runs set status = 'suspended', started_at = clock_timestamp(), wake_at = null where id = '{0}';
             insert into lockgate.run_steps (run_id, path, kind, planned_at, planned_items, planned_batches)
                 values ('{0}', '0:mails', 'fan_out', clock_timestamp(), 20, 2);
             insert into lockgate.run_batches (run_id, seq, step, first_id, last_id, n_items)
                 values ('{0}', 1, '0:mails', 1, 10, 10), ('{0}', 2, '0:mails', 11, 20, 10)",
            self.run
        ))
        .await;
        self
    }

    /// Both batches are held until `lease` from now.
    async fn held(self, lease: &str) -> Self {
        let scene = self.planned().await;
        scene
            .sql(&format!(
                "update lockgate.run_batches set status = 'claimed', claim_id = gen_random_uuid(), claimed_by = '{REPLICA}',
                        claim_token = 1, lease_until = clock_timestamp() + interval '{lease}'"
            ))
            .await;
        scene
    }

    async fn ask(&self, args: &[&str]) -> Value {
        let mut all = vec!["runs", "why", self.run.as_str(), "--output", "json"];
        all.extend(args);
        Program::new(BIN, self.database.url()).run(&all).await.exits(0).json()
    }

    /// The causes named, in order.
    async fn causes(&self) -> Vec<Value> {
        self.ask(&[]).await["causes"].as_array().unwrap().clone()
    }

    /// The one cause named.
    async fn cause(&self) -> Value {
        let causes = self.causes().await;
        assert_eq!(causes.len(), 1, "{causes:?}");
        causes[0].clone()
    }

    async fn act(&self, verb: &str) {
        Program::new(BIN, self.database.url())
            .run(&["runs", verb, &self.run, "--reason", "a test"])
            .await
            .exits(0);
    }
}

fn text(cause: &Value) -> &str {
    cause["text"].as_str().unwrap()
}

#[tokio::test]
async fn paused() {
    let scene = Scene::new().await;
    scene.act("pause").await;
    let cause = scene.cause().await;
    assert_eq!(
        (cause["cause"].as_str(), cause["reason"].as_str()),
        (Some("paused"), Some("a test"))
    );
    assert!(text(&cause).starts_with("it is paused since 20"), "{cause}");
}

#[tokio::test]
async fn quarantined() {
    let scene = Scene::new().await;
    scene
        .sql("update lockgate.task_runs set status = 'quarantined', reason = 'its code killed 3 replicas'")
        .await;
    assert_eq!(scene.cause().await["cause"], "quarantined");
}

#[tokio::test]
async fn before_its_start() {
    let scene = Scene::started(
        "select lockgate.start_run('daily-mail', start_at => clock_timestamp() + interval '1 hour')::text",
    )
    .await;
    assert_eq!(scene.cause().await["cause"], "before_start");
}

#[tokio::test]
async fn queued_behind_an_earlier_run_of_its_schedule() {
    let scene = Scene::new().await;
    let earlier: String = sqlx::query_scalar("select lockgate.start_run('weekly-mail')::text")
        .fetch_one(scene.database.pool())
        .await
        .unwrap();
    scene
        .sql(&format!(
            "update lockgate.task_runs set schedule = 'nightly', slot = '2026-01-02', after_run = '{earlier}' where id = '{}'",
            scene.run
        ))
        .await;
    let cause = scene.cause().await;
    assert_eq!(
        (cause["cause"].as_str(), cause["schedule"].as_str()),
        (Some("queued_behind"), Some("nightly"))
    );
    assert_eq!(cause["run_id"], earlier.as_str());
    scene.sql(&format!("select lockgate.cancel_run('{earlier}')")).await;
    assert_eq!(scene.cause().await["cause"], "nothing_holds", "the earlier one is over");
}

/// Who left the line before its turn is not waited for, but whom it waited for itself.
#[tokio::test]
async fn queued_behind_the_one_that_who_left_the_line_waited_for() {
    let scene = Scene::new().await;
    let start = "select lockgate.start_run('weekly-mail')::text";
    let first: String = sqlx::query_scalar(start)
        .fetch_one(scene.database.pool())
        .await
        .unwrap();
    let left: String = sqlx::query_scalar(start)
        .fetch_one(scene.database.pool())
        .await
        .unwrap();
    scene
        .sql(&format!(
            "update lockgate.task_runs set schedule = 'nightly', slot = '2026-01-01' where id = '{first}';
             update lockgate.task_runs set schedule = 'nightly', slot = '2026-01-02', after_run = '{first}', awaited = 1
              where id = '{left}';
             update lockgate.task_runs set schedule = 'nightly', slot = '2026-01-03', after_run = '{left}' where id = '{0}';
             select lockgate.cancel_run('{left}');
             update lockgate.task_runs set after_run = '{left}' where id = '{0}'",
            scene.run
        ))
        .await;
    let cause = scene.cause().await;
    assert_eq!(
        (cause["cause"].as_str(), cause["run_id"].as_str()),
        (Some("queued_behind"), Some(first.as_str()))
    );
}

#[tokio::test]
async fn no_live_replica_replays_its_version() {
    let scene = Scene::new().await;
    scene
        .sql("update lockgate.task_runs set status = 'running', started_at = clock_timestamp(), code_version = 3")
        .await;
    scene
        .sql(r#"update lockgate.replicas set replays = '{"daily-mail": [1, 2]}'"#)
        .await;
    let cause = scene.cause().await;
    assert_eq!(
        (cause["cause"].as_str(), cause["version"].as_i64()),
        (Some("no_version"), Some(3))
    );
    assert_eq!(cause["replayed"], serde_json::json!([[1, 2]]));
    scene
        .sql(r#"update lockgate.replicas set replays = '{"daily-mail": [2, 3]}'"#)
        .await;
    assert_eq!(scene.cause().await["cause"], "nothing_holds");
}

#[tokio::test]
async fn driven_by_its_caller() {
    let scene = Scene::new().await;
    scene
        .sql("update lockgate.task_runs set driven_by = 'caller', status = 'running'")
        .await;
    assert_eq!(scene.cause().await["cause"], "caller_driven");
}

#[tokio::test]
async fn no_live_replica_has_the_workflow() {
    let changes = [
        "workflows = '{weekly-mail}'",
        "seen_at = clock_timestamp() - interval '2 hours'",
        "stopped_at = clock_timestamp()",
        "roles = '{leader}'",
    ];
    let scene = Scene::new().await;
    for change in changes {
        scene
            .sql(&format!("begin; update lockgate.replicas set {change}; commit"))
            .await;
        let cause = scene.cause().await;
        assert_eq!(
            (cause["cause"].as_str(), cause["workflow"].as_str()),
            (Some("no_replica"), Some("daily-mail"))
        );
        scene
            .sql(
                "update lockgate.replicas set workflows = '{daily-mail}', seen_at = clock_timestamp(), stopped_at = null,
                     roles = '{worker,leader}'",
            )
            .await;
        assert_eq!(scene.cause().await["cause"], "nothing_holds");
    }
}

#[tokio::test]
async fn all_replicas_are_draining() {
    let scene = Scene::new().await;
    scene.sql("update lockgate.replicas set draining = true").await;
    assert_eq!(scene.cause().await["cause"], "all_draining");
}

#[tokio::test]
async fn no_replica_has_brokers() {
    let scene = Scene::new().await.planned().await;
    scene.sql("update lockgate.replicas set window_size = 0").await;
    let cause = scene.cause().await;
    assert_eq!(
        (cause["cause"].as_str(), cause["replicas"].as_u64()),
        (Some("no_brokers"), Some(1))
    );
    // One that has some sends it.
    scene
        .sql(
            "insert into lockgate.replicas (id, version, roles, workflows, stale_after, window_size)
                 values (gen_random_uuid(), 'test', '{worker}', '{daily-mail}', '1 hour', 100)",
        )
        .await;
    assert_eq!(scene.cause().await["cause"], "nothing_holds");
}

#[tokio::test]
async fn a_breaker_is_open() {
    let scene = Scene::new().await.planned().await;
    scene
        .sql(
            r#"update lockgate.replicas set breakers =
                 '[{"topic": "email_commands", "state": "open", "since": "2026-01-01T00:00:00Z", "reason": "topic missing"}]'"#,
        )
        .await;
    let cause = scene.cause().await;
    assert_eq!(cause["cause"], "breaker_open");
    assert_eq!(
        text(&cause),
        "the breaker of topic email_commands is open since 2026-01-01 00:00:00Z on 1 replica: topic missing"
    );
}

#[tokio::test]
async fn batches_are_held() {
    let scene = Scene::new().await.held("1 minute").await;
    let cause = scene.cause().await;
    assert_eq!(
        (cause["cause"].as_str(), cause["batches"].as_i64()),
        (Some("batches_held"), Some(2))
    );
    assert_eq!(cause["replica"], REPLICA);
    assert!(text(&cause).contains(" until 20"), "{cause}");
}

#[tokio::test]
async fn leases_are_overdue_and_nobody_leads() {
    let scene = Scene::new().await.held("-5 seconds").await;
    let cause = scene.cause().await;
    assert_eq!(
        (cause["cause"].as_str(), cause["batches"].as_i64()),
        (Some("lease_overdue"), Some(2))
    );
    scene
        .sql("update lockgate.leader_lease set expires_at = clock_timestamp() - interval '1 minute'")
        .await;
    let causes = scene.causes().await;
    assert_eq!(causes[0]["cause"], "lease_overdue");
    assert_eq!(causes[1]["cause"], "no_leader");
    assert!(causes[1]["since"].is_string());
    scene.sql("delete from lockgate.leader_lease").await;
    assert_eq!(scene.causes().await[1]["since"], Value::Null);
}

#[tokio::test]
async fn a_window_is_full() {
    let scene = Scene::new().await.planned().await;
    scene.sql("update lockgate.replicas set window_used = 100").await;
    let cause = scene.cause().await;
    assert_eq!(
        (cause["cause"].as_str(), cause["used"].as_i64()),
        (Some("window_full"), Some(100))
    );
}

#[tokio::test]
async fn batches_wait_for_a_retry() {
    let scene = Scene::new().await.planned().await;
    scene
        .sql("update lockgate.run_batches set not_before = clock_timestamp() + seq * interval '1 minute'")
        .await;
    let cause = scene.cause().await;
    assert_eq!(
        (cause["cause"].as_str(), cause["batches"].as_i64()),
        (Some("waiting_for_retry"), Some(2))
    );
}

#[tokio::test]
async fn it_is_paced() {
    let scene = Scene::new().await.planned().await;
    scene
        .sql("update lockgate.task_runs set pace_per_s = 5, pace_next_at = clock_timestamp() + interval '1 minute'")
        .await;
    assert_eq!(scene.cause().await["cause"], "pacing");
}

#[tokio::test]
async fn planning_is_not_finished() {
    let scene = Scene::new().await.planned().await;
    scene
        .sql("update lockgate.run_steps set planned_at = null; delete from lockgate.run_batches")
        .await;
    assert_eq!(scene.cause().await["replica"], Value::Null);
    scene
        .sql(&format!(
            "update lockgate.task_runs set claim_id = gen_random_uuid(), claimed_by = '{REPLICA}',
                    lease_until = clock_timestamp() + interval '1 minute'"
        ))
        .await;
    let cause = scene.cause().await;
    assert_eq!(
        (cause["cause"].as_str(), cause["replica"].as_str()),
        (Some("planning"), Some(REPLICA))
    );
    assert_eq!(cause["step"], "0:mails");
}

#[tokio::test]
async fn its_code_runs_later_or_when_woken() {
    let scene = Scene::new().await;
    let asleep = "update lockgate.task_runs set status = 'suspended', started_at = clock_timestamp(), wake_at = ";
    scene
        .sql(&format!("{asleep} clock_timestamp() + interval '1 minute'"))
        .await;
    assert_eq!(scene.cause().await["cause"], "wakes_later");
    scene.sql(&format!("{asleep} null")).await;
    assert_eq!(scene.cause().await["cause"], "waits_to_be_woken");
}

#[tokio::test]
async fn a_stop_waits_for_batches_in_flight() {
    let scene = Scene::new().await.held("1 minute").await;
    scene.act("cancel").await;
    let causes = scene.causes().await;
    assert_eq!(causes[0]["cause"], "stop_requested");
    assert!(
        text(&causes[0]).ends_with("a test; it waits for 2 batches in flight, then it is cancelled"),
        "{causes:?}"
    );
    assert_eq!(causes[1]["cause"], "batches_held");
}

#[tokio::test]
async fn it_is_over() {
    let scene = Scene::new().await;
    scene.act("cancel").await;
    let cause = scene.cause().await;
    assert_eq!(
        (cause["cause"].as_str(), cause["status"].as_str()),
        (Some("over"), Some("cancelled"))
    );
    assert!(text(&cause).ends_with(": a test"), "{cause}");
}

#[tokio::test]
async fn an_old_snapshot_is_held() {
    let scene = Scene::new().await;
    let mut holder = scene.database.pool().begin().await.unwrap();
    // The snapshot is kept as long as the transaction.
    holder
        .execute("set transaction isolation level repeatable read")
        .await
        .unwrap();
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&mut *holder)
        .await
        .unwrap();
    let answer = scene.ask(&["--old-snapshot", "0s"]).await;
    let found = answer["causes"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (found["cause"].as_str(), found["pid"].as_i64()),
        (Some("old_snapshot"), Some(i64::from(pid)))
    );
    let calm = scene.ask(&[]).await;
    assert_eq!(
        calm["causes"].as_array().unwrap().len(),
        1,
        "a young one is no cause: {calm}"
    );
    holder.rollback().await.unwrap();
    let answer = scene.ask(&["--old-snapshot", "0s"]).await;
    assert_eq!(answer["causes"].as_array().unwrap().len(), 1, "{answer}");
}

#[tokio::test]
async fn nothing_holds_it() {
    let scene = Scene::new().await.planned().await;
    scene
        .sql(
            "update lockgate.run_batches set status = 'done', delivered = 10, refused = 0, unknown = 0, skipped = 0,
                    vanished = 0, finished_at = clock_timestamp() where seq = 1",
        )
        .await;
    let cause = scene.cause().await;
    assert_eq!(cause["cause"], "nothing_holds");
    assert_eq!(
        text(&cause),
        "nothing holds it: 1 batch finished in the last minute, 1 waiting, 0 in flight"
    );
}

#[tokio::test]
async fn text_is_one_line_a_cause() {
    let scene = Scene::new().await.held("-5 seconds").await;
    scene.sql("delete from lockgate.leader_lease").await;
    let said = Program::new(BIN, scene.database.url())
        .run(&["runs", "why", &scene.run])
        .await
        .exits(0)
        .out;
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.lines().next().unwrap().contains("waiting for the sweep"), "{said}");
}

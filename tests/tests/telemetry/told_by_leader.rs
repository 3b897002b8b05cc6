//! What is done in SQL, where nobody counts it, is told by the leader: once.

use lockgate_tests::cluster::Cluster;
use lockgate_tests::collector::{Collector, Seen};
use serde_json::json;
use uuid::Uuid;

use crate::support::cluster;

async fn do_in(cluster: &Cluster, sql: &'static str, run: Uuid) {
    sqlx::query(sql).bind(run).execute(&cluster.pool).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_that_no_process_counts_are_counted_once() {
    let collector = Collector::start().await;
    let cluster = cluster(&collector).await;
    let mut replicas = [cluster.replica(), cluster.replica()];
    for replica in &mut replicas {
        replica.runs().await;
    }
    let broken = json!({"steps": 1, "breaks": 0});
    let run = cluster.start("chaos-steps", broken.clone()).await;
    cluster.reaches(run, "failed").await;
    let mut transaction = cluster.pool.begin().await.unwrap();
    sqlx::query("select lockgate.start_run('chaos-steps')")
        .execute(&mut *transaction)
        .await
        .unwrap();
    transaction.rollback().await.unwrap();
    let program = cluster.settings().iter().fold(
        lockgate_tests::cli::Program::without_database(lockgate_tests::cluster::program().to_str().unwrap()),
        |program, (name, value)| program.env(name, value),
    );
    let params = broken.to_string();
    for _ in 0..2 {
        let start = ["start", "chaos-steps", "--params", &params, "--key", "once"];
        assert_eq!(program.run(&start).await.code, 0);
    }
    do_in(&cluster, "select lockgate.retry_run($1)", run).await;
    let from = |seen: &Seen, by: &str| seen.total("lockgate.runs.started", &[("lockgate.from", by)]);
    collector
        .wait_for("all starts are counted", |seen: &Seen| {
            ["sql", "cli", "repeat"].iter().all(|by| from(seen, by) >= 1.0)
        })
        .await;
    let left: i64 = sqlx::query_scalar("select count(*) from lockgate.untold where started_by is not null")
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    assert_eq!(left, 0);
    let before = collector.seen().metric_exports;
    collector
        .wait_for("what was counted is told", |seen| seen.metric_exports > before + 4)
        .await;
    let seen = collector.seen();
    assert_eq!(["sql", "cli", "repeat"].map(|by| from(&seen, by)), [1.0; 3]);
    assert_eq!(seen.total("lockgate.runs.started", &[]), 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_end_while_nobody_holds_them_have_their_span() {
    let collector = Collector::start().await;
    let cluster = cluster(&collector).await;
    let mut replica = cluster.replica();
    replica.runs().await;
    // Nobody has its code.
    let overdue: Uuid = sqlx::query_scalar("select lockgate.start_run('elsewhere', deadline => interval '1 second')")
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    let asleep = cluster.start("chaos-steps", json!({"nap_ms": 600_000})).await;
    let deadly = cluster.start("elsewhere", json!({})).await;
    // As four holders left it who died one after the other.
    do_in(
        &cluster,
        "update lockgate.task_runs set status = 'running', claim_token = 4, claim_id = gen_random_uuid(), alone = true,
            claimed_by = gen_random_uuid(), claimed_at = clock_timestamp(), lease_until = clock_timestamp(), wake_at = null,
            rank = null, attempts = 100, started_at = clock_timestamp() where id = $1",
        deadly,
    )
    .await;
    cluster.reaches(asleep, "suspended").await;
    do_in(&cluster, "select lockgate.cancel_run($1)", asleep).await;
    for (run, outcome) in [(overdue, "failed"), (asleep, "cancelled"), (deadly, "quarantined")] {
        let trace = run.simple().to_string();
        collector
            .wait_for("the run's span has come", |seen: &Seen| {
                seen.spans_of(&trace).iter().any(|span| span.name.starts_with("run "))
            })
            .await;
        let seen = collector.seen();
        let spans = seen.spans_of(&trace);
        let mut roots = spans.iter().filter(|span| span.name.starts_with("run "));
        let root = roots.next().unwrap();
        assert!(roots.next().is_none(), "{spans:#?}");
        assert_eq!(root.attributes["lockgate.outcome"], outcome);
        assert_eq!(root.attributes["lockgate.run.id"], run.to_string());
        assert_eq!(root.failed, outcome != "cancelled");
    }
    collector
        .wait_for("they are counted", |seen: &Seen| {
            let ended = |end| seen.total("lockgate.runs.ended", &[("lockgate.outcome", end)]);
            ["failed", "cancelled", "quarantined"].map(ended) == [1.0; 3]
        })
        .await;
}

/// The run's one end is counted, and its span is there once.
async fn is_told_once(collector: &Collector, run: Uuid, outcome: &str) {
    let trace = run.simple().to_string();
    let ended = |seen: &Seen| seen.total("lockgate.runs.ended", &[("lockgate.outcome", outcome)]);
    let roots = |seen: &Seen| {
        let spans = seen.spans_of(&trace);
        spans.iter().filter(|span| span.name.starts_with("run ")).count()
    };
    collector
        .wait_for("its end is told", |seen| ended(seen) >= 1.0 && roots(seen) >= 1)
        .await;
    let before = collector.seen().metric_exports;
    collector
        .wait_for("whatever was counted is told", |seen| seen.metric_exports > before + 4)
        .await;
    let seen = collector.seen();
    assert_eq!((ended(&seen), roots(&seen)), (1.0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_runs_too_long_once_too_often_is_told_of() {
    let collector = Collector::start().await;
    let cluster = cluster(&collector).await;
    sqlx::query("select lockgate.set_queue('chaos-steps', max_attempt => interval '1 second')")
        .execute(&cluster.pool)
        .await
        .unwrap();
    let mut replica = cluster.replica();
    replica.runs().await;
    let run = cluster
        .start("chaos-steps", json!({"steps": 1, "step_ms": 600_000}))
        .await;
    // As four claims before this one left it.
    do_in(
        &cluster,
        "update lockgate.task_runs set overruns = 4 where id = $1",
        run,
    )
    .await;
    cluster.reaches(run, "quarantined").await;
    is_told_once(&collector, run, "quarantined").await;
}

/// It is asked to stop, and ends when its batches are back.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_with_batches_unfinished_is_counted_once() {
    let collector = Collector::start().await;
    let cluster = cluster(&collector).await;
    let mut replica = cluster.replica();
    replica.runs().await;
    let plan = json!({"items": 10, "signal_ms": 600_000, "fails": true});
    let run = cluster.start("chaos-steps", plan).await;
    cluster.reaches(run, "suspended").await;
    lockgate_tests::wait_until(lockgate_tests::replica::PATIENCE, "its batch is done", async || {
        cluster.batches_done(run).await == 1
    })
    .await;
    let held = "update lockgate.run_batches set status = 'claimed', claim_id = gen_random_uuid(), finished_at = null,
                    lease_until = clock_timestamp() + interval '1 hour', delivered = null, refused = null, unknown = null,
                    skipped = null, vanished = null where run_id = $1";
    do_in(&cluster, held, run).await;
    do_in(&cluster, "select lockgate.signal_run($1, 'go', 'null')", run).await;
    let stopping =
        "select count(*) from lockgate.task_runs where id = $1 and stop_status = 'failed' and claim_id is null";
    lockgate_tests::wait_until(lockgate_tests::replica::PATIENCE, "it is to end", async || {
        cluster.count(stopping, run).await == 1
    })
    .await;
    let back = "update lockgate.run_batches set status = 'done', lease_until = null, finished_at = clock_timestamp(),
                    delivered = n_items, refused = 0, unknown = 0, skipped = 0, vanished = 0 where run_id = $1";
    do_in(&cluster, back, run).await;
    cluster.reaches(run, "failed").await;
    is_told_once(&collector, run, "failed").await;
}

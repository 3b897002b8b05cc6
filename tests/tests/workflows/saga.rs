//! What a run did is undone when it fails or is stopped, and branches that lose leave nothing behind.

use lockgate_tests::chaos_steps::effects;
use lockgate_tests::cli::Program;
use lockgate_tests::cluster::program;
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::steps_story::{Story, assert_once_but};
use lockgate_tests::wait_until;
use serde_json::{Value, json};

const BEGUN: &str = "select count(*) from lockgate.run_steps where run_id = $1 and kind = 'undoable' and path = '2:do'";

async fn text(story: &Story, sql: &'static str) -> String {
    sqlx::query_scalar(sql)
        .bind(story.run)
        .fetch_one(&story.cluster.pool)
        .await
        .unwrap()
}

/// Everything that can be undone is, as often as it was done.
async fn assert_undone(story: &Story, steps: usize, transactions: usize) {
    let done = effects(&story.cluster.pool, story.run).await;
    for number in 0..steps {
        assert_eq!(done[&format!("undo {number}")], 1, "{done:?}");
    }
    for number in 0..transactions {
        assert_eq!(done[&format!("strike {number}")], 1, "{done:?}");
    }
    assert_once_but(&done, &[]);
    assert_eq!(text(story, "select lockgate.not_undone($1)::text").await, "{}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_fails_is_undone_last_step_first() {
    let story = Story::begin(json!({"undoables": 2, "undoable_transactions": 2, "fails": true})).await;
    let _replica = story.cluster.replica();
    story.cluster.reaches(story.run, "failed").await;
    assert_undone(&story, 2, 2).await;
    let order = "select string_agg(path, ' ' order by finished_at) from lockgate.run_steps
                  where run_id = $1 and path like 'undo/%'";
    assert_eq!(
        text(&story, order).await,
        "undo/4:enter undo/3:enter undo/2:do undo/1:do"
    );
    let reason = text(&story, "select reason from lockgate.task_runs where id = $1").await;
    assert_eq!(reason, "it was to fail");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_run_is_woken_by_its_cancellation_to_be_undone() {
    let story = Story::begin(json!({"undoables": 2, "undoable_transactions": 1, "signal_ms": 3_600_000})).await;
    let _replica = story.cluster.replica();
    story.cluster.reaches(story.run, "suspended").await;
    assert_eq!(
        text(&story, "select lockgate.cancel_run($1, 'enough')").await,
        "stopping"
    );
    story.cluster.reaches(story.run, "cancelled").await;
    assert_undone(&story, 2, 1).await;
    let audit = "select string_agg(to_status, ' ' order by id) from lockgate.transitions
                  where run_id = $1 and entity = 'run' and to_status in ('stopping', 'undoing', 'cancelled')";
    assert_eq!(text(&story, audit).await, "stopping undoing cancelled");
}

/// The step under way ends and is recorded; then everything is undone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_working_run_is_cancelled_after_the_step_it_is_at_and_undone() {
    let story = Story::begin(json!({"undoables": 100, "step_ms": 300})).await;
    let _replica = story.cluster.replica();
    wait_until(PATIENCE, "the second step has begun", async || {
        story.count(BEGUN).await == 1
    })
    .await;
    assert_eq!(
        text(&story, "select lockgate.cancel_run($1, 'enough')").await,
        "stopping"
    );
    story.cluster.reaches(story.run, "cancelled").await;
    let done =
        "select count(*) from lockgate.run_steps where run_id = $1 and kind = 'undoable' and status = 'completed'";
    let done = story.count(done).await;
    assert!((2..100).contains(&done), "{done}");
    assert_undone(&story, usize::try_from(done).unwrap(), 0).await;
}

/// Its holder is killed after the cancellation, and whoever comes next undoes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_holder_is_killed_while_it_is_cancelled_is_undone_by_another() {
    let story = Story::begin(json!({"undoables": 3, "step_ms": 6_000})).await;
    let mut first = story.cluster.replica();
    wait_until(PATIENCE, "the second step has begun", async || {
        story.count(BEGUN).await == 1
    })
    .await;
    first.freeze();
    assert_eq!(
        text(&story, "select lockgate.cancel_run($1, 'enough')").await,
        "stopping"
    );
    first.kill();
    story.cluster.end_leases().await;
    let _second = story.cluster.replica();
    story.cluster.reaches(story.run, "cancelled").await;
    let done = effects(&story.cluster.pool, story.run).await;
    assert_eq!(
        (done["undo 0"], done["undo 1"], done.get("undo 2")),
        (1, 1, None),
        "{done:?}"
    );
    assert_eq!(story.recovered().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_past_its_deadline_is_undone() {
    let story = Story::begin(json!({"undoables": 1, "signal_ms": 3_600_000})).await;
    let _replica = story.cluster.replica();
    story.cluster.reaches(story.run, "suspended").await;
    sqlx::query("update lockgate.task_runs set deadline_at = clock_timestamp() where id = $1")
        .bind(story.run)
        .execute(&story.cluster.pool)
        .await
        .unwrap();
    story.cluster.reaches(story.run, "failed").await;
    assert_undone(&story, 1, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_force_nothing_is_undone_and_it_is_written_down() {
    let story = Story::begin(json!({"undoables": 2, "signal_ms": 3_600_000})).await;
    let mut replica = story.cluster.replica();
    story.cluster.reaches(story.run, "suspended").await;
    replica.terminate();
    replica.ends().await;
    let cli = Program::new(program().to_str().unwrap(), story.cluster.url());
    let run = story.run.to_string();
    let answer = |out: String| serde_json::from_str::<Value>(&out).unwrap()["status"].clone();
    let asked = cli
        .run(&["--output", "json", "runs", "cancel", &run, "--reason", "enough"])
        .await;
    assert_eq!(answer(asked.exits(0).out), "stopping");
    let forced = cli
        .run(&[
            "--output", "json", "runs", "cancel", &run, "--force", "--reason", "at once",
        ])
        .await;
    assert_eq!(answer(forced.exits(0).out), "cancelled");
    let reason = "at once; by force, not undone: 2:do, 1:do";
    assert_eq!(
        text(&story, "select reason from lockgate.task_runs where id = $1").await,
        reason
    );
    let audit = "select string_agg(concat_ws(':', to_status, reason), ' | ' order by id) from lockgate.transitions
                  where run_id = $1 and entity = 'run' and actor is not null and to_status = 'stopping'";
    assert_eq!(
        text(&story, audit).await,
        format!("stopping:enough | stopping:{reason}")
    );
    assert!(!effects(&story.cluster.pool, story.run).await.contains_key("undo 0"));
}

/// What lost is not sent; what somebody had begun is, and the run ends after it, with nothing that does not add up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fan_out_that_loses_a_select_is_cut_short() {
    let mut story = Story::begin(json!({"steps": 0})).await;
    let plan = json!({"items": 100_000, "items_within_ms": 8_000});
    story.run = story.cluster.start_paced("chaos-steps", plan, Some(2_000)).await;
    let _replicas = [story.cluster.replica(), story.cluster.replica()];
    story.cluster.completes(story.run).await;
    let sent = "select coalesce(sum(n_items), 0) from lockgate.run_batches where run_id = $1 and status = 'done'";
    let sent = story.count(sent).await;
    assert!((500..100_000).contains(&sent), "{sent}");
    let summary = text(
        &story,
        "select convert_from(result, 'UTF8') from lockgate.run_steps
                                 where run_id = $1 and kind = 'fan_out' and status = 'completed'",
    )
    .await;
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(
        (&summary["items"], &summary["delivered"]),
        (&json!(sent), &json!(sent)),
        "{summary}"
    );
    assert_eq!(story.count("select count(*) from lockgate.proof_problems($1)").await, 0);
}

//! W: deaths around the steps of a durable workflow.

use std::collections::BTreeMap;
use std::time::Duration;

use lockgate_tests::chaos_steps::{create_effects, effects};
use lockgate_tests::cluster::Cluster;
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::steps_story::{Story, assert_once_but};
use lockgate_tests::wait_until;
use serde_json::{Value, json};
use uuid::Uuid;

/// A replica dies at a point, another goes on; what was done how often.
async fn dies_at(point: &str, plan: Value) -> BTreeMap<String, i64> {
    let story = Story::begin(plan).await;
    story.cluster.dies_at(point).await;
    let _replica = story.cluster.replica();
    let (told, effects) = story.ends().await;
    println!("{point}: {effects:?}");
    assert!(told.from < told.to);
    effects
}

/// A process that starts runs in the company of a replica dies when it starts the second one, which begins at once.
async fn dies_starting(point: &str) -> (Cluster, i64) {
    let cluster = Cluster::new().await.patient();
    create_effects(&cluster.pool).await;
    let url = cluster.url().to_owned();
    let cluster = cluster.with("LOCKGATE_CHAOS_EFFECTS", &url);
    let mut starter = cluster.replica_called(
        &["start-beside", "3", "{\"steps\": 2}"],
        &[("LOCKGATE_CRASH_AT", point)],
    );
    starter.crashes().await;
    cluster.end_leases().await;
    let log = starter.log();
    let started = log.lines().filter(|line| line.starts_with("started "));
    assert_eq!(started.count(), 1, "{log}");
    let begun = "select count(*) from lockgate.task_runs where claim_id is not null";
    let begun: i64 = sqlx::query_scalar(begun).fetch_one(&cluster.pool).await.unwrap();
    (cluster, begun)
}

async fn all_complete(cluster: &Cluster) -> Vec<Uuid> {
    let _replica = cluster.replica();
    let runs = "select id from lockgate.task_runs order by id";
    let runs: Vec<Uuid> = sqlx::query_scalar(runs).fetch_all(&cluster.pool).await.unwrap();
    for run in &runs {
        cluster.completes(*run).await;
        assert_once_but(&effects(&cluster.pool, *run).await, &[]);
    }
    runs
}

pub async fn before_starts() {
    let (cluster, begun) = dies_starting("start_runs.before_commit:2").await;
    assert_eq!((begun, all_complete(&cluster).await.len()), (0, 1));
}

pub async fn after_starts() {
    let (cluster, begun) = dies_starting("start_runs.after_commit:2").await;
    assert_eq!(begun, 1, "born claimed");
    let runs = all_complete(&cluster).await;
    assert_eq!(runs.len(), 2);
    let recovered = "select count(*) from lockgate.transitions where run_id = $1 and reason = 'lease ended'";
    assert_eq!(cluster.count(recovered, runs[1]).await, 1);
}

pub async fn after_a_claim() {
    let effects = dies_at("claim_runs.after_commit", json!({"steps": 2})).await;
    assert_eq!(effects.len(), 3);
    assert_once_but(&effects, &[]);
}

pub async fn before_a_checkpoint() {
    let effects = dies_at("step.before_save:2", json!({"steps": 3})).await;
    assert_eq!(effects.len(), 4);
    assert_once_but(&effects, &[("step 1", 2)]);
}

pub async fn before_a_group() {
    let effects = dies_at("steps.before_commit:2", json!({"steps": 3})).await;
    assert_once_but(&effects, &[("step 1", 2)]);
}

pub async fn after_a_group() {
    let effects = dies_at("steps.after_commit:2", json!({"steps": 3})).await;
    assert_once_but(&effects, &[]);
}

pub async fn before_a_transaction() {
    let effects = dies_at("transaction.before_commit:2", json!({"transactions": 2})).await;
    assert_eq!(effects.len(), 3);
    assert_once_but(&effects, &[]);
}

pub async fn after_a_transaction() {
    let effects = dies_at("transaction.after_commit", json!({"transactions": 2})).await;
    assert_once_but(&effects, &[]);
}

pub async fn before_a_suspend() {
    naps("suspend.before_commit", 1).await;
}

pub async fn after_a_suspend() {
    naps("suspend.after_commit", 0).await;
}

/// The nap is as long as it was to be, counted from when it began, whoever died meanwhile.
async fn naps(point: &str, recovered: i64) {
    // Not so short that a machine which takes its time sits it out instead.
    let story = Story::begin(json!({"steps": 1, "nap_ms": 8_000})).await;
    story.cluster.dies_at(point).await;
    let _replica = story.cluster.replica();
    let (told, effects) = story.ends().await;
    assert_once_but(&effects, &[]);
    assert_eq!(story.recovered().await, recovered);
    assert!(
        told.to - told.from >= chrono::TimeDelta::milliseconds(8_000),
        "{told:?}"
    );
    let begun = "select count(*)
                   from lockgate.run_steps s, lockgate.run_steps e
                  where s.run_id = $1 and e.run_id = $1 and s.kind = 'sleep' and e.path = '1:work' and s.due_at is null
                    and s.finished_at - e.finished_at = interval '8 seconds'";
    assert_eq!(story.count(begun).await, 1);
}

/// It is told when the run is about to be let go of, or just was.
pub async fn signalled_while_it_suspends() {
    for late in [Duration::ZERO, Duration::from_millis(5), Duration::from_millis(20)] {
        let story = Story::begin(json!({"steps": 1, "step_ms": 300, "signal_ms": 60_000})).await;
        let _replica = story.cluster.replica();
        wait_until(PATIENCE, "the step is recorded", async || {
            story
                .count("select count(*) from lockgate.run_steps where run_id = $1 and kind = 'step'")
                .await
                > 0
        })
        .await;
        tokio::time::sleep(late).await;
        assert_eq!(story.signal(json!({"late": late.as_millis()})).await, "sent");
        let (told, _) = story.ends().await;
        assert_eq!(told.signal, Some(json!({"late": late.as_millis()})));
    }
}

/// Of three steps that are undone, last one first, whoever dies at the second undoes that one twice, unless it was recorded.
pub async fn around_the_record_of_an_undo() {
    for (point, recorded) in [("undo.before_save:2", 0), ("undo.after_save:2", 1)] {
        let story = Story::begin(json!({"undoables": 3, "undoable_transactions": 1, "fails": true})).await;
        story.cluster.dies_at(point).await;
        let undone = "select count(*) from lockgate.run_steps where run_id = $1 and path = 'undo/2:do'";
        assert_eq!(story.count(undone).await, recorded, "{point}");
        let _replica = story.cluster.replica();
        story.cluster.reaches(story.run, "failed").await;
        let effects = effects(&story.cluster.pool, story.run).await;
        assert_eq!(effects.len(), 8, "{point}: {effects:?}");
        assert_once_but(&effects, &[("undo 1", 2 - recorded)]);
        let order = "select count(*) from lockgate.run_steps u, lockgate.run_steps l
                      where u.run_id = $1 and l.run_id = $1 and u.path = 'undo/3:do' and l.path = 'undo/1:do'
                        and u.finished_at < l.finished_at";
        assert_eq!(story.count(order).await, 1, "{point}");
    }
}

pub async fn before_a_select() {
    let effects = dies_at("select.before_commit", json!({"race_ms": 1_500})).await;
    assert_once_but(&effects, &[]);
    assert!(effects.contains_key("late"), "{effects:?}");
}

pub async fn after_a_select() {
    let effects = dies_at("select.after_commit", json!({"race_ms": 1_500})).await;
    assert_once_but(&effects, &[]);
}

pub async fn before_an_end() {
    let effects = dies_at("endings.before_commit", json!({"steps": 2})).await;
    assert_once_but(&effects, &[]);
}

/// The place of a dead holder is free again with its lease: the next run of the queue is not kept back.
pub async fn around_a_limited_claim() {
    for (point, deaths) in [("limits.before_commit", 0), ("limits.after_claim", 1)] {
        let story = Story::begin(json!({"steps": 2})).await;
        let set = "select lockgate.set_queue('chaos-steps', max_running => 1, holds => 'run')";
        sqlx::query(set).execute(&story.cluster.pool).await.unwrap();
        story.cluster.dies_at(point).await;
        let held = "select count(*) from lockgate.task_runs where id = $1 and holds is not null";
        assert_eq!(story.count(held).await, deaths, "{point}");
        let _replica = story.cluster.replica();
        let (_, effects) = story.ends().await;
        assert_once_but(&effects, &[]);
        assert_eq!(story.recovered().await, deaths, "{point}");
        let next = story.cluster.start("chaos-steps", json!({"steps": 1})).await;
        story.cluster.completes(next).await;
    }
}

/// A holder that stood still while another took over: what it does afterwards has happened, what it writes has not.
pub async fn zombie() {
    let plan = json!({"steps": 2, "step_ms": 6_000, "transactions": 1});
    let story = Story::begin_on(Cluster::new().await, plan).await;
    let mut first = story.cluster.replica();
    wait_until(PATIENCE, "a step is under way", async || {
        effects(&story.cluster.pool, story.run).await.len() == 2
    })
    .await;
    first.freeze();
    let _second = story.cluster.replica();
    let (_, done) = story.ends().await;
    let rows = "select count(*) from lockgate.run_steps where run_id = $1";
    let recorded = story.count(rows).await;
    first.thaw();
    // It learns that it lost the run, stops, and can be asked to end in good order.
    first.says("lease").await;
    first.terminate();
    first.ends().await;
    assert_once_but(&done, &[("step 1", 2)]);
    assert_eq!(effects(&story.cluster.pool, story.run).await["transaction 0"], 1);
    assert_eq!((story.count(rows).await, story.recovered().await), (recorded, 1));
    story.cluster.completes(story.run).await;
}

//! W: deaths around children, around runs that go on as others, and around what runs publish.

use std::collections::BTreeMap;

use lockgate_tests::chaos_steps::create_effects;
use lockgate_tests::cluster::{Cluster, RECOVERY};
use lockgate_tests::invariants::{liveness_violations, safety_violations};
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::wait_until;
use serde_json::{Value, json};
use uuid::Uuid;

/// A replica dies at a point; what is left is for others.
async fn dies_at(point: &str, plan: Value) -> (Cluster, Uuid) {
    let (cluster, run) = family(plan).await;
    cluster.dies_at(point).await;
    (cluster, run)
}

/// A parent with nobody to run it yet.
async fn family(plan: Value) -> (Cluster, Uuid) {
    let cluster = with_effects().await;
    let run = cluster.start("chaos-family", plan).await;
    (cluster, run)
}

async fn with_effects() -> Cluster {
    let cluster = Cluster::new().await.patient();
    create_effects(&cluster.pool).await;
    let url = cluster.url().to_owned();
    cluster.with("LOCKGATE_CHAOS_EFFECTS", &url)
}

async fn count(cluster: &Cluster, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&cluster.pool).await.unwrap()
}

async fn holds(cluster: &Cluster) {
    assert_eq!(safety_violations(&cluster.pool).await, [""; 0]);
    assert_eq!(liveness_violations(&cluster.pool, RECOVERY).await, [""; 0]);
}

/// How often each leaf did its work.
async fn leaves(cluster: &Cluster) -> BTreeMap<String, i64> {
    let rows: Vec<(Uuid, i64)> = sqlx::query_as("select run_id, count(*) from effects group by run_id")
        .fetch_all(&cluster.pool)
        .await
        .unwrap();
    rows.into_iter().map(|(run, count)| (run.to_string(), count)).collect()
}

pub async fn starting_children() {
    for (point, least, most) in [("children.before_commit", 0, 19), ("children.after_commit", 1, 20)] {
        let (cluster, run) = dies_at(point, json!({"children": 20, "leaf_ms": 10})).await;
        let children = "select count(*) from lockgate.task_runs where parent_id is not null";
        let found = count(&cluster, children).await;
        assert!((least..=most).contains(&found), "{point}: {found} were started");
        // That a child and its step are there together is among them.
        assert_eq!(safety_violations(&cluster.pool).await, [""; 0], "{point}");
        let _replica = cluster.replica();
        cluster.reaches(run, "completed").await;
        assert_eq!(count(&cluster, children).await, 20, "{point}: one was started twice");
        let leaves = leaves(&cluster).await;
        assert_eq!(leaves.len(), 20, "{point}");
        holds(&cluster).await;
    }
}

/// The child is over; its parent sleeps, and nobody was there to wake it.
pub async fn waking_a_parent() {
    let (cluster, run) = family(json!({"children": 1, "leaf_waits": true})).await;
    let mut dying = cluster.replica_dying_at("parents.before_wake");
    // The child ends once its parent is asleep.
    let asleep = "select count(*) from lockgate.task_runs where status = 'suspended'";
    wait_until(PATIENCE, "both are asleep", async || count(&cluster, asleep).await == 2).await;
    let tell = "select count(lockgate.signal_run(id, 'go')) from lockgate.task_runs where parent_id is not null";
    assert_eq!(count(&cluster, tell).await, 1);
    dying.crashes().await;
    cluster.end_leases().await;
    let over = "select count(*) from lockgate.task_runs where parent_id = $1 and finished_at is not null";
    assert_eq!(
        (cluster.status(run).await.as_str(), cluster.count(over, run).await),
        ("suspended", 1)
    );
    let _replica = cluster.replica();
    cluster.reaches(run, "completed").await;
    assert!(leaves(&cluster).await.values().all(|count| *count == 1));
    holds(&cluster).await;
}

/// The run of a past slot is over; the next one waits for it, and nobody was there to wake it.
pub async fn waking_the_next_slot() {
    let cluster = with_effects().await;
    let slots = "with made as (
            insert into lockgate.schedules (name, workflow, cron, params)
            values ('yearly', 'chaos-family', '0 3 1 1 *', '{\"children\": 1}') returning name)
        select count(*) from made";
    assert_eq!(count(&cluster, slots).await, 1);
    let start = "select count(*) from lockgate.backfill_schedule('yearly', array[timestamptz '2021-01-01 03:00Z', '2022-01-01 03:00Z'])";
    assert_eq!(count(&cluster, start).await, 2);
    cluster.dies_at("followers.before_wake").await;
    let over = "select count(*) from lockgate.task_runs where schedule = 'yearly' and status = 'completed'";
    let asleep =
        "select count(*) from lockgate.task_runs where schedule = 'yearly' and status = 'queued' and wake_at is null";
    assert_eq!((count(&cluster, over).await, count(&cluster, asleep).await), (1, 1));
    let _replica = cluster.replica();
    wait_until(PATIENCE, "the next slot's run is over", async || {
        count(&cluster, over).await == 2
    })
    .await;
    holds(&cluster).await;
}

pub async fn going_on() {
    for (point, runs) in [("continue.before_commit", 1), ("continue.after_commit", 2)] {
        let (cluster, _) = dies_at(point, json!({"rounds": 2})).await;
        let all = "select count(*) from lockgate.task_runs";
        assert_eq!(count(&cluster, all).await, runs, "{point}");
        let _replica = cluster.replica();
        let over = "select count(*) from lockgate.task_runs where status = 'completed'";
        wait_until(PATIENCE, "the last one is over", async || {
            count(&cluster, over).await == 3
        })
        .await;
        assert_eq!(count(&cluster, all).await, 3, "{point}");
        let leaves = leaves(&cluster).await;
        assert!(
            leaves.len() == 3 && leaves.values().all(|count| *count == 1),
            "{point}: {leaves:?}"
        );
        holds(&cluster).await;
    }
}

/// More children than a page stops.
pub async fn stopping_children() {
    let plan = json!({"children": 450, "forgets": true, "leaf_waits": true, "fails": true});
    let (cluster, run) = dies_at("stop_children.mid", plan).await;
    let left = "select count(*) from lockgate.task_runs where parent_id = $1 and stop_status is null";
    assert_eq!(cluster.status(run).await, "failed");
    let found = cluster.count(left, run).await;
    assert!((1..450).contains(&found), "{found} are left");
    let _replica = cluster.replica();
    let cancelled = "select count(*) from lockgate.task_runs where parent_id = $1 and status = 'cancelled'";
    wait_until(PATIENCE, "all are cancelled", async || {
        cluster.count(cancelled, run).await == 450
    })
    .await;
    let open = "select count(*) from lockgate.run_steps where run_id = $1 and status = 'open'";
    wait_until(PATIENCE, "no step waits for them", async || {
        cluster.count(open, run).await == 0
    })
    .await;
    holds(&cluster).await;
}

/// More children of a branch that loses than a page stops; its run sleeps on.
pub async fn stopping_lost_children() {
    let (cluster, run) = family(json!({"children": 650, "leaf_waits": true, "loses": true})).await;
    let mut dying = cluster.replica_dying_at("stop_lost_children.mid");
    let waits = "select count(*) from lockgate.run_steps where run_id = $1 and kind = 'child' and status = 'open'";
    wait_until(PATIENCE, "all children are started", async || {
        cluster.count(waits, run).await == 650
    })
    .await;
    let told: String = sqlx::query_scalar("select lockgate.signal_run($1, 'lose', 'null')")
        .bind(run)
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    assert_eq!(told, "sent");
    dying.crashes().await;
    cluster.end_leases().await;
    let left = cluster.count(waits, run).await;
    assert!((1..650).contains(&left), "{left} are left");
    let _replica = cluster.replica();
    let cancelled = "select count(*) from lockgate.task_runs where parent_id = $1 and status = 'cancelled'";
    wait_until(PATIENCE, "all are cancelled", async || {
        cluster.count(cancelled, run).await == 650
    })
    .await;
    wait_until(PATIENCE, "no step waits for them", async || {
        cluster.count(waits, run).await == 0
    })
    .await;
    let over = "select count(*) from lockgate.task_runs where id = $1 and finished_at is not null";
    assert_eq!(cluster.count(over, run).await, 0, "it waits on");
    holds(&cluster).await;
}

pub async fn publishing() {
    for point in ["publications.before_commit:2", "publications.after_commit:2"] {
        let (cluster, run) = dies_at(point, json!({"publish": 3})).await;
        let _replica = cluster.replica();
        cluster.reaches(run, "completed").await;
        wait_until(PATIENCE, "all is sent", async || {
            count(&cluster, "select count(*) from lockgate.outbox").await == 0
        })
        .await;
        let output: Vec<u8> = sqlx::query_scalar("select output from lockgate.task_runs where id = $1")
            .bind(run)
            .fetch_one(&cluster.pool)
            .await
            .unwrap();
        let output: Value = serde_json::from_slice(&output).unwrap();
        let mut copies: BTreeMap<String, usize> = BTreeMap::new();
        for sent in cluster.topic.sent().await {
            *copies.entry(sent.message_id.to_string()).or_default() += 1;
        }
        assert_eq!(copies.len(), 3, "{point}");
        let told: Vec<&str> = output["published"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_str().unwrap())
            .collect();
        assert!(
            told.iter().all(|id| copies.contains_key(*id)),
            "{point}: {told:?} {copies:?}"
        );
        holds(&cluster).await;
    }
}

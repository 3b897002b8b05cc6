//! W: deaths around the commit of a claim of runs, and of what a sweep does with runs of the dead.

use lockgate_tests::chaos_steps::effects;
use lockgate_tests::cluster::{Cluster, RECOVERY};
use lockgate_tests::invariants::{liveness_violations, safety_violations};
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::steps_story::{Story, assert_once_but};
use lockgate_tests::wait_until;
use serde_json::json;

/// A run of two steps. In pooler mode what is written is in an explicit transaction, which is open before its commit.
async fn begin() -> Story {
    let cluster = Cluster::new().await.patient();
    let cluster = cluster.with("LOCKGATE_DATABASE_POOLER_MODE", "true");
    Story::begin_on(cluster, json!({"steps": 2})).await
}

/// One dies at a point of its first sweep. It leads and does nothing else, so that it cannot have claimed the run itself.
async fn dies_sweeping(story: &Story, point: &str) {
    let mut sweeping = story
        .cluster
        .replica_called(&["run", "--roles", "leader"], &[("LOCKGATE_CRASH_AT", point)]);
    sweeping.crashes().await;
    story.cluster.end_leases().await;
}

/// Nobody ever held it.
pub async fn before_a_claim() {
    let story = begin().await;
    story.cluster.dies_at("claim_runs.before_commit").await;
    let free = "select count(*) from lockgate.task_runs where id = $1 and status = 'queued' and claim_token = 0";
    assert_eq!(story.count(free).await, 1, "nothing of the claim is left");
    let _replica = story.cluster.replica();
    let (_, effects) = story.ends().await;
    assert_eq!(effects.len(), 3);
    assert_once_but(&effects, &[]);
    assert_eq!(story.recovered().await, 0);
}

/// Its holder dies between its first step and the record of that, then who takes it from the dead.
pub async fn recovering() {
    for (point, recovered) in [("recover_runs.before_commit", 0), ("recover_runs.after_commit", 1)] {
        let story = begin().await;
        story.cluster.dies_at("step.before_save").await;
        dies_sweeping(&story, point).await;
        let free = "select count(*) from lockgate.task_runs where id = $1 and claim_id is null and attempts = 1";
        let found = (story.recovered().await, story.count(free).await);
        assert_eq!(found, (recovered, recovered), "{point}");
        let _replica = story.cluster.replica();
        let (_, effects) = story.ends().await;
        assert_once_but(&effects, &[("step 0", 2)]);
        assert_eq!(story.recovered().await, 1, "{point}");
    }
}

/// A run that was asked to stop while a dead replica held it.
pub async fn ending() {
    for (point, status, ends) in [
        ("settle_stops.before_commit", "running", 0),
        ("settle_stops.after_commit", "cancelled", 1),
    ] {
        let story = begin().await;
        let (cluster, run) = (&story.cluster, story.run);
        cluster.dies_at("step.before_save").await;
        let told: String = sqlx::query_scalar("select lockgate.cancel_run($1)")
            .bind(run)
            .fetch_one(&cluster.pool)
            .await
            .unwrap();
        assert_eq!(told, "stopping", "{point}");
        dies_sweeping(&story, point).await;
        let ended = "select count(*) from lockgate.transitions where run_id = $1 and to_status = 'cancelled'";
        let untold = "select count(*) from lockgate.untold where run_id = $1 and ended_as = 'cancelled'";
        let left = (
            cluster.status(run).await,
            story.count(ended).await,
            story.count(untold).await,
        );
        assert_eq!(left, (status.to_owned(), ends, ends), "{point}");
        let _replica = cluster.replica();
        cluster.reaches(run, "cancelled").await;
        wait_until(PATIENCE, "its end is told", async || story.count(untold).await == 0).await;
        assert_eq!(story.count(ended).await, 1, "{point}");
        assert_once_but(&effects(&cluster.pool, run).await, &[]);
        assert_eq!(safety_violations(&cluster.pool).await, [""; 0]);
        assert_eq!(liveness_violations(&cluster.pool, RECOVERY).await, [""; 0]);
    }
}

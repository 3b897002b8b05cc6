//! Old and new code side by side: each run is begun and ended by the same, and waits when nobody has it.

use std::collections::BTreeMap;

use lockgate_tests::chaos_steps::create_effects;
use lockgate_tests::cluster::Cluster;
use lockgate_tests::replica::{PATIENCE, Replica};
use lockgate_tests::wait_until;
use serde_json::json;
use uuid::Uuid;

const OLD: [(&str, &str); 1] = [("LOCKGATE_CHAOS_VERSION", "1")];
const NEW: [(&str, &str); 1] = [("LOCKGATE_CHAOS_VERSION", "2")];
const RUNS: usize = 30;

async fn count(cluster: &Cluster, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&cluster.pool).await.unwrap()
}

async fn start(cluster: &Cluster, runs: usize, nap_ms: u64) {
    for _ in 0..runs {
        cluster.start("chaos-versions", json!({ "nap_ms": nap_ms })).await;
    }
}

async fn replica(cluster: &Cluster, version: &[(&str, &str)]) -> Replica {
    let mut replica = cluster.replica_with(version);
    replica.runs().await;
    replica
}

/// By run: which version it began with, what it returned, and what was done.
async fn told(cluster: &Cluster) -> BTreeMap<Uuid, (i32, String, Vec<String>)> {
    let rows: Vec<(Uuid, i32, String, Vec<String>)> = sqlx::query_as(
        "select r.id, coalesce(r.code_version, 1), convert_from(r.output, 'UTF8'),
                (select array_agg(distinct e.name order by e.name) from effects e where e.run_id = r.id)
           from lockgate.task_runs r where r.status = 'completed'",
    )
    .fetch_all(&cluster.pool)
    .await
    .unwrap();
    rows.into_iter()
        .map(|(run, version, output, effects)| (run, (version, output, effects)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_run_stays_with_the_code_it_began_with_and_waits_for_it() {
    let cluster = Cluster::new().await.patient();
    create_effects(&cluster.pool).await;
    let url = cluster.url().to_owned();
    let cluster = cluster.with("LOCKGATE_CHAOS_EFFECTS", &url);
    start(&cluster, RUNS, 3_600_000).await;
    let mut old = replica(&cluster, &OLD).await;
    let asleep = "select count(*) from lockgate.task_runs where status = 'suspended'";
    wait_until(PATIENCE, "all sleep in the old code", async || {
        count(&cluster, asleep).await == RUNS as i64
    })
    .await;
    // The old deployment is gone for a while: nobody who is there may run its runs.
    old.kill();
    cluster.end_leases().await;
    cluster.an_hour_passes().await;
    let _new = replica(&cluster, &NEW).await;
    start(&cluster, RUNS, 100).await;
    let of_new = "select count(*) from lockgate.task_runs where status = 'completed' and code_version = 2";
    wait_until(PATIENCE, "new runs are completed by the new code", async || {
        count(&cluster, of_new).await == RUNS as i64
    })
    .await;
    let due = "select count(*) from lockgate.task_runs
                where status = 'suspended' and claim_id is null and wake_at < clock_timestamp()";
    wait_until(PATIENCE, "old runs are due and nobody's", async || {
        count(&cluster, due).await == RUNS as i64
    })
    .await;
    let _old = replica(&cluster, &OLD).await;
    start(&cluster, RUNS, 100).await;
    let over = "select count(*) from lockgate.task_runs where status = 'completed'";
    wait_until(PATIENCE, "all are completed", async || {
        count(&cluster, over).await == 3 * RUNS as i64
    })
    .await;
    let told = told(&cluster).await;
    for (run, (version, output, effects)) in &told {
        let expected = [format!("{version} after"), format!("{version} before")];
        assert_eq!(
            (output, effects.as_slice()),
            (&version.to_string(), &expected[..]),
            "{run}"
        );
    }
    let old = told.values().filter(|(version, ..)| *version == 1).count();
    assert!((RUNS..=2 * RUNS).contains(&old), "{old} of {}", told.len());
}

/// Code of another version may come to the same place and send something else there: whose code plans a run's fan-out, his
/// kind alone sends its batches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_sent_by_code_of_the_version_that_planned_them() {
    let cluster = Cluster::new().await.patient().with("LOCKGATE_WORKER_BATCH_SIZE", "5");
    create_effects(&cluster.pool).await;
    let url = cluster.url().to_owned();
    let cluster = cluster.with("LOCKGATE_CHAOS_EFFECTS", &url);
    let mut runs = Vec::new();
    for _ in 0..4 {
        let input = json!({ "nap_ms": 1, "items": 500 });
        runs.push(cluster.start_paced("chaos-versions", input, Some(50)).await);
    }
    let new = replica(&cluster, &NEW).await;
    let of_new = "select count(*) from lockgate.run_steps s join lockgate.task_runs r on r.id = s.run_id
                   where s.kind = 'fan_out' and r.code_version = 2";
    wait_until(PATIENCE, "the new code sends", async || {
        count(&cluster, of_new).await == 4
    })
    .await;
    let old = replica(&cluster, &OLD).await;
    runs.push(
        cluster
            .start("chaos-versions", json!({ "nap_ms": 1, "items": 500 }))
            .await,
    );
    for run in &runs {
        cluster.reaches(*run, "completed").await;
    }
    let versions: BTreeMap<Uuid, i32> = told(&cluster)
        .await
        .into_iter()
        .map(|(run, (of, ..))| (run, of))
        .collect();
    let mut wrong = BTreeMap::<_, u32>::new();
    let sent = cluster.topic.sent().await;
    assert!(sent.len() >= runs.len() * 500, "{} messages", sent.len());
    for message in sent {
        let run: Uuid = message
            .headers
            .iter()
            .find(|(name, _)| name == "run-id")
            .unwrap()
            .1
            .parse()
            .unwrap();
        let body: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        let version = versions[&run].to_string();
        if body["whose"].as_str() != Some(version.as_str()) {
            *wrong.entry((run, version)).or_default() += 1;
        }
    }
    assert!(
        wrong.is_empty(),
        "messages of the other code, by run and version: {wrong:?}"
    );
    for replica in [&old, &new] {
        assert!(
            !replica.log().contains("cannot be run here"),
            "a replica took what it cannot run"
        );
    }
}

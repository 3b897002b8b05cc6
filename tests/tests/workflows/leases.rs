//! A page of runs shares one claim id, and each of them its own lease; one statement renews all, and who stands still
//! loses them.

use std::time::Instant;

use chrono::{DateTime, Utc};
use lockgate_tests::chaos_steps::effects;
use lockgate_tests::cluster::Cluster;
use lockgate_tests::own_servers::OwnServers;
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::steps_story::{Story, assert_once_but};
use lockgate_tests::wait_until;
use serde_json::json;
use sqlx::Executor;

/// How often the statement was asked that renews leases.
const RENEWALS: &str = "select coalesce(sum(calls), 0)::bigint from pg_stat_statements
     where query ~ 'renewed_runs' and query !~ 'pg_stat_statements'";
/// Seconds between two sweeps, and what a busy machine may add to them.
const SWEEP_S: f64 = 1.0;
const SLACK_S: f64 = 5.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_run_of_a_page_is_held_for_as_long_as_its_step_takes_by_one_renewal_for_all() {
    let options = "-c shared_preload_libraries=pg_stat_statements";
    let servers = OwnServers::up_with(&["postgres"], &[("PG_OPTS", options)]);
    let cluster = servers.cluster().await;
    cluster
        .pool
        .execute("create extension pg_stat_statements")
        .await
        .unwrap();
    let cluster = cluster
        .with("LOCKGATE_LEASE_DURATION", "10s")
        .with("LOCKGATE_LEASE_RENEW", "1s");
    // More than two leases.
    let plan = json!({"steps": 1, "step_ms": 21_000});
    let story = Story::begin_on(cluster, plan.clone()).await;
    let mut runs = vec![story.run];
    for _ in 0..20 {
        runs.push(story.cluster.start("chaos-steps", plan.clone()).await);
    }
    let begun = Instant::now();
    let _replica = story.cluster.replica();
    for run in runs {
        story.cluster.completes(run).await;
        assert_once_but(&effects(&story.cluster.pool, run).await, &[]);
    }
    let ended = "select count(*) from lockgate.transitions where reason = 'lease ended' and $1 is not null";
    assert_eq!(story.count(ended).await, 0);
    let renewals: i64 = sqlx::query_scalar(RENEWALS)
        .fetch_one(&story.cluster.pool)
        .await
        .unwrap();
    // One a second; were each run renewed by itself, it would be twenty-one.
    let seconds = i64::try_from(begun.elapsed().as_secs()).unwrap();
    println!("{renewals} renewals of 21 runs in {seconds} s");
    assert!(
        (3..=2 * seconds + 5).contains(&renewals),
        "{renewals} renewals of 21 runs in {seconds} s"
    );
}

/// By the clock of the database, with a leader that stands still too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_holder_stands_still_is_taken_by_another_within_its_lease_and_a_sweep() {
    let cluster = Cluster::new().await.with("LOCKGATE_LEASE_SWEEP", "1s");
    let story = Story::begin_on(cluster, json!({"steps": 1, "step_ms": 600_000})).await;
    let mut first = story.cluster.replica();
    let holder = first.runs().await;
    wait_until(PATIENCE, "its step is under way", async || {
        effects(&story.cluster.pool, story.run).await.len() == 1
    })
    .await;
    let mut second = story.cluster.replica();
    second.runs().await;
    first.freeze();
    let lease = "select lease_until from lockgate.task_runs where id = $1 and claimed_by = $2";
    let mut last: Option<DateTime<Utc>> = None;
    wait_until(PATIENCE, "its lease has ended", async || {
        let lease = sqlx::query_scalar(lease).bind(story.run).bind(holder);
        let held: Option<DateTime<Utc>> = lease.fetch_optional(&story.cluster.pool).await.unwrap();
        last = held.or(last);
        held.is_none()
    })
    .await;
    let swept = "select extract(epoch from at - $2)::double precision from lockgate.transitions
                  where run_id = $1 and entity = 'run' and reason = 'lease ended'";
    let swept_s: f64 = sqlx::query_scalar(swept)
        .bind(story.run)
        .bind(last)
        .fetch_one(&story.cluster.pool)
        .await
        .unwrap();
    let taken = "select extract(epoch from claimed_at - $2)::double precision from lockgate.task_runs
                  where id = $1 and claimed_by <> $3";
    let mut taken_s: Option<f64> = None;
    wait_until(PATIENCE, "another has it", async || {
        let taken = sqlx::query_scalar(taken).bind(story.run).bind(last).bind(holder);
        taken_s = taken.fetch_optional(&story.cluster.pool).await.unwrap();
        taken_s.is_some()
    })
    .await;
    let taken_s = taken_s.unwrap();
    println!("swept {swept_s:.3} s and taken {taken_s:.3} s after its lease ended");
    let within = 0.0..=SWEEP_S + SLACK_S;
    assert!(
        within.contains(&swept_s) && within.contains(&taken_s),
        "{swept_s} {taken_s}"
    );
    assert_eq!(story.recovered().await, 1);
}

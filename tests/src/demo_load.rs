//! Work of every sort, with items that fail, so that dashboards have something to show.

use serde_json::json;
use uuid::Uuid;

use crate::chaos_steps::create_effects;
use crate::cluster::Cluster;
use crate::replica::{PATIENCE, Replica};
use crate::wait_until;

/// What is left once the work is done.
pub struct DemoLoad {
    /// The run of the fan-out, completed.
    pub run: Uuid,
    /// A replica that is still there.
    pub replica: Replica,
}

/// Counts of the last minutes, none of which is 0 once the heartbeats have told of the work.
const COUNTED: &str = "select count(*) from (
        select sum(items_delivered) as delivered, sum(items_refused) as refused, sum(runs_completed) as completed,
               sum(runs_failed) as failed, sum(steps) as steps, sum(batches) as batches from lockgate.v_throughput_1m) c
    where delivered > 0 and refused > 0 and completed > 0 and failed > 0 and steps > 0 and batches > 0 and $1::uuid is not null";

impl DemoLoad {
    /// Runs it: a fan-out over users, one with bad items, steps, transactions and naps, children, a schedule, a
    /// run that waits for code that nobody has, and one that fails.
    pub async fn run(cluster: &Cluster) -> Self {
        cluster.seed_users(3_000).await;
        create_effects(&cluster.pool).await;
        let scheduled = "insert into lockgate.schedules (name, workflow, cron) values ('nightly', 'daily-task-reports', '0 3 * * *')";
        sqlx::query(scheduled).execute(&cluster.pool).await.unwrap();
        let mut replica = cluster.replica_with(&[("LOCKGATE_CHAOS_EFFECTS", cluster.url())]);
        replica.runs().await;
        let run = cluster.start("daily-task-reports", json!({})).await;
        let bad = json!({"items": 2_000, "unserialisable": [7], "skipped": [8]});
        let bad = cluster.start("chaos-items", bad).await;
        let steps = json!({"steps": 3, "transactions": 2, "nap_ms": 20});
        let steps = [
            cluster.start("chaos-steps", steps.clone()).await,
            cluster.start("chaos-steps", steps).await,
        ];
        let children = cluster.start("task-reminders", json!({"users": 5, "at_once": 2})).await;
        cluster.start("nobody-has-this", json!({})).await;
        let failing = cluster.start("chaos-steps", json!({"steps": 1, "fails": true})).await;
        for run in [run, bad, children].into_iter().chain(steps) {
            cluster.reaches(run, "completed").await;
        }
        cluster.reaches(failing, "failed").await;
        wait_until(PATIENCE, "the work is counted", async || {
            cluster.count(COUNTED, run).await > 0
        })
        .await;
        Self { run, replica }
    }

    /// Leaves a fan-out half done, a limited queue with somebody in it, and rows of every other trouble.
    pub async fn breaks(&mut self, cluster: &Cluster) {
        let limit = "select lockgate.set_queue('chaos-items', max_running => 3, holds => 'run', actor => 'mia')";
        sqlx::query(limit).execute(&cluster.pool).await.unwrap();
        let cancelled = cluster.start("nobody-has-this", json!({})).await;
        sqlx::query("select lockgate.cancel_run($1, 'not wanted', 'mia')")
            .bind(cancelled)
            .execute(&cluster.pool)
            .await
            .unwrap();
        let half = cluster
            .start_paced("chaos-items", json!({"items": 100_000}), Some(100))
            .await;
        let held = "select count(*) from lockgate.run_batches where run_id = $1 and status = 'claimed'";
        wait_until(PATIENCE, "batches are held", async || {
            cluster.count(held, half).await > 0
        })
        .await;
        self.replica.kill();
        sqlx::raw_sql(TROUBLE).execute(&cluster.pool).await.unwrap();
    }
}

/// Rows of trouble.
const TROUBLE: &str = include_str!("../sql/trouble.sql");

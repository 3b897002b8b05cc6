//! Work of every sort, with items that fail, so that dashboards have something to show.

use chrono::{TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::api::{Client, TOKEN};
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
               sum(runs_failed) as failed, sum(steps) as steps, sum(batches) as batches,
               sum(commands_delivered) as commands, sum(redelivered) as redelivered from lockgate.v_throughput_1m) c
    where delivered > 0 and refused > 0 and completed > 0 and failed > 0 and steps > 0 and batches > 0 and commands > 0
      and redelivered > 0 and $1::uuid is not null";
/// The first claim of one batch ends, as if its holder had stood still for a whole lease, and is not renewed.
const ENDS: &str = "update lockgate.run_batches set lease_until = clock_timestamp()
     where run_id = $1 and lease_until > clock_timestamp()
       and seq = (select min(seq) from lockgate.run_batches where run_id = $1 and status = 'claimed' and claim_token = 1)";
/// Leases that a replica says it lost.
const LOST: &str = "select sum(leases_lost)::bigint from lockgate.v_throughput_1m where $1::uuid is not null";

impl DemoLoad {
    /// Runs it: a fan-out over users, one with bad items, steps, transactions and naps, children, a schedule, a
    /// run that waits for code that nobody has, and one that fails; and commands that are handed over directly.
    pub async fn run(cluster: &Cluster) -> Self {
        cluster.seed_users(3_000).await;
        create_effects(&cluster.pool).await;
        let scheduled = "insert into lockgate.schedules (name, workflow, cron) values ('nightly', 'daily-task-reports', '0 3 * * *')";
        sqlx::query(scheduled).execute(&cluster.pool).await.unwrap();
        let mut replica = cluster.replica_with(&[
            ("LOCKGATE_CHAOS_EFFECTS", cluster.url()),
            ("LOCKGATE_API_LISTEN", "127.0.0.1:0"),
            ("LOCKGATE_API_TOKEN", TOKEN),
            ("LOCKGATE_DIRECT_PATIENCE", "20s"),
        ]);
        replica.runs().await;
        hand_over(cluster, &mut replica).await;
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

    /// Leaves a fan-out half done of which a replica lost a lease, a limited queue with somebody in it, and rows of every other
    /// trouble.
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
        wait_until(PATIENCE, "a lease was lost", async || {
            sqlx::query(ENDS).bind(half).execute(&cluster.pool).await.unwrap();
            cluster.count(LOST, half).await > 0
        })
        .await;
        wait_until(PATIENCE, "batches are held again", async || {
            cluster.count(held, half).await > 0
        })
        .await;
        self.replica.kill();
        sqlx::raw_sql(TROUBLE).execute(&cluster.pool).await.unwrap();
    }
}

/// A command that goes at once, and one that was to wait for an hour, which is over at once: redelivery sends it.
async fn hand_over(cluster: &Cluster, replica: &mut Replica) {
    let path = "/api/v1/email-commands";
    let client = Client::new(replica.api().await.parse().unwrap(), TOKEN).await;
    let mut command = json!({
        "recipientEmail": "ada@example.org", "templateId": "welcome", "templateContext": {"name": "Ada"}, "locale": "de"
    });
    let sent = client.post(path, command.to_string()).await.is(202).json();
    assert_eq!(sent["outcome"], "delivered");
    command["notBefore"] = json!((Utc::now() + TimeDelta::hours(1)).to_rfc3339());
    let stored = client.post(path, command.to_string()).await.is(202).json();
    assert_eq!(stored["outcome"], "stored");
    let is_over = "update lockgate.undelivered_messages set next_attempt_at = clock_timestamp() where status = 'due'";
    let due = sqlx::query(is_over).execute(&cluster.pool).await.unwrap();
    assert_eq!(due.rows_affected(), 1);
}

/// Rows of trouble.
const TROUBLE: &str = include_str!("../sql/trouble.sql");

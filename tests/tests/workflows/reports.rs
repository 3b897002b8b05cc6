//! The shipped workflow, from its snapshot to the e-mail that tells the team, on real servers.

use lockgate_tests::cluster::Cluster;
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::wait_until;
use serde_json::{Value, json};

const USERS: i64 = 1_000;
const REPORTS: u64 = 900;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_team_is_told_once_what_was_not_delivered_is() {
    let cluster = Cluster::new().await.patient();
    cluster.seed_users(USERS).await;
    let run = cluster
        .start("daily-task-reports", json!({"summary_to": "team@example.org"}))
        .await;
    // A report that is to be redelivered, as after trouble with the broker; only a person ends this one.
    sqlx::query(
        "insert into lockgate.undelivered_messages (command_type, id, message_id, run_id, step, batch_seq, item_id, status,
             reason_code, reason, topic, headers, next_attempt_at)
         values ('email', gen_random_uuid(), gen_random_uuid(), $1, '1:reports', 1, 1, 'due', 'timeout', 'by a test',
             'email_commands', '[]', clock_timestamp() + interval '1 day')",
    )
    .bind(run)
    .execute(&cluster.pool)
    .await
    .unwrap();
    let mut replica = cluster.replica();
    cluster.reaches(run, "suspended").await;
    let sent =
        "select count(*) from lockgate.run_steps where run_id = $1 and kind = 'fan_out' and status = 'completed'";
    assert_eq!(cluster.count(sent, run).await, 1, "it waits for the rest");
    replica.kill();
    cluster.end_leases().await;
    sqlx::query("delete from lockgate.undelivered_messages where reason = 'by a test'")
        .execute(&cluster.pool)
        .await
        .unwrap();
    let _replica = cluster.replica();
    cluster.reaches(run, "completed").await;
    let output: String =
        sqlx::query_scalar("select convert_from(output, 'UTF8') from lockgate.task_runs where id = $1")
            .bind(run)
            .fetch_one(&cluster.pool)
            .await
            .unwrap();
    let output: Value = serde_json::from_str(&output).unwrap();
    // A broker that was slow at first may have had some of them redelivered.
    let count = |outcome: &str| output[outcome].as_u64().unwrap();
    assert_eq!(
        (count("delivered") + count("unknown"), count("undelivered")),
        (REPORTS, 0)
    );
    let waiting = "select count(*) from lockgate.outbox where $1 is not null";
    wait_until(PATIENCE, "the outbox is sent", async || {
        cluster.count(waiting, run).await == 0
    })
    .await;
    let records = cluster.topic.sent().await;
    let summaries = records.iter().filter(|record| {
        let command: Value = serde_json::from_slice(&record.payload).unwrap();
        command["templateId"] == "daily-report-summary" && command["recipientEmail"] == "team@example.org"
    });
    assert_eq!(summaries.count(), 1);
}

//! The example of the document is code that runs.

use lockgate::client::Client;
use lockgate::postgres::{Database, DatabaseSettings};
use lockgate_tests::cluster::Cluster;
use lockgate_tests::replica::PATIENCE;
use serde_json::json;

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn the_document_shows_the_examples_as_they_are() {
    let document = read("docs/workflows.md");
    let shown = [
        "tests/src/place_order.rs",
        "tests/src/running_total.rs",
        "workflows/src/process_order.rs",
        "workflows/src/approve_expense.rs",
    ];
    for path in shown {
        let code = read(path);
        let (_, shown) = code.split_once("// The document from here.\n").unwrap();
        let (shown, _) = shown.split_once("// To here.\n").unwrap();
        assert!(
            document.contains(shown.trim_end()),
            "docs/workflows.md shows other code than {path}"
        );
    }
    let code = read("workflows/src/task_reminders.rs");
    let (_, shown) = code.split_once("impl Workflow for TaskReminders {\n").unwrap();
    let (shown, _) = shown.split_once("\n}\n").unwrap();
    assert!(document.contains(shown), "docs/workflows.md shows another parent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_placed_once_approved() {
    let cluster = Cluster::new().await.patient();
    sqlx::query("create table bookings (order_id bigint primary key, receipt text not null)")
        .execute(&cluster.pool)
        .await
        .unwrap();
    let run = cluster.start("place-order", json!({"id": 7, "cents": 1_250})).await;
    let _replica = cluster.replica();
    cluster.reaches(run, "suspended").await;
    let sent: String = sqlx::query_scalar("select lockgate.signal_run($1, 'approval', 'true', 'clerk')")
        .bind(run)
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    assert_eq!(sent, "sent");
    cluster.completes(run).await;
    let receipt: String = sqlx::query_scalar("select receipt from bookings where order_id = 7")
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    assert!(receipt.starts_with("1250 cents under "), "{receipt}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_total_of_more_signals_than_a_run_takes_is_whole() {
    let cluster = Cluster::new().await.patient();
    let run = cluster.start("running-total", json!({"sum": 0, "patience": 2})).await;
    let tell = "select count(lockgate.signal_run($1, 'add', to_jsonb(n))) from generate_series(1, 150) n";
    assert_eq!(cluster.count(tell, run).await, 150);
    let _replica = cluster.replica();
    let client = Client::new(Database::new(&DatabaseSettings::new(cluster.url())).unwrap());
    let handle = client.run::<i64>(run);
    let total = tokio::time::timeout(PATIENCE, handle.result()).await.unwrap().unwrap();
    assert_eq!(total, 150 * 151 / 2);
    let rounds = "select count(*) from lockgate.task_runs where workflow = 'running-total' and id <> $1";
    assert_eq!(cluster.count(rounds, run).await, 1);
}

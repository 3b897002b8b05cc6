//! The example of the document is code that runs.

use lockgate_tests::cluster::Cluster;
use serde_json::json;

#[test]
fn the_document_shows_the_examples_as_they_are() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let document = std::fs::read_to_string(format!("{root}/docs/workflows.md")).unwrap();
    let shown = [
        "tests/src/place_order.rs",
        "workflows/src/process_order.rs",
        "workflows/src/approve_expense.rs",
    ];
    for file in shown {
        let code = std::fs::read_to_string(format!("{root}/{file}")).unwrap();
        let (_, shown) = code.split_once("// The document from here.\n").unwrap();
        let (shown, _) = shown.split_once("// To here.\n").unwrap();
        assert!(
            document.contains(shown.trim_end()),
            "docs/workflows.md shows other code than {file}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_placed_once_approved() {
    let cluster = Cluster::new().await;
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

//! The example of docs/testing.md is code that runs.

use lockgate_tests::place_order::{Order, PlaceOrder};

// The document from here.
use std::time::Duration;

use lockgate::testing::{TestEngine, every_crash, postgres};

const ORDER: Order = Order { id: 7, cents: 1_250 };

#[tokio::test]
async fn an_order_that_nobody_approves_is_given_up_after_a_day() {
    let engine = TestEngine::new().workflow(PlaceOrder);
    let begun = engine.now();
    let run = engine.start::<PlaceOrder>(&ORDER).await;
    run.assert_completed_with(&"not approved").await;
    assert_eq!(engine.now() - begun, chrono::TimeDelta::days(1));
    run.assert_no_step("2:charge");
}

#[tokio::test]
async fn an_approved_order_is_booked_once_wherever_it_crashes() {
    let database = postgres().await;
    database
        .execute("create table bookings (order_id bigint primary key, receipt text not null)")
        .await;
    every_crash(async |engine| {
        database.execute("truncate bookings").await;
        let engine = engine.workflow(PlaceOrder).database(&database);
        let run = engine.start::<PlaceOrder>(&ORDER).await;
        engine.advance(Duration::from_secs(3_600)).await;
        run.assert_waits_at("0:approval");
        run.signal("approval", &true).await;
        let receipt = run.result().await.unwrap();
        assert!(receipt.starts_with("1250 cents under "));
        run.assert_step("2:charge", &receipt);
        assert_eq!(database.count("select count(*) from bookings").await, 1);
    })
    .await;
}
// To here.

#[test]
fn the_document_shows_the_example_as_it_is() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let document = std::fs::read_to_string(format!("{root}/docs/testing.md")).unwrap();
    let code = std::fs::read_to_string(format!("{root}/tests/tests/testing_kit/example.rs")).unwrap();
    let (_, shown) = code.split_once("// The document from here.\n").unwrap();
    let (shown, _) = shown.split_once("// To here.\n").unwrap();
    assert!(document.contains(shown.trim_end()), "docs/testing.md shows other code");
}

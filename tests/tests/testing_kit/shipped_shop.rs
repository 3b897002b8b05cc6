//! The saga and the approval that ship, with a crash before and after each thing that they durably write.

use std::time::Duration;

use lockgate::testing::{TestEngine, TestHandle, TestPostgres, every_crash, postgres};
use lockgate_workflows::{ApproveExpense, Decision, Expense, NewOrder, ProcessOrder, shop};
use sqlx::PgPool;
use uuid::Uuid;

const EMPTY: &str = "truncate shop.reservations, shop.payments, shop.shipments, shop.approvals;
    delete from shop.stock; insert into shop.stock values ('lamp', 10)";
/// One payment at most was charged, and it is refunded if the order was given up; the stock is as the rest says.
const AS_IT_SHOULD_BE: &str = "select count(*) from shop.stock s
     where available = 10 - coalesce((select sum(quantity) from shop.reservations where released_at is null), 0)
       and not exists (select from shop.payments where charges > 1)";

async fn shop() -> (TestPostgres, PgPool) {
    let database = postgres().await;
    let pool = PgPool::connect(database.url()).await.unwrap();
    shop::create(&pool).await.unwrap();
    (database, pool)
}

fn order(address: &str) -> NewOrder {
    NewOrder {
        id: 7,
        item: "lamp".to_owned(),
        quantity: 2,
        cents: 1_250,
        address: address.to_owned(),
    }
}

async fn begin(engine: TestEngine, database: &TestPostgres, pool: &PgPool, address: &str) -> TestHandle<Uuid> {
    database.execute(EMPTY).await;
    let engine = engine
        .workflow(ProcessOrder)
        .database(database)
        .resource(shop::Payments::new(pool.clone()));
    engine.start::<ProcessOrder>(&order(address)).await
}

#[tokio::test]
async fn an_order_is_shipped_once_wherever_it_crashes() {
    let (database, pool) = shop().await;
    let crashed = every_crash(async |engine| {
        let run = begin(engine, &database, &pool, "1 Main Street").await;
        run.result().await.unwrap();
        let paid = "select count(*) from shop.payments where charges = 1 and refunded_at is null";
        assert_eq!(
            (database.count(paid).await, database.count(AS_IT_SHOULD_BE).await),
            (1, 1)
        );
        assert_eq!(database.count("select count(*) from shop.shipments").await, 1);
    })
    .await;
    assert!(crashed >= 6, "{crashed}");
}

#[tokio::test]
async fn an_order_that_cannot_be_shipped_is_taken_back_wherever_it_crashes() {
    let (database, pool) = shop().await;
    let crashed = every_crash(async |engine| {
        let run = begin(engine, &database, &pool, " ").await;
        run.assert_failed_with("order 7 has no address").await;
        let refunded = "select count(*) from shop.payments where refunded_at is not null";
        assert_eq!(
            (database.count(refunded).await, database.count(AS_IT_SHOULD_BE).await),
            (1, 1)
        );
        assert_eq!(database.count("select available::bigint from shop.stock").await, 10);
        assert_eq!(database.count("select count(*) from shop.shipments").await, 0);
    })
    .await;
    assert!(crashed >= 10, "{crashed}");
}

#[tokio::test]
async fn an_expense_goes_to_the_deputy_and_is_decided_once_wherever_it_crashes() {
    let (database, _pool) = shop().await;
    let expense = Expense {
        id: 3,
        cents: 90_000,
        approver: "ada".to_owned(),
        deputy: "bob".to_owned(),
        answer_within_s: 48 * 3_600,
    };
    let yes = Decision {
        approved: true,
        by: "bob".to_owned(),
    };
    let crashed = every_crash(async |engine| {
        database.execute(EMPTY).await;
        let engine = engine.workflow(ApproveExpense).database(&database);
        let run = engine.start::<ApproveExpense>(&expense).await;
        engine.advance(Duration::from_secs(47 * 3_600)).await;
        assert_eq!(
            database
                .count("select count(*) from shop.approvals where escalated")
                .await,
            0
        );
        assert_eq!(run.shown("asked"), Some("approver".to_owned()));
        engine.advance(Duration::from_secs(2 * 3_600)).await;
        assert_eq!(run.shown("asked"), Some("deputy".to_owned()));
        assert_eq!(
            database
                .count("select count(*) from shop.approvals where escalated")
                .await,
            1
        );
        run.signal("decision", &yes).await;
        run.assert_completed_with(&yes).await;
        let decided = "select count(*) from shop.approvals where approved and decided_by = 'bob'";
        assert_eq!(database.count(decided).await, 1);
    })
    .await;
    assert!(crashed >= 12, "{crashed}");
}

#[tokio::test]
async fn silence_is_a_no() {
    let (database, _pool) = shop().await;
    let engine = TestEngine::new().workflow(ApproveExpense).database(&database);
    let expense = Expense {
        id: 3,
        cents: 90_000,
        approver: "ada".to_owned(),
        deputy: "bob".to_owned(),
        answer_within_s: 3_600,
    };
    let begun = engine.now();
    let run = engine.start::<ApproveExpense>(&expense).await;
    assert!(!run.result().await.unwrap().approved);
    assert_eq!((engine.now() - begun).num_hours(), 2);
}

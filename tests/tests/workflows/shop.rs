//! The shipped sagas on real tables: an order that is taken back wherever it fails, and an approval that somebody else
//! gives when nobody does.

use lockgate_tests::cluster::Cluster;
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::wait_until;
use lockgate_workflows::shop;
use serde_json::{Value, json};
use uuid::Uuid;

/// A shop with ten lamps.
async fn shop() -> Cluster {
    let cluster = Cluster::new().await.patient();
    shop::create(&cluster.pool).await.unwrap();
    sqlx::query("insert into shop.stock values ('lamp', 10)")
        .execute(&cluster.pool)
        .await
        .unwrap();
    let url = cluster.url().to_owned();
    cluster.with("SHOP_PAYMENTS_URL", &url)
}

fn order(quantity: i32, address: &str) -> Value {
    json!({"id": 7, "item": "lamp", "quantity": quantity, "cents": 1_250, "address": address})
}

/// What is left of an order: lamps in stock, charges that stand, shipments.
async fn stands(cluster: &Cluster) -> (i64, i64, i64) {
    sqlx::query_as(
        "select (select sum(available) from shop.stock),
                (select coalesce(sum(charges), 0) from shop.payments where refunded_at is null),
                (select count(*) from shop.shipments where recalled_at is null)",
    )
    .fetch_one(&cluster.pool)
    .await
    .unwrap()
}

async fn text(cluster: &Cluster, sql: &'static str, run: Uuid) -> String {
    sqlx::query_scalar(sql)
        .bind(run)
        .fetch_one(&cluster.pool)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_shipped() {
    let cluster = shop().await;
    let run = cluster.start("process-order", order(3, "Road 1")).await;
    let _replica = cluster.replica();
    cluster.completes(run).await;
    assert_eq!(stands(&cluster).await, (7, 1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_cannot_be_shipped_is_taken_back() {
    let cluster = shop().await;
    let run = cluster.start("process-order", order(3, " ")).await;
    let _replica = cluster.replica();
    cluster.reaches(run, "failed").await;
    assert_eq!(stands(&cluster).await, (10, 0, 0));
    let reason = text(&cluster, "select reason from lockgate.task_runs where id = $1", run).await;
    assert_eq!(reason, "step 2:ship failed in attempt 1: order 7 has no address");
    let too_many = cluster.start(
        "process-order",
        json!({"id": 8, "item": "lamp", "quantity": 11, "cents": 1, "address": "x"}),
    );
    let too_many = too_many.await;
    cluster.reaches(too_many, "failed").await;
    assert_eq!(stands(&cluster).await, (10, 0, 0));
}

/// A cancellation that comes when all is done and the run is not over takes all of it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_is_cancelled_when_it_has_left_is_recalled() {
    let cluster = shop().await;
    let run = cluster.start("process-order", order(3, "Road 1")).await;
    cluster.dies_at("endings.before_commit").await;
    assert_eq!(stands(&cluster).await, (7, 1, 1));
    let stops = text(&cluster, "select lockgate.cancel_run($1, 'changed my mind')", run).await;
    assert_eq!(stops, "stopping");
    let _replica = cluster.replica();
    cluster.reaches(run, "cancelled").await;
    assert_eq!(stands(&cluster).await, (10, 0, 0));
}

/// What was taken back can be tried again: nothing of the first try stands in its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_was_taken_back_is_done_by_a_fork_that_knows_the_address() {
    let cluster = shop().await;
    let run = cluster.start("process-order", order(3, " ")).await;
    let _replica = cluster.replica();
    cluster.reaches(run, "failed").await;
    let fork: Uuid = sqlx::query_scalar("select lockgate.fork_run($1, params => $2, reason => 'it moved')")
        .bind(run)
        .bind(order(3, "Road 1"))
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    cluster.completes(fork).await;
    assert_eq!(stands(&cluster).await, (7, 1, 1));
}

/// Whoever dies before or after each thing that is written, the order stands whole or not at all, and no money is charged
/// twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_survives_a_death_at_each_step() {
    let points = [
        "transaction.before_commit",
        "transaction.after_commit",
        "step.before_save:1",
        "step.before_save:2",
        "steps.after_commit:2",
        "transaction.before_commit:2",
        "endings.before_commit",
    ];
    for address in ["Road 1", " "] {
        for point in points {
            let cluster = shop().await;
            let run = cluster.start("process-order", order(3, address)).await;
            cluster.dies_at(point).await;
            let _replica = cluster.replica();
            let (status, left) = match address {
                " " => ("failed", (10, 0, 0)),
                _ => ("completed", (7, 1, 1)),
            };
            cluster.reaches(run, status).await;
            assert_eq!(stands(&cluster).await, left, "{address:?} {point}");
        }
    }
}

async fn approval(answer_within_s: u64) -> (Cluster, Uuid) {
    let cluster = shop().await;
    let expense =
        json!({"id": 5, "cents": 99, "approver": "anna", "deputy": "bert", "answer_within_s": answer_within_s});
    let run = cluster.start("approve-expense", expense).await;
    (cluster, run)
}

const DECIDE: &str = "select lockgate.signal_run($1, 'decision', '{\"approved\": true, \"by\": \"anna\"}')";
const SHOWN: &str = "select string_agg(name || ': ' || value, ', ') from lockgate.shown($1)";
const DECIDED: &str = "select concat_ws(' ', asked, escalated, approved, decided_by) from shop.approvals
                        where $1 is not null and approved is not null";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expense_is_approved_by_the_first_who_is_asked() {
    let (cluster, run) = approval(3_600).await;
    let _replica = cluster.replica();
    cluster.reaches(run, "suspended").await;
    assert_eq!(text(&cluster, SHOWN, run).await, "asked: \"approver\"");
    assert_eq!(text(&cluster, DECIDE, run).await, "sent");
    cluster.completes(run).await;
    assert_eq!(text(&cluster, DECIDED, run).await, "anna f t anna");
    let waits = "select string_agg(path || ' ' || status, ', ' order by path) from lockgate.run_steps
                  where run_id = $1 and path like '2:select%'";
    let waits = text(&cluster, waits, run).await;
    assert_eq!(
        waits,
        "2:select completed, 2:select/0/0:decision completed, 2:select/1/0:sleep dropped"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expense_that_nobody_answers_is_escalated_and_then_refused() {
    let (cluster, run) = approval(1).await;
    let _replica = cluster.replica();
    cluster.completes(run).await;
    assert_eq!(text(&cluster, DECIDED, run).await, "bert t f nobody");
    assert_eq!(text(&cluster, SHOWN, run).await, "asked: \"deputy\"");
}

/// It is told while somebody else is asked, and whoever dies at each step, the first decision counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_survives_a_death_at_each_step() {
    let points = [
        "transaction.after_commit",
        "suspend.before_commit",
        "suspend.after_commit",
        "select.before_commit",
        "select.after_commit",
        "transaction.before_commit:2",
        "transaction.after_commit:2",
    ];
    for point in points {
        // A wait that is over soon is sat out, and let go of by nobody.
        let answer_within_s = if point.starts_with("suspend") { 8 } else { 2 };
        let (cluster, run) = approval(answer_within_s).await;
        cluster.dies_at(point).await;
        let _replica = cluster.replica();
        let asked = "select count(*) from lockgate.run_steps where run_id = $1 and path = '3:escalate'";
        wait_until(PATIENCE, "somebody else is asked", async || {
            cluster.count(asked, run).await == 1
        })
        .await;
        let answer = text(&cluster, DECIDE, run).await;
        cluster.completes(run).await;
        let decided = text(&cluster, DECIDED, run).await;
        let expected = if answer == "sent" {
            ["bert t t anna", "bert t f nobody"]
        } else {
            ["bert t f nobody"; 2]
        };
        assert!(expected.contains(&decided.as_str()), "{point}: {answer} {decided}");
    }
}

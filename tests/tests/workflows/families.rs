//! Parents and their children, and runs that go on as others.

use std::time::Instant;

use lockgate::client::{Client, RunError};
use lockgate::postgres::{Database, DatabaseSettings};
use lockgate_tests::chaos_family::FamilyTold;
use lockgate_tests::chaos_steps::create_effects;
use lockgate_tests::cluster::{Cluster, RECOVERY};
use lockgate_tests::invariants::{liveness_violations, safety_violations};
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::wait_until;
use lockgate_workflows::Reminded;
use serde_json::{Value, json};
use uuid::Uuid;

async fn family(plan: Value) -> (Cluster, Uuid) {
    let cluster = Cluster::new().await.patient();
    create_effects(&cluster.pool).await;
    let url = cluster.url().to_owned();
    let cluster = cluster.with("LOCKGATE_CHAOS_EFFECTS", &url);
    let run = cluster.start("chaos-family", plan).await;
    (cluster, run)
}

async fn count(cluster: &Cluster, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&cluster.pool).await.unwrap()
}

fn client(cluster: &Cluster) -> Client {
    Client::new(Database::new(&DatabaseSettings::new(cluster.url())).unwrap())
}

async fn told(cluster: &Cluster, run: Uuid) -> Result<FamilyTold, RunError> {
    let handle = client(cluster).run::<FamilyTold>(run);
    tokio::time::timeout(PATIENCE, handle.result()).await.unwrap()
}

async fn holds(cluster: &Cluster) {
    assert_eq!(safety_violations(&cluster.pool).await, [""; 0]);
    assert_eq!(liveness_violations(&cluster.pool, RECOVERY).await, [""; 0]);
}

const CHILDREN: i64 = 1_000;
const OVER: &str = "select count(*) from lockgate.task_runs where parent_id is not null and finished_at is not null";

/// One in ten of the users is inactive.
async fn reminders(cluster: Cluster) -> (Cluster, Uuid) {
    cluster.seed_users(CHILDREN * 10 / 9 + 10).await;
    let run = cluster.start("task-reminders", json!({"users": CHILDREN})).await;
    (cluster, run)
}

/// Every child is there once and over, and who was reminded got one message.
async fn all_are_reminded(cluster: &Cluster, run: Uuid) {
    let handle = client(cluster).run::<Reminded>(run);
    let reminded = tokio::time::timeout(PATIENCE, handle.result()).await.unwrap().unwrap();
    assert_eq!(
        (reminded.reminded + reminded.idle, reminded.failed),
        (CHILDREN.unsigned_abs(), 0)
    );
    assert!(reminded.reminded > 0, "{reminded:?}");
    let children = "select count(*) from lockgate.task_runs where parent_id = $1 and status = 'completed'";
    assert_eq!(cluster.count(children, run).await, CHILDREN);
    wait_until(PATIENCE, "the outbox is empty", async || {
        count(cluster, "select count(*) from lockgate.outbox").await == 0
    })
    .await;
    let mut messages: Vec<Uuid> = cluster.topic.sent().await.iter().map(|sent| sent.message_id).collect();
    messages.sort_unstable();
    messages.dedup();
    assert_eq!(messages.len() as u64, reminded.reminded);
    holds(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_has_a_thousand_children() {
    let (cluster, run) = reminders(Cluster::new().await.patient()).await;
    let mut replica = cluster.replica();
    replica.says("replica started").await;
    let begun = Instant::now();
    cluster.reaches(run, "completed").await;
    let took = begun.elapsed();
    let claims = cluster
        .count("select claim_token from lockgate.task_runs where id = $1", run)
        .await;
    println!("{CHILDREN} children of one parent took {took:?}; the parent was claimed {claims} times");
    all_are_reminded(&cluster, run).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_children_outlive_the_death_of_one_of_two_replicas() {
    let (cluster, run) = reminders(Cluster::new().await).await;
    let mut replicas = [cluster.replica(), cluster.replica()];
    wait_until(PATIENCE, "a third of the children are over", async || {
        count(&cluster, OVER).await > CHILDREN / 3
    })
    .await;
    let left = CHILDREN - count(&cluster, OVER).await;
    replicas[0].kill();
    all_are_reminded(&cluster, run).await;
    println!("{left} children were left when a replica was killed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_tree_is_cancelled_with_its_root_but_for_what_is_detached() {
    let (cluster, run) = family(json!({"children": 3, "below": 2, "leaf_waits": true})).await;
    let mut apart = json!({"children": 2, "detached": true, "forgets": true, "leaf_waits": true});
    apart["name"] = json!("apart");
    let _replica = cluster.replica();
    let detached = cluster.start("chaos-family", apart).await;
    let waiting = "select count(*) from lockgate.task_runs where status = 'suspended'";
    wait_until(PATIENCE, "the leaves of both wait", async || {
        count(&cluster, waiting).await == 1 + 3 + 9 + 27 + 2
    })
    .await;
    cluster.reaches(detached, "completed").await;
    let begun = Instant::now();
    let state: String = sqlx::query_scalar("select lockgate.cancel_run($1, 'no more')")
        .bind(run)
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    assert_eq!(state, "cancelled");
    let cancelled = "select count(*) from lockgate.task_runs where status = 'cancelled' and reason like '%: no more'";
    wait_until(PATIENCE, "all below it are cancelled", async || {
        count(&cluster, cancelled).await == 3 + 9 + 27
    })
    .await;
    println!("a tree of four levels was cancelled within {:?}", begun.elapsed());
    assert_eq!(count(&cluster, waiting).await, 2, "detached children go on");
    assert!(matches!(told(&cluster, run).await, Err(RunError::Cancelled { .. })));
    holds(&cluster).await;
    let tell = "select count(lockgate.signal_run(id, 'go')) from lockgate.task_runs where detached";
    assert_eq!(count(&cluster, tell).await, 2);
    wait_until(PATIENCE, "they end by themselves", async || {
        count(&cluster, waiting).await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_that_fails_takes_its_children_along() {
    let (cluster, run) = family(json!({"children": 5, "forgets": true, "leaf_waits": true, "fails": true})).await;
    let _replica = cluster.replica();
    cluster.reaches(run, "failed").await;
    let cancelled = "select count(*) from lockgate.task_runs where parent_id = $1 and status = 'cancelled'
                        and reason = 'the run that started it is over: it fails as planned'";
    wait_until(PATIENCE, "they are cancelled", async || {
        cluster.count(cancelled, run).await == 5
    })
    .await;
    let dropped = "select count(*) from lockgate.run_steps where run_id = $1 and kind = 'child' and status = 'dropped'";
    wait_until(PATIENCE, "nobody waits for them", async || {
        cluster.count(dropped, run).await == 5
    })
    .await;
    holds(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_are_told_and_cancelled_by_their_parent() {
    let (cluster, run) = family(json!({"children": 4, "leaf_waits": true, "tells": true})).await;
    let cancels = json!({"children": 3, "leaf_waits": true, "cancels": true, "name": "other"});
    let other = cluster.start("chaos-family", cancels).await;
    let _replica = cluster.replica();
    assert_eq!(told(&cluster, run).await.unwrap().leaves, 4);
    let lost = told(&cluster, other).await.unwrap().lost;
    assert_eq!(lost.len(), 3);
    for why in lost {
        assert!(
            why.starts_with("child ") && why.ends_with(" was cancelled: as planned"),
            "{why}"
        );
    }
    holds(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_waits_its_turn_when_few_run_at_once() {
    let (cluster, run) = family(json!({"children": 30, "at_once": 4, "leaf_ms": 20})).await;
    let cluster = cluster.with("LOCKGATE_WORKFLOWS_IN_FLIGHT", "3");
    let _replica = cluster.replica();
    assert_eq!(told(&cluster, run).await.unwrap().leaves, 30);
    let most = "select max(n) from (
                    select sum(step) over (order by at, step) as n
                      from (select started_at as at, 1 as step from lockgate.run_steps where run_id = $1 and kind = 'child'
                            union all
                            select finished_at, -1 from lockgate.run_steps where run_id = $1 and kind = 'child') e) m";
    assert!(cluster.count(most, run).await <= 4);
    holds(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_goes_on_as_another_and_whoever_waits_gets_the_last_ones_result() {
    let (cluster, run) = family(json!({"rounds": 5, "publish": 2})).await;
    let _replica = cluster.replica();
    let last = told(&cluster, run).await.unwrap();
    assert_eq!((last.leaves, last.published.len()), (1, 2));
    let chain = "with recursive chain (id, continued_as) as (
                     select id, continued_as from lockgate.task_runs where id = $1
                     union all
                     select n.id, n.continued_as from chain c join lockgate.task_runs n on n.id = c.continued_as)
                 select count(*) from chain";
    assert_eq!(cluster.count(chain, run).await, 6);
    wait_until(PATIENCE, "all is sent", async || {
        count(&cluster, "select count(*) from lockgate.outbox").await == 0
    })
    .await;
    let mut messages: Vec<Uuid> = cluster.topic.sent().await.iter().map(|sent| sent.message_id).collect();
    messages.sort_unstable();
    messages.dedup();
    assert_eq!(messages.len(), 12, "each round has ids of its own");
    assert!(last.published.iter().all(|id| messages.contains(id)));
    holds(&cluster).await;
}

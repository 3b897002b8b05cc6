//! T: leaders that die while they fire slots, and starts by hand that get lost on their way there or back
//! (R40.7).

use lockgate_tests::cli::Program;
use lockgate_tests::cluster::{Cluster, RECOVERY, program};
use lockgate_tests::invariants::{liveness_violations, safety_violations};
use lockgate_tests::proxy::Proxy;
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::wait_until;
use sqlx::{AssertSqlSafe, Executor};
use uuid::Uuid;

const START: &[&str] = &[
    "start",
    "chaos-items",
    "--params",
    "{\"items\": 3}",
    "--key",
    "once",
    "--output",
    "json",
];
const STATEMENT: &str = "Starts one run for whoever may act";

async fn runs(cluster: &Cluster) -> i64 {
    sqlx::query_scalar("select count(*) from lockgate.task_runs")
        .fetch_one(&cluster.pool)
        .await
        .unwrap()
}

/// Whatever is lost on the way, the command asks again by itself under the same id, and there is one run.
async fn asks_again(lose: impl Fn(&Proxy)) {
    let cluster = Cluster::new().await.patient();
    let proxy = Proxy::before(cluster.url()).await;
    let program = Program::new(program().to_str().unwrap(), proxy.url());
    lose(&proxy);
    let started = program.run(START).await.exits(0).json();
    assert_eq!((proxy.cut(), runs(&cluster).await), (1, 1));
    let again = program.run(START).await.exits(0).json();
    assert_eq!(again["outcome"], "found");
    assert_eq!(again["run_id"], started["run_id"]);
    assert_eq!(runs(&cluster).await, 1);
    let _replica = cluster.replica();
    let found = cluster
        .completes(started["run_id"].as_str().unwrap().parse().unwrap())
        .await;
    assert_eq!((found.planned, found.records), (3, 3), "{found}");
}

pub async fn lost_on_its_way() {
    asks_again(|proxy| proxy.lose_request(STATEMENT, 1)).await;
    asks_again(|proxy| proxy.lose_reply(STATEMENT, 1)).await;
}

/// A slot each second, none given up.
const SCHEDULE: &str = "insert into lockgate.schedules (name, workflow, cron, params, overlap, catch_up, catch_up_max)
    values ('each-second', 'chaos-items', '* * * * * *', '{\"items\": 2}', 'allow', 'all', 1000)";
const FIRED: &str = "select count(*) from lockgate.task_runs where schedule = 'each-second'";

async fn number(cluster: &Cluster, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&cluster.pool).await.unwrap()
}

pub async fn before_commit() {
    dies_firing("trigger.before_commit:2").await;
}

pub async fn after_commit() {
    dies_firing("trigger.after_commit:2").await;
}

async fn dies_firing(point: &str) {
    let cluster = Cluster::new().await.patient();
    cluster.pool.execute(SCHEDULE).await.unwrap();
    cluster.dies_at(point).await;
    let _replica = cluster.replica();
    each_slot_fired_once(&cluster).await;
}

pub async fn leaders_die() {
    let cluster = Cluster::new().await;
    cluster.pool.execute(SCHEDULE).await.unwrap();
    let mut replicas = vec![cluster.replica(), cluster.replica()];
    for term in 1..=3 {
        let fired = format!("select count(*) from lockgate.task_runs where leader_term >= {term}");
        wait_until(PATIENCE, "the leader of the next term fires a slot", async || {
            sqlx::query_scalar::<_, i64>(AssertSqlSafe(fired.clone()))
                .fetch_one(&cluster.pool)
                .await
                .unwrap()
                > 0
        })
        .await;
        let mut dies = None;
        wait_until(PATIENCE, "one that lives leads", async || {
            let leads: Uuid = sqlx::query_scalar("select holder from lockgate.leader_lease")
                .fetch_one(&cluster.pool)
                .await
                .unwrap();
            dies = replicas.iter().position(|replica| replica.id() == Some(leads));
            dies.is_some()
        })
        .await;
        replicas.remove(dies.unwrap()).kill();
        replicas.push(cluster.replica());
    }
    each_slot_fired_once(&cluster).await;
    assert!(number(&cluster, "select term from lockgate.leader_lease").await >= 4);
}

async fn each_slot_fired_once(cluster: &Cluster) {
    let before = number(cluster, FIRED).await;
    wait_until(PATIENCE, "slots are fired again", async || {
        number(cluster, FIRED).await > before + 2
    })
    .await;
    cluster
        .pool
        .execute("select lockgate.pause_schedule('each-second')")
        .await
        .unwrap();
    let open = "select count(*) from lockgate.task_runs where finished_at is null";
    wait_until(PATIENCE, "all runs have ended", async || {
        number(cluster, open).await == 0
    })
    .await;
    let gaps = "select extract(epoch from max(slot) - min(slot))::bigint + 1 - count(*) from lockgate.task_runs";
    assert_eq!(
        number(cluster, gaps).await,
        0,
        "a slot each second, none lost and none twice"
    );
    assert_eq!(safety_violations(&cluster.pool).await, [""; 0]);
    assert_eq!(liveness_violations(&cluster.pool, RECOVERY).await, [""; 0]);
}

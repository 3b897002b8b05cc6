//! T: requests to start a run that get lost on their way there or back.

use lockgate_tests::cli::Program;
use lockgate_tests::cluster::{Cluster, program};
use lockgate_tests::proxy::Proxy;

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
const STATEMENT: &str = "Starts a run for a person";

async fn runs(cluster: &Cluster) -> i64 {
    sqlx::query_scalar("select count(*) from lockgate.task_runs")
        .fetch_one(&cluster.pool)
        .await
        .unwrap()
}

async fn asks_again(lose: impl Fn(&Proxy), runs_before: i64, outcome: &str) {
    let cluster = Cluster::new().await;
    let proxy = Proxy::before(cluster.url()).await;
    let program = Program::new(program().to_str().unwrap(), proxy.url());
    lose(&proxy);
    let lost = program.run(START).await;
    assert_ne!(lost.code, 0, "{lost:?}");
    assert_eq!((proxy.cut(), runs(&cluster).await), (1, runs_before));
    let answer = program.run(START).await.exits(0).json();
    assert_eq!(answer["outcome"], outcome);
    assert_eq!(runs(&cluster).await, 1);
    let _replica = cluster.replica();
    let found = cluster
        .completes(answer["run_id"].as_str().unwrap().parse().unwrap())
        .await;
    assert_eq!((found.planned, found.records), (3, 3), "{found}");
}

pub async fn a_lost_request_starts_nothing() {
    asks_again(|proxy| proxy.lose_request(STATEMENT, 1), 0, "new").await;
}

pub async fn a_lost_answer_finds_the_run() {
    asks_again(|proxy| proxy.lose_reply(STATEMENT, 1), 1, "found").await;
}

//! Spike.
#![allow(clippy::unwrap_used, missing_docs)]
use lockgate::delivery::{BreakerPolicy, Breakers};
use lockgate::execution::*;
use lockgate::kafka::*;
use lockgate::lifecycle::*;
use lockgate::postgres::*;
use lockgate::workflow::*;
use lockgate_workflows::*;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spike() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter("lockgate=debug,warn")
        .try_init();
    let url = std::env::var("SPIKE_URL").unwrap();
    let brokers = std::env::var("SPIKE_KAFKA").unwrap();
    let users: i64 = std::env::var("USERS").unwrap().parse().unwrap();
    let database = Database::new(&DatabaseSettings::new(&url)).unwrap();
    Migrator::new(database.clone()).up(None).await.unwrap();
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    tracker::create(&pool).await.unwrap();
    tracker::seed(&pool, users, |_| ()).await.unwrap();
    let config = KafkaConfig::new(&brokers);
    create_topic(&config, "email_commands", 12, &[]).await.unwrap();
    let breakers = Arc::new(Breakers::new(BreakerPolicy::default()));
    let publisher = Arc::new(KafkaPublisher::start(config, breakers.clone()).unwrap());
    publisher.warm_up("email_commands").await;
    let replica = uuid::Uuid::new_v4();
    let fleet = Arc::new(PostgresFleet::new(
        database.clone(),
        FleetSettings {
            replica,
            lease: Duration::from_secs(60),
            max_deaths: 3,
            stale_after: Duration::from_secs(60),
            first_redelivery: Duration::from_secs(5),
        },
    ));
    let mut registry = Registry::default();
    registry.add(DailyTaskReports);
    let mut resources = Resources::default();
    resources.insert(database.clone());
    let executor = Executor::new(ExecutorParts {
        fleet,
        publisher,
        breakers,
        registry,
        resources,
        settings: ExecutionSettings::new(replica),
        hints: Arc::new(Hints::default()),
    });
    let stop = CancellationToken::new();
    let running = {
        let stop = stop.clone();
        tokio::spawn(async move { executor.run(stop).await })
    };
    let begun = Instant::now();
    let run: uuid::Uuid = sqlx::query_scalar("select lockgate.start_run('daily-task-reports')")
        .fetch_one(&pool)
        .await
        .unwrap();
    loop {
        let status: String = sqlx::query_scalar("select status from lockgate.task_runs where id = $1")
            .bind(run)
            .fetch_one(&pool)
            .await
            .unwrap();
        if status == "completed" || status == "failed" {
            println!("{status} after {:?}", begun.elapsed());
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let proof: String = sqlx::query_scalar("select row_to_json(p)::text from lockgate.v_run_proof p where run_id = $1")
        .bind(run)
        .fetch_one(&pool)
        .await
        .unwrap();
    println!("{proof}");
    stop.cancel();
    println!("drained in time {}", running.await.unwrap());
}

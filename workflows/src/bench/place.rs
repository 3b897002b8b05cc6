//! Where a benchmark works: a database and topics of its own, made for it and removed at the end.

use std::str::FromStr;

use anyhow::Context as _;
use lockgate::config::{Config, Secret};
use lockgate::kafka::{KafkaConfig, create_topic, delete_topic};
use lockgate::postgres::{Database, DatabaseSettings, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Executor, PgPool};
use uuid::Uuid;

use super::baseline::WORKERS;

const NAME: &str = "lockgate_bench";
const MARK: &str = "made by lockgate bench";
const PARTITIONS: i32 = 12;
/// Users seeded by one statement.
const PAGE: i64 = 100_000;

/// The database and the brokers of a benchmark.
pub(super) struct Place {
    server: PgConnectOptions,
    pub(super) url: String,
    /// For what the benchmark itself asks.
    pub(super) pool: PgPool,
    pub(super) kafka: KafkaConfig,
}

impl Place {
    /// Makes the database and its tables on the server of this URL; one that an earlier benchmark left is made anew.
    pub(super) async fn make(url: &str, brokers: &str) -> anyhow::Result<Self> {
        let server = PgConnectOptions::from_str(url)
            .map_err(|_| anyhow::anyhow!("DATABASE_URL is not a Postgres URL"))?
            .disable_statement_logging();
        let mut connection = server.clone().connect().await.context("Postgres cannot be reached")?;
        let mark: Option<Option<String>> = sqlx::query_scalar(
            "select shobj_description(oid, 'pg_database') from pg_database where datname = 'lockgate_bench'",
        )
        .fetch_optional(&mut connection)
        .await?;
        if let Some(mark) = mark {
            anyhow::ensure!(
                mark.as_deref() == Some(MARK),
                "database {NAME} is there and was not made by a benchmark: rename or drop it"
            );
            connection.execute("drop database lockgate_bench with (force)").await?;
        }
        connection.execute("create database lockgate_bench").await?;
        connection
            .execute("comment on database lockgate_bench is 'made by lockgate bench'")
            .await?;
        let options = server.clone().database(NAME);
        let url = options.to_url_lossy().to_string();
        Migrator::new(Database::new(&DatabaseSettings::new(&url))?)
            .up(None)
            .await?;
        let pool = PgPoolOptions::new().max_connections(2).connect_with(options).await?;
        pool.execute(sqlx::raw_sql(include_str!("../../sql/bench/users.sql")))
            .await?;
        sqlx::query("insert into bench.progress (worker) select generate_series(0, $1 - 1)")
            .bind(WORKERS)
            .execute(&pool)
            .await?;
        Ok(Self {
            server,
            url,
            pool,
            kafka: KafkaConfig::new(brokers),
        })
    }

    /// Makes one for this work, and removes it whatever came of that.
    pub(super) async fn lent<T>(
        url: &str,
        brokers: &str,
        work: impl AsyncFnOnce(&Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let place = Self::make(url, brokers).await?;
        let result = work(&place).await;
        place.remove().await?;
        result
    }

    /// The configuration of whoever works here and writes to this topic: the defaults, but for where that is.
    pub(super) fn config(&self, topic: &str) -> Config {
        let mut config = Config::default();
        config.database.url = Some(Secret::new(&self.url));
        config.kafka.brokers = Some(self.kafka.brokers.clone());
        config.topics.insert("email".to_owned(), topic.to_owned());
        config
    }

    /// Seeds users with ids from 1 on, and leaves nothing for autovacuum to do while it is measured.
    pub(super) async fn seed(&self, users: i64, progress: &(dyn Fn(&str) + Sync)) -> anyhow::Result<()> {
        let mut last = 0;
        while last < users {
            let to = (last + PAGE).min(users);
            sqlx::query(include_str!("../../sql/bench/seed.sql"))
                .bind(last + 1)
                .bind(to)
                .execute(&self.pool)
                .await?;
            last = to;
            if last % (10 * PAGE) == 0 {
                progress(&format!("seeding: {last} of {users} users"));
            }
        }
        self.pool.execute("vacuum (analyze) bench.users").await?;
        Ok(())
    }

    /// How many items there are among the ids up to this one.
    pub(super) async fn picked_up_to(&self, last_id: i64) -> anyhow::Result<i64> {
        let count = sqlx::query_scalar("select count(*) from bench.users where id <= $1 and picked")
            .bind(last_id)
            .fetch_one(&self.pool)
            .await?;
        Ok(count)
    }

    /// A pool for the hand-written loop: a connection for each worker, all of them made.
    pub(super) async fn loop_pool(&self) -> anyhow::Result<PgPool> {
        let workers = u32::try_from(WORKERS)?;
        let pool = PgPoolOptions::new()
            .min_connections(workers)
            .max_connections(workers)
            .connect_with(self.server.clone().database(NAME))
            .await?;
        let mut held = Vec::new();
        for _ in 0..workers {
            held.push(pool.acquire().await?);
        }
        Ok(pool)
    }

    /// A topic nobody has written to: every measurement gets its own.
    pub(super) async fn make_topic(&self) -> anyhow::Result<String> {
        let topic = format!("lockgate_bench_{}", Uuid::now_v7().simple());
        // A run leaves 1.5 GB behind: it goes soon after its topic.
        let settings = [("file.delete.delay.ms", "1000")];
        create_topic(&self.kafka, &topic, PARTITIONS, &settings).await?;
        Ok(topic)
    }

    pub(super) async fn remove_topic(&self, topic: &str) -> anyhow::Result<()> {
        delete_topic(&self.kafka, topic).await.map(|_| ())
    }

    /// Removes the database.
    pub(super) async fn remove(self) -> anyhow::Result<()> {
        self.pool.close().await;
        let mut connection = self.server.connect().await?;
        connection.execute("drop database lockgate_bench with (force)").await?;
        Ok(())
    }
}

//! A database for each test.

use lockgate::postgres::{Database, DatabaseSettings, Migrator};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool};
use uuid::Uuid;

/// A database that exists as long as this value.
pub struct TestDatabase {
    name: String,
    url: String,
    pool: PgPool,
}

fn server() -> String {
    std::env::var("LOCKGATE_TEST_DATABASE_URL")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:25432/postgres".to_owned())
}

impl TestDatabase {
    /// A database with the migrated schema.
    pub async fn new() -> Self {
        let database = Self::empty().await;
        let engine = Database::new(&DatabaseSettings::new(database.url())).unwrap();
        Migrator::new(engine.clone()).up(None).await.unwrap();
        engine.close().await;
        database
    }

    /// A database without the schema.
    pub async fn empty() -> Self {
        let name = format!("lockgate_cli_{}", Uuid::new_v4().simple());
        let mut connection = PgConnection::connect(&server()).await.unwrap();
        connection
            .execute(AssertSqlSafe(format!("create database {name} template template0")))
            .await
            .unwrap();
        let url = format!("{}/{name}", server().rsplit_once('/').unwrap().0);
        let pool = PgPoolOptions::new().max_connections(3).connect_lazy(&url).unwrap();
        Self { name, url, pool }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A plain pool for looking, and for what the test does to the tables behind the engine's back.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let drop_it = format!("drop database if exists {} with (force)", self.name);
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let mut connection = PgConnection::connect(&server()).await.unwrap();
                connection.execute(AssertSqlSafe(drop_it)).await.unwrap();
            });
        });
        dropping.join().unwrap();
    }
}

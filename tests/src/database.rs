//! A database for each test, copied from a template that holds the migrated schema.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lockgate::postgres::{Database, DatabaseSettings, Migrator, roles_sql};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool};
use uuid::Uuid;

use crate::postgres_url;
use crate::servers::pooler_url;

/// Held while the template is made and while anything changes the cluster's roles, on the server's own database.
const CLUSTER_LOCK: &str = "select pg_advisory_lock(7163384699216396290)";

/// A database that exists as long as this value.
pub struct TestDatabase {
    name: String,
    url: String,
    pool: PgPool,
}

impl TestDatabase {
    /// A database with the migrated schema.
    ///
    /// # Panics
    /// The server cannot be reached or a migration fails.
    pub async fn new() -> Self {
        Self::copy_of(&template().await).await
    }

    /// A database without the schema, on a cluster that has the roles.
    ///
    /// # Panics
    /// The server cannot be reached.
    pub async fn empty() -> Self {
        template().await;
        Self::copy_of("template0").await
    }

    async fn copy_of(template: &str) -> Self {
        let name = format!("lockgate_test_{}", Uuid::new_v4().simple());
        let mut server = connect(postgres_url()).await;
        let create = format!("create database {name} template {template}");
        server.execute(AssertSqlSafe(create)).await.unwrap();
        server.close().await.unwrap();
        let url = on_database(postgres_url(), &name);
        let pool = PgPoolOptions::new().max_connections(3).connect_lazy(&url).unwrap();
        Self { name, url, pool }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The engine's way to it.
    #[must_use]
    pub fn database(&self) -> Database {
        Database::new(&self.settings()).unwrap()
    }

    /// The engine's way to it through the PgBouncer of the test servers, which does not track prepared statements; where
    /// there is none, as if behind one.
    #[must_use]
    pub fn database_in_pooler_mode(&self) -> Database {
        let settings = self.settings();
        let url = pooler_url().map_or(settings.url.clone(), |pooler| on_database(pooler, &self.name));
        Database::new(&DatabaseSettings {
            pooler_mode: true,
            url,
            ..settings
        })
        .unwrap()
    }

    /// Settings for the engine's way to it, to be changed by the test.
    #[must_use]
    pub fn settings(&self) -> DatabaseSettings {
        DatabaseSettings {
            max_connections: 6,
            ..DatabaseSettings::new(&self.url)
        }
    }

    /// A plain pool for looking, and for what the test does to the tables behind the engine's back.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Runs the roles' script as `lockgate migrate roles` does, one process at a time.
    ///
    /// # Panics
    /// The script fails.
    pub async fn make_roles() {
        let mut server = Self::changing_roles().await;
        server.execute(sqlx::raw_sql(roles_sql())).await.unwrap();
        server.close().await.unwrap();
    }

    /// A connection to the server's own database; until it is closed nobody else changes the cluster's roles, or makes
    /// a database of this kind.
    ///
    /// # Panics
    /// The server cannot be reached.
    pub async fn changing_roles() -> PgConnection {
        let mut server = connect(postgres_url()).await;
        server.execute(CLUSTER_LOCK).await.unwrap();
        server
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let drop_it = format!("drop database if exists {} with (force)", self.name);
        // The test's runtime may be the one that drops us; a thread of its own can wait for the server.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let mut server = connect(postgres_url()).await;
                server.execute(AssertSqlSafe(drop_it)).await.map(drop)
            })
        });
        if let Ok(Err(error)) = dropping.join()
            && !std::thread::panicking()
        {
            panic!("test database {} cannot be dropped: {error}", self.name);
        }
    }
}

/// The template for the schema as it is now, made by the first who needs it.
async fn template() -> String {
    let name = format!("lockgate_template_{}", schema_hash().simple());
    let mut server = connect(postgres_url()).await;
    server.execute(CLUSTER_LOCK).await.unwrap();
    let exists: bool = sqlx::query_scalar("select exists (select 1 from pg_database where datname = $1)")
        .bind(&name)
        .fetch_one(&mut server)
        .await
        .unwrap();
    if !exists {
        make_template(&mut server, &name).await;
    }
    // Closing the connection gives the lock back.
    server.close().await.unwrap();
    name
}

async fn make_template(server: &mut PgConnection, name: &str) {
    server.execute(sqlx::raw_sql(roles_sql())).await.unwrap();
    // Named as the template only once it is whole: a test process that dies here leaves nothing half made.
    let unfinished = format!("{name}_u");
    let drop_unfinished = format!("drop database if exists {unfinished} with (force)");
    server.execute(AssertSqlSafe(drop_unfinished)).await.unwrap();
    server
        .execute(AssertSqlSafe(format!(
            "create database {unfinished} template template0"
        )))
        .await
        .unwrap();
    let database = Database::new(&DatabaseSettings::new(on_database(postgres_url(), &unfinished))).unwrap();
    Migrator::new(database.clone()).up(None).await.unwrap();
    database.close().await;
    crate::wait_until(
        Duration::from_secs(60),
        "the migrator has left the template",
        async || {
            let left = "select not exists (select 1 from pg_stat_activity where datname = $1)";
            sqlx::query_scalar::<_, bool>(left)
                .bind(&unfinished)
                .fetch_one(&mut *server)
                .await
                .unwrap()
        },
    )
    .await;
    server
        .execute(AssertSqlSafe(format!("alter database {unfinished} rename to {name}")))
        .await
        .unwrap();
}

fn schema_hash() -> Uuid {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema");
    let migrations = std::fs::read_dir(schema.join("migrations")).unwrap();
    let mut files: Vec<PathBuf> = migrations.map(|entry| entry.unwrap().path()).collect();
    files.extend([schema.join("history.sql"), schema.join("roles.sql")]);
    files.sort();
    let mut content = Vec::new();
    for file in files {
        content.extend(file.file_name().unwrap().as_encoded_bytes());
        content.extend(std::fs::read(&file).unwrap());
    }
    Uuid::new_v5(&Uuid::NAMESPACE_OID, &content)
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url)
        .await
        .unwrap_or_else(|error| panic!("no test server: {error}"))
}

/// The same server, another database.
fn on_database(url: &str, name: &str) -> String {
    let (base, query) = url
        .split_once('?')
        .map_or((url, None), |(base, query)| (base, Some(query)));
    let server = base.find("://").map_or(0, |at| at + 3);
    let base = base[server..].find('/').map_or(base, |at| &base[..server + at]);
    query.map_or_else(|| format!("{base}/{name}"), |query| format!("{base}/{name}?{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_database_of_a_url_is_replaced() {
        assert_eq!(on_database("postgres://u:p@h:1/a", "b"), "postgres://u:p@h:1/b");
        assert_eq!(on_database("postgres://h", "b"), "postgres://h/b");
        assert_eq!(
            on_database("postgres://h/a?sslmode=disable", "b"),
            "postgres://h/b?sslmode=disable"
        );
    }

    #[tokio::test]
    async fn a_test_database_is_migrated_and_gone_afterwards() {
        let database = TestDatabase::new().await;
        let name = database.name.clone();
        let states = Migrator::new(database.database()).status().await.unwrap();
        assert!(!states.is_empty() && states.iter().all(|state| state.applied));
        drop(database);
        let mut server = connect(postgres_url()).await;
        let left = sqlx::query_scalar::<_, i64>("select count(*) from pg_database where datname = $1");
        assert_eq!(left.bind(&name).fetch_one(&mut server).await.unwrap(), 0);
    }
}

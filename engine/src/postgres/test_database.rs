//! A database for one test of a user's: fresh, migrated, and gone at its end.
#![allow(clippy::panic)]

use std::sync::Arc;

use futures::FutureExt;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use uuid::Uuid;

use super::database::{Database, DatabaseSettings};
use super::migrations::Migrator;

/// Where the server is told, the first that is set.
const VARIABLES: [&str; 2] = ["LOCKGATE_TEST_DATABASE_URL", "DATABASE_URL"];

/// A database of a test's own; it is dropped with the last clone of this.
#[derive(Clone)]
pub struct TestPostgres(Arc<Own>);

struct Own {
    server: String,
    name: String,
    url: String,
    database: Database,
}

/// A fresh database with Lockgate's schema, on the server that `LOCKGATE_TEST_DATABASE_URL` or else `DATABASE_URL` names.
///
/// # Panics
/// Neither is set, or the server cannot be used; the text says what to do.
pub async fn postgres_for_test() -> TestPostgres {
    let server = VARIABLES.iter().find_map(|name| std::env::var(name).ok());
    let Some(server) = server else {
        panic!(
            "lockgate::testing::postgres() makes a database of its own on a server: name one in {}",
            VARIABLES[0]
        )
    };
    match make(server).await {
        Ok(made) => made,
        Err(why) => panic!(
            "no database for the test on the server of {}: {why}",
            VARIABLES.join(" or ")
        ),
    }
}

async fn make(server: String) -> anyhow::Result<TestPostgres> {
    let name = format!("lockgate_kit_{}", Uuid::new_v4().simple());
    let create = format!("create database {name} template template0");
    PgConnection::connect(&server)
        .await?
        .execute(AssertSqlSafe(create))
        .await?;
    let url = on_database(&server, &name)?;
    let settings = DatabaseSettings {
        max_connections: 6,
        ..DatabaseSettings::new(&url)
    };
    let database = Database::new(&settings)?;
    let made = TestPostgres(Arc::new(Own {
        server,
        name,
        url,
        database,
    }));
    Migrator::new(made.database()).up(None).await?;
    Ok(made)
}

/// The same server, another database.
fn on_database(url: &str, name: &str) -> anyhow::Result<String> {
    let (base, query) = url
        .split_once('?')
        .map_or((url, None), |(base, query)| (base, Some(query)));
    let server = base
        .find("://")
        .map(|at| at + 3)
        .ok_or_else(|| anyhow::anyhow!("it is not a URL"))?;
    let base = base[server..].find('/').map_or(base, |at| &base[..server + at]);
    Ok(query.map_or_else(|| format!("{base}/{name}"), |query| format!("{base}/{name}?{query}")))
}

impl TestPostgres {
    /// Where it is; holds whatever the server's URL held.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// The engine's way to it, as workflows find it among their resources.
    #[must_use]
    pub fn database(&self) -> Database {
        self.0.database.clone()
    }

    /// Runs statements, such as those that make the test's tables.
    ///
    /// # Panics
    /// One fails.
    pub async fn execute(&self, sql: &'static str) {
        let done = self
            .0
            .database
            .run(move |connection| connection.execute(sqlx::raw_sql(sql)).boxed());
        if let Err(error) = done.await {
            panic!("a statement of the test failed: {error}");
        }
    }

    /// What a statement counts.
    ///
    /// # Panics
    /// It fails, or answers with anything else than one `bigint`.
    pub async fn count(&self, sql: &'static str) -> i64 {
        let counted = self
            .0
            .database
            .run(move |connection| sqlx::query_scalar(sql).fetch_one(connection).boxed());
        match counted.await {
            Ok(count) => count,
            Err(error) => panic!("a statement of the test failed: {error}"),
        }
    }
}

impl std::fmt::Debug for TestPostgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TestPostgres").field(&self.0.name).finish()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // The test's runtime may be the one that drops us; a thread of its own can wait for the server.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                let drop_it = format!("drop database if exists {name} with (force)");
                let mut server = PgConnection::connect(&server).await?;
                server.execute(AssertSqlSafe(drop_it)).await?;
                anyhow::Ok(())
            })
        });
        if let Ok(Err(error)) = dropping.join()
            && !std::thread::panicking()
        {
            panic!("test database {} cannot be dropped: {error}", self.name);
        }
    }
}

//! A fresh database per test, and what the tests of leader, schedules and retention share.
// Each of the three uses its part.
#![allow(dead_code)]

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockgate::leader::{Reign, Scheduler, Ticked};
use lockgate::lifecycle::{ClaimPage, RunClaim, RunStore, Runnable, Share, WorkRun};
use lockgate::postgres::{
    Database, DatabaseSettings, FleetSettings, Migrator, PostgresFleet, PostgresLeader, PostgresRunStore, roles_sql,
};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Longer than anything here takes on a busy machine; only a failure waits for it.
pub const PATIENCE: Duration = Duration::from_secs(30);

static ROLES: OnceCell<()> = OnceCell::const_new();

/// Claims every run of the workflow `reports` whose code may go on.
pub async fn claim_all(runs: &PostgresRunStore) -> Vec<(RunClaim, WorkRun)> {
    let workflow = "reports".to_owned();
    let page = ClaimPage {
        claim_id: Uuid::now_v7(),
        shares: vec![Share {
            queue: workflow.clone(),
            take: 100,
        }],
        runnable: vec![Runnable {
            workflow,
            version: 1,
            replays: 1..=1,
        }],
        suspects: false,
    };
    runs.claim_runs(&page).await.unwrap()
}

/// A migrated database of its own, dropped at the end.
pub struct World {
    pub name: String,
    pub pool: PgPool,
    pub database: Database,
}

impl World {
    pub async fn new() -> Self {
        ROLES.get_or_init(async || admin(roles_sql()).await).await;
        let name = format!("lockgate_leading_{}", Uuid::now_v7().simple());
        admin(&format!("create database {name}")).await;
        let pool = PgPoolOptions::new()
            .max_connections(20)
            .connect(&url(&name, None))
            .await
            .unwrap();
        let database = database(&name, None);
        Migrator::new(database.clone()).up(None).await.unwrap();
        Self { name, pool, database }
    }

    /// The same database as another role.
    pub fn as_role(&self, role: &str) -> Database {
        database(&self.name, Some(role))
    }

    pub fn leader(&self) -> PostgresLeader {
        PostgresLeader::new(self.database.clone(), Uuid::now_v7())
    }

    pub fn fleet(&self) -> PostgresFleet {
        let settings = FleetSettings {
            replica: Uuid::now_v7(),
            lease: Duration::from_secs(3),
            max_deaths: 3,
            stale_after: Duration::from_secs(3),
            first_redelivery: Duration::from_secs(1),
        };
        PostgresFleet::new(self.database.clone(), settings)
    }

    pub fn runs(&self) -> PostgresRunStore {
        PostgresRunStore::new(self.database.clone(), Uuid::now_v7(), Duration::from_secs(3))
    }

    pub async fn run(&self, sql: &str) -> u64 {
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}")).rows_affected()
    }

    pub async fn number(&self, sql: &str) -> i64 {
        let found = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&self.pool)
            .await;
        found.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let found = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&self.pool)
            .await;
        found.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Waits until a count is as wanted.
    pub async fn until(&self, what: &str, sql: &str, wanted: impl Fn(i64) -> bool) {
        until(what, async || wanted(self.number(sql).await)).await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let sql = format!("drop database if exists {} with (force)", self.name);
        // A drop is not async; a thread with a runtime of its own is.
        let _ = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(admin(&sql));
        })
        .join();
    }
}

/// A leader that was elected.
pub struct Led {
    pub store: Arc<PostgresLeader>,
    pub reign: Reign,
}

impl Led {
    pub async fn new(world: &World) -> Self {
        use lockgate::leader::LeaderStore;
        let store = world.leader();
        let term = store.elect_leader(Duration::from_secs(60)).await.unwrap();
        let reign = Reign {
            term: term.expect("nobody else leads"),
            over: CancellationToken::new(),
        };
        Self {
            store: Arc::new(store),
            reign,
        }
    }

    pub fn scheduler(&self) -> Scheduler {
        Scheduler::new(self.store.clone(), Duration::from_millis(100), Duration::from_secs(60))
    }

    pub async fn tick(&self) -> Ticked {
        self.scheduler().tick(&self.reign).await.unwrap()
    }
}

/// Waits for a condition, looking often.
pub async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < PATIENCE, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn server() -> String {
    std::env::var("LOCKGATE_TEST_DATABASE_URL").expect("LOCKGATE_TEST_DATABASE_URL names the server for tests")
}

fn url(name: &str, role: Option<&str>) -> String {
    let server = server();
    let (base, _) = server.rsplit_once('/').expect("a URL with a database");
    let role = role
        .map(|role| format!("?options=-c%20role={role}"))
        .unwrap_or_default();
    format!("{base}/{name}{role}")
}

fn database(name: &str, role: Option<&str>) -> Database {
    Database::new(&DatabaseSettings::new(url(name, role))).unwrap()
}

async fn admin(sql: &str) {
    let options: PgConnectOptions = server().parse().unwrap();
    let mut connection = PgConnection::connect_with(&options).await.unwrap();
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut connection)
        .await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    connection.close().await.unwrap();
}

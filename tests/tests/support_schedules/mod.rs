//! A fresh database per test, and what the tests of leader, schedules and retention share.
// Each of the three uses its part.
#![allow(dead_code)]

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockgate::leader::{Reign, Scheduler, Ticked};
use lockgate::lifecycle::{ClaimPage, RunClaim, RunStore, Runnable, Share, WorkRun};
use lockgate::postgres::{Database, DatabaseSettings, FleetSettings, PostgresFleet, PostgresLeader, PostgresRunStore};
use lockgate_tests::TestDatabase;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Longer than anything here takes on a busy machine; only a failure waits for it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Nobody here waits for one to end.
const LEASE: Duration = Duration::from_secs(600);

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

/// A migrated database of its own.
pub struct World {
    pub pool: PgPool,
    pub database: Database,
    place: TestDatabase,
}

impl World {
    pub async fn new() -> Self {
        let place = TestDatabase::new().await;
        let pool = PgPoolOptions::new()
            .max_connections(20)
            .connect(place.url())
            .await
            .unwrap();
        let database = Database::new(&DatabaseSettings::new(place.url())).unwrap();
        Self { pool, database, place }
    }

    /// The same database as another role.
    pub fn as_role(&self, role: &str) -> Database {
        let url = format!("{}?options=-c%20role={role}", self.place.url());
        Database::new(&DatabaseSettings::new(url)).unwrap()
    }

    pub fn leader(&self) -> PostgresLeader {
        PostgresLeader::new(self.database.clone(), Uuid::now_v7())
    }

    pub fn fleet(&self) -> PostgresFleet {
        let settings = FleetSettings {
            replica: Uuid::now_v7(),
            lease: LEASE,
            max_deaths: 3,
            stale_after: LEASE,
            first_redelivery: Duration::from_secs(1),
        };
        PostgresFleet::new(self.database.clone(), settings)
    }

    pub fn runs(&self) -> PostgresRunStore {
        PostgresRunStore::new(self.database.clone(), Uuid::now_v7(), LEASE)
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

/// A leader that was elected.
pub struct Led {
    pub store: Arc<PostgresLeader>,
    pub reign: Reign,
}

impl Led {
    pub async fn new(world: &World) -> Self {
        use lockgate::leader::LeaderStore;
        let store = world.leader();
        let term = store.elect_leader(LEASE).await.unwrap();
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

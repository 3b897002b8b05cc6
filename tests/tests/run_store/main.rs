//! What running the code of workflows relies on: claims, checkpoints and ends of many runs, judged each by its own claim.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod batches;
mod chains;
mod claim;
mod let_go;
mod limits;
mod recover;
mod save;
mod signals;
mod sweeps;
mod transact;

use std::time::Duration;

use chrono::{DateTime, Utc};
use lockgate::lifecycle::{
    Act, ClaimPage, Ending, Kind, LetGo, NewStep, OpenWait, RunClaim, RunStore, Runnable, Share, StepStatus, WorkRun,
};
use lockgate::postgres::{Database, PostgresRunStore};
use lockgate_tests::TestDatabase;
use lockgate_tests::invariants::safety_violations;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

/// A database with runs in it.
pub struct Scene {
    pub database: TestDatabase,
    pub runs: PostgresRunStore,
}

impl Scene {
    pub async fn new() -> Self {
        let database = TestDatabase::new().await;
        let runs = store(&database);
        Self { database, runs }
    }

    /// A run of `orders` that may go on at once.
    pub async fn start(&self) -> Uuid {
        self.value("select lockgate.start_run('orders')").await
    }

    /// Starts a run and claims it.
    pub async fn claimed(&self) -> RunClaim {
        self.start().await;
        let mut page = self.claim(100).await;
        assert_eq!(page.len(), 1, "another run was about");
        page.remove(0).0
    }

    pub async fn claim(&self, most: u32) -> Vec<(RunClaim, WorkRun)> {
        self.runs.claim_runs(&page(&["orders"], most)).await.unwrap()
    }

    pub async fn claim_suspects(&self) -> Vec<(RunClaim, WorkRun)> {
        let page = ClaimPage {
            suspects: true,
            ..page(&["orders"], 5)
        };
        self.runs.claim_runs(&page).await.unwrap()
    }

    pub async fn let_go(&self, claim: RunClaim, act: Act) -> LetGo {
        self.runs.let_go_runs(&[ending(claim, act)]).await.unwrap()[0]
    }

    /// Lets the leases of all claims end, and recovers what was claimed.
    pub async fn everybody_dies(&self) {
        self.run("update lockgate.task_runs set lease_until = clock_timestamp() - interval '1 second' where claim_id is not null")
            .await;
        self.sweep().await;
    }

    pub async fn sweep(&self) {
        lockgate::lifecycle::Fleet::sweep(&self.fleet()).await.unwrap();
    }

    pub fn fleet(&self) -> lockgate::postgres::PostgresFleet {
        let settings = lockgate::postgres::FleetSettings {
            replica: Uuid::now_v7(),
            lease: Duration::from_secs(30),
            max_deaths: 3,
            stale_after: Duration::from_secs(30),
            first_redelivery: Duration::from_secs(1),
        };
        lockgate::postgres::PostgresFleet::new(self.database.database(), settings)
    }

    pub async fn run(&self, sql: &str) -> u64 {
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(self.database.pool())
            .await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}")).rows_affected()
    }

    pub async fn value<T>(&self, sql: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        let found = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(self.database.pool())
            .await;
        found.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// A field of a run, as text.
    pub async fn of(&self, run: Uuid, field: &str) -> Option<String> {
        self.value(&format!(
            "select ({field})::text from lockgate.task_runs where id = '{run}'"
        ))
        .await
    }

    /// Nothing that must never be has come about.
    pub async fn holds(&self) {
        let mut found = safety_violations(self.database.pool()).await;
        // The store ends a run as it is told; that nothing of it is open then is for whoever runs its code.
        found.retain(|violation| !violation.starts_with("I19"));
        assert_eq!(found, [""; 0]);
    }
}

pub fn store(database: &TestDatabase) -> PostgresRunStore {
    let pool = Database::for_groups(&database.settings()).unwrap();
    PostgresRunStore::new(pool, Uuid::now_v7(), Duration::from_secs(30))
}

pub fn page(queues: &[&str], most: u32) -> ClaimPage {
    let shares = queues.iter().map(|queue| Share {
        queue: (*queue).to_owned(),
        take: most,
    });
    let runnable = queues.iter().map(|workflow| runnable(workflow, 1, 1));
    ClaimPage {
        claim_id: Uuid::now_v7(),
        shares: shares.collect(),
        runnable: runnable.collect(),
        suspects: false,
    }
}

pub fn runnable(workflow: &str, oldest: u32, newest: u32) -> Runnable {
    Runnable {
        workflow: workflow.to_owned(),
        version: newest,
        replays: oldest..=newest,
    }
}

pub fn ending(claim: RunClaim, act: Act) -> Ending {
    Ending {
        claim,
        act,
        had_batches: true,
        attributes: None,
    }
}

pub fn complete() -> Act {
    Act::Complete {
        output: b"{\"sum\":1}".to_vec(),
    }
}

pub fn wait(seen: i64) -> Act {
    Act::Wait {
        seen,
        due_at: None,
        batches: false,
        waits: vec![OpenWait {
            path: "9:go".to_owned(),
            kind: Kind::Signal,
            due_at: None,
            attempts: 0,
        }],
    }
}

pub fn hand_back() -> Act {
    Act::HandBack {
        delay: Duration::ZERO,
        reason: None,
    }
}

pub fn step(claim: RunClaim, path: &str, result: &str) -> NewStep {
    NewStep {
        claim,
        path: path.to_owned(),
        kind: Kind::Step,
        status: StepStatus::Completed,
        result: Some(result.as_bytes().to_vec()),
        started_at: instant(1),
        finished_at: instant(2),
        attempts: 0,
        signal_seq: None,
        ends_open: false,
    }
}

pub fn instant(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

/// The results of a run's steps as its next holder reads them, by path.
pub fn results(run: &WorkRun) -> Vec<(String, String)> {
    let mut all: Vec<_> = run
        .steps
        .iter()
        .map(|step| {
            let result = step.result.clone().unwrap_or_default();
            (step.path.clone(), String::from_utf8(result).unwrap())
        })
        .collect();
    all.sort();
    all
}

//! What people do to runs: tell them something, do them again, delete them, act on many, look how they went.
#![allow(clippy::unwrap_used, clippy::panic)]

mod again;
mod bounded;
mod bulk;
mod document;
mod found;
mod signals;
mod stuck;
mod timeline;
mod values;

use lockgate::postgres::Operator;
use lockgate_tests::TestDatabase;
use lockgate_tests::cli::{Finished, Program};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor};
use uuid::Uuid;

const BIN: &str = env!("CARGO_BIN_EXE_lockgate-test");

/// A database, the command line on it, and an operator.
struct Scene {
    database: TestDatabase,
    program: Program,
    operator: Operator,
}

impl Scene {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        Self {
            program: Program::new(BIN, database.url()),
            operator: Operator::new(database.database(), Some("the tests".to_owned())),
            database,
        }
    }

    async fn sql(&self, text: &str) {
        self.database
            .pool()
            .execute(sqlx::raw_sql(AssertSqlSafe(text)))
            .await
            .unwrap();
    }

    async fn one<T>(&self, sql: &str) -> T
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(self.database.pool())
            .await
            .unwrap()
    }

    async fn all(&self, sql: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(self.database.pool())
            .await
            .unwrap()
    }

    async fn run(&self, args: &[&str]) -> Finished {
        self.program.run(args).await
    }

    async fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["--output", "json"]).collect();
        self.run(&args).await.exits(0).json()
    }

    /// A run in a state, with what else its row says.
    async fn has(&self, status: &str, also: &str) -> Uuid {
        let run = Uuid::now_v7();
        let over = ["completed", "failed", "cancelled"].contains(&status);
        let also = if also.is_empty() {
            String::new()
        } else {
            format!(", {also}")
        };
        self.sql(&format!(
            "insert into lockgate.task_runs (id, workflow, status, origin_id, params, wake_at)
             values ('{run}', 'orders', 'queued', '{run}', '{{\"order\": 7}}', clock_timestamp());
             update lockgate.task_runs set status = '{status}', started_at = clock_timestamp() - interval '1 minute',
                    finished_at = case when {over} then clock_timestamp() end, wake_at = null{also}
              where id = '{run}'"
        ))
        .await;
        run
    }

    /// Steps of a run, one a second, each as `path kind status`.
    async fn steps(&self, run: Uuid, steps: &[&str]) {
        for (second, step) in steps.iter().enumerate() {
            let [path, kind, status] = step.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{step}")
            };
            let fan_out = kind == "fan_out";
            let count = if fan_out { "0" } else { "null" };
            self.sql(&format!(
                "insert into lockgate.run_steps (run_id, path, kind, status, result, started_at, finished_at, claim_token, consistent,
                     planned_items, planned_batches)
                 select '{run}', '{path}', '{kind}', '{status}', '\"{path}\"', at, case '{status}' when 'open' then null else at end,
                        1, {consistent}, {count}, {count}
                   from (select clock_timestamp() - interval '1 minute' + {second} * interval '1 second' as at) t",
                consistent = if fan_out { "true" } else { "null" },
            ))
            .await;
        }
    }

    async fn paths(&self, run: Uuid) -> Vec<String> {
        self.all(&format!(
            "select concat_ws(' ', path, status) from lockgate.run_steps where run_id = '{run}' order by path"
        ))
        .await
    }
}

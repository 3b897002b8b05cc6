//! Every promise of the six verbs, kept by every manager: in memory, on Postgres, and on Postgres in pooler mode
//! (RC.4, R40.4, R40.5).
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lockgate::lifecycle::{ItemIds, RunId, TaskRunManager};
use lockgate::memory::{Clock, MemoryTaskRunManager};
use lockgate::postgres::{Database, PostgresTaskRunManager};
use lockgate_tests::conformance::{BatchSeen, Case, Change, Harness};
use lockgate_tests::{TestDatabase, every_case};
use sqlx::PgPool;

/// So long that no lease ends by itself, however slow the machine.
const LEASE: Duration = Duration::from_secs(3_600);

struct MemoryHarness {
    manager: MemoryTaskRunManager,
    elapsed_s: Arc<AtomicU64>,
}

impl MemoryHarness {
    fn new() -> Self {
        let (birth, elapsed_s) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let hand = Arc::clone(&elapsed_s);
        let clock: Clock = Arc::new(move || birth + Duration::from_secs(hand.load(Ordering::SeqCst)));
        Self {
            manager: MemoryTaskRunManager::new(LEASE, clock),
            elapsed_s,
        }
    }
}

#[async_trait]
impl Harness for MemoryHarness {
    fn handle(&self) -> Arc<dyn TaskRunManager> {
        Arc::new(self.manager.handle())
    }
    async fn end_leases(&self) {
        self.elapsed_s.fetch_add(LEASE.as_secs(), Ordering::SeqCst);
    }
    async fn plan(&self, run: RunId, batch: i32, ids: &[i64]) {
        self.manager.plan_batch(run, batch, ids).unwrap();
    }
    async fn runs(&self) -> Vec<RunId> {
        self.manager.runs()
    }
    async fn status(&self, run: RunId) -> Option<(String, Option<String>)> {
        self.manager.run(run).map(|run| (run.status.to_owned(), run.reason))
    }
    async fn params(&self, run: RunId) -> Vec<u8> {
        self.manager.run(run).unwrap().request.params
    }
    async fn batches(&self, run: RunId) -> Vec<BatchSeen> {
        let seen = self.manager.batches(run).into_iter().map(|batch| BatchSeen {
            number: batch.number,
            status: batch.state.name().to_owned(),
            ids: batch.ids,
            token: batch.token,
            attempts: batch.attempts,
        });
        seen.collect()
    }
    async fn history(&self, run: RunId) -> Vec<Change> {
        let changes = self.manager.transitions(run).into_iter();
        changes
            .map(|row| Change {
                batch: row.batch,
                from: row.from.map(Into::into),
                to: row.to.into(),
            })
            .collect()
    }
    async fn problems(&self, _run: RunId) -> Vec<String> {
        Vec::new()
    }
}

struct PostgresHarness {
    database: Database,
    looking: PgPool,
    _test_database: TestDatabase,
}

impl PostgresHarness {
    async fn direct() -> Self {
        let test_database = TestDatabase::new().await;
        Self::on(test_database.database(), test_database)
    }

    async fn pooled() -> Self {
        let test_database = TestDatabase::new().await;
        Self::on(test_database.database_in_pooler_mode(), test_database)
    }

    fn on(database: Database, test_database: TestDatabase) -> Self {
        Self {
            database,
            looking: test_database.pool().clone(),
            _test_database: test_database,
        }
    }
}

#[async_trait]
impl Harness for PostgresHarness {
    fn handle(&self) -> Arc<dyn TaskRunManager> {
        Arc::new(PostgresTaskRunManager::new(self.database.clone(), LEASE))
    }
    async fn end_leases(&self) {
        let end = "update lockgate.run_batches set lease_until = clock_timestamp() where status = 'claimed'";
        sqlx::query(end).execute(&self.looking).await.unwrap();
    }
    async fn plan(&self, run: RunId, batch: i32, ids: &[i64]) {
        let ids = ItemIds::new(ids.to_vec()).unwrap();
        let plan = "with step as (
                insert into lockgate.run_steps (run_id, path, kind, planned_items, planned_batches)
                values ($1, '0:reports', 'fan_out', $5, 1)
                on conflict (run_id, path) do update
                   set planned_items = run_steps.planned_items + $5, planned_batches = run_steps.planned_batches + 1),
            listed as (insert into lockgate.run_batch_ids select $1, $2, $6 where $6::bytea is not null)
            insert into lockgate.run_batches (run_id, seq, step, first_id, last_id, n_items)
            values ($1, $2, '0:reports', $3, $4, $5)";
        let plan = sqlx::query(plan)
            .bind(run)
            .bind(batch)
            .bind(ids.first())
            .bind(ids.last());
        plan.bind(ids.len() as i32)
            .bind(ids.packed())
            .execute(&self.looking)
            .await
            .unwrap();
    }
    async fn runs(&self) -> Vec<RunId> {
        sqlx::query_scalar("select id from lockgate.task_runs order by id")
            .fetch_all(&self.looking)
            .await
            .unwrap()
    }
    async fn status(&self, run: RunId) -> Option<(String, Option<String>)> {
        let status = "select status, reason from lockgate.task_runs where id = $1";
        sqlx::query_as(status)
            .bind(run)
            .fetch_optional(&self.looking)
            .await
            .unwrap()
    }
    async fn params(&self, run: RunId) -> Vec<u8> {
        let params = "select params from lockgate.task_runs where id = $1";
        sqlx::query_scalar(params)
            .bind(run)
            .fetch_one(&self.looking)
            .await
            .unwrap()
    }
    async fn batches(&self, run: RunId) -> Vec<BatchSeen> {
        let batches = "select seq, status, claim_token, attempts::integer,
                array(select item_id from lockgate.batch_items($1) where batch_seq = seq order by item_id)
            from lockgate.run_batches where run_id = $1 order by seq";
        let rows: Vec<(i32, String, i64, i32, Vec<i64>)> = sqlx::query_as(batches)
            .bind(run)
            .fetch_all(&self.looking)
            .await
            .unwrap();
        let seen = rows
            .into_iter()
            .map(|(number, status, token, attempts, ids)| BatchSeen {
                number,
                status,
                ids,
                token,
                attempts: attempts.try_into().unwrap(),
            });
        seen.collect()
    }
    async fn history(&self, run: RunId) -> Vec<Change> {
        let changes =
            "select batch_seq, from_status, to_status from lockgate.transitions where run_id = $1 order by id";
        let rows: Vec<(Option<i32>, Option<String>, String)> = sqlx::query_as(changes)
            .bind(run)
            .fetch_all(&self.looking)
            .await
            .unwrap();
        rows.into_iter()
            .map(|(batch, from, to)| Change { batch, from, to })
            .collect()
    }
    async fn problems(&self, run: RunId) -> Vec<String> {
        let problems = "select format('%s, batch %s: %s', problem, batch_seq, detail) from lockgate.proof_problems($1)";
        sqlx::query_scalar(problems)
            .bind(run)
            .fetch_all(&self.looking)
            .await
            .unwrap()
    }
}

macro_rules! test_each_case {
    ($($verb:ident { $($case:ident,)+ })+) => {
        mod memory {
            use super::{Case, MemoryHarness};
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $case() {
                    Case::$case.check(&MemoryHarness::new()).await;
                }
            )+)+
        }
        mod postgres {
            use super::{Case, PostgresHarness};
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $case() {
                    Case::$case.check(&PostgresHarness::direct().await).await;
                }
            )+)+
        }
        mod postgres_in_pooler_mode {
            use super::{Case, PostgresHarness};
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $case() {
                    Case::$case.check(&PostgresHarness::pooled().await).await;
                }
            )+)+
        }
    };
}
every_case!(test_each_case);

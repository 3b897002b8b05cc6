//! The store on Postgres. Its clock cannot be moved, so time passes by what is recorded moving back.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lockgate::inspect::NotRepeated;
use lockgate::lifecycle::{
    Ended, Fleet, Kind, NewRun, QueueSettings, RepeatRun, RunClaim, RunId, RunStore, Started, StepState, StepStatus,
    TaskRunManager,
};
use lockgate::memory::RunStart;
use lockgate::postgres::{Database, FleetSettings, Operator, PostgresFleet, PostgresRunStore, PostgresTaskRunManager};
use serde_json::{Map, Value};
use sqlx::{PgPool, Row, postgres::PgRow};
use uuid::Uuid;

use super::world::{ClaimEnd, RunSeen, RunWorld, SignalSeen, Wake};
use crate::TestDatabase;

/// A world on a database of its own.
pub struct PostgresWorld {
    database: Database,
    fleet: PostgresFleet,
    lease: Duration,
    looking: PgPool,
    _test_database: TestDatabase,
}

impl PostgresWorld {
    /// An empty one, whose claims hold for so long.
    pub async fn direct(lease: Duration) -> Self {
        let test_database = TestDatabase::new().await;
        Self::on(test_database.database(), test_database, lease)
    }

    /// The same as if behind a pooler that does not track prepared statements.
    pub async fn pooled(lease: Duration) -> Self {
        let test_database = TestDatabase::new().await;
        Self::on(test_database.database_in_pooler_mode(), test_database, lease)
    }

    fn on(database: Database, test_database: TestDatabase, lease: Duration) -> Self {
        let settings = FleetSettings {
            replica: Uuid::new_v4(),
            lease,
            max_deaths: 3,
            stale_after: lease,
            first_redelivery: lease,
        };
        Self {
            fleet: PostgresFleet::new(database.clone(), settings),
            database,
            lease,
            looking: test_database.pool().clone(),
            _test_database: test_database,
        }
    }

    async fn answer(&self, verb: &'static str, run: RunId) -> String {
        sqlx::query_scalar(verb)
            .bind(run)
            .fetch_one(&self.looking)
            .await
            .unwrap()
    }
}

#[async_trait]
impl RunWorld for PostgresWorld {
    fn replica(&self) -> Arc<dyn RunStore> {
        Arc::new(PostgresRunStore::new(self.database.clone(), Uuid::new_v4(), self.lease))
    }
    async fn now(&self) -> DateTime<Utc> {
        sqlx::query_scalar("select clock_timestamp()")
            .fetch_one(&self.looking)
            .await
            .unwrap()
    }
    async fn advance(&self, by: Duration) {
        let back = "with steps as (
                update lockgate.run_steps set due_at = due_at - make_interval(secs => $1) where due_at is not null)
            update lockgate.task_runs set wake_at = wake_at - make_interval(secs => $1),
                rank = rank - make_interval(secs => $1), lease_until = lease_until - make_interval(secs => $1),
                claimed_at = claimed_at - make_interval(secs => $1),
                finished_at = finished_at - make_interval(secs => $1), deadline_at = deadline_at - make_interval(secs => $1),
                start_at = start_at - make_interval(secs => $1)";
        let refill = "update lockgate.queues set refilled_at = refilled_at - make_interval(secs => $1)";
        sqlx::query(refill)
            .bind(by.as_secs_f64())
            .execute(&self.looking)
            .await
            .unwrap();
        sqlx::query(back)
            .bind(by.as_secs_f64())
            .execute(&self.looking)
            .await
            .unwrap();
    }
    async fn start(&self, start: RunStart) -> Option<RunId> {
        let manager = PostgresTaskRunManager::new(self.database.clone(), self.lease);
        let run = manager.try_start_new_run(start.request).await.unwrap()?;
        let place = "update lockgate.task_runs set queue = $2, priority = nullif($3::smallint, 0), after_run = $4,
                rank = wake_at - nullif($3::smallint, 0) * interval '15 seconds', tenant = $5, limit_key = $6
            where id = $1 and ($2 is not null or $3 > 0 or $4 is not null or $5 is not null or $6 is not null)";
        let placed = sqlx::query(place)
            .bind(run)
            .bind(start.queue)
            .bind(i16::from(start.priority));
        let placed = placed.bind(start.after_run).bind(start.tenant).bind(start.limit_key);
        placed.execute(&self.looking).await.unwrap();
        Some(run)
    }
    async fn start_new(&self, run: &NewRun) -> Started {
        self.replica().start_run(run).await.unwrap()
    }
    async fn set_queue(&self, settings: QueueSettings) {
        let operator = Operator::new(self.database.clone(), Some("a test".to_owned()));
        operator.set_queue(&settings, None, false).await.unwrap();
    }
    async fn pause_queue(&self, name: &str, paused: bool) {
        let operator = Operator::new(self.database.clone(), Some("a test".to_owned()));
        let state = match paused {
            true => operator.pause_queue(name, None).await.unwrap(),
            false => operator.resume_queue(name, None).await.unwrap(),
        };
        assert_eq!(state, if paused { "paused" } else { "active" });
    }
    async fn end_leases(&self, claim: &RunClaim) {
        let end = "update lockgate.task_runs set lease_until = clock_timestamp() where claim_id = $1";
        sqlx::query(end)
            .bind(claim.claim_id)
            .execute(&self.looking)
            .await
            .unwrap();
    }
    async fn renew(&self, claim: &RunClaim) -> bool {
        let unrenewed = self.fleet.renew_leases(&[], &[*claim]).await.unwrap();
        unrenewed.runs.is_empty()
    }
    async fn sweep(&self) -> u64 {
        self.fleet.sweep().await.unwrap().runs
    }
    async fn settle_stop(&self, run: RunId) -> bool {
        self.fleet.settle_stop(run).await.unwrap()
    }
    async fn fail_claimed(&self, claim: &RunClaim, reason: &str) -> Ended {
        self.fleet.fail_claimed_run(claim, reason).await.unwrap()
    }
    async fn pause(&self, run: RunId) -> String {
        self.answer("select lockgate.pause_run($1, 'by a test')", run).await
    }
    async fn resume(&self, run: RunId) -> String {
        self.answer("select lockgate.resume_run($1)", run).await
    }
    async fn cancel(&self, run: RunId) -> String {
        self.answer("select lockgate.cancel_run($1, 'by a test')", run).await
    }
    async fn force_cancel(&self, run: RunId) -> String {
        self.answer("select lockgate.cancel_run($1, 'by a test', force => true)", run)
            .await
    }
    async fn repeat(&self, repeat: &RepeatRun) -> Result<RunId, NotRepeated> {
        let operator = Operator::new(self.database.clone(), Some("a test".to_owned()));
        operator.repeat_run(repeat).await.unwrap()
    }
    async fn open_fan_out(&self, claim: &RunClaim, path: &str) -> Option<StepState> {
        self.fleet.open_fan_out(claim, path, false).await.unwrap()
    }
    async fn complete_fan_out(&self, run: RunId, path: &str) -> bool {
        let plan = "update lockgate.run_steps set planned_at = clock_timestamp() where run_id = $1 and path = $2";
        sqlx::query(plan)
            .bind(run)
            .bind(path)
            .execute(&self.looking)
            .await
            .unwrap();
        self.fleet.complete_fan_out(run, path).await.unwrap()
    }
    async fn set_batches(&self, run: RunId, waiting: u32, held: u32) {
        let clear = "delete from lockgate.run_batches where run_id = $1";
        sqlx::query(clear).bind(run).execute(&self.looking).await.unwrap();
        let fill = "insert into lockgate.run_batches (run_id, seq, status, first_id, last_id, n_items, claim_token,
                    claim_id, claimed_by, lease_until)
            select $1, n, case when held then 'claimed' else 'free' end, n, n, 1, held::integer,
                   case when held then gen_random_uuid() end, case when held then gen_random_uuid() end,
                   case when held then clock_timestamp() + interval '1 day' end
              from generate_series(1, $2::integer + $3::integer) n cross join lateral (select n > $2 as held) h";
        let filled = sqlx::query(fill)
            .bind(run)
            .bind(waiting.cast_signed())
            .bind(held.cast_signed());
        filled.execute(&self.looking).await.unwrap();
    }
    async fn runs(&self) -> Vec<RunSeen> {
        let runs = "select *, wake_at <= clock_timestamp() as due from lockgate.task_runs order by id";
        let rows = sqlx::query(runs).fetch_all(&self.looking).await.unwrap();
        rows.iter().map(run_seen).collect()
    }
    async fn steps(&self, run: RunId) -> Vec<StepState> {
        let steps = "select * from lockgate.run_steps where run_id = $1 order by path";
        let rows = sqlx::query(steps).bind(run).fetch_all(&self.looking).await.unwrap();
        rows.iter().map(step_seen).collect()
    }
    async fn signals(&self, run: RunId) -> Vec<SignalSeen> {
        let signals = "select seq, name, payload, consumed_by from lockgate.signals where run_id = $1 order by seq";
        let rows: Vec<(i64, String, Vec<u8>, Option<String>)> = sqlx::query_as(signals)
            .bind(run)
            .fetch_all(&self.looking)
            .await
            .unwrap();
        let seen = rows.into_iter().map(|(seq, name, payload, consumed_by)| SignalSeen {
            seq,
            name,
            payload: serde_json::from_slice(&payload).unwrap(),
            consumed_by,
        });
        seen.collect()
    }
    async fn published(&self) -> Vec<(Uuid, Vec<u8>)> {
        let published = "select message_id, payload from lockgate.outbox order by seq";
        sqlx::query_as(published).fetch_all(&self.looking).await.unwrap()
    }
    async fn claim_ends(&self, run: RunId) -> Vec<ClaimEnd> {
        let ends = "select token, from_status, to_status, reason from lockgate.transitions
            where run_id = $1 and entity = 'run' and since is not null order by id";
        let rows: Vec<(i64, String, String, Option<String>)> =
            sqlx::query_as(ends).bind(run).fetch_all(&self.looking).await.unwrap();
        let seen = rows.into_iter().map(|(token, from, to, reason)| ClaimEnd {
            token,
            from,
            to,
            reason,
        });
        seen.collect()
    }
}

fn run_seen(row: &PgRow) -> RunSeen {
    let (run, token): (RunId, i64) = (row.get("id"), row.get("claim_token"));
    let claim_id: Option<Uuid> = row.get("claim_id");
    let begun = row.get::<Option<DateTime<Utc>>, _>("started_at").is_some();
    let version: Option<i32> = row.get("code_version");
    RunSeen {
        run,
        status: row.get("status"),
        reason: row.get("reason"),
        attributes: match row.get("attributes") {
            Some(Value::Object(attributes)) => attributes,
            _ => Map::new(),
        },
        output: row.get("output"),
        // The ordinary version is not written down.
        code_version: begun.then_some(version.unwrap_or(1).cast_unsigned()),
        wake: match row.get("due") {
            None => Wake::Never,
            Some(true) => Wake::Due,
            Some(false) => Wake::Later,
        },
        wake_seq: row.get("wake_seq"),
        token,
        claim: claim_id.map(|claim_id| RunClaim { run, token, claim_id }),
        attempts: row.get::<i16, _>("attempts").unsigned_abs(),
        stopping: row.get("stop_status"),
        repeats: row.get::<Option<Uuid>, _>("forked_from").is_some(),
    }
}

fn step_seen(row: &PgRow) -> StepState {
    StepState {
        path: row.get("path"),
        kind: Kind::from_name(row.get("kind")).unwrap(),
        status: StepStatus::from_name(row.get("status")).unwrap(),
        result: row.get("result"),
        started_at: row.get("started_at"),
        finished_at: row.get("finished_at"),
        due_at: row.get("due_at"),
        attempts: row.get::<Option<i16>, _>("attempts").unwrap_or_default().unsigned_abs(),
        claim_token: row.get::<Option<i64>, _>("claim_token").unwrap_or_default(),
        plan_cursor: row.get("plan_cursor"),
        planned: row.get::<Option<DateTime<Utc>>, _>("planned_at").is_some(),
    }
}

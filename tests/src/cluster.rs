//! Replicas on a database and a topic of their own, with the times of the tests' clock, and the check of all they did.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lockgate_workflows::tracker;
use serde_json::Value;
use sqlx::{Executor, PgPool};
use uuid::Uuid;

use crate::invariants::{Comparison, compare, liveness_violations, proof_problems, safety_violations};
use crate::replica::{Killed, PATIENCE, Replica};
use crate::topic::Topic;
use crate::{TestDatabase, kafka_brokers, wait_until};

/// Items a replica may have sent without a committed outcome; what a kill can send again.
pub const WINDOW: usize = 500;
/// Lease, sweep, a poll and some slack: what recovery may take at most (reliability: B).
pub const RECOVERY: Duration = Duration::from_secs(12);
/// The tests' clock: everything that is waited for in production comes soon, but no holder is taken for dead, and no message
/// for lost, because the machine is busy for a second or three.
const TEST_CLOCK: &[(&str, &str)] = &[
    ("LOCKGATE_LEASE_DURATION", "6s"),
    ("LOCKGATE_LEASE_RENEW", "1s"),
    ("LOCKGATE_LEASE_SWEEP", "1s"),
    ("LOCKGATE_LEADER_LEASE", "3s"),
    ("LOCKGATE_LEADER_RENEW", "1s"),
    ("LOCKGATE_KAFKA_MESSAGE_TIMEOUT", "4s"),
    ("LOCKGATE_KAFKA_WINDOW", "500"),
    ("LOCKGATE_WORKER_BATCH_SIZE", "500"),
    ("LOCKGATE_WORKER_POLL", "200ms"),
    ("LOCKGATE_DATABASE_IDLE_IN_TRANSACTION", "2s"),
    ("LOCKGATE_DATABASE_DEADLINE", "5s"),
    ("LOCKGATE_DRAIN_DEADLINE", "10s"),
    ("LOCKGATE_REDELIVERY_FIRST_DELAY", "500ms"),
    ("LOCKGATE_REDELIVERY_MAX_DELAY", "1s"),
    ("LOCKGATE_OUTBOX_POLL", "50ms"),
    ("RUST_LOG", "info"),
    ("NO_COLOR", "1"),
    ("RUST_BACKTRACE", "1"),
];
/// The same where no holder dies and nothing is to be lost, so that nobody waits for either to end: what takes half a minute
/// to come is still in time.
const PATIENT: &[(&str, &str)] = &[
    ("LOCKGATE_LEASE_DURATION", "60s"),
    ("LOCKGATE_LEASE_RENEW", "1s"),
    ("LOCKGATE_LEADER_LEASE", "10s"),
    ("LOCKGATE_KAFKA_MESSAGE_TIMEOUT", "30s"),
    ("LOCKGATE_DATABASE_IDLE_IN_TRANSACTION", "15s"),
    ("LOCKGATE_DATABASE_DEADLINE", "20s"),
];

/// A database, a topic, and replicas that work on them.
pub struct Cluster {
    /// For looking, and for what tests do behind the engine's back.
    pub pool: PgPool,
    /// Where the messages go.
    pub topic: Topic,
    url: String,
    settings: Vec<(String, String)>,
    logs: PathBuf,
    started: AtomicUsize,
    killed: Killed,
    _database: Option<TestDatabase>,
}

impl Cluster {
    /// On the shared servers.
    pub async fn new() -> Self {
        let topic = Topic::new(kafka_brokers(), &[]).await;
        Self::on_topic(topic).await
    }

    /// On the shared Postgres and this topic.
    pub async fn on_topic(topic: Topic) -> Self {
        let database = TestDatabase::new().await;
        let url = database.url().to_owned();
        Self::on(&url, database.pool().clone(), topic, Some(database))
    }

    /// On a migrated database and a topic of any servers; the database goes when the cluster does.
    #[must_use]
    pub fn on(url: &str, pool: PgPool, topic: Topic, database: Option<TestDatabase>) -> Self {
        let logs = std::env::temp_dir().join(format!("lockgate-chaos-{}", Uuid::new_v4().simple()));
        std::fs::create_dir(&logs).unwrap();
        let mut settings = owned(TEST_CLOCK);
        settings.push(("DATABASE_URL".to_owned(), url.to_owned()));
        settings.push(("KAFKA_BROKERS".to_owned(), topic.brokers().to_owned()));
        settings.push(("LOCKGATE_TOPICS_EMAIL".to_owned(), topic.name().to_owned()));
        Self {
            pool,
            topic,
            url: url.to_owned(),
            settings,
            logs,
            started: AtomicUsize::new(0),
            killed: Killed::default(),
            _database: database,
        }
    }

    /// Changes a setting of all replicas from now on.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// For a test in which no holder dies or stands still: a busy machine makes none of them lose a lease or a message.
    #[must_use]
    pub fn patient(mut self) -> Self {
        self.settings.extend(owned(PATIENT));
        self
    }

    /// What all replicas are started with.
    #[must_use]
    pub fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    /// The database's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Starts a replica.
    #[must_use]
    pub fn replica(&self) -> Replica {
        self.replica_with(&[])
    }

    /// Starts one that dies at a crash point, `NAME` or `NAME:N` for its n-th time there.
    #[must_use]
    pub fn replica_dying_at(&self, point: &str) -> Replica {
        self.replica_with(&[("LOCKGATE_CRASH_AT", point)])
    }

    /// Has one die at a crash point, and what it held be over at once: that leases end, and when, is another test's.
    pub async fn dies_at(&self, point: &str) {
        self.replica_dying_at(point).crashes().await;
        self.end_leases().await;
    }

    /// Ends all leases, whose holders must be dead, so that nobody waits for that.
    pub async fn end_leases(&self) {
        self.settles().await;
        self.pool
            .execute(sqlx::raw_sql(include_str!("../sql/end_leases.sql")))
            .await
            .unwrap();
    }

    /// Waits until the server has done what the dead asked it for: that may still be committed.
    pub async fn settles(&self) {
        let busy = "select count(*) from pg_stat_activity where datname = current_database()
                       and pid <> pg_backend_pid() and backend_type = 'client backend' and state <> 'idle'";
        wait_until(PATIENCE, "the server has done what the dead asked for", async || {
            let busy: i64 = sqlx::query_scalar(busy).fetch_one(&self.pool).await.unwrap();
            busy == 0
        })
        .await;
    }

    /// Lets an hour pass for all that is waited for.
    pub async fn an_hour_passes(&self) {
        let pass = "with steps as (
                update lockgate.run_steps set due_at = due_at - interval '1 hour' where due_at is not null)
            update lockgate.task_runs set wake_at = wake_at - interval '1 hour', rank = rank - interval '1 hour'
             where wake_at is not null";
        self.pool.execute(pass).await.unwrap();
    }

    /// Starts one with settings of its own.
    #[must_use]
    pub fn replica_with(&self, env: &[(&str, &str)]) -> Replica {
        self.replica_called(&["run"], env)
    }

    /// Starts one with arguments and settings of its own.
    #[must_use]
    pub fn replica_called(&self, args: &[&str], env: &[(&str, &str)]) -> Replica {
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        let mut all = self.settings.clone();
        all.extend(owned(env));
        let log = self.logs.join(format!("replica-{number}.log"));
        Replica::start(&program(), args, &all, log, self.killed.clone())
    }

    /// Makes the demo's tables and users; one in ten is inactive.
    pub async fn seed_users(&self, users: i64) {
        tracker::create(&self.pool).await.unwrap();
        tracker::seed(&self.pool, users, |_| {}).await.unwrap();
    }

    /// Starts a run.
    pub async fn start(&self, workflow: &str, params: Value) -> Uuid {
        self.start_paced(workflow, params, None).await
    }

    /// Starts a run that sends no more than so many messages per second.
    pub async fn start_paced(&self, workflow: &str, params: Value, pace: Option<i32>) -> Uuid {
        sqlx::query_scalar("select lockgate.start_run($1, $2, pace_per_s => $3)")
            .bind(workflow)
            .bind(params)
            .bind(pace)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// A number read from the tables, for conditions.
    pub async fn count(&self, sql: &'static str, run: Uuid) -> i64 {
        // A server that is being restarted answers the next time.
        sqlx::query_scalar(sql)
            .bind(run)
            .fetch_one(&self.pool)
            .await
            .unwrap_or(-1)
    }

    /// Batches of a run that are done.
    pub async fn batches_done(&self, run: Uuid) -> i64 {
        self.count(
            "select count(*) from lockgate.run_batches where run_id = $1 and status = 'done'",
            run,
        )
        .await
    }

    /// Claims of a run that were taken from a holder whose lease had ended.
    pub async fn recovered(&self, run: Uuid) -> i64 {
        let sql = "select count(*) from lockgate.transitions
                    where run_id = $1 and entity = 'batch' and to_status in ('recoverable', 'split') and from_status = 'claimed'";
        self.count(sql, run).await
    }

    /// The state of a run; empty while the server does not say.
    pub async fn status(&self, run: Uuid) -> String {
        let query = sqlx::query_scalar("select status from lockgate.task_runs where id = $1").bind(run);
        query.fetch_one(&self.pool).await.unwrap_or_default()
    }

    /// Waits until a run is in a state.
    pub async fn reaches(&self, run: Uuid, status: &str) {
        self.reaches_within(run, status, PATIENCE).await;
    }

    /// Waits no longer than told until a run is in a state.
    ///
    /// # Panics
    /// It is not by then; the message says where it stands.
    pub async fn reaches_within(&self, run: Uuid, status: &str, deadline: Duration) {
        let end = Instant::now() + deadline;
        while self.status(run).await != status {
            if Instant::now() > end {
                panic!(
                    "run {run} is not {status} after {deadline:?}:\n{}",
                    self.diagnosis(run).await
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where a run stands, and what last came of it.
    pub async fn diagnosis(&self, run: Uuid) -> String {
        let lines: Result<Vec<String>, _> = sqlx::query_scalar(include_str!("../sql/diagnosis.sql"))
            .bind(run)
            .fetch_all(&self.pool)
            .await;
        lines.map_or_else(|error| error.to_string(), |lines| lines.join("\n"))
    }

    /// Compares a run with the topic, whatever state it is in, and holds the tables to their invariants.
    pub async fn holds(&self, run: Uuid) -> Comparison {
        let copies = self.topic.read().await.remove(&run).unwrap_or_default();
        let killed = self.killed.lock().unwrap().clone();
        let mut found = compare(&self.pool, run, &copies, &killed, WINDOW).await;
        found.problems.extend(safety_violations(&self.pool).await);
        found.problems.extend(proof_problems(&self.pool, run).await);
        assert!(found.problems.is_empty(), "{found}\n{}", found.problems.join("\n"));
        found
    }

    /// Waits for the end of a run, then holds it to everything: tables, topic, and nothing left hanging.
    pub async fn completes(&self, run: Uuid) -> Comparison {
        self.completes_within(run, PATIENCE).await
    }

    /// The same within a deadline of the test's own.
    pub async fn completes_within(&self, run: Uuid, deadline: Duration) -> Comparison {
        self.reaches_within(run, "completed", deadline).await;
        let found = self.holds(run).await;
        let left = liveness_violations(&self.pool, RECOVERY).await;
        assert!(left.is_empty(), "{found}\n{}", left.join("\n"));
        assert_eq!(found.fates.get("open"), None, "{found}");
        found
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.logs);
        }
    }
}

fn owned(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    settings.iter().map(owned).collect()
}

/// The binary with the tests' workflows, which cargo builds beside the tests.
#[must_use]
pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent()
        .and_then(|deps| deps.parent())
        .unwrap()
        .join("lockgate-chaos")
}

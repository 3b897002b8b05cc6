//! Replicas in processes of their own, and what Postgres waits for meanwhile.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use lockgate::Engine;
use lockgate::cli::Roles;
use lockgate::config::Config;
use sqlx::{PgPool, Row};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::meters::peak_rss_mib_of;
use super::place::Place;
use super::workflows::{Nothing, ThreeSteps};
use super::workload::BenchFanOut;
use crate::processes::ask_to_end;

/// The arguments by which this binary becomes one of them.
const ARGUMENTS: [&str; 2] = ["bench", "replica"];
/// How often Postgres is asked what it waits for.
const LOOK: Duration = Duration::from_millis(200);
/// How long replicas may take to be there.
const PATIENCE: Duration = Duration::from_secs(60);

/// One of these processes, until it is asked to stop.
pub(super) async fn replica(config: Config) -> anyhow::Result<()> {
    let mut asked = signal(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        asked.recv().await;
        stopping.cancel();
    });
    let engine = Engine::builder()
        .workflow(BenchFanOut)
        .workflow(Nothing)
        .workflow(ThreeSteps);
    engine.run(config, Roles::USUAL, stop).await
}

/// Replicas that work on one topic.
pub(super) struct Processes {
    children: Vec<Child>,
}

impl Processes {
    /// Starts so many, and waits until all of them are there.
    pub(super) async fn start(place: &Place, topic: &str, count: usize) -> anyhow::Result<Self> {
        Self::start_with(place, topic, count, ("OTEL_SDK_DISABLED", "true")).await
    }

    /// The same with a variable that says whom they tell of themselves; nobody else does.
    pub(super) async fn start_with(
        place: &Place,
        topic: &str,
        count: usize,
        telling: (&str, &str),
    ) -> anyhow::Result<Self> {
        let before = there(&place.pool).await?;
        let mut children = Vec::new();
        let told = std::env::vars_os().map(|(name, _)| name);
        let told: Vec<_> = told
            .filter(|name| name.as_encoded_bytes().starts_with(b"OTEL_"))
            .collect();
        for _ in 0..count {
            let mut command = Command::new(std::env::current_exe()?);
            for name in &told {
                command.env_remove(name);
            }
            let child = command
                .args(ARGUMENTS)
                .env(telling.0, telling.1)
                .env("DATABASE_URL", &place.url)
                .env("KAFKA_BROKERS", &place.kafka.brokers)
                .env("LOCKGATE_TOPICS_EMAIL", topic)
                .env("RUST_LOG", "warn")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .kill_on_drop(true)
                .spawn()?;
            children.push(child);
        }
        let come = async {
            while there(&place.pool).await? < before + count as i64 {
                tokio::time::sleep(LOOK).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, come)
            .await
            .context("the replicas did not come")??;
        Ok(Self { children })
    }

    pub(super) fn pids(&self) -> Vec<i32> {
        self.children
            .iter()
            .filter_map(|child| child.id()?.try_into().ok())
            .collect()
    }

    /// The most memory that one of them had at once.
    pub(super) fn peak_rss_mib(&self) -> f64 {
        let peaks = self
            .pids()
            .into_iter()
            .filter_map(|pid| peak_rss_mib_of(&pid.to_string()));
        peaks.fold(0.0, f64::max)
    }

    /// Asks all of them to stop, and waits until they have.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        for child in &self.children {
            ask_to_end(child).context("a replica could not be asked to stop")?;
        }
        for mut child in self.children {
            let ended = child.wait().await?;
            anyhow::ensure!(ended.success(), "a replica ended with {ended}");
        }
        Ok(())
    }
}

/// Replicas that have not left.
async fn there(pool: &PgPool) -> anyhow::Result<i64> {
    let there = "select count(*) from lockgate.replicas where stopped_at is null";
    Ok(sqlx::query_scalar(there).fetch_one(pool).await?)
}

/// Looks again and again what the sessions of a database do.
pub(super) struct Watch {
    stop: CancellationToken,
    looking: JoinHandle<anyhow::Result<Seen>>,
}

/// What it saw.
#[derive(Default)]
pub(super) struct Seen {
    looks: u32,
    /// Sessions that worked or waited, by what for, summed up over the looks.
    sessions: BTreeMap<String, i64>,
    /// Most connections at once.
    pub(super) connections: i64,
}

impl Seen {
    /// How many sessions did each on average, the most first.
    pub(super) fn averages(&self) -> Vec<(String, f64)> {
        let average = |(what, sum): (&String, &i64)| (what.clone(), *sum as f64 / f64::from(self.looks.max(1)));
        let mut averages: Vec<_> = self.sessions.iter().map(average).collect();
        averages.sort_by(|one, other| other.1.total_cmp(&one.1));
        averages
    }
}

const SESSIONS: &str = "select coalesce(a.wait_event_type || ' ' || a.wait_event, 'processor') as what,
        count(*) filter (where a.state = 'active') as active, count(*) as connections
   from pg_catalog.pg_stat_activity a
  where a.datname = current_database() and a.pid <> pg_backend_pid() and a.backend_type = 'client backend'
  group by 1";

impl Watch {
    pub(super) fn start(pool: &PgPool) -> Self {
        let (stop, pool) = (CancellationToken::new(), pool.clone());
        let over = stop.clone();
        let looking = tokio::spawn(async move {
            let mut seen = Seen::default();
            while !over.is_cancelled() {
                let mut connections = 0;
                for row in sqlx::query(SESSIONS).fetch_all(&pool).await? {
                    let (active, all): (i64, i64) = (row.try_get("active")?, row.try_get("connections")?);
                    connections += all;
                    if active > 0 {
                        *seen.sessions.entry(row.try_get("what")?).or_default() += active;
                    }
                }
                seen.looks += 1;
                seen.connections = seen.connections.max(connections);
                tokio::time::sleep(LOOK).await;
            }
            Ok(seen)
        });
        Self { stop, looking }
    }

    pub(super) async fn stop(self) -> anyhow::Result<Seen> {
        self.stop.cancel();
        self.looking.await?
    }
}

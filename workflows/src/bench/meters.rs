//! What a stretch of work cost: processor time by process, WAL, commits, memory.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use sqlx::{PgPool, Row};

/// The kernel counts processor time in hundredths of a second for every process.
const TICKS_PER_S: f64 = 100.0;

/// Processor seconds; a server that does not run here, or cannot be found, has none.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Cpu {
    /// This process, and the replicas that it started.
    pub client: f64,
    /// The Postgres server with all its processes.
    pub postgres: Option<f64>,
    /// The broker.
    pub kafka: Option<f64>,
}

impl Cpu {
    /// All that is known.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.client + self.postgres.unwrap_or_default() + self.kafka.unwrap_or_default()
    }

    pub(super) fn map(self, with: impl Fn(f64) -> f64) -> Self {
        Self {
            client: with(self.client),
            postgres: self.postgres.map(&with),
            kafka: self.kafka.map(&with),
        }
    }

    pub(super) fn since(self, before: Self) -> Self {
        let minus = |now: Option<f64>, before: Option<f64>| Some(now? - before?);
        Self {
            client: self.client - before.client,
            postgres: minus(self.postgres, before.postgres),
            kafka: minus(self.kafka, before.kafka),
        }
    }
}

/// What was used between two readings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Used {
    pub(super) cpu: Cpu,
    /// Without full-page images.
    pub(super) wal_bytes: f64,
    pub(super) wal_fpi_bytes: f64,
    /// Transactions that wrote.
    pub(super) commits: i64,
    pub(super) peak_rss_mib: f64,
}

/// The processes and counters to read.
pub(super) struct Meters {
    pool: PgPool,
    postmaster: Option<i32>,
    broker: Option<i32>,
    /// Replicas in processes of their own.
    replicas: Vec<i32>,
    /// Whether the WAL itself can be read.
    walinspect: bool,
}

/// One reading.
pub(super) struct Reading {
    cpu: Cpu,
    lsn: String,
    full_pages: i64,
    next_xid: i64,
}

/// Processors of this machine; 0 where it does not say.
pub(super) fn processors() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

impl Meters {
    pub(super) async fn find(pool: &PgPool) -> anyhow::Result<Self> {
        let backend: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(pool).await?;
        let walinspect = sqlx::query("create extension if not exists pg_walinspect")
            .execute(pool)
            .await
            .is_ok();
        Ok(Self {
            pool: pool.clone(),
            postmaster: local_parent(backend, "postgres"),
            broker: broker_pid(),
            replicas: Vec::new(),
            walinspect,
        })
    }

    /// Counts these processes as part of the client from now on.
    pub(super) fn with_replicas(&mut self, pids: Vec<i32>) {
        self.replicas = pids;
    }

    /// How the figures are taken, for whoever reads them.
    pub(super) fn how(&self) -> Vec<String> {
        let found = |found: bool| {
            if found {
                "measured"
            } else {
                "not on this machine: left out"
            }
        };
        vec![
            format!(
                "cpu: user and system time of this process, of the postmaster with all its children ({}) and of the broker ({})",
                found(self.postmaster.is_some()),
                found(self.broker.is_some())
            ),
            if self.walinspect {
                "full-page images: summed up by pg_walinspect over the stretch of WAL written".to_owned()
            } else {
                "full-page images: estimated as pg_stat_wal.wal_fpi times 8 kB; pg_walinspect is not to be had"
                    .to_owned()
            },
            "wal: pg_current_wal_lsn() after and before, less the full-page images; a checkpoint right before each run"
                .to_owned(),
            "commits: transactions that wrote, by the transaction id counter; reads commit nothing to disk".to_owned(),
        ]
    }

    /// Makes the next stretch start from a fresh checkpoint and a forgotten peak of memory.
    pub(super) async fn start(&self) -> anyhow::Result<Reading> {
        sqlx::query("checkpoint")
            .execute(&self.pool)
            .await
            .context("a checkpoint is needed before each run: superuser or pg_checkpoint")?;
        // Where the kernel does not forget, the peak is that of the whole process: too high, never too low.
        let _ = fs::write("/proc/self/clear_refs", "5");
        self.read().await
    }

    pub(super) async fn stop(&self, before: &Reading) -> anyhow::Result<Used> {
        let peak_rss_mib = peak_rss_mib()?;
        let now = self.read().await?;
        let (all, images) = self.wal(before, &now).await?;
        Ok(Used {
            cpu: now.cpu.since(before.cpu),
            wal_bytes: all - images,
            wal_fpi_bytes: images,
            commits: now.next_xid - before.next_xid,
            peak_rss_mib,
        })
    }

    /// Processor time used so far.
    pub(super) fn cpu(&self) -> Cpu {
        Cpu {
            client: own_seconds() + self.replicas_s(),
            postgres: self.postmaster.and_then(family_seconds),
            kafka: self.broker.and_then(|pid| seconds(pid, true)),
        }
    }

    /// Processor seconds of the replicas so far, without those of this process.
    pub(super) fn replicas_s(&self) -> f64 {
        self.replicas.iter().filter_map(|pid| seconds(*pid, false)).sum()
    }

    async fn read(&self) -> anyhow::Result<Reading> {
        let row = sqlx::query(
            "select pg_current_wal_lsn()::text, (select wal_fpi from pg_stat_wal),
                    pg_snapshot_xmax(pg_current_snapshot())::text::bigint",
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Reading {
            cpu: self.cpu(),
            lsn: row.try_get(0)?,
            full_pages: row.try_get(1)?,
            next_xid: row.try_get(2)?,
        })
    }

    /// Bytes of WAL between two readings, and how many of them were full-page images.
    async fn wal(&self, before: &Reading, now: &Reading) -> anyhow::Result<(f64, f64)> {
        let all: f64 = sqlx::query_scalar("select pg_wal_lsn_diff($2::text::pg_lsn, $1::text::pg_lsn)::float8")
            .bind(&before.lsn)
            .bind(&now.lsn)
            .fetch_one(&self.pool)
            .await?;
        if !self.walinspect {
            return Ok((all, all.min((now.full_pages - before.full_pages) as f64 * 8192.0)));
        }
        let images: Option<f64> = sqlx::query_scalar(
            "select sum(fpi_size)::float8 from pg_get_wal_stats($1::text::pg_lsn, $2::text::pg_lsn)",
        )
        .bind(&before.lsn)
        .bind(&now.lsn)
        .fetch_one(&self.pool)
        .await?;
        Ok((all, images.unwrap_or_default()))
    }
}

/// Processor seconds of this process so far.
pub(super) fn own_seconds() -> f64 {
    seconds(std::process::id() as i32, false).unwrap_or_default()
}

/// The parent of a process of this name, when it runs on this machine.
fn local_parent(pid: i32, name: &str) -> Option<i32> {
    let stat = Stat::of(pid)?;
    (stat.name == name).then_some(stat.parent)
}

/// The broker's process: named by the environment, or by the state of the development servers.
fn broker_pid() -> Option<i32> {
    let text = std::env::var("LOCKGATE_BENCH_KAFKA_PID").ok().or_else(|| {
        let state = std::env::var_os("LOCKGATE_SERVICES_DIR")?;
        fs::read_to_string(Path::new(&state).join("kafka/pid")).ok()
    })?;
    let pid = text.trim().parse().ok()?;
    Stat::of(pid).map(|_| pid)
}

struct Stat {
    name: String,
    parent: i32,
    own: f64,
    of_ended_children: f64,
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is in brackets and may hold anything; what follows does not.
        let (head, tail) = text.rsplit_once(')')?;
        let name = head.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = tail.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
        Some(Self {
            name,
            parent: fields.get(1)?.parse().ok()?,
            own: (ticks(11)? + ticks(12)?) / TICKS_PER_S,
            of_ended_children: (ticks(13)? + ticks(14)?) / TICKS_PER_S,
        })
    }
}

/// Processor seconds of a process so far.
pub(super) fn seconds(pid: i32, with_ended_children: bool) -> Option<f64> {
    let stat = Stat::of(pid)?;
    Some(
        stat.own
            + if with_ended_children {
                stat.of_ended_children
            } else {
                0.0
            },
    )
}

/// A server and its children, also those that have ended.
fn family_seconds(parent: i32) -> Option<f64> {
    let mut sum = seconds(parent, true)?;
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let pid: Option<i32> = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(stat) = pid.and_then(Stat::of).filter(|stat| stat.parent == parent) {
            sum += stat.own;
        }
    }
    Some(sum)
}

fn peak_rss_mib() -> anyhow::Result<f64> {
    peak_rss_mib_of("self").context("/proc/self/status tells no peak")
}

/// The most memory that a process had at once.
pub(super) fn peak_rss_mib_of(pid: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib / 1024.0)
}

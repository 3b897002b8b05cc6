//! Whether a replica lives and whether it is ready, each with its reasons.
//!
//! Whoever knows says so here, in the background; a probe reads what was said, costs nothing and waits for nobody.

mod listener;
mod pulse;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

pub use listener::tell;
pub use pulse::Pulse;
pub(crate) use pulse::Watched;
pub use watch::watch;

/// What readiness is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The replica itself: it has started and is not told to stop.
    Replica,
    /// Postgres answers.
    Postgres,
    /// The schema is one that this binary may write under.
    Schema,
    /// The brokers answer.
    Kafka,
}

const PARTS: [Part; 4] = [Part::Replica, Part::Postgres, Part::Schema, Part::Kafka];

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Replica => "replica",
            Self::Postgres => "postgres",
            Self::Schema => "schema",
            Self::Kafka => "kafka",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Check {
    /// `replica`, `postgres`, `schema`, `kafka`, or a loop: `leases`, `leadership`.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub reason: String,
    /// For how long it has been so.
    pub for_s: u64,
}

/// The answer to a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `live`, `stuck`, `ready` or `not ready`.
    pub status: &'static str,
    /// Whether the probe is answered with 200.
    #[serde(skip)]
    pub ok: bool,
    /// What was looked at.
    pub checks: Vec<Check>,
}

/// What is known of a replica's health; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    said: Mutex<[Said; PARTS.len()]>,
    loops: Mutex<Vec<Loop>>,
}

#[derive(Debug, Clone)]
struct Said {
    ok: bool,
    reason: String,
    since: Instant,
    /// Nobody has looked yet, or it is not looked at here.
    heard: bool,
}

#[derive(Debug)]
struct Loop {
    name: &'static str,
    pulse: Pulse,
    /// A turn that takes longer is one that never ends.
    longest: Duration,
}

impl Default for Inner {
    fn default() -> Self {
        let said = Said {
            ok: false,
            reason: "not looked at yet".to_owned(),
            since: Instant::now(),
            heard: false,
        };
        Self {
            said: Mutex::new(PARTS.map(|_| said.clone())),
            loops: Mutex::default(),
        }
    }
}

impl Health {
    /// Says how a part is; each change is one line of the log.
    pub fn say(&self, part: Part, found: Result<impl Into<String>, impl Into<String>>) {
        let (ok, reason) = match found {
            Ok(reason) => (true, reason.into()),
            Err(reason) => (false, reason.into()),
        };
        let mut all = lock(&self.0.said);
        let said = &mut all[part as usize];
        if said.heard && said.ok != ok {
            match ok {
                true => tracing::info!(name: "part_well", part = part.name(), reason, "well again"),
                false => tracing::warn!(name: "part_not_well", part = part.name(), reason, "not ready"),
            }
        }
        let since = match said.heard && said.ok == ok {
            true => said.since,
            false => Instant::now(),
        };
        *said = Said {
            ok,
            reason,
            since,
            heard: true,
        };
    }

    /// Says that a part is not there and not meant to be, and why that is well.
    pub(crate) fn does_without(&self, part: Part, reason: &str) {
        let mut all = lock(&self.0.said);
        let said = &mut all[part as usize];
        *said = Said {
            ok: true,
            reason: reason.to_owned(),
            since: said.since,
            heard: false,
        };
    }

    /// Watches a loop that should turn at least this often.
    #[must_use]
    pub fn watch_loop(&self, name: &'static str, longest: Duration) -> Pulse {
        let pulse = Pulse::default();
        self.watch_pulse(name, pulse.clone(), longest);
        pulse
    }

    pub(crate) fn watch_pulse(&self, name: &'static str, pulse: Pulse, longest: Duration) {
        pulse.beat();
        lock(&self.0.loops).push(Loop { name, pulse, longest });
    }

    /// This loop has ended, as it should, before the replica does.
    pub(crate) fn forget_loop(&self, name: &str) {
        lock(&self.0.loops).retain(|watched| watched.name != name);
    }

    /// No loop is watched any more: they end with the replica.
    pub(crate) fn forget_loops(&self) {
        lock(&self.0.loops).clear();
    }

    /// Whether this process should be left alone: false only when one of its loops stands still for good, whatever the
    /// servers do. A platform restarts a process that does not live.
    #[must_use]
    pub fn live(&self) -> Report {
        let checks = self.loops();
        let ok = checks.iter().all(|check| check.ok);
        Report {
            status: if ok { "live" } else { "stuck" },
            ok,
            checks,
        }
    }

    /// Whether this replica does its work now.
    #[must_use]
    pub fn ready(&self) -> Report {
        let said = lock(&self.0.said).clone();
        let mut checks: Vec<Check> = PARTS
            .iter()
            .zip(said)
            .map(|(part, said)| Check {
                name: part.name(),
                ok: said.ok,
                reason: said.reason,
                for_s: said.since.elapsed().as_secs(),
            })
            .collect();
        checks.extend(self.loops());
        let ok = checks.iter().all(|check| check.ok);
        Report {
            status: if ok { "ready" } else { "not ready" },
            ok,
            checks,
        }
    }

    /// Why requests should not be sent here. Commands are durable with either server, and all replicas see the same
    /// outage: one of the two away takes none out, unless there is no other.
    pub(crate) fn turns_away(&self) -> Option<&'static str> {
        let said = lock(&self.0.said);
        let away = |part: Part| said[part as usize].heard && !said[part as usize].ok;
        let without = |part: Part| !said[part as usize].heard && said[part as usize].ok;
        if away(Part::Schema) {
            Some("the schema is not one that this binary may write under")
        } else if away(Part::Postgres) && without(Part::Kafka) {
            Some("Postgres does not answer, and there are no brokers")
        } else if away(Part::Postgres) && away(Part::Kafka) {
            Some("neither Postgres nor Kafka answers")
        } else {
            None
        }
    }

    fn loops(&self) -> Vec<Check> {
        let loops = lock(&self.0.loops);
        let check = |watched: &Loop| {
            let still = watched.pulse.still();
            let ok = still <= watched.longest;
            Check {
                name: watched.name,
                ok,
                reason: match ok {
                    true => "turning".to_owned(),
                    false => format!("no turn within {}", humantime::format_duration(watched.longest)),
                },
                for_s: still.as_secs(),
            }
        };
        loops.iter().map(check).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

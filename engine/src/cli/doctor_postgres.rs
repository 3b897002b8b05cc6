//! The doctor's look at Postgres: reachable, what version, what stands before it, schema, privileges, clock, limits.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::doctor::{Check, tls};
use super::doctor_pooler::{direct, pooler};
use super::{Exit, Failure};
use crate::config::Config;
use crate::engine::CONNECTIONS_BESIDE;
use crate::postgres::{Database, DatabaseError, DatabaseSettings, Migrator, SchemaError, ServerFacts, probe};
use crate::secured;
use crate::serving::CONNECTIONS_TO_SERVE;

pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Leases are judged by the database clock alone; beyond this, times in logs mislead people.
const SKEW_SHOWN: Duration = Duration::from_secs(1);
const SKEW_FAILS: Duration = Duration::from_secs(60);

const LATER: [&str; 6] = [
    "postgres.pooler",
    "postgres.schema",
    "postgres.privileges",
    "postgres.clock",
    "postgres.connections",
    "postgres.settings",
];

/// Adds the checks; the database when it can be used by those that follow.
pub(super) async fn checks(config: &Config, checks: &mut Vec<Check>) -> Option<Database> {
    let settings = match config.database_settings() {
        Ok(settings) => settings,
        Err(error) => {
            checks.push(Check::fail("postgres.reachable", error.to_string(), "set DATABASE_URL"));
            skip_later(checks);
            return None;
        }
    };
    checks.push(tls("postgres.tls", secured::postgres(config)));
    let version = match probe(&settings, PATIENCE).await {
        Ok(version) => version,
        Err(error) => {
            let failure = Failure::from(error);
            let fix = failure.hint.unwrap_or_default();
            checks.push(Check::fail("postgres.reachable", failure.what, fix));
            skip_later(checks);
            return None;
        }
    };
    checks.push(Check::ok(
        "postgres.reachable",
        format!("Postgres {} answers", version.version),
    ));
    checks.push(match version.major() {
        14..=18 => Check::ok("postgres.version", format!("{} is supported", version.major())),
        major @ ..14 => Check::fail(
            "postgres.version",
            format!("{major} is too old"),
            "use Postgres 14 to 18",
        ),
        major => Check::warn(
            "postgres.version",
            format!("{major} is newer than what was tested"),
            "use Postgres 14 to 18",
        ),
    });
    checks.push(pooler(&settings).await);
    let database = Database::new(&DatabaseSettings {
        deadline: PATIENCE,
        max_connections: 2,
        ..settings
    })
    .ok()?;
    let (missing, person) = (database.missing_privileges().await, database.role_of_people().await);
    // Who may do all that a replica does may be one, whatever else it is.
    let may_all = matches!(&missing, Ok(missing) if missing.is_empty());
    let person = person.ok().flatten().filter(|_| !may_all);
    let fits = schema(&database, checks).await;
    checks.push(privileges(missing, person.as_deref(), fits));
    if config.database.url_direct.is_some() {
        checks.push(direct(config).await);
    }
    server(config, &database, person.as_deref(), checks).await;
    fits.then_some(database)
}

fn skip_later(checks: &mut Vec<Check>) {
    checks.extend(LATER.iter().map(|id| Check::skip(*id, "Postgres cannot be reached")));
}

/// Whether the schema fits.
async fn schema(database: &Database, checks: &mut Vec<Check>) -> bool {
    let known = Migrator::known_version();
    let checked = Migrator::new(database.clone()).check().await;
    let fits = checked.is_ok();
    checks.push(match checked {
        Ok(()) => Check::ok(
            "postgres.schema",
            format!("the schema is at version {known} or compatible"),
        ),
        Err(SchemaError::Database(error)) => {
            Check::fail("postgres.schema", error.to_string(), "see postgres.privileges")
        }
        Err(error) => {
            let failure = Failure::from(error);
            Check::fail("postgres.schema", failure.what, failure.hint.unwrap_or_default())
        }
    });
    fits
}

fn privileges(missing: Result<Vec<String>, DatabaseError>, person: Option<&str>, fits: bool) -> Check {
    let id = "postgres.privileges";
    match (missing, person) {
        (Ok(missing), _) if missing.is_empty() => Check::ok(id, "the role may do all that a replica does"),
        (Ok(_), Some(role)) => not_a_replicas(id, role, "what a replica may do"),
        (Ok(missing), None) => Check::fail(
            id,
            format!("the role may not: {}", missing.join(", ")),
            "connect as lockgate_engine (`migrate roles`, then `migrate up`), or grant these",
        ),
        (Err(_), _) if !fits => Check::skip(id, "the schema does not fit"),
        (Err(error), _) => Check::fail(id, error.to_string(), "look at the server's log"),
    }
}

/// Rights and limits of somebody who looks say nothing of a replica.
fn not_a_replicas(id: &str, role: &str, what: &str) -> Check {
    let evidence =
        format!("connected with the rights of {role}, with which no replica works: {what} is seen as lockgate_engine");
    Check::warn(
        id,
        evidence,
        "where this is a replica's own login, give it lockgate_engine's rights",
    )
}

async fn server(config: &Config, database: &Database, person: Option<&str>, checks: &mut Vec<Check>) {
    let (before, asked) = (Utc::now(), Instant::now());
    let facts = match database.server_facts().await {
        Ok(facts) => facts,
        Err(error) => {
            checks.push(Check::fail(
                "postgres.settings",
                error.to_string(),
                "look at the server's log",
            ));
            return;
        }
    };
    checks.push(clock(&facts, before, asked.elapsed()));
    checks.push(match person {
        Some(role) => not_a_replicas("postgres.connections", role, "how many connections a replica can have"),
        None => connections(config, &facts),
    });
    checks.push(settings(&facts, person));
}

/// The database read its clock somewhere between question and answer.
fn clock(facts: &ServerFacts, before: DateTime<Utc>, took: Duration) -> Check {
    let early = (before - facts.clock).to_std().unwrap_or_default();
    let late = (facts.clock - before).to_std().unwrap_or_default().saturating_sub(took);
    let skew = early.max(late);
    let evidence = format!("this clock and the server's differ by {} ms", skew.as_millis());
    let fix = "synchronise both clocks (NTP)";
    if skew > SKEW_FAILS {
        Check::fail("postgres.clock", evidence, fix)
    } else if skew > SKEW_SHOWN {
        Check::warn("postgres.clock", evidence, fix)
    } else {
        Check::ok("postgres.clock", evidence)
    }
}

fn connections(config: &Config, facts: &ServerFacts) -> Check {
    let served = config.api.listen.as_ref().map_or(0, |_| CONNECTIONS_TO_SERVE);
    let pool = i64::from(config.database.max_connections + CONNECTIONS_BESIDE + served);
    let role = facts
        .role_connection_limit
        .filter(|limit| *limit >= 0)
        .unwrap_or(i64::MAX);
    let usable = (facts.max_connections - facts.reserved_connections).min(role);
    let evidence = format!("{usable} connections can be had, a replica of all roles takes up to {pool}");
    if pool > usable {
        Check::fail(
            "postgres.connections",
            evidence,
            "lower database.max_connections, or raise max_connections and the role's limit",
        )
    } else if pool * 2 > usable {
        Check::warn(
            "postgres.connections",
            evidence,
            "two replicas would not fit: raise max_connections and the role's limit, or lower database.max_connections",
        )
    } else {
        Check::ok(
            "postgres.connections",
            format!("{evidence}: room for {} replicas", usable / pool.max(1)),
        )
    }
}

fn settings(facts: &ServerFacts, person: Option<&str>) -> Check {
    let id = "postgres.settings";
    // The reader's transactions only read, whatever the server takes.
    let read_only = facts.read_only && person != Some("lockgate_reader");
    if facts.in_recovery || read_only {
        return Check::fail(id, "the server takes no writes", "name the primary in DATABASE_URL");
    }
    if !facts.fsync {
        return Check::fail(
            id,
            "fsync is off: a crash of the server can lose or damage anything",
            "set fsync = on",
        );
    }
    if facts.synchronous_commit == "off" {
        let evidence = "synchronous_commit is off: a crash of the server forgets the last commits";
        return Check::fail(id, evidence, "set synchronous_commit = on for this role");
    }
    if facts.idle_in_transaction_ms == 0 {
        let evidence = "idle_in_transaction_session_timeout is 0: a frozen replica keeps its locks";
        return Check::warn(
            id,
            evidence,
            "set it for the role, such as 10s; a pooler hides the setting that replicas ask for",
        );
    }
    let idle = Duration::from_millis(u64::try_from(facts.idle_in_transaction_ms).unwrap_or(0));
    Check::ok(
        id,
        format!(
            "role {}, idle transactions end after {}",
            facts.current_user,
            humantime::format_duration(idle)
        ),
    )
}

/// What a database that cannot be asked means here.
pub(super) fn unanswered(id: &str, error: impl Into<Failure>) -> Check {
    let failure: Failure = error.into();
    let fix = failure.hint.unwrap_or_default();
    match failure.exit {
        Exit::Conflict => Check::skip(id, failure.what),
        _ => Check::fail(id, failure.what, fix),
    }
}

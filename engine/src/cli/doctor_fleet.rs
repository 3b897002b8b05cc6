//! The doctor's look at the fleet: who leads, who is alive and has the code, what stops vacuum.

use super::Context;
use super::doctor::Check;
use super::doctor_postgres::unanswered;
use super::output::time;
use crate::inspect::{BrokenInvariant, ReplicaSummary, Stuck};
use crate::postgres::{Database, Inspector, OLD_SNAPSHOT};

const ALL: [&str; 6] = [
    "fleet.replicas",
    "fleet.leader",
    "fleet.breakers",
    "fleet.stuck",
    "fleet.invariants",
    "postgres.snapshots",
];
/// More of a kind says nothing new here.
const NAMED: usize = 3;

pub(super) async fn checks(context: &Context, database: Option<&Database>, checks: &mut Vec<Check>) {
    let Some(database) = database else {
        checks.extend(ALL.iter().map(|id| Check::skip(*id, "the database cannot be used")));
        return;
    };
    let inspector = Inspector::new(database.clone());
    match inspector.list_replicas(false).await {
        Ok(replicas) => {
            checks.push(alive(context, &replicas));
            checks.push(leader(&replicas));
            checks.push(breakers(&replicas));
        }
        Err(error) => checks.push(unanswered("fleet.replicas", error)),
    }
    checks.push(match inspector.list_stuck().await {
        Ok(found) => stuck(&found),
        Err(error) => unanswered("fleet.stuck", error),
    });
    checks.push(match inspector.list_invariants().await {
        Ok(found) => invariants(&found),
        Err(error) => unanswered("fleet.invariants", error),
    });
    checks.push(match inspector.list_old_snapshots(OLD_SNAPSHOT).await {
        Ok(snapshots) => match snapshots.first() {
            None => Check::ok("postgres.snapshots", "no snapshot is older than a minute"),
            Some(oldest) => {
                let evidence = format!("pid {} has held a snapshot since {}", oldest.pid, time(&oldest.since));
                Check::warn(
                    "postgres.snapshots",
                    evidence,
                    "end that transaction: vacuum cannot clean up behind it",
                )
            }
        },
        Err(error) => unanswered("postgres.snapshots", error),
    });
}

/// A doctor before the first deployment finds no replica; that is no fault.
fn alive(context: &Context, replicas: &[ReplicaSummary]) -> Check {
    let id = "fleet.replicas";
    let working = |workflow: &String| {
        replicas
            .iter()
            .any(|replica| replica.state == "live" && replica.workflows.contains(workflow))
    };
    if replicas.is_empty() {
        return Check::warn(id, "no replica is alive", "start one: `run`");
    }
    let orphans: Vec<String> = context
        .host
        .workflows()
        .into_iter()
        .filter(|workflow| !working(workflow))
        .collect();
    if orphans.is_empty() {
        let sends = replicas.iter().any(|replica| replica.window_size > 0);
        let what_waits = match sends {
            true => "",
            false => ", none with brokers: fan-outs, the outbox and redelivery wait",
        };
        return Check::ok(id, format!("{} replicas are alive{what_waits}", replicas.len()));
    }
    let evidence = format!("no live replica has {}", orphans.join(", "));
    Check::warn(
        id,
        evidence,
        "start a replica of this binary, or wait for a deployment to finish",
    )
}

fn leader(replicas: &[ReplicaSummary]) -> Check {
    match replicas.iter().find(|replica| replica.leader) {
        Some(leader) => Check::ok("fleet.leader", format!("replica {} leads", leader.replica_id)),
        None => Check::warn(
            "fleet.leader",
            "no replica leads: schedules do not fire, nothing is swept or pruned",
            "start a replica with the role leader; a takeover takes up to two lease times",
        ),
    }
}

fn stuck(found: &[Stuck]) -> Check {
    if found.is_empty() {
        return Check::ok("fleet.stuck", "all moves");
    }
    Check::warn(
        "fleet.stuck",
        format!("{} things do not move: {}", found.len(), named_stuck(found)),
        "select * from lockgate.v_stuck; of a run: `runs why RUN`",
    )
}

fn invariants(found: &[BrokenInvariant]) -> Check {
    if found.is_empty() {
        return Check::ok("fleet.invariants", "nothing is as it must never be");
    }
    Check::fail(
        "fleet.invariants",
        named_broken(found),
        "V10: somebody may lock a row, see lockgate.v_stuck; else keep the rows of lockgate.v_invariants, delete nothing, do as the runbook says (LockgateInvariantBroken), and, for a run, `doctor --run RUN`",
    )
}

/// The first of what does not move.
pub(super) fn named_stuck(found: &[Stuck]) -> String {
    let named = found.iter().take(NAMED);
    let named: Vec<String> = named
        .map(|one| format!("{} of {}: {}", one.kind, one.subject, one.why))
        .collect();
    named.join("; ")
}

/// The first of what must never be.
pub(super) fn named_broken(found: &[BrokenInvariant]) -> String {
    let named = found.iter().take(NAMED);
    let named: Vec<String> = named
        .map(|one| format!("{} {}: {}", one.invariant, one.subject, one.detail))
        .collect();
    named.join("; ")
}

fn breakers(replicas: &[ReplicaSummary]) -> Check {
    let open: Vec<String> = replicas
        .iter()
        .flat_map(|replica| replica.breakers.iter().map(move |breaker| (replica, breaker)))
        .map(|(replica, breaker)| {
            format!(
                "{} is {} on replica {}",
                breaker.topic, breaker.state, replica.replica_id
            )
        })
        .collect();
    if open.is_empty() {
        return Check::ok("fleet.breakers", "every topic's breaker is closed");
    }
    Check::warn(
        "fleet.breakers",
        open.join("; "),
        "look at kafka.* below; breakers close by themselves once messages go",
    )
}

//! Why a run is not moving: a pure decision over what was read, most important cause first.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::why_fleet::{self, ReplicaFacts, with_code};
use super::why_flow::{self, FlowCause, FlowFacts};

/// What was read of one run. Times are of the database clock.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct RunFacts {
    /// The database clock when this was read.
    pub now: DateTime<Utc>,
    /// Its workflow.
    pub workflow: String,
    /// Its state.
    pub status: String,
    /// Driven by the six verbs of its caller.
    pub caller_driven: bool,
    /// Why it is as it is.
    pub reason: Option<String>,
    /// When it was over.
    pub finished_at: Option<DateTime<Utc>>,
    /// When its code ran first.
    pub started_at: Option<DateTime<Utc>>,
    /// Version of the code that it began with.
    pub code_version: Option<u32>,
    /// Since when it is paused or quarantined.
    pub halted_at: Option<DateTime<Utc>>,
    /// From when its code may run.
    pub wake_at: Option<DateTime<Utc>>,
    /// From when the next batch may be claimed, for paced runs.
    pub pace_next_at: Option<DateTime<Utc>>,
    /// `failed` or `cancelled` once asked to stop.
    pub stop_status: Option<String>,
    /// Why it was asked to stop.
    pub stop_reason: Option<String>,
    /// Since when.
    pub stop_requested_at: Option<DateTime<Utc>>,
    /// Its code undoes what it did before it is over.
    #[serde(default)]
    pub undoing: bool,
    /// Replica that runs its code.
    pub claimed_by: Option<Uuid>,
    /// When that right ends.
    pub lease_until: Option<DateTime<Utc>>,
    /// A run of the same schedule that goes first.
    pub earlier: Option<EarlierRun>,
    /// A fan-out whose plan is not whole.
    pub planning: Option<String>,
    /// What reading its source last met.
    #[serde(default)]
    pub plan_trouble: Option<String>,
    /// Other steps that are open, the first ten.
    pub waits: Vec<OpenStep>,
    /// A fan-out that is open.
    pub fan_out_open: bool,
    /// Batches that may be claimed now.
    pub free: i64,
    /// Batches that may be claimed later.
    pub later: i64,
    /// When the first of those may.
    pub next_not_before: Option<DateTime<Utc>>,
    /// Batches finished in the last minute.
    pub finished_last_minute: i64,
    /// Who holds its batches.
    pub holders: Vec<BatchHolder>,
}

/// A step that waits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenStep {
    /// Its path.
    pub step: String,
    /// `sleep`, `signal` or `child`; any other kind is tried again.
    pub kind: String,
    /// When it goes on by itself.
    pub until: Option<DateTime<Utc>>,
    /// The child that it waits for.
    pub child: Option<Uuid>,
    /// State of that child.
    pub child_status: Option<String>,
}

/// An unfinished run that goes first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierRun {
    /// That run.
    pub run_id: Uuid,
    /// Its state.
    pub status: String,
    /// The schedule that queued the later one.
    pub schedule: Option<String>,
}

/// Batches of the run that one replica holds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BatchHolder {
    /// The replica.
    pub replica: Uuid,
    /// Batches whose lease is valid.
    pub held: i64,
    /// When the last of those leases ends.
    pub until: Option<DateTime<Utc>>,
    /// Batches whose lease is over.
    pub overdue: i64,
    /// Since when the first of those is over.
    pub overdue_since: Option<DateTime<Utc>>,
}

/// What was read of the leader's lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct LeaderFacts {
    /// Whether somebody leads.
    pub leads: bool,
    /// When the last leader's lease ended.
    pub expired_at: Option<DateTime<Utc>>,
}

/// A transaction whose snapshot stops vacuum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OldSnapshot {
    /// Its server process.
    pub pid: i32,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Which program, as it calls itself.
    pub application: Option<String>,
}

/// All that the decision needs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WhyFacts {
    /// The run; none: there is no such run.
    pub run: Option<RunFacts>,
    /// Live replicas that execute.
    pub replicas: Vec<ReplicaFacts>,
    /// Who leads.
    pub leader: LeaderFacts,
    /// Old snapshots.
    pub snapshots: Vec<OldSnapshot>,
    /// Its queue; none: it is over.
    pub flow: Option<FlowFacts>,
}

/// Why a run is not moving.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "cause", rename_all = "snake_case")]
#[allow(missing_docs, reason = "each variant's sentence is its Display")]
pub enum Cause {
    UnknownRun,
    Over {
        status: String,
        at: DateTime<Utc>,
        reason: Option<String>,
    },
    StopRequested {
        to: String,
        since: Option<DateTime<Utc>>,
        reason: Option<String>,
        undoing: bool,
        batches_in_flight: i64,
        code_running: bool,
    },
    Quarantined {
        since: Option<DateTime<Utc>>,
        reason: Option<String>,
    },
    Paused {
        since: Option<DateTime<Utc>>,
        reason: Option<String>,
    },
    BeforeStart {
        until: DateTime<Utc>,
    },
    QueuedBehind {
        run_id: Uuid,
        status: String,
        schedule: Option<String>,
    },
    CallerDriven,
    NoReplica {
        workflow: String,
    },
    NoVersion {
        workflow: String,
        version: u32,
        replayed: Vec<[u32; 2]>,
    },
    AllDraining {
        workflow: String,
        replicas: usize,
    },
    NoBrokers {
        workflow: String,
        replicas: usize,
    },
    BreakerOpen {
        topic: String,
        state: String,
        since: Option<DateTime<Utc>>,
        reason: Option<String>,
        replicas: usize,
    },
    LeaseOverdue {
        replica: Uuid,
        batches: i64,
        code: bool,
        since: Option<DateTime<Utc>>,
    },
    NoLeader {
        since: Option<DateTime<Utc>>,
    },
    Planning {
        step: String,
        replica: Option<Uuid>,
        trouble: Option<String>,
    },
    BatchesHeld {
        replica: Uuid,
        batches: i64,
        until: Option<DateTime<Utc>>,
    },
    WindowFull {
        replica: Uuid,
        used: i32,
        size: i32,
    },
    WaitingForRetry {
        batches: i64,
        until: DateTime<Utc>,
    },
    Pacing {
        until: DateTime<Utc>,
    },
    WakesLater {
        until: DateTime<Utc>,
    },
    StepWaits(OpenStep),
    WaitsToBeWoken,
    OldSnapshot(OldSnapshot),
    Queue(FlowCause),
    NothingHolds {
        finished_last_minute: i64,
        batches_waiting: i64,
        batches_in_flight: i64,
    },
}

/// Decides. Never empty.
#[must_use]
pub fn causes(facts: &WhyFacts) -> Vec<Cause> {
    let Some(run) = &facts.run else {
        return vec![Cause::UnknownRun];
    };
    if let Some(at) = run.finished_at {
        return vec![Cause::Over {
            status: run.status.clone(),
            at,
            reason: run.reason.clone(),
        }];
    }
    let mut stops = halts(run);
    if run.caller_driven {
        stops.push(Cause::CallerDriven);
    } else if stops.is_empty() {
        stops.extend(why_fleet::causes(run, &facts.replicas));
    }
    let limits = why_flow::limits(run, facts.flow.as_ref());
    stops.extend(limits.into_iter().map(Cause::Queue));
    let mut slows = dead_holders(run);
    slows.extend(work(run, &facts.replicas));
    let places = why_flow::place(facts.flow.as_ref());
    slows.extend(places.into_iter().map(Cause::Queue));
    if stops.is_empty() {
        slows.extend(waits(run));
        if slows.is_empty() || run.finished_last_minute > 0 {
            stops.push(nothing_holds(run));
        }
    }
    let no_leader = (!facts.leader.leads).then_some(Cause::NoLeader {
        since: facts.leader.expired_at,
    });
    let snapshots = facts.snapshots.iter().cloned().map(Cause::OldSnapshot);
    stops
        .into_iter()
        .chain(slows)
        .chain(no_leader)
        .chain(snapshots)
        .collect()
}

/// What somebody decided: nothing is claimed until it changes.
fn halts(run: &RunFacts) -> Vec<Cause> {
    let mut found = Vec::new();
    if let Some(to) = &run.stop_status {
        found.push(Cause::StopRequested {
            to: to.clone(),
            since: run.stop_requested_at,
            undoing: run.undoing,
            reason: run.stop_reason.clone(),
            batches_in_flight: in_flight(run),
            code_running: run.claimed_by.is_some(),
        });
    }
    let (since, reason) = (run.halted_at, run.reason.clone());
    match run.status.as_str() {
        "paused" => found.push(Cause::Paused { since, reason }),
        "quarantined" => found.push(Cause::Quarantined { since, reason }),
        _ => {}
    }
    if let Some(until) = run.wake_at.filter(|at| run.started_at.is_none() && *at > run.now) {
        found.push(Cause::BeforeStart { until });
    }
    if let Some(earlier) = &run.earlier {
        found.push(Cause::QueuedBehind {
            run_id: earlier.run_id,
            status: earlier.status.clone(),
            schedule: earlier.schedule.clone(),
        });
    }
    found
}

/// Leases that nobody renews any more.
fn dead_holders(run: &RunFacts) -> Vec<Cause> {
    let code_since = run.lease_until.filter(|until| *until < run.now);
    let mut overdue: BTreeMap<Uuid, (i64, bool, Option<DateTime<Utc>>)> = BTreeMap::new();
    if let (Some(replica), Some(since)) = (run.claimed_by, code_since) {
        overdue.insert(replica, (0, true, Some(since)));
    }
    for holder in run.holders.iter().filter(|holder| holder.overdue > 0) {
        let entry = overdue.entry(holder.replica).or_insert((0, false, None));
        entry.0 = holder.overdue;
        entry.2 = [entry.2, holder.overdue_since].into_iter().flatten().min();
    }
    overdue
        .into_iter()
        .map(|(replica, (batches, code, since))| Cause::LeaseOverdue {
            replica,
            batches,
            code,
            since,
        })
        .collect()
}

/// What is being worked on now, and what slows it.
fn work(run: &RunFacts, replicas: &[ReplicaFacts]) -> Vec<Cause> {
    let mut found = Vec::new();
    if let Some(step) = &run.planning {
        let replica = run
            .claimed_by
            .filter(|_| run.lease_until.is_some_and(|until| until >= run.now));
        found.push(Cause::Planning {
            step: step.clone(),
            replica,
            trouble: run.plan_trouble.clone(),
        });
    }
    found.extend(
        run.holders
            .iter()
            .filter(|holder| holder.held > 0)
            .map(|holder| Cause::BatchesHeld {
                replica: holder.replica,
                batches: holder.held,
                until: holder.until,
            }),
    );
    let full = |replica: &&&ReplicaFacts| replica.window_size > 0 && replica.window_used >= replica.window_size;
    found.extend(
        with_code(run, replicas)
            .iter()
            .filter(full)
            .map(|replica| Cause::WindowFull {
                replica: replica.replica,
                used: replica.window_used,
                size: replica.window_size,
            }),
    );
    found
}

/// What comes by itself when its time has come.
fn waits(run: &RunFacts) -> Vec<Cause> {
    let mut found = Vec::new();
    if let Some(until) = run.next_not_before.filter(|at| *at > run.now && run.free == 0) {
        found.push(Cause::WaitingForRetry {
            batches: run.later,
            until,
        });
    }
    let waiting = run.free + run.later > 0;
    if let Some(until) = run.pace_next_at.filter(|at| *at > run.now && waiting) {
        found.push(Cause::Pacing { until });
    }
    let past = |step: &&OpenStep| step.until.is_some_and(|until| until <= run.now);
    let waiting = run.waits.iter().filter(|step| !past(step)).cloned();
    let steps: Vec<Cause> = waiting.map(Cause::StepWaits).collect();
    if run.claimed_by.is_none() && !run.fan_out_open && steps.is_empty() {
        match run.wake_at {
            Some(until) if until > run.now => found.push(Cause::WakesLater { until }),
            None if !run.caller_driven => found.push(Cause::WaitsToBeWoken),
            _ => {}
        }
    }
    found.extend(steps);
    found
}

fn in_flight(run: &RunFacts) -> i64 {
    run.holders.iter().map(|holder| holder.held + holder.overdue).sum()
}

fn nothing_holds(run: &RunFacts) -> Cause {
    Cause::NothingHolds {
        finished_last_minute: run.finished_last_minute,
        batches_waiting: run.free + run.later,
        batches_in_flight: in_flight(run),
    }
}

//! Read models: what people and scripts see of runs, batches and replicas. Field names are a promise.

mod acts;
mod answers;
mod item;
mod outbox;
mod run_filter;
mod timeline;
mod trouble;
mod undelivered;
mod values;
mod why;
mod why_fleet;
mod why_flow;
#[cfg(test)]
mod why_tests;
mod why_text;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use acts::{ActedRun, ActedRuns, BackfilledSlot, NotRepeated, RunAct};
pub use answers::{CauseInWords, ProofAnswer, RUN_STATES, WhyAnswer};
pub use item::ItemFate;
pub use outbox::{OutboxAct, OutboxBulk, OutboxChange, OutboxFilter};
pub(crate) use run_filter::attributes_schema;
pub use run_filter::{RunFilter, scalar};
pub use timeline::{TimelineRow, is_cursor};
pub use trouble::{BrokenInvariant, Stuck};
pub use undelivered::{UndeliveredChange, UndeliveredCount, UndeliveredFilter, UndeliveredMessage, UndeliveredSummary};
pub use values::{Document, RunValues};
pub use why::{BatchHolder, Cause, EarlierRun, LeaderFacts, OldSnapshot, OpenStep, RunFacts, WhyFacts, causes};
pub use why_fleet::{Breaker, ReplicaFacts};
pub use why_flow::{FlowCause, FlowFacts, PlaceHolder};

/// Runs that fit, newest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunList {
    /// The runs; fewer than asked for, or none, when the look for them came to its bound.
    pub runs: Vec<RunSummary>,
    /// There may be more: ask again with this as `after`.
    pub next: Option<Uuid>,
}

/// One run in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunSummary {
    /// The run.
    pub run_id: Uuid,
    /// Its workflow.
    pub workflow: String,
    /// Its state.
    pub status: String,
    /// `failed` or `cancelled` once it was asked to stop and is not over.
    pub stopping: Option<String>,
    /// `engine` or `caller`.
    pub driven_by: String,
    /// The schedule that fired it.
    pub schedule: Option<String>,
    /// The instant of the schedule it stands for.
    pub slot: Option<DateTime<Utc>>,
    /// At most one unfinished run has this key.
    pub singleton_key: Option<String>,
    /// At most one run of the workflow ever has this key.
    pub idempotency_key: Option<String>,
    /// Queue from which it is claimed.
    pub queue: String,
    /// On whose behalf it runs.
    pub tenant: Option<String>,
    /// By what it is found.
    pub attributes: Option<serde_json::Map<String, serde_json::Value>>,
    /// Run whose code started it.
    pub parent_id: Option<Uuid>,
    /// Run whose steps it began with.
    pub forked_from: Option<Uuid>,
    /// Why it failed, was cancelled, paused or quarantined.
    pub reason: Option<String>,
    /// Who started it.
    pub actor: String,
    /// When it was started.
    pub created_at: DateTime<Utc>,
    /// When its code ran first.
    pub started_at: Option<DateTime<Utc>>,
    /// When it was over.
    pub finished_at: Option<DateTime<Utc>>,
}

/// A run with its steps, batches and history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunDetail {
    /// The run itself.
    #[serde(flatten)]
    pub run: RunSummary,
    /// The first run of its chain of retries; namespace of its message ids.
    pub origin_id: Uuid,
    /// Runs that began with its steps, the newest first, a hundred at most.
    pub forks: Vec<Uuid>,
    /// Messages per second it may send.
    pub pace_per_s: Option<i32>,
    /// When it fails if it is not over.
    pub deadline_at: Option<DateTime<Utc>>,
    /// Replica that runs its code.
    pub claimed_by: Option<Uuid>,
    /// When that right ends unless renewed.
    pub lease_until: Option<DateTime<Utc>>,
    /// The step of the run that started it.
    pub parent_path: Option<String>,
    /// It outlives that run.
    pub detached: bool,
    /// The run that goes on in its place.
    pub continued_as: Option<Uuid>,
    /// Number of its children by state.
    pub children: BTreeMap<String, i64>,
    /// What it shows to whoever looks, by name, a hundred at most.
    pub shown: Vec<ShownValue>,
    /// Its steps in the order in which they began.
    pub steps: Vec<StepSummary>,
    /// Number of batches by state.
    pub batches: BTreeMap<String, i64>,
    /// Its own changes of state and whatever came with a reason, oldest first, the last ones.
    pub transitions: Vec<TransitionRow>,
    /// Its input; only when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Document>,
    /// What it returned, or the run that goes on in its place; only when asked for, and not there before that is completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Document>,
}

/// What a run's code has shown under a name, the newest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShownValue {
    /// The name.
    pub name: String,
    /// The value, any JSON.
    pub value: serde_json::Value,
    /// When.
    pub at: DateTime<Utc>,
}

/// A step and how far it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepSummary {
    /// Its path.
    pub path: String,
    /// `fan_out`, `step`, `undoable`, `transaction`, `sleep`, `signal`, `child`, `version`, `select`, `publish` or `show`.
    pub kind: String,
    /// `open`, `completed`, `failed` or `dropped`.
    pub status: String,
    /// When an open one goes on by itself.
    pub due_at: Option<DateTime<Utc>>,
    /// How often its code has failed.
    pub attempts: i32,
    /// Of a fan-out: items planned so far.
    pub planned_items: i64,
    /// Of a fan-out: batches planned so far.
    pub planned_batches: i64,
    /// When the plan was whole.
    pub planned_at: Option<DateTime<Utc>>,
    /// Batches that are done.
    pub done_batches: i64,
    /// Items of batches that are done.
    pub done_items: i64,
    /// Items that the broker acknowledged at once.
    pub delivered: i64,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it was completed.
    pub finished_at: Option<DateTime<Utc>>,
}

/// One change of state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TransitionRow {
    /// When.
    pub at: DateTime<Utc>,
    /// `run`, `batch` or `undelivered`.
    pub entity: String,
    /// The batch, for batches.
    pub batch_seq: Option<i32>,
    /// State before.
    pub from_status: Option<String>,
    /// State after.
    pub to_status: String,
    /// Replica that wrote it.
    pub replica: Option<Uuid>,
    /// Who asked for it.
    pub actor: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// One batch in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchSummary {
    /// Its number in the run.
    pub batch_seq: i32,
    /// Path of the fan-out that planned it.
    pub step: Option<String>,
    /// Its state.
    pub status: String,
    /// Smallest item.
    pub first_id: i64,
    /// Largest item.
    pub last_id: i64,
    /// How many items.
    pub items: i32,
    /// How many holders died on it without progress.
    pub attempts: i32,
    /// Not claimed before this instant.
    pub not_before: Option<DateTime<Utc>>,
    /// Replica that holds or finished it.
    pub claimed_by: Option<Uuid>,
    /// When the claim ends unless renewed.
    pub lease_until: Option<DateTime<Utc>>,
    /// The batch it was split from.
    pub parent_seq: Option<i32>,
    /// First outcome: acknowledged.
    pub delivered: Option<i32>,
    /// First outcome: can never go.
    pub refused: Option<i32>,
    /// First outcome: may be in the log.
    pub unknown: Option<i32>,
    /// First outcome: no message was made.
    pub skipped: Option<i32>,
    /// First outcome: the row was gone.
    pub vanished: Option<i32>,
    /// When it was done or split.
    pub finished_at: Option<DateTime<Utc>>,
}

/// One lane of the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneSummary {
    /// The lane.
    pub lane: i16,
    /// Commands that could be sent now, counted up to 500 a route.
    pub waiting: i64,
    /// Commands that are to wait longer, counted likewise.
    pub delayed: i64,
    /// Since when the first of those that could be sent waits.
    pub oldest: Option<DateTime<Utc>>,
    /// Replica that sends the lane.
    pub holder: Option<Uuid>,
    /// When its claim ends.
    pub lease_until: Option<DateTime<Utc>>,
    /// What the last holder met.
    pub last_error: Option<String>,
}

/// One process start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaSummary {
    /// Its id.
    pub replica_id: Uuid,
    /// `live`, `draining`, `stopped` or `gone`.
    pub state: String,
    /// Whether it leads now.
    pub leader: bool,
    /// Version of its binary.
    pub version: String,
    /// What it does.
    pub roles: Vec<String>,
    /// Whose code it has.
    pub workflows: Vec<String>,
    /// Batches it holds.
    pub in_flight: i32,
    /// Items sent whose outcome is not committed.
    pub window_used: i32,
    /// Bound of that; 0: it has no brokers, or is no worker.
    pub window_size: i32,
    /// Breakers that are not closed.
    pub breakers: Vec<Breaker>,
    /// When it registered.
    pub started_at: DateTime<Utc>,
    /// Its last heartbeat.
    pub seen_at: DateTime<Utc>,
    /// When it left in good order.
    pub stopped_at: Option<DateTime<Utc>>,
    /// What its machine, container or pod is called, where that is known.
    pub host: Option<String>,
}

/// What became of a run's items, and what does not add up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Proof {
    /// The run.
    pub run_id: Uuid,
    /// Its workflow.
    pub workflow: String,
    /// Its state.
    pub status: String,
    /// Items planned.
    pub planned: i64,
    /// Items the broker acknowledged, at once or redelivered.
    pub delivered: i64,
    /// Items stored and not settled.
    pub undelivered: i64,
    /// Items on which redelivery gave up.
    pub dead: i64,
    /// Items an operator gave up.
    pub discarded: i64,
    /// Items without a message.
    pub skipped: i64,
    /// Items whose row was gone.
    pub vanished: i64,
    /// Items of unfinished batches.
    pub open: i64,
    /// Whether the sum holds.
    pub adds_up: bool,
    /// What does not add up; empty: the proof holds.
    #[serde(default)]
    pub problems: Vec<ProofProblem>,
}

impl Proof {
    /// Whether everything adds up.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.adds_up && self.problems.is_empty()
    }
}

/// One thing that does not add up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProofProblem {
    /// Its kind, from a closed set.
    pub problem: String,
    /// The batch, where it is known.
    pub batch_seq: Option<i32>,
    /// The item, where it is known.
    pub item_id: Option<i64>,
    /// What was found.
    pub detail: String,
}

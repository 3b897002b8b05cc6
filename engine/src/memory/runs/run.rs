//! One run with what is recorded of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::batches::StoredBatch;
use super::views::RunChange;
use crate::lifecycle::{
    Holds, Kind, Poked, RunClaim, RunId, RunRecord, RunRequest, SHORT_RECORD, Signal, StepState, WorkRun,
};

/// A run goes before one of a priority lower by one that became ready this much earlier.
const PRIORITY_STEP: Duration = Duration::from_secs(15);
/// Changes kept of a run; the oldest are forgotten beyond this many.
const MOST_CHANGES: usize = 10_000;

/// Where a run is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Queued,
    Running,
    Suspended,
    Paused,
    Quarantined,
    Completed,
    Failed,
    Cancelled,
}

impl Status {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Suspended => "suspended",
            Self::Paused => "paused",
            Self::Quarantined => "quarantined",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    pub(super) fn may_be_claimed(self) -> bool {
        matches!(self, Self::Queued | Self::Running | Self::Suspended)
    }
}

/// Who runs the code.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holder {
    pub(super) claim_id: Uuid,
    pub(super) replica: Uuid,
    pub(super) since: DateTime<Utc>,
    pub(super) lease_until: DateTime<Utc>,
    /// Claimed as a suspect: what its holder dies of is counted against it.
    pub(super) alone: bool,
}

/// From when its code may run. Of those that are equally late, who was made ready first goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ready {
    pub(super) at: DateTime<Utc>,
    pub(super) turn: u64,
}

/// How it ends once nothing of it is held.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    pub(super) status: Status,
    pub(super) reason: String,
}

#[derive(Debug, Clone)]
pub(super) struct StoredSignal {
    pub(super) signal: Signal,
    pub(super) idempotency_key: Option<String>,
    pub(super) consumed_by: Option<String>,
}

pub(super) struct Run {
    pub(super) request: RunRequest,
    pub(super) queue: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) limit_key: Option<String>,
    pub(super) debounce_key: Option<String>,
    /// Last claimed from a limited queue; how long it holds its place there.
    pub(super) holds: Option<Holds>,
    /// How often in a row its code ran too long.
    pub(super) overruns: u16,
    pub(super) priority: u8,
    pub(super) after_run: Option<RunId>,
    pub(super) created_at: DateTime<Utc>,
    /// When it must be over.
    pub(super) deadline_at: Option<DateTime<Utc>>,
    pub(super) status: Status,
    pub(super) reason: Option<String>,
    pub(super) output: Option<Vec<u8>>,
    pub(super) started_at: Option<DateTime<Utc>>,
    pub(super) code_version: Option<u32>,
    pub(super) attributes: Map<String, Value>,
    pub(super) ready: Option<Ready>,
    pub(super) wake_seq: i64,
    pub(super) token: i64,
    pub(super) holder: Option<Holder>,
    /// When it was claimed last.
    pub(super) claimed_at: Option<DateTime<Utc>>,
    /// When it was over.
    pub(super) finished_at: Option<DateTime<Utc>>,
    pub(super) attempts: u16,
    pub(super) stop: Option<Stop>,
    /// Of a run that is to stop: its code undoes what it did first; that is done or waived; or not decided.
    pub(super) undoing: Option<bool>,
    /// Batches that a test says wait to be claimed, and those that it says are.
    pub(super) batches: (u32, u32),
    /// Those that were planned, by number.
    pub(super) planned: BTreeMap<i32, StoredBatch>,
    /// Fan-outs that are planned from one snapshot: nothing of them is claimed before the plan is whole.
    pub(super) consistent: BTreeSet<String>,
    pub(super) steps: BTreeMap<String, StepState>,
    pub(super) signals: Vec<StoredSignal>,
    pub(super) changes: VecDeque<RunChange>,
    pub(super) parent: Option<Parent>,
    /// The run that goes on in its place.
    pub(super) continued_as: Option<RunId>,
    /// It does again what another one did.
    pub(super) repeats: Option<Repeats>,
}

/// Of a run that does again what another one did: what its code must see again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repeats {
    /// By what its draws are made; none: its origin.
    pub(super) seed_id: Option<RunId>,
    pub(super) slot: Option<DateTime<Utc>>,
    pub(super) nominal_at: DateTime<Utc>,
}

/// Of a child, who started it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) run: RunId,
    /// The step that did.
    pub(super) path: String,
    /// How many runs stand above the child.
    pub(super) depth: u16,
    /// The child outlives it.
    pub(super) detached: bool,
}

impl Run {
    pub(super) fn id(&self) -> RunId {
        self.request.id
    }

    pub(super) fn queue(&self) -> &str {
        self.queue.as_deref().unwrap_or(&self.request.workflow)
    }

    /// Its place among those that are ready.
    pub(super) fn rank(&self, ready: Ready) -> Ready {
        let at = ready.at - PRIORITY_STEP * u32::from(self.priority);
        Ready { at, ..ready }
    }

    pub(super) fn is_held_by(&self, claim: &RunClaim) -> bool {
        self.token == claim.token && self.holder.is_some_and(|holder| holder.claim_id == claim.claim_id)
    }

    #[cfg(feature = "testing")]
    pub(super) fn claim(&self) -> Option<RunClaim> {
        self.holder.map(|holder| RunClaim {
            run: self.id(),
            token: self.token,
            claim_id: holder.claim_id,
        })
    }

    pub(super) fn poked(&self) -> Poked {
        Poked {
            run: self.id(),
            halted: self.stop.is_some() || self.status.is_over(),
            forced: self.undoing == Some(false),
            paused: self.status == Status::Paused,
            wake_seq: self.wake_seq,
        }
    }

    pub(super) fn waiting_signals(&self) -> Vec<Signal> {
        let waiting = self.signals.iter().filter(|stored| stored.consumed_by.is_none());
        waiting.map(|stored| stored.signal.clone()).collect()
    }

    pub(super) fn consume(&mut self, seq: Option<i64>, path: &str) {
        let waiting = |stored: &&mut StoredSignal| Some(stored.signal.seq) == seq && stored.consumed_by.is_none();
        if let Some(stored) = self.signals.iter_mut().find(waiting) {
            stored.consumed_by = Some(path.to_owned());
        }
    }

    pub(super) fn fan_outs(&self) -> Vec<StepState> {
        let fan_outs = self.steps.values().filter(|step| step.kind == Kind::FanOut);
        fan_outs.cloned().collect()
    }

    pub(super) fn work(&self, holder: &Holder) -> (RunClaim, WorkRun) {
        let claim = RunClaim {
            run: self.id(),
            token: self.token,
            claim_id: holder.claim_id,
        };
        let mut run = self.read(holder.since);
        let record = run.take_record();
        run.unread = record.bytes() > SHORT_RECORD;
        if !run.unread {
            (run.steps, run.signals) = (record.steps, record.signals);
        }
        (claim, run)
    }

    pub(super) fn recorded(&self) -> RunRecord {
        RunRecord {
            steps: self.steps.values().cloned().collect(),
            signals: self.waiting_signals(),
        }
    }

    /// As its code sees it, read or claimed then.
    pub(super) fn read(&self, claimed_at: DateTime<Utc>) -> WorkRun {
        let own_slot = self.request.slot.as_ref().map(|(_, slot)| *slot);
        let repeats = self.repeats.as_ref();
        let RunRecord { steps, signals } = self.recorded();
        WorkRun {
            id: self.id(),
            workflow: self.request.workflow.clone(),
            queue: self.queue().to_owned(),
            params: self.request.params.clone(),
            origin_id: self.request.origin_id.unwrap_or(self.id()),
            slot: own_slot.or(repeats.and_then(|repeats| repeats.slot)),
            created_at: repeats.map_or(self.created_at, |repeats| repeats.nominal_at),
            traceparent: self.request.traceparent.clone(),
            started_at: self.started_at,
            claimed_at,
            attempts: self.attempts,
            code_version: self.code_version.unwrap_or(1),
            seed_id: repeats.and_then(|repeats| repeats.seed_id),
            repeated_at: repeats.map(|_| self.created_at),
            parent_id: self.parent.as_ref().map(|parent| parent.run),
            depth: self.parent.as_ref().map_or(0, |parent| parent.depth),
            undoing: self.undoing == Some(true),
            scheduled: self.request.slot.is_some(),
            wake_seq: self.wake_seq,
            steps,
            signals,
            unread: false,
        }
    }

    /// Takes the claim from its holder; it is recorded once, here, with the instant it began.
    pub(super) fn end_claim(&mut self, from: Status, to: &'static str, reason: Option<String>) {
        let holder = self.holder.take();
        self.record(RunChange {
            from: Some(from.as_str()),
            to,
            token: Some(self.token),
            replica: holder.map(|holder| holder.replica),
            since: holder.map(|holder| holder.since),
            reason,
        });
    }

    /// Changes its state by itself, whoever holds it.
    pub(super) fn turn_to(&mut self, status: Status, reason: Option<String>) {
        let was = std::mem::replace(&mut self.status, status);
        self.note(Some(was), status.as_str(), reason);
    }

    pub(super) fn note(&mut self, from: Option<Status>, to: &'static str, reason: Option<String>) {
        self.record(RunChange {
            from: from.map(Status::as_str),
            to,
            token: None,
            replica: None,
            since: None,
            reason,
        });
    }

    fn record(&mut self, change: RunChange) {
        if self.changes.len() >= MOST_CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
    }
}

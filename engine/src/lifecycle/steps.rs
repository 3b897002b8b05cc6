//! Steps of a run: what is recorded of them, and how a run's holder records and lets go.

use std::any::Any;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::fleet::RunClaim;
use super::manager::RunId;

/// What a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Covers many items in leased batches.
    FanOut,
    /// Code of the workflow that is run at least once.
    Step,
    /// The same, with code that takes it back.
    Undoable,
    /// Code whose rows are committed together with its record.
    Transaction,
    /// Waits for an instant.
    Sleep,
    /// Waits for a signal.
    Signal,
    /// Waits for a run that this one started.
    Child,
    /// Which of several versions of a piece of code this run takes.
    Version,
    /// Which branch of a select won.
    Select,
    /// A command in the outbox.
    Publish,
    /// A value for whoever looks at the run.
    Show,
}

impl Kind {
    pub(crate) const ALL: [Self; 11] = [
        Self::FanOut,
        Self::Step,
        Self::Undoable,
        Self::Transaction,
        Self::Sleep,
        Self::Signal,
        Self::Child,
        Self::Version,
        Self::Select,
        Self::Publish,
        Self::Show,
    ];

    /// As it stands in the tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FanOut => "fan_out",
            Self::Step => "step",
            Self::Undoable => "undoable",
            Self::Transaction => "transaction",
            Self::Sleep => "sleep",
            Self::Signal => "signal",
            Self::Child => "child",
            Self::Version => "version",
            Self::Select => "select",
            Self::Publish => "publish",
            Self::Show => "show",
        }
    }

    /// Reads it back.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepStatus {
    /// It waits, or will be tried again.
    Open,
    /// Its result is recorded.
    Completed,
    /// It failed for good; its result says why.
    Failed,
    /// It was open in a branch that lost a select.
    Dropped,
}

impl StepStatus {
    const ALL: [Self; 4] = [Self::Open, Self::Completed, Self::Failed, Self::Dropped];

    /// As it stands in the tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }

    /// Reads it back.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// A step's row.
#[derive(Debug, Clone, PartialEq)]
pub struct StepState {
    /// Its path.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// How far it is.
    pub status: StepStatus,
    /// Its result once completed or failed, exact bytes of a JSON document.
    pub result: Option<Vec<u8>>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended, as the holder told the code.
    pub finished_at: Option<DateTime<Utc>>,
    /// When an open one goes on by itself.
    pub due_at: Option<DateTime<Utc>>,
    /// How often its code has failed.
    pub attempts: u16,
    /// Token of the claim under which it was written; 0 for a fan-out.
    pub claim_token: i64,
    /// Where planning goes on.
    pub plan_cursor: Option<i64>,
    /// Whether the plan is whole.
    pub planned: bool,
}

/// A checkpoint: the end of a step, or that one has begun which can be undone, to be recorded under its run's claim.
#[derive(Debug, Clone, PartialEq)]
pub struct NewStep {
    /// The fence.
    pub claim: RunClaim,
    /// Its path.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// How it ended.
    pub status: StepStatus,
    /// Its result, exact bytes of a JSON document.
    pub result: Option<Vec<u8>>,
    /// When it began, by the process's clock set to the database's at the claim.
    pub started_at: DateTime<Utc>,
    /// When it ended, by the same clock: what the code was told. It decides nothing.
    pub finished_at: DateTime<Utc>,
    /// How often its code has failed.
    pub attempts: u16,
    /// The signal that this step takes.
    pub signal_seq: Option<i64>,
    /// The path has an open row, which this ends: a wait, or a step that was tried before.
    pub ends_open: bool,
}

impl NewStep {
    /// When it ended; none: it is only begun.
    #[must_use]
    pub fn ended_at(&self) -> Option<DateTime<Utc>> {
        (self.status != StepStatus::Open).then_some(self.finished_at)
    }

    /// The row that it becomes.
    #[must_use]
    pub fn into_state(self) -> StepState {
        StepState {
            finished_at: self.ended_at(),
            path: self.path,
            kind: self.kind,
            status: self.status,
            result: self.result,
            started_at: self.started_at,
            due_at: None,
            attempts: self.attempts,
            claim_token: self.claim.token,
            plan_cursor: None,
            planned: false,
        }
    }
}

/// What became of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub enum Saved {
    /// Durable as it was given.
    Done,
    /// The claim holds, but the path has an earlier result, which counts.
    Adopted(Box<StepState>),
    /// Somebody took over: stop, write nothing.
    Lost,
}

/// The work of a transaction step. What it is, only the adapter knows that made it and that opens it.
pub type TransactionWork = Arc<dyn Any + Send + Sync>;

/// What became of a transaction step.
#[derive(Debug)]
pub enum Transacted {
    /// The path is recorded: now together with the work, or earlier, and then the work of this time was taken back.
    Recorded(Box<StepState>),
    /// The work failed and was taken back.
    Failed(anyhow::Error),
    /// Somebody took over; the work was taken back.
    Lost,
}

/// An open step that ends by something outside.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenWait {
    /// Its path.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// When it goes on by itself.
    pub due_at: Option<DateTime<Utc>>,
    /// How often its code has failed.
    pub attempts: u16,
}

/// How a holder lets go of its run.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// The code returned.
    Complete {
        /// What it returned, exact bytes of a JSON document.
        output: Vec<u8>,
    },
    /// The code failed for good.
    Fail {
        /// Why.
        reason: String,
    },
    /// The code does not fit the record: a person must look.
    Quarantine {
        /// Why.
        reason: String,
    },
    /// It waits for something outside.
    Wait {
        /// Wake-ups seen: a later one refuses the wait.
        seen: i64,
        /// When the first of its timers ends; none for a paused run.
        due_at: Option<DateTime<Utc>>,
        /// Batches of it may be claimed meanwhile: the run stays running.
        batches: bool,
        /// What it waits for; open fan-outs are recorded already.
        waits: Vec<OpenWait>,
    },
    /// It is to stop, undoes what it did, and tries that again later.
    WaitToUndo {
        /// Wake-ups seen: a later one refuses the wait.
        seen: i64,
        /// When the first of its pauses ends.
        due_at: Option<DateTime<Utc>>,
        /// What it waits for.
        waits: Vec<OpenWait>,
    },
    /// What it did cannot all be undone: a person must look.
    NotUndone {
        /// Why, and why it was to be undone.
        reason: String,
        /// What is still to be undone.
        waits: Vec<OpenWait>,
    },
    /// It is to stop, and what it did is undone.
    Unwound,
    /// Its code ran longer than its queue allows: it is run again, and set aside when it does so five times in a row
    /// without a step recorded.
    Overrun {
        /// In words.
        reason: String,
    },
    /// Its code is run again after the delay.
    HandBack {
        /// Not before this long from now.
        delay: Duration,
        /// Why, for the audit.
        reason: Option<String>,
    },
}

impl Act {
    /// The steps that stay open.
    #[must_use]
    pub fn waits(&self) -> &[OpenWait] {
        match self {
            Self::Wait { waits, .. } | Self::WaitToUndo { waits, .. } | Self::NotUndone { waits, .. } => waits,
            _ => &[],
        }
    }
}

/// One run to let go of.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// The fence.
    pub claim: RunClaim,
    /// How.
    pub act: Act,
    /// The run has fan-outs: it cannot end while a batch is unfinished.
    pub had_batches: bool,
    /// What its code set of the run's attributes; a null takes one away.
    pub attributes: Option<Map<String, Value>>,
}

/// What became of letting go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetGo {
    /// The claim is given up and the act written.
    Done,
    /// Refused, the claim holds: it was woken, halted, or has unfinished batches.
    Held(Poked),
    /// The claim is not ours any more: taken over, or given up by a request whose answer was lost.
    Lost,
}

/// What somebody else may have changed of a run that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Poked {
    /// The run.
    pub run: RunId,
    /// It was asked to stop, or is over.
    pub halted: bool,
    /// It is to stop without undoing what it did.
    pub forced: bool,
    /// It is paused: nothing new begins.
    pub paused: bool,
    /// Wake-ups so far.
    pub wake_seq: i64,
}

/// A signal that no step has taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// Number in its run, in order of arrival.
    pub seq: i64,
    /// Its name.
    pub name: String,
    /// Exact bytes of a JSON document.
    pub payload: Vec<u8>,
}

/// A signal to send.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSignal {
    /// To whom.
    pub run: RunId,
    /// Its name.
    pub name: String,
    /// A JSON document.
    pub payload: serde_json::Value,
    /// Sent once however often it is asked for.
    pub idempotency_key: Option<String>,
    /// Who says so.
    pub actor: Option<String>,
    /// Why: with it the signal is among what was done to its run; without it only its own row says who sent it.
    pub reason: Option<String>,
}

/// What became of a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signalled {
    /// Stored, and its run woken.
    Sent,
    /// The same key was sent before.
    Known,
    /// There is no such run.
    Unknown,
    /// The run is over; its state.
    Over(String),
    /// Too many that the run has not taken.
    Full,
}

/// What reached a run since it was claimed.
#[derive(Debug, Clone, PartialEq)]
pub struct News {
    /// The run.
    pub run: RunId,
    /// Wake-ups counted in it.
    pub wake_seq: i64,
    /// Signals that no step has taken, in order.
    pub signals: Vec<Signal>,
    /// Its fan-outs as they are.
    pub fan_outs: Vec<StepState>,
}

/// What a replica can run of a workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runnable {
    /// The workflow.
    pub workflow: String,
    /// Version that a new run begins with.
    pub version: u32,
    /// Versions whose runs it replays.
    pub replays: RangeInclusive<u32>,
}

impl Runnable {
    /// The versions it replays, each with the workflow, as statements compare them.
    pub(crate) fn replayed(&self) -> impl Iterator<Item = String> {
        let versions = self.replays.clone();
        versions.map(|version| format!("{}@{version}", self.workflow))
    }

    /// Whether its code goes over what code of that version recorded.
    pub(crate) fn replays(&self, workflow: &str, version: u32) -> bool {
        self.workflow == workflow && self.replays.contains(&version)
    }
}

/// How much to claim of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The queue; a workflow without one has its own name.
    pub queue: String,
    /// At most so many.
    pub take: u32,
}

/// A page of runs to claim under one claim id.
#[derive(Debug, Clone)]
pub struct ClaimPage {
    /// Chosen before the request.
    pub claim_id: Uuid,
    /// Of each queue so many.
    pub shares: Vec<Share>,
    /// Whose code is here.
    pub runnable: Vec<Runnable>,
    /// Asks for runs that holders died on, instead of the others.
    pub suspects: bool,
}

impl ClaimPage {
    /// A page that asks for nothing: what was claimed under this id is read with it.
    pub(crate) fn of_claim(claim_id: Uuid) -> Self {
        Self {
            claim_id,
            shares: Vec::new(),
            runnable: Vec::new(),
            suspects: false,
        }
    }
}

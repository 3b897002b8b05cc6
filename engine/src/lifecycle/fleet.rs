//! What a fleet of replicas needs beyond the six verbs: plan, claim next, renew, finish with outcomes, recover.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::counts::Counts;
use super::ids::ItemIds;
use super::manager::RunId;
use super::steps::{Runnable, Signal, StepState};

/// Why a fleet verb failed. What a verb *found* (a lost claim, an empty queue) is in its answer, never here.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// No answer within the deadline, or the connection broke: whether anything changed is not known.
    #[error("no answer from the store: {0}")]
    Unanswered(String),
    /// The store refuses what it was given and always will; nothing was changed.
    #[error("the store refused: {0}")]
    Refused(String),
    /// The store could not do it at this time, such as with a full disk; nothing was changed, trying again can help.
    #[error("the store cannot do it now: {0}")]
    NotNow(String),
    /// What the store holds does not make sense; someone must look.
    #[error("the store holds nonsense: {0}")]
    Damaged(String),
}

/// The fence of a claimed run: every later write of the holder names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunClaim {
    /// The run.
    pub run: RunId,
    /// Grows with every claim.
    pub token: i64,
    /// Chosen by the claimer before the request.
    pub claim_id: Uuid,
}

/// The fence of a claimed batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BatchClaim {
    /// The run.
    pub run: RunId,
    /// The batch.
    pub seq: i32,
    /// Grows with every claim.
    pub token: i64,
    /// Chosen by the claimer before the request.
    pub claim_id: Uuid,
}

/// What is recorded of a run.
#[derive(Debug, Clone, Default)]
pub struct RunRecord {
    /// Finished steps with their results, and open ones.
    pub steps: Vec<StepState>,
    /// Signals that no step has taken, in order.
    pub signals: Vec<Signal>,
}

/// What a step or signal takes beside its path or name, and what it carries.
pub(crate) const BYTES_OF_ROW: usize = 200;
/// Most bytes of a run's record that are read with a page of claims: a full page of a thousand takes 64 MiB.
pub(crate) const SHORT_RECORD: usize = 64 * 1024;

impl RunRecord {
    /// About what it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let carried = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let steps = self.steps.iter().map(|step| step.path.len() + carried(&step.result));
        let signals = self
            .signals
            .iter()
            .map(|signal| signal.name.len() + signal.payload.len());
        steps.chain(signals).map(|bytes| bytes + BYTES_OF_ROW).sum()
    }
}

/// A run as its workflow's code sees it.
#[derive(Debug, Clone)]
pub struct WorkRun {
    /// The run.
    pub id: RunId,
    /// Its workflow.
    pub workflow: String,
    /// From where it is claimed: its own queue, or the one with its workflow's name.
    pub queue: String,
    /// Its input.
    pub params: Vec<u8>,
    /// Namespace of its message ids.
    pub origin_id: RunId,
    /// The slot it stands for.
    pub slot: Option<DateTime<Utc>>,
    /// When it was started.
    pub created_at: DateTime<Utc>,
    /// Trace context of its start.
    pub traceparent: Option<String>,
    /// When its code ran first; none: it never has.
    pub started_at: Option<DateTime<Utc>>,
    /// The database's clock at the claim, or at the read when it was not claimed.
    pub claimed_at: DateTime<Utc>,
    /// Holders in a row that died on it.
    pub attempts: u16,
    /// Which version of the workflow's code it began with.
    pub code_version: u32,
    /// Where its recorded chances come from; none: its origin.
    pub seed_id: Option<RunId>,
    /// When it was made to do again what another run did; none: it does nothing again.
    pub repeated_at: Option<DateTime<Utc>>,
    /// The run whose code started it.
    pub parent_id: Option<RunId>,
    /// How many runs stand above it.
    pub depth: u16,
    /// It is to stop, and its code is run to undo what it did.
    pub undoing: bool,
    /// A schedule fired it, or the run in whose place it goes on: others may wait until it is over.
    pub scheduled: bool,
    /// Wake-ups seen when it was read.
    pub wake_seq: i64,
    /// Finished steps with their results, and open ones.
    pub steps: Vec<StepState>,
    /// Signals that no step has taken, in order.
    pub signals: Vec<Signal>,
    /// Its steps and signals are more than is read with a page of claims, and are yet to be read.
    pub unread: bool,
}

impl WorkRun {
    /// Takes its steps and signals.
    pub(crate) fn take_record(&mut self) -> RunRecord {
        RunRecord {
            steps: std::mem::take(&mut self.steps),
            signals: std::mem::take(&mut self.signals),
        }
    }

    /// What is known of a step.
    #[must_use]
    pub fn step(&self, path: &str) -> Option<&StepState> {
        self.steps.iter().find(|step| step.path == path)
    }
}

/// A claimed batch.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Its fence.
    pub claim: BatchClaim,
    /// Path of its fan-out.
    pub step: String,
    /// Its items.
    pub ids: ItemIds,
    /// Which of them an earlier holder had acknowledged, a bit each.
    pub delivered_bits: Option<Vec<u8>>,
    /// For a paced run: how many messages a second this batch may be sent at.
    pub pace_per_s: Option<u32>,
    /// For a paced run: how long after the claim this batch's time begins.
    pub pace_wait: Duration,
    /// Holders in a row that died with it in flight.
    pub attempts: u16,
}

/// One batch to plan.
#[derive(Debug, Clone)]
pub struct PlannedBatch {
    /// Its items.
    pub ids: ItemIds,
}

/// Some batches of a plan, written together with the cursor.
#[derive(Debug, Clone)]
pub struct PlanChunk {
    /// Path of the fan-out.
    pub path: String,
    /// The cursor this chunk was read behind.
    pub after: Option<i64>,
    /// The batches, ascending; may be empty in the last chunk.
    pub batches: Vec<PlannedBatch>,
    /// Whether the plan is whole with it.
    pub last: bool,
}

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanProgress {
    /// Written.
    Written,
    /// The run is paused or was asked to stop; nothing was written.
    Halted,
    /// The claim was taken over, or the cursor is elsewhere; nothing was written.
    Lost,
}

/// One item that was not delivered, with all that is needed to send it again.
#[derive(Debug, Clone, PartialEq)]
pub struct UndeliveredItem {
    /// The item.
    pub item: i64,
    /// Its message's stable id.
    pub message_id: Uuid,
    /// Whether it can never go as it is (else it may be in the log).
    pub refused: bool,
    /// From a closed set.
    pub code: String,
    /// In words, without personal data.
    pub reason: String,
    /// Kind of command.
    pub command_type: String,
    /// Where it goes.
    pub topic: String,
    /// Partitioning key.
    pub key: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<(String, String)>,
    /// Exact bytes, when any could be made.
    pub payload: Option<Vec<u8>>,
}

/// What became of a batch's items. Counts and lists cover every item exactly once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BatchOutcome {
    /// How many the broker acknowledged.
    pub delivered: usize,
    /// Refused and unknown ones.
    pub undelivered: Vec<UndeliveredItem>,
    /// Items without a message, ascending.
    pub skipped: Vec<i64>,
    /// Items whose row was gone, ascending.
    pub vanished: Vec<i64>,
}

impl BatchOutcome {
    /// Whether every item was delivered.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.undelivered.is_empty() && self.skipped.is_empty() && self.vanished.is_empty()
    }
}

/// How a write under a claim ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Written now, or found written by this very claim.
    Done,
    /// Somebody took over: stop, write nothing.
    Lost,
}

/// One lease to renew, with progress to save.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// The batch's fence.
    pub claim: BatchClaim,
    /// Acknowledged items, a bit each; `None` leaves what is stored.
    pub delivered_bits: Option<Vec<u8>>,
}

/// A batch to give back unfinished.
#[derive(Debug, Clone)]
pub struct HandBack {
    /// Its fence.
    pub claim: BatchClaim,
    /// Acknowledged items, a bit each.
    pub delivered_bits: Option<Vec<u8>>,
    /// Not claimed again before this long from now.
    pub delay: Duration,
    /// Why, for the audit.
    pub reason: &'static str,
}

/// Why a claim was not renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRenewed {
    /// It is no longer held under the given claim.
    Gone,
    /// Its row was locked: its lease runs on as it was, and nothing was saved.
    Busy,
}

/// Which claims a renewal did not renew.
#[derive(Debug, Clone, Default)]
pub struct Unrenewed {
    /// Batches.
    pub batches: HashMap<BatchClaim, NotRenewed>,
    /// Runs.
    pub runs: HashMap<RunClaim, NotRenewed>,
}

/// A stale batch that killed too many holders.
#[derive(Debug, Clone)]
pub struct Stuck {
    /// The run.
    pub run: RunId,
    /// The batch.
    pub seq: i32,
    /// Its token when it was found stale.
    pub token: i64,
    /// Path of its fan-out.
    pub step: String,
    /// Namespace of its message ids.
    pub origin_id: RunId,
    /// Its items.
    pub ids: ItemIds,
    /// Acknowledged items.
    pub delivered_bits: Option<Vec<u8>>,
}

/// What one sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Batches taken from dead holders.
    pub batches: u64,
    /// Batches split or refused because they kill their holders.
    pub split: u64,
    /// Runs taken from dead holders.
    pub runs: u64,
    /// Fan-outs completed whose last worker died before it could.
    pub fan_outs: u64,
    /// Runs ended that were asked to stop or passed their deadline.
    pub stopped: u64,
    /// Parents woken whose child is over, and those whose children were told to stop.
    pub parents: u64,
    /// Runs woken that waited for one that is over.
    pub followers: u64,
    /// Undelivered rows taken from dead holders.
    pub undelivered: u64,
}

/// What a replica says of itself.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// Its id, made at process start.
    pub replica: Uuid,
    /// What it does.
    pub roles: Vec<String>,
    /// Whose code it has, and for which versions.
    pub runnable: Vec<Runnable>,
    /// It takes no new work.
    pub draining: bool,
    /// Batches it holds.
    pub in_flight: i32,
    /// Items sent whose outcome is not committed.
    pub window_used: i32,
    /// Bound of that; 0: it has no brokers, or is no worker.
    pub window_size: i32,
    /// Breakers that are not closed, a JSON array.
    pub breakers: serde_json::Value,
    /// What its process has counted.
    pub counts: Counts,
    /// The store's clock less its own, in seconds, when they were last compared.
    pub clock_offset: Option<f64>,
}

/// The verbs of a replica's execution side.
#[async_trait]
pub trait Fleet: Send + Sync + 'static {
    /// Registers the replica or renews its row and what it has counted; answers the store's clock.
    async fn heartbeat(&self, beat: &Heartbeat) -> Result<DateTime<Utc>, FleetError>;
    /// Marks the replica as left in good order.
    async fn leave(&self, replica: Uuid) -> Result<(), FleetError>;

    /// Reads a run without claiming it, to execute its batches.
    async fn read_run(&self, run: RunId) -> Result<Option<WorkRun>, FleetError>;
    /// Ends the run as failed, though batches of it may be in flight.
    async fn fail_claimed_run(&self, claim: &RunClaim, reason: &str) -> Result<Ended, FleetError>;

    /// Opens a fan-out step, or finds it open. A consistent one that was not planned to its end starts anew.
    async fn open_fan_out(
        &self,
        claim: &RunClaim,
        path: &str,
        consistent: bool,
    ) -> Result<Option<StepState>, FleetError>;
    /// Writes down what reading the source of a step met, for people; forgotten with the next chunk.
    async fn note_plan_trouble(&self, claim: &RunClaim, path: &str, trouble: &str) -> Result<(), FleetError>;
    /// Writes batches and cursor together.
    async fn plan_chunk(&self, claim: &RunClaim, chunk: &PlanChunk) -> Result<PlanProgress, FleetError>;
    /// How many batches of the run wait, counted up to `at_most`.
    async fn waiting_batches(&self, run: RunId, at_most: i64) -> Result<i64, FleetError>;
    /// Completes the fan-out if it is planned and nothing of it is unfinished, and wakes its run.
    async fn complete_fan_out(&self, run: RunId, path: &str) -> Result<bool, FleetError>;

    /// Says that the holder of this batch runs nothing else from now on.
    async fn mark_alone(&self, claim: &BatchClaim) -> Result<Ended, FleetError>;
    /// Runs that this code replays and that have batches to claim now, but for those that would be declined. In order, and
    /// from behind one of them, so that whoever found too many comes by all of them in turn.
    async fn claimable_runs(
        &self,
        runnable: &[Runnable],
        without: &[RunId],
        behind: Option<RunId>,
        at_most: i64,
    ) -> Result<Vec<RunId>, FleetError>;
    /// Claims the next batch of a run.
    async fn claim_next_batch(&self, run: RunId, claim_id: Uuid) -> Result<Option<Batch>, FleetError>;
    /// Finishes a batch of which every item was delivered and claims the next one of `next_run`, in one round trip.
    /// Nothing is claimed when the finish finds the claim lost, and nothing of a paced run, whose batches are claimed
    /// by [`Fleet::claim_next_batch`] alone.
    async fn finish_and_claim_batch(
        &self,
        claim: &BatchClaim,
        next_run: RunId,
        next_claim_id: Uuid,
    ) -> Result<(Ended, Option<Batch>), FleetError>;
    /// Finishes a batch with any outcome; its undelivered rows and audit are in the same transaction.
    async fn finish_batch(
        &self,
        claim: &BatchClaim,
        ids: &ItemIds,
        outcome: &BatchOutcome,
    ) -> Result<Ended, FleetError>;
    /// Reads what a claim whose answer was lost got, if anything.
    async fn find_batch_claim(&self, run: RunId, claim_id: Uuid) -> Result<Option<Batch>, FleetError>;
    /// Renews all leases of this process in one statement, saving progress; answers which were not renewed.
    async fn renew_leases(&self, batches: &[Renewal], runs: &[RunClaim]) -> Result<Unrenewed, FleetError>;
    /// Gives batches back unfinished, without counting an attempt; answers how many were still held.
    async fn hand_back_batches(&self, batches: &[HandBack]) -> Result<u64, FleetError>;
    /// Asks a run to end as failed.
    async fn request_stop(&self, run: RunId, reason: &str) -> Result<(), FleetError>;
    /// Ends a run that was asked to stop, once nothing of it is held.
    async fn settle_stop(&self, run: RunId) -> Result<bool, FleetError>;

    /// Takes stale leases over, splits what kills its holders, completes what its last worker left, ends what must end.
    async fn sweep(&self) -> Result<Swept, FleetError>;
}

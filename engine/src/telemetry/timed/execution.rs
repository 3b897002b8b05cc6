//! The stores of batches and of runs.

use std::sync::OnceLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Timed, measured, timed};
use crate::lifecycle::{
    Batch, BatchClaim, BatchOutcome, Birth, ClaimPage, Continuation, Ended, EndedChild, Ending, Fleet, FleetError,
    HandBack, Heartbeat, ItemIds, LetGo, LimitedClaim, NewChild, NewPublication, NewRun, NewSignal, NewStep, News,
    PlanChunk, PlanProgress, Poked, QueueNews, Renewal, RunClaim, RunId, RunRecord, RunStore, Runnable, Saved,
    Signalled, Started, StepState, Swept, Transacted, TransactionWork, Unrenewed, WorkRun,
};
use crate::telemetry::Timing;

timed! { Fleet, FleetError {
    heartbeat(beat: &Heartbeat) -> DateTime<Utc>;
    leave(replica: Uuid) -> ();
    read_run(run: RunId) -> Option<WorkRun>;
    fail_claimed_run(claim: &RunClaim, reason: &str) -> Ended;
    open_fan_out(claim: &RunClaim, path: &str, consistent: bool) -> Option<StepState>;
    note_plan_trouble(claim: &RunClaim, path: &str, trouble: &str) -> ();
    plan_chunk(claim: &RunClaim, chunk: &PlanChunk) -> PlanProgress;
    waiting_batches(run: RunId, at_most: i64) -> i64;
    complete_fan_out(run: RunId, path: &str) -> bool;
    mark_alone(claim: &BatchClaim) -> Ended;
    claimable_runs(runnable: &[Runnable], without: &[RunId], behind: Option<RunId>, at_most: i64) -> Vec<RunId>;
    claim_next_batch(run: RunId, claim_id: Uuid) -> Option<Batch>;
    finish_and_claim_batch(claim: &BatchClaim, next_run: RunId, next_claim_id: Uuid) -> (Ended, Option<Batch>);
    finish_batch(claim: &BatchClaim, ids: &ItemIds, outcome: &BatchOutcome) -> Ended;
    find_batch_claim(run: RunId, claim_id: Uuid) -> Option<Batch>;
    renew_leases(batches: &[Renewal], runs: &[RunClaim]) -> Unrenewed;
    hand_back_batches(batches: &[HandBack]) -> u64;
    request_stop(run: RunId, reason: &str) -> ();
    settle_stop(run: RunId) -> bool;
    sweep() -> Swept;
} }

timed! { RunStore, FleetError {
    start_runs(page: &[NewRun], again: bool) -> ();
    start_run(run: &NewRun) -> Started;
    start_claimed_runs(births: &[&Birth], claim_id: Uuid) -> DateTime<Utc>;
    claim_runs(page: &ClaimPage) -> Vec<(RunClaim, WorkRun)>;
    claim_limited_runs(page: &ClaimPage) -> LimitedClaim;
    read_claimed_runs(page: &ClaimPage) -> Vec<(RunClaim, WorkRun)>;
    acquit_run(claim: &RunClaim) -> bool;
    read_record(run: RunId) -> RunRecord;
    save_steps(group: &[NewStep]) -> Vec<Saved>;
    settle_step(step: &NewStep) -> Saved;
    settle_select(step: &NewStep, lost: &[String]) -> Saved;
    transact(step: &NewStep, work: &TransactionWork, max_result: usize) -> Transacted;
    let_go_runs(group: &[Ending]) -> Vec<LetGo>;
    continue_runs(group: &[Continuation]) -> Vec<LetGo>;
    start_children(group: &[NewChild]) -> Vec<bool>;
    ended_children(parent: RunId, paths: &[String]) -> Vec<EndedChild>;
    stop_children(run: RunId) -> ();
    stop_lost_children(run: RunId, lost: &[String]) -> ();
    cancel_run(run: RunId, reason: &str) -> ();
    publish(group: &[NewPublication]) -> Vec<Saved>;
    wake_runs(runs: &[RunId]) -> u64;
    signal_run(signal: &NewSignal) -> Signalled;
    poked_runs(runs: &[RunId]) -> Vec<Poked>;
    read_news(runs: &[RunId]) -> Vec<News>;
    read_queues(workflows: &[String]) -> QueueNews;
    waiting_queues(queues: &[String]) -> Vec<String>;
    suspect_queues() -> Vec<String>;
    next_due(queues: &[String]) -> Option<Duration>;
} }

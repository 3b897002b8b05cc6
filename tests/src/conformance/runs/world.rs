//! What the suite needs of a store beyond its verbs: starting runs, the passing of time, what operators do, and a look.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lockgate::inspect::NotRepeated;
use lockgate::lifecycle::{Ended, NewRun, QueueSettings, RepeatRun, RunClaim, RunId, RunStore, Started, StepState};
use lockgate::memory::RunStart;
use serde_json::{Map, Value};
use uuid::Uuid;

/// When a run's code may go on by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Something else must happen first.
    Never,
    /// Now.
    Due,
    /// At an instant to come.
    Later,
}

/// A run as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSeen {
    /// The run.
    pub run: RunId,
    /// Its state.
    pub status: String,
    /// Why it is in that state.
    pub reason: Option<String>,
    /// By what it is found.
    pub attributes: Map<String, Value>,
    /// What it returned.
    pub output: Option<Vec<u8>>,
    /// Version that it began with; none: it has not begun.
    pub code_version: Option<u32>,
    /// When it goes on by itself.
    pub wake: Wake,
    /// Wake-ups so far.
    pub wake_seq: i64,
    /// Claims so far.
    pub token: i64,
    /// The claim that holds it.
    pub claim: Option<RunClaim>,
    /// Holders in a row that died on it.
    pub attempts: u16,
    /// How it is to end.
    pub stopping: Option<String>,
    /// It began with the steps of another.
    pub repeats: bool,
}

/// A signal as the store has it.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalSeen {
    /// Number in its run.
    pub seq: i64,
    /// Its name.
    pub name: String,
    /// What is told.
    pub payload: serde_json::Value,
    /// Path of the step that took it.
    pub consumed_by: Option<String>,
}

/// The end of a claim, as the audit has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimEnd {
    /// The claim's token.
    pub token: i64,
    /// State while it was held.
    pub from: String,
    /// State after it.
    pub to: String,
    /// Why.
    pub reason: Option<String>,
}

/// A fresh store of runs whose code is run.
#[async_trait]
pub trait RunWorld: Send + Sync {
    /// The verbs of another replica on the one store.
    fn replica(&self) -> Arc<dyn RunStore>;
    /// The store's clock.
    async fn now(&self) -> DateTime<Utc>;
    /// Makes so much time pass.
    async fn advance(&self, by: Duration);
    /// Starts a run; `None`: another holds its singleton key.
    async fn start(&self, start: RunStart) -> Option<RunId>;

    /// Starts a run as whoever starts one does, or finds the one that answers for it.
    async fn start_new(&self, run: &NewRun) -> Started;
    /// Makes the settings of a queue what is given.
    async fn set_queue(&self, settings: QueueSettings);
    /// Pauses a queue, or resumes it.
    async fn pause_queue(&self, name: &str, paused: bool);
    /// The holder of this claim has died: its leases end.
    async fn end_leases(&self, claim: &RunClaim);
    /// Renews a lease; answers whether it was held.
    async fn renew(&self, claim: &RunClaim) -> bool;
    /// Takes runs from dead holders and ends what must end; answers how many were taken.
    async fn sweep(&self) -> u64;
    /// Ends a run that was asked to stop.
    async fn settle_stop(&self, run: RunId) -> bool;
    /// Ends the run as failed by its holder.
    async fn fail_claimed(&self, claim: &RunClaim, reason: &str) -> Ended;

    /// Pauses a run; answers its state.
    async fn pause(&self, run: RunId) -> String;
    /// Resumes a run; answers its state.
    async fn resume(&self, run: RunId) -> String;
    /// Cancels a run; answers its state.
    async fn cancel(&self, run: RunId) -> String;

    /// Cancels a run without undoing what it did; answers its state.
    async fn force_cancel(&self, run: RunId) -> String;

    /// Starts a run that begins with the steps of one that is over.
    async fn repeat(&self, repeat: &RepeatRun) -> Result<RunId, NotRepeated>;

    /// Opens a fan-out as the holder does.
    async fn open_fan_out(&self, claim: &RunClaim, path: &str) -> Option<StepState>;
    /// Completes a fan-out as its last worker does.
    async fn complete_fan_out(&self, run: RunId, path: &str) -> bool;
    /// Gives the run so many batches that wait, and so many that are held, instead of those it has.
    async fn set_batches(&self, run: RunId, waiting: u32, held: u32);

    /// All runs by id.
    async fn runs(&self) -> Vec<RunSeen>;
    /// What is recorded of a run's steps, by path.
    async fn steps(&self, run: RunId) -> Vec<StepState>;
    /// The signals of a run, in order of arrival.
    async fn signals(&self, run: RunId) -> Vec<SignalSeen>;
    /// What is in the outbox, message id and payload, in order.
    async fn published(&self) -> Vec<(Uuid, Vec<u8>)>;
    /// The ends of a run's claims, in order.
    async fn claim_ends(&self, run: RunId) -> Vec<ClaimEnd>;
}

/// Checks what must hold of every run whatever was done to it.
///
/// # Panics
/// It does not.
pub async fn check_runs(world: &dyn RunWorld) {
    for seen in world.runs().await {
        let ends: Vec<i64> = world.claim_ends(seen.run).await.iter().map(|end| end.token).collect();
        let ended = seen.token - i64::from(seen.claim.is_some());
        assert_eq!(
            ends,
            (1..=ended).collect::<Vec<_>>(),
            "claims are not audited once each: {seen:?}"
        );
        let over = matches!(seen.status.as_str(), "completed" | "failed" | "cancelled");
        assert!(!over || (seen.claim.is_none() && seen.wake == Wake::Never), "{seen:?}");
        assert!(
            seen.status != "suspended" || seen.claim.is_none(),
            "held and suspended: {seen:?}"
        );
        let steps = world.steps(seen.run).await;
        let mut taken = HashMap::new();
        // What another run that goes on in its place has taken along leaves gaps, and so does what is not told again.
        let went_on = seen.output.is_none() && seen.status == "completed" || seen.repeats;
        for (at, signal) in (1..).zip(world.signals(seen.run).await) {
            assert!(
                went_on || signal.seq == at,
                "signals are not numbered in order: {seen:?}"
            );
            let Some(path) = signal.consumed_by else { continue };
            assert!(
                steps.iter().any(|step| step.path == path),
                "signal {at} is taken by no step: {path}"
            );
            assert_eq!(taken.insert(path.clone(), at), None, "step {path} took two signals");
        }
        for step in &steps {
            assert!(step.claim_token <= seen.token, "{step:?} is of no claim of {seen:?}");
        }
    }
}

//! What the suite needs of a manager beyond its verbs: handles, the passing of time, and a look behind the verbs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use lockgate::lifecycle::{ManagerError, RunId, RunRequest, TaskRunManager};

/// A batch as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchSeen {
    /// Its number.
    pub number: i32,
    /// `free`, `claimed`, `recoverable` or `done`.
    pub status: String,
    /// Its items, ascending.
    pub ids: Vec<i64>,
    /// Token of its last claim.
    pub token: i64,
    /// How many holders died on it.
    pub attempts: u32,
}

/// A change of state as the audit has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The batch; `None`: the run.
    pub batch: Option<i32>,
    /// State before.
    pub from: Option<String>,
    /// State after.
    pub to: String,
}

/// A fresh store with a manager on it.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A new handle on the one store, without claims.
    fn handle(&self) -> Arc<dyn TaskRunManager>;
    /// Makes time pass until every lease held now has ended.
    async fn end_leases(&self);
    /// Writes a batch of a plan, as the engine's planner does.
    async fn plan(&self, run: RunId, batch: i32, ids: &[i64]);
    /// All runs.
    async fn runs(&self) -> Vec<RunId>;
    /// Status and reason of a run.
    async fn status(&self, run: RunId) -> Option<(String, Option<String>)>;
    /// The input of a run.
    async fn params(&self, run: RunId) -> Vec<u8>;
    /// The batches of a run by number.
    async fn batches(&self, run: RunId) -> Vec<BatchSeen>;
    /// The audit of a run and its batches, in order.
    async fn history(&self, run: RunId) -> Vec<Change>;
    /// What else the store can be asked to prove of a run; empty when all is well.
    async fn problems(&self, run: RunId) -> Vec<String>;
}

/// Checks what must hold of every run whatever was done to it.
///
/// # Panics
/// An item is in two batches, or the audit says something else than the tables, or the store finds a problem.
pub async fn check_books(harness: &dyn Harness) {
    for run in harness.runs().await {
        let mut seen = HashSet::new();
        let mut last_of = HashMap::new();
        for change in harness.history(run).await {
            let before = last_of.insert(change.batch, change.to.clone());
            let before = before.filter(|status| status != "split");
            assert!(
                change.batch.is_none() || before.is_none() || before == change.from,
                "gap before {change:?}"
            );
        }
        let batches = harness.batches(run).await;
        for batch in &batches {
            for id in &batch.ids {
                assert!(seen.insert(*id), "item {id} is in two batches: {batches:?}");
            }
            let audited = last_of.get(&Some(batch.number));
            let untouched = batch.status == "free" && audited.is_none();
            assert!(
                untouched || audited == Some(&batch.status),
                "audit of {batch:?} says {audited:?}"
            );
        }
        let gone = last_of
            .keys()
            .flatten()
            .filter(|number| !batches.iter().any(|batch| batch.number == **number));
        for number in gone {
            assert_eq!(
                last_of[&Some(*number)],
                "split",
                "batch {number} is gone without a record"
            );
        }
        let (status, _) = harness.status(run).await.unwrap();
        assert_eq!(
            last_of.get(&None),
            Some(&status),
            "the audit of run {run} says something else"
        );
        assert_eq!(harness.problems(run).await, Vec::<String>::new(), "run {run}");
    }
}

/// Starts a run without keys that its caller drives.
pub(super) async fn start(manager: &dyn TaskRunManager) -> RunId {
    start_as(manager, RunRequest::new("reports")).await.unwrap()
}

/// Starts a run that the engine drives.
pub(super) async fn start_for_engine(manager: &dyn TaskRunManager) -> RunId {
    start_as(manager, RunRequest::new("reports").for_engine())
        .await
        .unwrap()
}

/// Starts a run, asking again as long as it is contended.
pub(super) async fn start_as(manager: &dyn TaskRunManager, request: RunRequest) -> Option<RunId> {
    loop {
        match manager.try_start_new_run(request.clone()).await {
            Err(ManagerError::Busy) => tokio::task::yield_now().await,
            answer => return answer.unwrap(),
        }
    }
}

/// Number, status and ids of each batch, for comparing.
pub(super) async fn shape(harness: &dyn Harness, run: RunId) -> Vec<(i32, String, Vec<i64>)> {
    let batches = harness.batches(run).await;
    batches
        .into_iter()
        .map(|batch| (batch.number, batch.status, batch.ids))
        .collect()
}

/// What [`shape`] answers for one batch.
pub(super) fn batch(number: i32, status: &str, ids: &[i64]) -> (i32, String, Vec<i64>) {
    (number, status.to_owned(), ids.to_vec())
}

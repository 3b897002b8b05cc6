//! Pins the contract of run lifecycle management (R40.4): any change of a verb's signature, and any verb more or less, does
//! not compile here.
#![allow(clippy::unwrap_used)]

use std::pin::Pin;

use async_trait::async_trait;
use lockgate::lifecycle::{ManagerError, RunId, RunRequest, TaskRunManager};
use uuid::Uuid;

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, ManagerError>> + Send + 'a>>;

/// Each verb by its exact type.
struct Verbs<'a, M> {
    try_start_new_run: fn(&'a M, RunRequest) -> Answer<'a, Option<Uuid>>,
    complete_run: fn(&'a M, Uuid) -> Answer<'a, ()>,
    fail_run: fn(&'a M, Uuid, &'a str) -> Answer<'a, ()>,
    claim_batch: fn(&'a M, Uuid, i32, &'a [i64]) -> Answer<'a, ()>,
    release_batch: fn(&'a M, Uuid, i32) -> Answer<'a, ()>,
    recover_stale_ids: fn(&'a M, Uuid) -> Answer<'a, Vec<i64>>,
}

fn verbs<'a, M: TaskRunManager + 'a>() -> Verbs<'a, M> {
    Verbs {
        try_start_new_run: M::try_start_new_run,
        complete_run: M::complete_run,
        fail_run: M::fail_run,
        claim_batch: M::claim_batch,
        release_batch: M::release_batch,
        recover_stale_ids: M::recover_stale_ids,
    }
}

/// Has the six verbs and nothing else: a seventh would be missing here.
struct SixVerbs;

#[async_trait]
impl TaskRunManager for SixVerbs {
    async fn try_start_new_run(&self, request: RunRequest) -> Result<Option<RunId>, ManagerError> {
        Ok(Some(request.id))
    }
    async fn complete_run(&self, run: RunId) -> Result<(), ManagerError> {
        Err(ManagerError::Unfinished { run, batches: 1 })
    }
    async fn fail_run(&self, _run: RunId, reason: &str) -> Result<(), ManagerError> {
        Err(ManagerError::Invalid(reason.to_owned()))
    }
    async fn claim_batch(&self, run: RunId, batch: i32, _ids: &[i64]) -> Result<(), ManagerError> {
        Err(ManagerError::WrongIds { run, batch })
    }
    async fn release_batch(&self, _run: RunId, batch: i32) -> Result<(), ManagerError> {
        Err(ManagerError::NotOwner {
            what: batch.to_string(),
        })
    }
    async fn recover_stale_ids(&self, _run: RunId) -> Result<Vec<i64>, ManagerError> {
        Ok(vec![1, 2])
    }
}

#[tokio::test]
async fn the_six_verbs_are_what_they_were() {
    let (verbs, request) = (verbs::<SixVerbs>(), RunRequest::new("reports"));
    let run = request.id;
    assert_eq!((verbs.try_start_new_run)(&SixVerbs, request).await.unwrap(), Some(run));
    let answers = [
        (verbs.complete_run)(&SixVerbs, run).await,
        (verbs.fail_run)(&SixVerbs, run, "why").await,
        (verbs.claim_batch)(&SixVerbs, run, 7, &[1]).await,
        (verbs.release_batch)(&SixVerbs, run, 7).await,
    ];
    let answers = answers.map(|answer| answer.unwrap_err().to_string());
    let expected = [
        format!("run {run} has 1 unfinished batches; nothing was changed"),
        "why; nothing was changed".to_owned(),
        format!("batch 7 of run {run} was planned with other ids; nothing was claimed"),
        "not the owner of 7: stop working on it".to_owned(),
    ];
    assert_eq!(answers, expected);
    assert_eq!((verbs.recover_stale_ids)(&SixVerbs, run).await.unwrap(), vec![1, 2]);
}

#[test]
fn a_manager_can_be_chosen_at_run_time() {
    let managers: [Box<dyn TaskRunManager>; 2] = [
        Box::new(SixVerbs),
        Box::new(lockgate::memory::MemoryTaskRunManager::default()),
    ];
    assert_eq!(managers.len(), 2);
}

/// A verb with a default body would break no implementation; it would still be a seventh verb.
#[test]
fn there_are_six_verbs() {
    let source = include_str!("../../engine/src/lifecycle/manager.rs");
    let (_, contract) = source.split_once("pub trait TaskRunManager").unwrap();
    let verbs: Vec<&str> = contract
        .split(" fn ")
        .skip(1)
        .filter_map(|rest| rest.split('(').next())
        .collect();
    let six = [
        "try_start_new_run",
        "complete_run",
        "fail_run",
        "claim_batch",
        "release_batch",
        "recover_stale_ids",
    ];
    assert_eq!(verbs, six);
}

//! Tests of groups of writes.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use tokio::sync::Semaphore;
use uuid::Uuid;

use super::book::{HeldRun, Lease};
use super::group::*;
use crate::lifecycle::{FleetError, RunClaim, RunId};
use crate::telemetry::closed::GroupName;

const MOST_IN_FLIGHT: usize = 4;
const MOST: usize = 1_000;

/// A store that fails as told, holds answers back, and counts what it was asked.
struct Scripted {
    failures: Mutex<VecDeque<FleetError>>,
    bad: Option<RunClaim>,
    gate: Semaphore,
    asked: Mutex<Vec<usize>>,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
}

impl Scripted {
    fn new(failures: impl IntoIterator<Item = FleetError>, gate: usize) -> Self {
        Self {
            failures: Mutex::new(failures.into_iter().collect()),
            bad: None,
            gate: Semaphore::new(gate),
            asked: Mutex::default(),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
        }
    }

    fn asked(&self) -> Vec<usize> {
        self.asked.lock().unwrap().clone()
    }
}

struct Store(Arc<Scripted>);

#[async_trait]
impl Together for Store {
    const NAME: GroupName = GroupName::Steps;

    type Write = RunClaim;
    type Held = Arc<HeldRun>;
    type Answer = Option<RunClaim>;
    type Error = FleetError;

    fn run(write: &RunClaim) -> RunId {
        write.run
    }
    fn bytes(_: &RunClaim) -> usize {
        0
    }
    fn trouble(error: &FleetError) -> Trouble {
        fleet_trouble(error)
    }
    fn is_lost(held: &Arc<HeldRun>) -> bool {
        held.is_lost()
    }
    fn lost(_: &str) -> Result<Option<RunClaim>, FleetError> {
        Ok(None)
    }
    fn stopped() -> FleetError {
        FleetError::Unanswered(String::new())
    }
    async fn all(&self, writes: &[RunClaim], _: bool) -> Result<Vec<Option<RunClaim>>, FleetError> {
        let under_way = self.0.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most_under_way.fetch_max(under_way, Ordering::SeqCst);
        self.0.gate.acquire().await.unwrap().forget();
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
        self.0.asked.lock().unwrap().push(writes.len());
        if let Some(failure) = self.0.failures.lock().unwrap().pop_front() {
            return Err(failure);
        }
        match self.0.bad {
            Some(bad) if writes.contains(&bad) => Err(FleetError::Refused("bad".to_owned())),
            _ => Ok(writes.iter().map(|write| Some(*write)).collect()),
        }
    }
    async fn one(&self, write: &RunClaim) -> Result<Option<RunClaim>, FleetError> {
        Ok(self.all(std::slice::from_ref(write), true).await?.pop().flatten())
    }
}

fn held(trusted: Duration) -> Arc<HeldRun> {
    let claim = RunClaim {
        run: Uuid::now_v7(),
        token: 1,
        claim_id: Uuid::now_v7(),
    };
    Arc::new(HeldRun::new(claim, Lease::new(Instant::now(), trusted), 0))
}

const LONG: Duration = Duration::from_secs(600);
const MANY: usize = 10_000;

/// Writes all of them at once and answers what each heard, in their order.
async fn write_all(group: &Group<Store>, all: &[Arc<HeldRun>]) -> Vec<Result<Option<RunClaim>, FleetError>> {
    futures::future::join_all(all.iter().map(|held| group.write(held.clone(), held.claim))).await
}

#[tokio::test]
async fn what_waits_goes_together_past_what_is_held_up_and_each_hears_its_own() {
    let store = Arc::new(Scripted::new([], 0));
    let group = Group::new(Store(store.clone()), MANY);
    let all: Vec<_> = (0..2_500).map(|_| held(LONG)).collect();
    let release = async {
        while store.under_way.load(Ordering::SeqCst) < MOST_IN_FLIGHT {
            tokio::task::yield_now().await;
        }
        store.gate.add_permits(MANY);
    };
    let (answers, ()) = tokio::join!(write_all(&group, &all), release);
    for (held, answer) in all.iter().zip(answers) {
        assert_eq!(answer.unwrap(), Some(held.claim));
    }
    let asked = store.asked();
    assert_eq!(asked.iter().sum::<usize>(), 2_500);
    assert!(
        asked.len() < 100 && asked.iter().all(|writes| *writes <= MOST),
        "{asked:?}"
    );
    assert_eq!(store.most_under_way.load(Ordering::SeqCst), MOST_IN_FLIGHT);
}

#[tokio::test]
async fn while_the_store_is_quick_one_is_on_its_way_at_once() {
    let store = Arc::new(Scripted::new([], MANY));
    let group = Group::new(Store(store.clone()), MANY);
    let all: Vec<_> = (0..2_500).map(|_| held(LONG)).collect();
    for answer in write_all(&group, &all).await {
        assert!(answer.unwrap().is_some());
    }
    assert_eq!(store.most_under_way.load(Ordering::SeqCst), 1);
    let asked = store.asked();
    assert_eq!(asked.iter().sum::<usize>(), 2_500);
    assert!(asked.len() < 100, "{asked:?}");
}

#[tokio::test]
async fn one_bad_write_fails_alone() {
    let all: Vec<_> = (0..5).map(|_| held(LONG)).collect();
    let bad = all[3].claim;
    let store = Arc::new(Scripted {
        bad: Some(bad),
        ..Scripted::new([], MANY)
    });
    let group = Group::new(Store(store), MANY);
    let answers = write_all(&group, &all).await;
    for (held, answer) in all.iter().zip(answers) {
        match answer {
            Ok(answer) => assert_eq!(answer, Some(held.claim)),
            Err(error) => assert_eq!(
                (held.claim, error.to_string().as_str()),
                (bad, "the store refused: bad")
            ),
        }
    }
}

#[tokio::test]
async fn a_store_that_cannot_or_does_not_answer_is_asked_again() {
    let failures = [
        FleetError::NotNow("full disk".to_owned()),
        FleetError::Unanswered("cut".to_owned()),
        FleetError::Unanswered("cut".to_owned()),
        FleetError::NotNow("full disk".to_owned()),
    ];
    let store = Arc::new(Scripted::new(failures, MANY));
    let group = Group::new(Store(store.clone()), MANY);
    let all = [held(LONG), held(LONG)];
    for (held, answer) in all.iter().zip(write_all(&group, &all).await) {
        assert_eq!(answer.unwrap(), Some(held.claim));
    }
    assert!(store.asked().len() >= 6);
}

#[tokio::test]
async fn a_lost_claim_is_not_asked_for_and_the_others_are() {
    let store = Arc::new(Scripted::new([FleetError::NotNow("full disk".to_owned())], MANY));
    let group = Group::new(Store(store.clone()), MANY);
    let all = [held(Duration::ZERO), held(LONG)];
    let answers = write_all(&group, &all).await;
    assert_eq!(answers[0].clone().unwrap(), None);
    assert_eq!(answers[1].clone().unwrap(), Some(all[1].claim));
}

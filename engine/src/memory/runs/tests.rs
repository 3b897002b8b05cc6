//! What only the store in memory can do; the rest is in the suite that all stores share.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{MemoryRunStore, RunStart, VirtualClock};
use crate::lifecycle::{
    Act, BatchOutcome, ClaimPage, Clock, Continuation, Ending, Fleet, FleetError, ItemIds, Kind, LetGo, NewSignal,
    NewStep, PlanChunk, PlanProgress, PlannedBatch, RunClaim, RunStore, Runnable, Saved, Share, StepStatus,
};
use crate::workflow::FanOutSummary;

const LEASE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

fn world() -> (Arc<VirtualClock>, MemoryRunStore) {
    let clock = Arc::new(VirtualClock::new(chrono::DateTime::UNIX_EPOCH));
    (clock.clone(), MemoryRunStore::new(clock, LEASE))
}

async fn claim(store: &MemoryRunStore) -> Vec<RunClaim> {
    let page = ClaimPage {
        claim_id: Uuid::new_v4(),
        shares: vec![Share {
            queue: "orders".to_owned(),
            take: 10,
        }],
        runnable: vec![Runnable {
            workflow: "orders".to_owned(),
            version: 1,
            replays: 1..=1,
        }],
        suspects: false,
    };
    store
        .claim_runs(&page)
        .await
        .unwrap()
        .iter()
        .map(|(claim, _)| *claim)
        .collect()
}

#[tokio::test]
async fn the_clock_jumps_from_event_to_event() {
    let (clock, store) = world();
    assert_eq!(store.next_event(), None);
    store.start_run(RunStart::new("orders")).unwrap();
    assert_eq!(store.next_event(), Some(clock.now()), "it is due now");
    let held = claim(&store).await.remove(0);
    assert_eq!(store.next_event(), Some(clock.now() + LEASE), "its lease ends");
    let act = Act::HandBack {
        delay: HOUR,
        reason: None,
    };
    let ending = Ending {
        claim: held,
        act,
        had_batches: false,
        attributes: None,
    };
    assert_eq!(store.let_go_runs(&[ending]).await.unwrap(), [LetGo::Done]);
    let due = store.next_event().unwrap();
    assert_eq!(due, clock.now() + HOUR);
    assert!(claim(&store).await.is_empty());
    clock.jump_to(due);
    assert_eq!(claim(&store).await.len(), 1);
    store.cancel_run(held.run, "enough");
    store.end_all_leases();
    store.sweep();
    assert_eq!(
        (store.next_event(), store.view(held.run).unwrap().status),
        (None, "cancelled")
    );
}

#[tokio::test]
async fn a_crash_of_all_leaves_everything_to_be_claimed_again() {
    let (_, store) = world();
    for _ in 0..3 {
        store.start_run(RunStart::new("orders")).unwrap();
    }
    let before = claim(&store.replica()).await;
    assert_eq!((store.end_all_leases(), store.sweep().runs), (3, 3));
    let after = claim(&store.replica()).await;
    let tokens = |claims: &[RunClaim]| claims.iter().map(|claim| claim.token).collect::<Vec<_>>();
    assert_eq!((tokens(&before), tokens(&after)), (vec![1; 3], vec![2; 3]));
    let holders = store.changes(before[0].run);
    assert!(
        holders
            .iter()
            .any(|change| change.replica.is_some() && change.to == "running")
    );
}

#[tokio::test]
async fn why_a_run_was_told_something_is_among_its_changes() {
    let (_, store) = world();
    let run = store.start_run(RunStart::new("orders")).unwrap().unwrap();
    let reasons = [Some("she called"), Some("again"), Some(""), None];
    for (key, reason) in ["a", "a", "b", "c"].into_iter().zip(reasons) {
        let signal = NewSignal {
            run,
            name: "approved".to_owned(),
            payload: true.into(),
            idempotency_key: Some(key.to_owned()),
            actor: None,
            reason: reason.map(str::to_owned),
        };
        store.signal_run(&signal).await.unwrap();
    }
    let changes = store.changes(run);
    let told: Vec<_> = changes.iter().filter(|change| change.to == "signalled").collect();
    assert_eq!(told.len(), 1, "{changes:?}");
    assert_eq!(told[0].from, Some("queued"));
    assert_eq!(told[0].reason.as_deref(), Some("signal approved: she called"));
}

fn step(clock: &VirtualClock, claim: RunClaim, path: &str, kind: Kind) -> NewStep {
    NewStep {
        claim,
        path: path.to_owned(),
        kind,
        status: StepStatus::Completed,
        result: None,
        started_at: clock.now(),
        finished_at: clock.now(),
        attempts: 0,
        signal_seq: None,
        ends_open: false,
    }
}

/// A claimed run with three batches in a branch of a select.
async fn with_batches(store: &MemoryRunStore) -> RunClaim {
    store.start_run(RunStart::new("orders")).unwrap();
    let claim = claim(store).await.remove(0);
    store.open_fan_out(&claim, "0:select/0/0:users");
    let batch = |id| PlannedBatch {
        ids: ItemIds::new(vec![id]).unwrap(),
    };
    let chunk = PlanChunk {
        path: "0:select/0/0:users".to_owned(),
        after: None,
        batches: (1..=3).map(batch).collect(),
        last: true,
    };
    assert_eq!(store.plan_chunk(&claim, &chunk).await.unwrap(), PlanProgress::Written);
    claim
}

#[tokio::test]
async fn of_a_fan_out_that_loses_only_what_somebody_has_held_is_sent() {
    let (clock, store) = world();
    let claim = with_batches(&store).await;
    let held = store.claim_next_batch(claim.run, Uuid::new_v4()).await.unwrap();
    let select = step(&clock, claim, "0:select", Kind::Select);
    let settled = store.settle_select(&select, &["0:select/0/".to_owned()]).await;
    assert_eq!(settled.unwrap(), Saved::Done);
    let next = store.claim_next_batch(claim.run, Uuid::new_v4()).await.unwrap();
    assert!(next.is_none());
    let outcome = BatchOutcome {
        delivered: 1,
        ..BatchOutcome::default()
    };
    let (held, path) = (held.unwrap(), "0:select/0/0:users");
    store.finish_batch(&held.claim, &held.ids, &outcome).await.unwrap();
    assert!(Fleet::complete_fan_out(&store, claim.run, path).await.unwrap());
    let ended = store.steps(claim.run).remove(1).result.unwrap();
    let sum: FanOutSummary = serde_json::from_slice(&ended).unwrap();
    assert_eq!((sum.items, sum.batches, sum.delivered), (1, 1, 1));
}

#[tokio::test]
async fn a_run_does_not_go_on_as_another_before_its_batches_are_sent() {
    let (_, store) = world();
    let claim = with_batches(&store).await;
    let goes_on = Continuation {
        claim,
        next: Uuid::new_v4(),
        params: b"null".to_vec(),
        seen: 0,
        had_batches: true,
        attributes: None,
    };
    let answers = store.continue_runs(&[goes_on]).await.unwrap();
    assert!(matches!(answers[..], [LetGo::Held(_)]), "{answers:?}");
}

#[tokio::test]
async fn a_transaction_is_refused_in_words() {
    let (clock, store) = world();
    store.start_run(RunStart::new("orders")).unwrap();
    let held = claim(&store).await.remove(0);
    let step = step(&clock, held, "0:pay", Kind::Transaction);
    let answer = RunStore::transact(&store, &step, &(Arc::new(()) as _), 1).await;
    assert!(matches!(answer, Err(FleetError::Refused(why)) if why.contains("ctx.transaction")));
}

#[test]
fn what_makes_no_sense_is_not_started() {
    let (_, store) = world();
    let urgent = RunStart {
        priority: 21,
        ..RunStart::new("orders")
    };
    let nowhere = RunStart {
        queue: Some(String::new()),
        ..RunStart::new("orders")
    };
    let mut by_caller = RunStart::new("orders");
    by_caller.request.driven_by = crate::lifecycle::Driver::Caller;
    for wrong in [urgent, nowhere, by_caller, RunStart::new("")] {
        assert!(store.start_run(wrong.clone()).is_err(), "{wrong:?}");
    }
    assert!(store.views().is_empty());
}

#[tokio::test]
async fn nothing_of_a_snapshots_plan_is_claimed_before_it_is_whole() {
    let (_, store) = world();
    store.start_run(RunStart::new("orders")).unwrap();
    let held = claim(&store).await.remove(0);
    for (path, consistent) in [("0:all", true), ("1:some", false)] {
        Fleet::open_fan_out(&store, &held, path, consistent).await.unwrap();
        let chunk = |after: Option<i64>, last| PlanChunk {
            path: path.to_owned(),
            after,
            batches: vec![PlannedBatch {
                ids: ItemIds::new(vec![after.unwrap_or(0) + 1]).unwrap(),
            }],
            last,
        };
        let claimed = async || {
            store
                .claim_next_batch(held.run, Uuid::new_v4())
                .await
                .unwrap()
                .is_some()
        };
        let plan = async |chunk| store.plan_chunk(&held, &chunk).await.unwrap();
        assert_eq!(plan(chunk(None, false)).await, PlanProgress::Written);
        assert_eq!(claimed().await, !consistent);
        assert_eq!(plan(chunk(Some(1), true)).await, PlanProgress::Written);
        assert!(claimed().await);
        while claimed().await {}
    }
}

//! Shorthand of the cases: pages, steps and endings of one workflow, `orders`.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lockgate::lifecycle::{
    Act, ClaimPage, Ending, Kind, LetGo, NewSignal, NewStep, OpenWait, RunClaim, RunId, RunStore, Runnable, Saved,
    Share, Signalled, StepState, StepStatus, WorkRun,
};
use lockgate::memory::RunStart;
use serde_json::{Value, json};
use uuid::Uuid;

use super::world::{RunSeen, RunWorld, Wake};

pub(super) const WORKFLOW: &str = "orders";
/// No run at all.
pub(super) const NONE: [RunId; 0] = [];
pub(super) const HOUR: Duration = Duration::from_secs(3_600);

/// A page of this workflow's queue for code of one version.
pub(super) fn page(take: u32) -> ClaimPage {
    page_of(&[(WORKFLOW, take)], (1, 1))
}

pub(super) fn suspects() -> ClaimPage {
    ClaimPage {
        suspects: true,
        ..page(10)
    }
}

/// A page of several queues for code of this workflow that replays these versions.
pub(super) fn page_of(shares: &[(&str, u32)], (oldest, newest): (u32, u32)) -> ClaimPage {
    let share = |(queue, take): &(&str, u32)| Share {
        queue: (*queue).to_owned(),
        take: *take,
    };
    ClaimPage {
        claim_id: Uuid::new_v4(),
        shares: shares.iter().map(share).collect(),
        runnable: vec![Runnable {
            workflow: WORKFLOW.to_owned(),
            version: newest,
            replays: oldest..=newest,
        }],
        suspects: false,
    }
}

pub(super) async fn start(world: &dyn RunWorld) -> RunId {
    world.start(RunStart::new(WORKFLOW)).await.unwrap()
}

/// Which runs a page got, in order of their ids.
pub(super) async fn claimed(store: &dyn RunStore, page: &ClaimPage) -> Vec<RunId> {
    let mut runs: Vec<RunId> = store
        .claim_runs(page)
        .await
        .unwrap()
        .iter()
        .map(|(claim, _)| claim.run)
        .collect();
    runs.sort_unstable();
    runs
}

/// Claims the one run that there is to claim.
pub(super) async fn claim(store: &dyn RunStore) -> (RunClaim, WorkRun) {
    let mut got = store.claim_runs(&page(10)).await.unwrap();
    assert_eq!(got.len(), 1, "{got:?}");
    got.remove(0)
}

/// A run that is held.
pub(super) async fn start_and_claim(world: &dyn RunWorld, store: &dyn RunStore) -> RunClaim {
    let run = start(world).await;
    let (claim, _) = claim(store).await;
    assert_eq!(claim.run, run);
    claim
}

/// The holder dies and its run is taken from it.
pub(super) async fn die(world: &dyn RunWorld, claim: &RunClaim) {
    world.end_leases(claim).await;
    assert!(world.sweep().await >= 1, "nothing was taken from a dead holder");
}

/// Somebody else holds the run of a holder that died but does not know it.
pub(super) async fn take_over(world: &dyn RunWorld, store: &dyn RunStore, zombie: &RunClaim) -> RunClaim {
    die(world, zombie).await;
    let (claim, _) = claim(store).await;
    assert_eq!((claim.run, claim.token), (zombie.run, zombie.token + 1));
    claim
}

pub(super) async fn seen(world: &dyn RunWorld, run: RunId) -> RunSeen {
    let runs = world.runs().await;
    runs.into_iter().find(|seen| seen.run == run).expect("the run is there")
}

pub(super) async fn status(world: &dyn RunWorld, run: RunId) -> (String, Wake) {
    let seen = seen(world, run).await;
    (seen.status, seen.wake)
}

pub(super) fn is(status: &str, wake: Wake) -> (String, Wake) {
    (status.to_owned(), wake)
}

/// An instant that every store keeps to the microsecond.
pub(super) fn instant() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::microseconds(1_790_000_000_123_456)
}

/// A step that returned this.
pub(super) fn step(claim: RunClaim, path: &str, result: &str) -> NewStep {
    NewStep {
        claim,
        path: path.to_owned(),
        kind: Kind::Step,
        status: StepStatus::Completed,
        result: Some(result.as_bytes().to_vec()),
        started_at: instant(),
        finished_at: instant() + TimeDelta::milliseconds(7),
        attempts: 0,
        signal_seq: None,
        ends_open: false,
    }
}

/// Records a first result.
pub(super) async fn save(store: &dyn RunStore, step: NewStep) {
    assert_eq!(store.save_steps(&[step]).await.unwrap(), [Saved::Done]);
}

/// Path, state and result of each step.
pub(super) async fn results(world: &dyn RunWorld, run: RunId) -> Vec<(String, StepStatus, Option<String>)> {
    let steps = world.steps(run).await;
    steps
        .into_iter()
        .map(|step| (step.path, step.status, step.result.map(text)))
        .collect()
}

pub(super) fn completed(path: &str, result: &str) -> (String, StepStatus, Option<String>) {
    (path.to_owned(), StepStatus::Completed, Some(result.to_owned()))
}

pub(super) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// What was adopted.
pub(super) fn adopted(saved: Saved) -> StepState {
    match saved {
        Saved::Adopted(state) => *state,
        other => panic!("nothing was adopted: {other:?}"),
    }
}

pub(super) fn complete(claim: RunClaim) -> Ending {
    let output = b"{\"ok\":true}".to_vec();
    ending(claim, Act::Complete { output })
}

pub(super) fn ending(claim: RunClaim, act: Act) -> Ending {
    Ending {
        claim,
        act,
        had_batches: false,
        attributes: None,
    }
}

pub(super) fn hand_back(claim: RunClaim, delay: Duration) -> Ending {
    ending(claim, Act::HandBack { delay, reason: None })
}

/// Waits for a signal, at most until then.
pub(super) fn wait(claim: RunClaim, seen: i64, due_at: Option<DateTime<Utc>>) -> Ending {
    let waits = vec![open_wait("0:paid", Kind::Signal, due_at)];
    let act = Act::Wait {
        seen,
        due_at,
        batches: false,
        waits,
    };
    ending(claim, act)
}

pub(super) fn open_wait(path: &str, kind: Kind, due_at: Option<DateTime<Utc>>) -> OpenWait {
    OpenWait {
        path: path.to_owned(),
        kind,
        due_at,
        attempts: 0,
    }
}

pub(super) async fn let_go(store: &dyn RunStore, ending: Ending) -> LetGo {
    let answers = store.let_go_runs(&[ending]).await.unwrap();
    assert_eq!(answers.len(), 1);
    answers[0]
}

/// A run that is suspended until somebody wakes it.
pub(super) async fn start_and_suspend(world: &dyn RunWorld, store: &dyn RunStore) -> RunId {
    let claim = start_and_claim(world, store).await;
    assert_eq!(let_go(store, wait(claim, 0, None)).await, LetGo::Done);
    claim.run
}

pub(super) fn signal(run: RunId, payload: Value) -> NewSignal {
    NewSignal {
        run,
        name: "paid".to_owned(),
        payload,
        idempotency_key: None,
        actor: None,
        reason: None,
    }
}

pub(super) fn keyed(run: RunId, key: &str) -> NewSignal {
    NewSignal {
        idempotency_key: Some(key.to_owned()),
        ..signal(run, json!({"key": key}))
    }
}

pub(super) async fn send(store: &dyn RunStore, signal: NewSignal) {
    assert_eq!(store.signal_run(&signal).await.unwrap(), Signalled::Sent);
}

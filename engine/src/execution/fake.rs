#![allow(clippy::unwrap_used)]
//! A store in memory for the tests of how code is run: one run, with a clock that jumps to whatever is due.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, SubsecRound, Utc};
use uuid::Uuid;

use super::executor::{Executor, ExecutorParts, Hints, Shared};
use super::nobody::{NoFleet, NoPublisher};
use super::run_task::drive;
use super::settings::ExecutionSettings;
use crate::delivery::{BreakerPolicy, Breakers};
use crate::lifecycle::*;
use crate::memory::MemoryRunStore;
use crate::workflow::{Registry, Resources, Workflow};

/// Turns before a test is given up: a run that goes round in a circle ends here.
const MOST_CLAIMS: u32 = 50;

#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) steps: BTreeMap<String, StepState>,
    pub(super) signals: Vec<Signal>,
    pub(super) consumed: BTreeMap<i64, String>,
    pub(super) status: &'static str,
    pub(super) output: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) wake_seq: i64,
    pub(super) token: i64,
    claim: Option<Uuid>,
    now: Option<DateTime<Utc>>,
    due_at: Option<DateTime<Utc>>,
    started_at: Option<DateTime<Utc>>,
    /// Claims that were let go of to wait.
    pub(super) waits: u32,
    /// Checkpoints written.
    pub(super) saves: u32,
    /// How many children each page started.
    pub(super) starts: Vec<usize>,
    /// Children that are over.
    pub(super) ended: Vec<EndedChild>,
    pub(super) stopped_children: bool,
}

/// What happens at the next checkpoint, before or after it is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Trouble {
    LostBefore(u32),
    LostAfter(u32),
}

#[derive(Debug, Default)]
pub(super) struct FakeStore {
    row: Mutex<Row>,
    trouble: Mutex<Option<Trouble>>,
}

pub(super) const RUN: Uuid = Uuid::from_u128(7);

impl FakeStore {
    pub(super) fn row(&self) -> MutexGuard<'_, Row> {
        self.row.lock().unwrap()
    }

    pub(super) fn trouble(&self, trouble: Trouble) {
        *self.trouble.lock().unwrap() = Some(trouble);
    }

    pub(super) fn send(&self, name: &str, payload: &str) {
        let mut row = self.row();
        let seq = row.signals.len() as i64 + 1;
        row.signals.push(Signal {
            seq,
            name: name.to_owned(),
            payload: payload.as_bytes().to_vec(),
        });
        row.wake_seq += 1;
        row.due_at = row.now;
    }

    /// The child of a step is over.
    pub(super) fn end_child(&self, path: &str, end: ChildEnd) {
        let mut row = self.row();
        row.ended.push(EndedChild {
            path: path.to_owned(),
            run: None,
            end,
        });
        row.wake_seq += 1;
        row.due_at = row.now;
    }

    pub(super) fn resume(&self) {
        let mut row = self.row();
        row.status = "running";
        row.due_at = row.now;
    }

    /// Takes the run; time jumps to when it is due. None: it waits for something that nobody does.
    pub(super) fn claim(&self) -> Option<(RunClaim, WorkRun)> {
        let mut row = self.row();
        let now = row.now.unwrap_or(DateTime::UNIX_EPOCH);
        if !["queued", "running", "suspended"].contains(&row.status) || row.due_at.is_none() {
            return None;
        }
        let now = now.max(row.due_at.unwrap_or(now));
        row.token += 1;
        row.status = "running";
        row.due_at = None;
        row.now = Some(now);
        row.started_at.get_or_insert(now);
        let claim_id = Uuid::new_v4();
        row.claim = Some(claim_id);
        let claim = RunClaim {
            run: RUN,
            token: row.token,
            claim_id,
        };
        Some((claim, work_run(&row, now)))
    }

    fn write(&self, step: &NewStep, open: bool) -> Saved {
        let trouble = &mut *self.trouble.lock().unwrap();
        let count = match trouble {
            Some(Trouble::LostBefore(left) | Trouble::LostAfter(left)) => {
                *left -= 1;
                *left
            }
            None => u32::MAX,
        };
        if count == 0 && matches!(trouble, Some(Trouble::LostBefore(_))) {
            *trouble = None;
            self.row().due_at = Some(DateTime::UNIX_EPOCH);
            return Saved::Lost;
        }
        let mut row = self.row();
        let held = row.claim == Some(step.claim.claim_id);
        let known = row
            .steps
            .get(&step.path)
            .filter(|known| !(open && known.status == StepStatus::Open));
        let saved = match known {
            _ if !held => return Saved::Lost,
            Some(known) => Saved::Adopted(Box::new(known.clone())),
            None => {
                if let Some(seq) = step.signal_seq {
                    assert_eq!(
                        row.consumed.insert(seq, step.path.clone()),
                        None,
                        "a signal is taken once"
                    );
                }
                // As exact as Postgres.
                let mut state = step.clone().into_state();
                state.finished_at = state.finished_at.map(|at| at.trunc_subsecs(6));
                row.steps.insert(step.path.clone(), state);
                row.saves += 1;
                Saved::Done
            }
        };
        if count == 0 {
            *trouble = None;
            row.due_at = Some(DateTime::UNIX_EPOCH);
            return Saved::Lost;
        }
        saved
    }

    fn let_go(&self, ending: &Ending) -> LetGo {
        let mut row = self.row();
        if row.claim != Some(ending.claim.claim_id) {
            return LetGo::Lost;
        }
        match ending.act.clone() {
            Act::Wait { seen, .. } if seen != row.wake_seq => {
                return LetGo::Held(Poked {
                    run: RUN,
                    halted: false,
                    forced: false,
                    paused: false,
                    wake_seq: row.wake_seq,
                });
            }
            Act::Wait {
                due_at, waits, batches, ..
            } => {
                row.status = if batches { "running" } else { "suspended" };
                row.due_at = due_at;
                row.waits += 1;
                for wait in waits {
                    let now = row.now.unwrap_or_default();
                    row.steps.insert(wait.path.clone(), open_step(wait, now));
                }
            }
            Act::Complete { output } => {
                row.status = "completed";
                row.output = Some(String::from_utf8(output).unwrap());
            }
            Act::Fail { reason } => (row.status, row.reason) = ("failed", Some(reason)),
            Act::Quarantine { reason } => (row.status, row.reason) = ("quarantined", Some(reason)),
            Act::HandBack { .. } | Act::Overrun { .. } => row.due_at = row.now,
            Act::WaitToUndo { .. } | Act::NotUndone { .. } | Act::Unwound => unreachable!(),
        }
        row.claim = None;
        LetGo::Done
    }
}

fn open_step(wait: OpenWait, now: DateTime<Utc>) -> StepState {
    StepState {
        path: wait.path,
        kind: wait.kind,
        status: StepStatus::Open,
        result: None,
        started_at: now,
        finished_at: None,
        due_at: wait.due_at,
        attempts: wait.attempts,
        claim_token: 0,
        plan_cursor: None,
        planned: false,
    }
}

fn work_run(row: &Row, now: DateTime<Utc>) -> WorkRun {
    let waiting = row
        .signals
        .iter()
        .filter(|signal| !row.consumed.contains_key(&signal.seq));
    WorkRun {
        id: RUN,
        workflow: "tested".to_owned(),
        params: b"null".to_vec(),
        origin_id: RUN,
        slot: None,
        queue: "tested".to_owned(),
        created_at: DateTime::UNIX_EPOCH,
        traceparent: None,
        started_at: row.started_at,
        claimed_at: now,
        attempts: 0,
        code_version: 1,
        seed_id: None,
        parent_id: None,
        depth: 0,
        undoing: false,
        scheduled: false,
        wake_seq: row.wake_seq,
        steps: row.steps.values().cloned().collect(),
        signals: waiting.cloned().collect(),
    }
}

#[async_trait]
impl RunStore for FakeStore {
    async fn start_runs(&self, _: &[NewRun], _: bool) -> Result<(), FleetError> {
        unreachable!()
    }
    async fn start_run(&self, _: &NewRun) -> Result<Started, FleetError> {
        unreachable!()
    }
    async fn start_claimed_runs(&self, _: &[&Birth], _: Uuid) -> Result<DateTime<Utc>, FleetError> {
        unreachable!()
    }
    async fn claim_runs(&self, _: &ClaimPage) -> Result<Vec<(RunClaim, WorkRun)>, FleetError> {
        unreachable!()
    }
    async fn claim_limited_runs(&self, _: &ClaimPage) -> Result<LimitedClaim, FleetError> {
        unreachable!()
    }
    async fn read_claimed_runs(&self, _: &ClaimPage) -> Result<Vec<(RunClaim, WorkRun)>, FleetError> {
        unreachable!()
    }
    async fn save_steps(&self, group: &[NewStep]) -> Result<Vec<Saved>, FleetError> {
        Ok(group.iter().map(|step| self.write(step, step.ends_open)).collect())
    }
    async fn settle_step(&self, step: &NewStep) -> Result<Saved, FleetError> {
        Ok(self.write(step, true))
    }
    async fn settle_select(&self, _: &NewStep, _: &[String]) -> Result<Saved, FleetError> {
        unreachable!()
    }
    async fn transact(&self, _: &NewStep, _: &TransactionWork, _: usize) -> Result<Transacted, FleetError> {
        unreachable!()
    }
    async fn let_go_runs(&self, group: &[Ending]) -> Result<Vec<LetGo>, FleetError> {
        Ok(group.iter().map(|ending| self.let_go(ending)).collect())
    }
    async fn continue_runs(&self, group: &[Continuation]) -> Result<Vec<LetGo>, FleetError> {
        let mut row = self.row();
        row.status = "continued";
        row.claim = None;
        row.output = Some(String::from_utf8(group[0].params.clone()).unwrap());
        Ok(vec![LetGo::Done])
    }
    async fn start_children(&self, group: &[NewChild]) -> Result<Vec<bool>, FleetError> {
        let mut row = self.row();
        row.starts.push(group.len());
        for child in group {
            let wait = OpenWait {
                path: child.path.clone(),
                kind: Kind::Child,
                due_at: None,
                attempts: 0,
            };
            let now = row.now.unwrap_or_default();
            row.steps.insert(child.path.clone(), open_step(wait, now));
        }
        Ok(vec![true; group.len()])
    }
    async fn ended_children(&self, _: RunId, paths: &[String]) -> Result<Vec<EndedChild>, FleetError> {
        let row = self.row();
        let ended = row.ended.iter().filter(|child| paths.contains(&child.path));
        Ok(ended.cloned().collect())
    }
    async fn stop_children(&self, _: RunId) -> Result<(), FleetError> {
        self.row().stopped_children = true;
        Ok(())
    }
    async fn cancel_run(&self, _: RunId, _: &str) -> Result<(), FleetError> {
        unreachable!()
    }
    async fn publish(&self, group: &[NewPublication]) -> Result<Vec<Saved>, FleetError> {
        Ok(group
            .iter()
            .map(|publication| self.write(&publication.step, false))
            .collect())
    }
    async fn wake_runs(&self, _: &[RunId]) -> Result<u64, FleetError> {
        unreachable!()
    }
    async fn signal_run(&self, _: &NewSignal) -> Result<Signalled, FleetError> {
        unreachable!()
    }
    async fn poked_runs(&self, _: &[RunId]) -> Result<Vec<Poked>, FleetError> {
        Ok(Vec::new())
    }
    async fn read_news(&self, _: &[RunId]) -> Result<Vec<News>, FleetError> {
        let row = self.row();
        let run = work_run(&row, DateTime::UNIX_EPOCH);
        Ok(vec![News {
            run: RUN,
            wake_seq: row.wake_seq,
            signals: run.signals,
            fan_outs: Vec::new(),
        }])
    }
    async fn next_due(&self, _: &[String]) -> Result<Option<Duration>, FleetError> {
        unreachable!()
    }
    async fn read_queues(&self, _: &[String]) -> Result<QueueNews, FleetError> {
        unreachable!()
    }
    async fn waiting_queues(&self, _: &[String]) -> Result<Vec<String>, FleetError> {
        unreachable!()
    }
    async fn suspect_queues(&self) -> Result<Vec<String>, FleetError> {
        unreachable!()
    }
}

/// A workflow on a fake store.
pub(super) struct Stage {
    pub(super) store: Arc<FakeStore>,
    pub(super) shared: Arc<Shared>,
}

impl Stage {
    pub(super) fn new<W: Workflow>(workflow: W) -> Self {
        Self::on(Arc::new(FakeStore::default()), workflow)
    }

    /// Other code for the run of a store.
    pub(super) fn on<W: Workflow>(store: Arc<FakeStore>, workflow: W) -> Self {
        let mut registry = Registry::default();
        registry.add(workflow);
        let executor = Executor::new(ExecutorParts {
            fleet: Arc::new(NoFleet(MemoryRunStore::new(Arc::new(SystemClock), Duration::ZERO))),
            runs: store.clone(),
            publisher: Arc::new(NoPublisher),
            breakers: Arc::new(Breakers::new(BreakerPolicy::default())),
            registry,
            resources: Resources::default(),
            settings: ExecutionSettings::new(Uuid::nil()),
            hints: Arc::new(Hints::default()),
            clock: Arc::new(SystemClock),
        });
        {
            let mut row = store.row();
            if row.status.is_empty() {
                row.status = "queued";
                row.due_at = Some(DateTime::UNIX_EPOCH);
            }
        }
        Self {
            store,
            shared: executor.shared(),
        }
    }

    /// Claims the run once and runs its code; false when there is nothing to claim.
    pub(super) async fn turn(&self) -> bool {
        let Some((claim, run)) = self.store.claim() else {
            return false;
        };
        let begun = Instant::now();
        let driven = drive(self.shared.clone(), claim, run, begun);
        tokio::time::timeout(Duration::from_secs(20), driven).await.unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(15),
            "only the test's own timer woke it"
        );
        true
    }

    /// Runs it until it is over or waits for something that nobody does.
    pub(super) async fn play(&self) -> MutexGuard<'_, Row> {
        for _ in 0..MOST_CLAIMS {
            if !self.turn().await {
                return self.store.row();
            }
        }
        unreachable!("it goes round in a circle")
    }
}

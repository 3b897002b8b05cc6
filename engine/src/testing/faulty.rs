//! The store as one replica sees it: it dies where the test says, and from then on nothing answers.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::crashes::{CLAIM, Crashes, STEP, Write};
use super::sources::Missing;
use crate::execution::Shared;
use crate::lifecycle::{
    Act, Birth, ClaimPage, Continuation, EndedChild, Ending, FleetError, LetGo, LimitedClaim, NewChild, NewPublication,
    NewRun, NewSignal, NewStep, News, Poked, QueueNews, RunClaim, RunId, RunStore, Saved, Signalled, Started,
    Transacted, TransactionWork, WorkRun,
};
use crate::memory::MemoryRunStore;
use crate::postgres::{Apart, TestPostgres, transact_apart};

/// What all replicas of a test share beside the store.
#[derive(Clone, Default)]
pub(super) struct Surroundings {
    pub(super) database: Option<TestPostgres>,
    pub(super) crashes: Arc<Crashes>,
    pub(super) missing: Missing,
    /// One transaction at a time: its end and its record are not one commit here.
    pub(super) transactions: Arc<Mutex<()>>,
}

const START: &str = "start";

/// One replica's store.
pub(super) struct Faulty {
    pub(super) store: MemoryRunStore,
    pub(super) around: Surroundings,
    pub(super) stop: CancellationToken,
    shared: OnceLock<Weak<Shared>>,
    dead: AtomicBool,
}

impl Faulty {
    pub(super) fn new(store: MemoryRunStore, around: Surroundings) -> Self {
        Self {
            store,
            around,
            stop: CancellationToken::new(),
            shared: OnceLock::new(),
            dead: AtomicBool::new(false),
        }
    }

    /// Whoever is to die with it.
    pub(super) fn serves(&self, shared: &Arc<Shared>) {
        let _ = self.shared.set(Arc::downgrade(shared));
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// The process dies: its leases end, and no time passes until others know.
    pub(super) fn die(&self) {
        let was_dead = self.dead.swap(true, Ordering::AcqRel);
        self.stop.cancel();
        // Again for whatever was claimed and not yet in the book.
        if let Some(shared) = self.shared.get().and_then(Weak::upgrade) {
            shared.die();
        }
        if !was_dead {
            self.store.end_all_leases();
            self.store.sweep();
            self.store.forgive_deaths();
        }
    }

    pub(super) fn crash<T>(&self) -> Result<T, FleetError> {
        self.die();
        Err(FleetError::Unanswered("the replica has crashed".to_owned()))
    }

    pub(super) fn alive(&self) -> Result<(), FleetError> {
        if self.is_dead() { self.crash() } else { Ok(()) }
    }

    /// Does something durable, unless the test wants a crash on either side of it.
    pub(super) async fn write<T>(
        &self,
        writes: &[Write],
        write: impl Future<Output = Result<T, FleetError>> + Send,
    ) -> Result<T, FleetError> {
        self.alive()?;
        if self.around.crashes.before(writes) {
            return self.crash();
        }
        let done = write.await?;
        self.alive()?;
        if self.around.crashes.after(writes) {
            return self.crash();
        }
        Ok(done)
    }

    /// After it is known what was claimed: the claim of nothing is no write.
    fn claimed(&self, runs: Vec<(RunClaim, WorkRun)>) -> Result<Vec<(RunClaim, WorkRun)>, FleetError> {
        let writes: Vec<Write> = runs.iter().map(|(claim, _)| Write::new(claim.run, CLAIM)).collect();
        let crashes = &self.around.crashes;
        if crashes.claimed(&writes) {
            return self.crash();
        }
        Ok(runs)
    }

    async fn transact_in(
        &self,
        database: &TestPostgres,
        step: &NewStep,
        work: &TransactionWork,
        max_result: usize,
    ) -> Result<Transacted, FleetError> {
        let (store, database) = (self.store.clone(), database.database());
        let (step, work, turn) = (step.clone(), work.clone(), self.around.transactions.clone());
        // A task of its own: who is dropped after the commit must not take the record along.
        let done = tokio::spawn(async move {
            let _turn = turn.lock_owned().await;
            if let Some(recorded) = store.ended_step(step.claim.run, &step.path) {
                return Ok(Transacted::Recorded(Box::new(recorded)));
            }
            let (held, claim) = (store.clone(), step.claim);
            let is_held = move || held.is_held(&claim);
            Ok(
                match transact_apart(&database, &step, &work, max_result, is_held).await? {
                    Apart::Lost => Transacted::Lost,
                    Apart::Failed(error) => Transacted::Failed(error),
                    Apart::Committed(step) => match store.record_committed(&step) {
                        Some(recorded) => Transacted::Recorded(Box::new(recorded)),
                        None => Transacted::Lost,
                    },
                },
            )
        });
        let lost = |why: tokio::task::JoinError| FleetError::Unanswered(why.to_string());
        done.await.map_err(lost)?
    }
}

fn step_write(step: &NewStep) -> Write {
    Write::new(step.claim.run, format!("{STEP}{}", step.path))
}

fn ending_write(ending: &Ending) -> Write {
    let what = match &ending.act {
        Act::Complete { .. } => "end".to_owned(),
        Act::Fail { .. } => "failure".to_owned(),
        Act::Wait { waits, .. } => {
            let paths: Vec<&str> = waits.iter().map(|wait| wait.path.as_str()).collect();
            format!(
                "wait for {}",
                if paths.is_empty() {
                    "batches".to_owned()
                } else {
                    paths.join(", ")
                }
            )
        }
        Act::WaitToUndo { .. } => "wait to undo".to_owned(),
        Act::NotUndone { .. } => "not undone".to_owned(),
        Act::Unwound => "unwound".to_owned(),
        Act::Overrun { .. } => "overrun".to_owned(),
        Act::HandBack { .. } => "hand back".to_owned(),
        Act::Quarantine { .. } => "quarantine".to_owned(),
    };
    Write::new(ending.claim.run, what)
}

#[async_trait]
impl RunStore for Faulty {
    async fn start_runs(&self, page: &[NewRun], again: bool) -> Result<(), FleetError> {
        let writes: Vec<Write> = page.iter().map(|run| Write::new(run.id, START)).collect();
        self.write(&writes, self.store.start_runs(page, again)).await
    }

    async fn start_run(&self, run: &NewRun) -> Result<Started, FleetError> {
        self.write(&[Write::new(run.id, START)], RunStore::start_run(&self.store, run))
            .await
    }

    async fn start_claimed_runs(&self, births: &[&Birth], claim_id: Uuid) -> Result<DateTime<Utc>, FleetError> {
        let writes: Vec<Write> = births.iter().map(|birth| Write::new(birth.run.id, START)).collect();
        self.write(&writes, self.store.start_claimed_runs(births, claim_id))
            .await
    }

    async fn claim_runs(&self, page: &ClaimPage) -> Result<Vec<(RunClaim, WorkRun)>, FleetError> {
        self.alive()?;
        let runs = self.store.claim_runs(page).await?;
        self.claimed(runs)
    }

    async fn claim_limited_runs(&self, page: &ClaimPage) -> Result<LimitedClaim, FleetError> {
        self.alive()?;
        let LimitedClaim { runs, again } = self.store.claim_limited_runs(page).await?;
        let runs = self.claimed(runs)?;
        Ok(LimitedClaim { runs, again })
    }

    async fn read_claimed_runs(&self, page: &ClaimPage) -> Result<Vec<(RunClaim, WorkRun)>, FleetError> {
        self.alive()?;
        self.store.read_claimed_runs(page).await
    }

    async fn save_steps(&self, group: &[NewStep]) -> Result<Vec<Saved>, FleetError> {
        let writes: Vec<Write> = group.iter().map(step_write).collect();
        self.write(&writes, self.store.save_steps(group)).await
    }

    async fn settle_step(&self, step: &NewStep) -> Result<Saved, FleetError> {
        self.write(&[step_write(step)], self.store.settle_step(step)).await
    }

    async fn settle_select(&self, step: &NewStep, lost: &[String]) -> Result<Saved, FleetError> {
        self.write(&[step_write(step)], self.store.settle_select(step, lost))
            .await
    }

    async fn transact(
        &self,
        step: &NewStep,
        work: &TransactionWork,
        max_result: usize,
    ) -> Result<Transacted, FleetError> {
        let Some(database) = &self.around.database else {
            let why = "this workflow uses ctx.transaction: give the test a database with lockgate::testing::postgres()";
            self.around.missing.note(why);
            return Err(FleetError::Refused(why.to_owned()));
        };
        let done = self.transact_in(database, step, work, max_result);
        self.write(&[step_write(step)], done).await
    }

    async fn let_go_runs(&self, group: &[Ending]) -> Result<Vec<LetGo>, FleetError> {
        let writes: Vec<Write> = group.iter().map(ending_write).collect();
        self.write(&writes, self.store.let_go_runs(group)).await
    }

    async fn continue_runs(&self, group: &[Continuation]) -> Result<Vec<LetGo>, FleetError> {
        let writes: Vec<Write> = group
            .iter()
            .map(|run| Write::new(run.claim.run, "go on as another"))
            .collect();
        self.write(&writes, self.store.continue_runs(group)).await
    }

    async fn start_children(&self, group: &[NewChild]) -> Result<Vec<bool>, FleetError> {
        let writes: Vec<Write> = group
            .iter()
            .map(|child| Write::new(child.claim.run, format!("{STEP}{}", child.path)))
            .collect();
        self.write(&writes, self.store.start_children(group)).await
    }

    async fn ended_children(&self, parent: RunId, paths: &[String]) -> Result<Vec<EndedChild>, FleetError> {
        self.alive()?;
        RunStore::ended_children(&self.store, parent, paths).await
    }

    async fn stop_children(&self, run: RunId) -> Result<(), FleetError> {
        self.write(&[Write::new(run, "stop of children")], self.store.stop_children(run))
            .await
    }

    async fn cancel_run(&self, run: RunId, reason: &str) -> Result<(), FleetError> {
        let cancel = RunStore::cancel_run(&self.store, run, reason);
        self.write(&[Write::new(run, "cancel")], cancel).await
    }

    async fn publish(&self, group: &[NewPublication]) -> Result<Vec<Saved>, FleetError> {
        let writes: Vec<Write> = group.iter().map(|new| step_write(&new.step)).collect();
        self.write(&writes, self.store.publish(group)).await
    }

    async fn wake_runs(&self, runs: &[RunId]) -> Result<u64, FleetError> {
        let writes: Vec<Write> = runs.iter().map(|run| Write::new(*run, "wake-up")).collect();
        self.write(&writes, self.store.wake_runs(runs)).await
    }

    async fn signal_run(&self, signal: &NewSignal) -> Result<Signalled, FleetError> {
        let write = Write::new(signal.run, format!("signal {}", signal.name));
        self.write(&[write], self.store.signal_run(signal)).await
    }

    async fn poked_runs(&self, runs: &[RunId]) -> Result<Vec<Poked>, FleetError> {
        self.alive()?;
        self.store.poked_runs(runs).await
    }

    async fn read_news(&self, runs: &[RunId]) -> Result<Vec<News>, FleetError> {
        self.alive()?;
        self.store.read_news(runs).await
    }

    async fn read_queues(&self, workflows: &[String]) -> Result<QueueNews, FleetError> {
        self.alive()?;
        self.store.read_queues(workflows).await
    }

    async fn waiting_queues(&self, queues: &[String]) -> Result<Vec<String>, FleetError> {
        self.alive()?;
        self.store.waiting_queues(queues).await
    }

    async fn suspect_queues(&self) -> Result<Vec<String>, FleetError> {
        self.alive()?;
        self.store.suspect_queues().await
    }

    async fn next_due(&self, queues: &[String]) -> Result<Option<Duration>, FleetError> {
        self.alive()?;
        self.store.next_due(queues).await
    }
}

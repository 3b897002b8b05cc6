//! The store as one replica sees it: it dies where the test says, and from then on nothing answers.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::crashes::{CLAIM, Crashes, Write};
use super::sources::Missing;
use crate::execution::Shared;
use crate::lifecycle::{FleetError, NewStep, RunId, Transacted, TransactionWork};
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
    pub(super) fn claimed<T>(&self, runs: &[T], run: impl Fn(&T) -> RunId) -> Result<(), FleetError> {
        let writes: Vec<Write> = runs.iter().map(|claimed| Write::new(run(claimed), CLAIM)).collect();
        self.has_claimed(&writes)
    }

    pub(super) fn has_claimed(&self, claims: &[Write]) -> Result<(), FleetError> {
        if self.around.crashes.claimed(claims) {
            return self.crash();
        }
        Ok(())
    }

    /// The durable write is the commit: a crash before it finds the work done, and nothing of it kept.
    pub(super) async fn transact_in(
        &self,
        database: &TestPostgres,
        step: &NewStep,
        work: &TransactionWork,
        max_result: usize,
        write: Write,
    ) -> Result<Transacted, FleetError> {
        self.alive()?;
        let (around, crashed) = (self.around.crashes.clone(), Arc::new(AtomicBool::new(false)));
        let (crashes, writes) = (crashed.clone(), [write.clone()]);
        let commits = move || {
            crashes.store(around.before(&writes), Ordering::Release);
            !crashes.load(Ordering::Acquire)
        };
        let (done, is_new) = self.transact_unless(database, step, work, max_result, commits).await?;
        self.alive()?;
        if crashed.load(Ordering::Acquire) || (is_new && self.around.crashes.after(&[write])) {
            return self.crash();
        }
        Ok(done)
    }

    /// Answers also whether it was committed now.
    async fn transact_unless(
        &self,
        database: &TestPostgres,
        step: &NewStep,
        work: &TransactionWork,
        max_result: usize,
        commits: impl Fn() -> bool + Send + 'static,
    ) -> Result<(Transacted, bool), FleetError> {
        let (store, database) = (self.store.clone(), database.database());
        let (step, work, turn) = (step.clone(), work.clone(), self.around.transactions.clone());
        // A task of its own: who is dropped after the commit must not take the record along.
        let done = tokio::spawn(async move {
            let _turn = turn.lock_owned().await;
            if let Some(recorded) = store.ended_step(step.claim.run, &step.path) {
                return Ok((Transacted::Recorded(Box::new(recorded)), false));
            }
            let (held, claim) = (store.clone(), step.claim);
            if !held.is_held(&claim) {
                return Ok((Transacted::Lost, false));
            }
            let is_held = move || held.is_held(&claim) && commits();
            Ok(
                match transact_apart(&database, &step, &work, max_result, is_held).await? {
                    Apart::Lost => (Transacted::Lost, false),
                    Apart::Failed(error) => (Transacted::Failed(error), false),
                    Apart::Committed(step) => match store.record_committed(&step) {
                        Some(recorded) => (Transacted::Recorded(Box::new(recorded)), true),
                        None => (Transacted::Lost, true),
                    },
                },
            )
        });
        let lost = |why: tokio::task::JoinError| FleetError::Unanswered(why.to_string());
        done.await.map_err(lost)?
    }
}

//! Runs that are started in this process and begin at once: they are born claimed, which saves a commit and a look.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::executor::Shared;
use super::group::{Group, Together, Trouble};
use super::run_task::drive;
use crate::lifecycle::{Birth, ClaimPage, FleetError, NewRun, RunClaim, RunId, WorkRun};
use crate::local::{Beside, Here, Seat};
use crate::telemetry::closed::GroupName;

/// Queues that had no more than was asked for when they were last looked into: who starts a run of them overtakes nobody.
#[derive(Debug, Default)]
pub(crate) struct ShortQueues(BTreeMap<String, AtomicBool>);

impl ShortQueues {
    pub(crate) fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| (name, AtomicBool::new(false))).collect())
    }

    pub(crate) fn learn(&self, queue: &str, is_short: bool) {
        if let Some(short) = self.0.get(queue) {
            short.store(is_short, Ordering::Relaxed);
        }
    }

    fn is_short(&self, queue: &str) -> bool {
        self.0.get(queue).is_some_and(|short| short.load(Ordering::Relaxed))
    }
}

/// An executor as the clients of its process see it.
pub(crate) struct EagerStarts {
    shared: Arc<Shared>,
    births: Group<Births>,
}

impl EagerStarts {
    /// Called in the executor's runtime: what clients start lives there, though theirs may end.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let (room, runtime) = (shared.settings.runs, Handle::current());
        let births = Births(shared.clone(), runtime.clone());
        Self {
            births: Group::in_runtime(births, room, runtime),
            shared,
        }
    }

    /// Nothing holds it back, now or later: no time, no queue of its own, no priority, no limit.
    fn is_plain(run: &NewRun) -> bool {
        !run.starts_alone()
            && run.start_at.is_none()
            && run.queue.is_none()
            && run.priority == 0
            && run.tenant.is_none()
            && run.limit_key.is_none()
    }
}

#[async_trait]
impl Beside for EagerStarts {
    fn admits(&self, run: &NewRun) -> Option<Seat> {
        let shared = &self.shared;
        let overtakes = !shared.short_queues.is_short(&run.workflow) || !shared.queues.is_open(&run.workflow);
        if shared.stopping.is_cancelled() || !Self::is_plain(run) || overtakes {
            return None;
        }
        let slot = shared.slots.clone().try_acquire_owned().ok()?;
        let stays = shared.run_tasks.token();
        // A replica that stops in this moment may not have seen the token.
        (!shared.stopping.is_cancelled()).then_some(Seat::new(slot, stays))
    }

    async fn begin(&self, run: NewRun, seat: Seat) -> bool {
        let here = self.shared.hints.local.begins(run.id);
        let runnable = self
            .shared
            .registry
            .get(&run.workflow)
            .map(|workflow| workflow.runnable());
        let Some(runnable) = runnable else { return false };
        let birth = Birth {
            run,
            code_version: runnable.version,
        };
        let seat = Mutex::new(Some((seat, here)));
        self.births.write((), Born { birth, seat }).await.unwrap_or(false)
    }

    fn takes(&self, runs: &[NewRun]) -> bool {
        let has_room = self.shared.slots.available_permits() > runs.len();
        has_room && !self.shared.stopping.is_cancelled() && runs.iter().all(|run| self.shared.runs_of(run))
    }

    fn ring(&self) {
        self.shared.hints.runs.notify_one();
    }
}

struct Born {
    birth: Birth,
    seat: Mutex<Option<(Seat, Here)>>,
}

struct Births(Arc<Shared>, Handle);

impl Births {
    /// Starts the code of those that are there.
    fn drive(&self, all: &[Born], born: Vec<(RunClaim, WorkRun)>, asked: Instant) {
        let mut seats: BTreeMap<RunId, (Seat, Here)> = all
            .iter()
            .filter_map(|one| {
                let seat = one.seat.lock().unwrap_or_else(PoisonError::into_inner).take();
                Some((one.birth.run.id, seat?))
            })
            .collect();
        for (claim, run) in born {
            let Some(seat) = seats.remove(&claim.run) else { continue };
            let shared = self.0.clone();
            let driven = async move {
                drive(shared, claim, run, asked).await;
                drop(seat);
            };
            self.0.run_tasks.spawn_on(driven, &self.1);
        }
    }
}

#[async_trait]
impl Together for Births {
    const NAME: GroupName = GroupName::Births;

    type Write = Born;
    type Held = ();
    /// Whether it is started and its code runs.
    type Answer = bool;
    type Error = FleetError;

    fn run(born: &Born) -> RunId {
        born.birth.run.id
    }

    fn bytes(born: &Born) -> usize {
        born.birth.run.params.len()
    }

    /// None of it is tried again here: whoever starts it does so in the ordinary way.
    fn trouble(_: &FleetError) -> Trouble {
        Trouble::Unknown
    }

    fn is_lost((): &()) -> bool {
        true
    }

    fn lost(_: &str) -> Result<bool, FleetError> {
        Ok(false)
    }

    fn stopped() -> FleetError {
        FleetError::Unanswered("the process stops".to_owned())
    }

    async fn all(&self, all: &[Born], _: bool) -> Result<Vec<bool>, FleetError> {
        let (claim_id, asked) = (Uuid::new_v4(), Instant::now());
        let births: Vec<&Birth> = all.iter().map(|born| &born.birth).collect();
        fail::fail_point!("start_runs.before_commit");
        let started = self.0.runs.start_claimed_runs(&births, claim_id).await;
        fail::fail_point!("start_runs.after_commit");
        let born = match started {
            Ok(at) => births.iter().map(|birth| birth.claimed(claim_id, at)).collect(),
            Err(FleetError::Unanswered(why)) => {
                tracing::warn!(name: "claim_unanswered", kind = "starts", error = why, "no answer to starts of runs; looking for what became of them");
                self.0.runs.read_claimed_runs(&ClaimPage::of_claim(claim_id)).await?
            }
            Err(error) => return Err(error),
        };
        let there: std::collections::BTreeSet<RunId> = born.iter().map(|(claim, _)| claim.run).collect();
        self.drive(all, born, asked);
        Ok(all.iter().map(|one| there.contains(&one.birth.run.id)).collect())
    }

    async fn one(&self, _: &Born) -> Result<bool, FleetError> {
        Ok(false)
    }
}

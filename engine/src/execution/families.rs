//! Writes about runs that belong together: children are started, runs go on as others, and parents are woken, many in one
//! commit.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::book::{Book, HeldRun};
use super::executor::Hints;
use super::group::{Group, UnderClaim};
use crate::lifecycle::{Continuation, FleetError, LetGo, NewChild, RunClaim, RunId, RunStore};
use crate::telemetry::closed::GroupName;

/// Parents woken by one statement.
const PAGE: usize = 1_000;
/// Between two tries to wake a page of parents.
const AGAIN: Duration = Duration::from_millis(200);

/// The children on their way to be started.
pub(crate) struct Children(Group<Starts>);

impl Children {
    pub(crate) fn new(runs: Arc<dyn RunStore>, hints: Arc<Hints>, room: usize) -> Self {
        Self(Group::new(Starts { runs, hints }, room))
    }

    /// Starts a child; `false`: the parent is not ours any more. An error is for good, and says that nothing was started.
    pub(crate) async fn start(&self, held: &Arc<HeldRun>, child: NewChild) -> Result<bool, FleetError> {
        self.0.write(held.clone(), child).await
    }
}

struct Starts {
    runs: Arc<dyn RunStore>,
    hints: Arc<Hints>,
}

#[async_trait]
impl UnderClaim for Starts {
    const NAME: GroupName = GroupName::Children;

    type Write = NewChild;
    type Answer = bool;

    fn claim(write: &NewChild) -> RunClaim {
        write.claim
    }

    fn bytes(write: &NewChild) -> usize {
        write.path.len() + write.params.len()
    }

    fn lost() -> bool {
        false
    }

    async fn all(&self, writes: &[NewChild]) -> Result<Vec<bool>, FleetError> {
        fail::fail_point!("children.before_commit");
        let started = self.runs.start_children(writes).await;
        fail::fail_point!("children.after_commit");
        if started.is_ok() {
            self.hints.runs.notify_one();
        }
        started
    }
}

/// The runs that go on as others.
pub(crate) struct Continuations(Group<GoOn>);

impl Continuations {
    pub(crate) fn new(runs: Arc<dyn RunStore>, hints: Arc<Hints>, room: usize) -> Self {
        Self(Group::new(GoOn { runs, hints }, room))
    }

    /// Ends a run by starting the one that goes on; an error is for good, and the claim still holds.
    pub(crate) async fn go_on(&self, held: &Arc<HeldRun>, run: Continuation) -> Result<LetGo, FleetError> {
        self.0.write(held.clone(), run).await
    }
}

struct GoOn {
    runs: Arc<dyn RunStore>,
    hints: Arc<Hints>,
}

#[async_trait]
impl UnderClaim for GoOn {
    const NAME: GroupName = GroupName::Continuations;

    type Write = Continuation;
    type Answer = LetGo;

    fn claim(write: &Continuation) -> RunClaim {
        write.claim
    }

    fn bytes(write: &Continuation) -> usize {
        write.params.len()
    }

    fn lost() -> LetGo {
        LetGo::Lost
    }

    async fn all(&self, writes: &[Continuation]) -> Result<Vec<LetGo>, FleetError> {
        fail::fail_point!("continue.before_commit");
        let gone = self.runs.continue_runs(writes).await;
        fail::fail_point!("continue.after_commit");
        if gone.is_ok() {
            self.hints.runs.notify_one();
        }
        gone
    }
}

/// The parents to wake whose children's ends are committed.
pub(crate) struct Parents {
    queue: mpsc::Sender<RunId>,
}

impl Parents {
    pub(crate) fn new(runs: Arc<dyn RunStore>, hints: Arc<Hints>, book: Arc<Book>, room: usize) -> Self {
        let (queue, waiting) = mpsc::channel(room.max(1));
        tokio::spawn(wake_all(runs, hints, book, waiting));
        Self { queue }
    }

    /// Wakes a parent soon: a thousand children that end together wake it once.
    pub(crate) async fn wake(&self, parent: RunId) {
        // When this process stops, the sweep wakes it.
        let _ = self.queue.send(parent).await;
    }
}

async fn wake_all(runs: Arc<dyn RunStore>, hints: Arc<Hints>, book: Arc<Book>, mut waiting: mpsc::Receiver<RunId>) {
    let mut page = Vec::new();
    while waiting.recv_many(&mut page, PAGE).await > 0 {
        let parents: BTreeSet<RunId> = page.drain(..).collect();
        fail::fail_point!("parents.before_wake");
        while let Err(error) = runs.wake_runs(&parents.iter().copied().collect::<Vec<_>>()).await {
            tracing::warn!(name: "parents_not_woken", count = parents.len(), %error, "parents were not woken; it is tried again");
            tokio::time::sleep(AGAIN).await;
            // Nobody ends children here any more: the sweep wakes those that sleep.
            if waiting.is_closed() {
                return;
            }
        }
        hints.runs.notify_one();
        book.poke(&parents);
    }
}

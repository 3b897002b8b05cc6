//! Starting runs from Rust, and what becomes of them.

mod handle;
mod start;
mod start_all;
mod start_flow;
mod starts;
mod waiting;

use std::sync::Arc;

use serde::Serialize;

pub use handle::{RunError, RunHandle, RunStatus, SignalError, SignalOptions};
pub use start::{Start, StartError};
pub use start_all::StartAllError;
pub(crate) use waiting::{AskRuns, EndedRun};

use self::starts::Starts;
use self::waiting::Waiting;
use crate::lifecycle::RunId;
use crate::local::Local;
use crate::postgres::{Database, Operator};
use crate::workflow::Workflow;

/// Starts runs and looks after them; needs nothing but the database, and no replica in this process. A clone is the same
/// client: what is started and waited for at the same time goes together. One that an engine made
/// ([`EngineBuilder::client`](crate::EngineBuilder::client)) is faster where that engine runs.
#[derive(Clone)]
pub struct Client {
    operator: Operator,
    starts: Arc<Starts>,
    waiting: Arc<Waiting>,
}

impl Client {
    /// A client of this database. What it does is recorded under the name of its database role; see [`Client::acting_for`].
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self::beside(database, Arc::default())
    }

    /// A client in the process of replicas, which begin its runs at once when they can, and tell it their ends.
    pub(crate) fn beside(database: Database, local: Arc<Local>) -> Self {
        Self {
            operator: Operator::new(database.clone(), None).quiet(),
            starts: Arc::new(Starts::new(database.clone(), local.clone())),
            waiting: Arc::new(Waiting::new(Arc::new(database), local)),
        }
    }

    /// The same client, in somebody's name.
    #[must_use]
    pub fn acting_for(&self, actor: impl Into<String>) -> Self {
        Self {
            operator: self.operator.clone().acting_for(actor.into()),
            starts: self.starts.clone(),
            waiting: self.waiting.clone(),
        }
    }

    /// Prepares a run of a workflow; [`Start::send`] starts it.
    pub fn start<W: Workflow>(&self, input: &W::Input) -> Start<W>
    where
        W::Input: Serialize,
    {
        Start::new(self.clone(), input)
    }

    /// A run that was started before, whose workflow returns `O`.
    #[must_use]
    pub fn run<O>(&self, id: RunId) -> RunHandle<O> {
        RunHandle::new(self.clone(), id)
    }
}

//! What a workflow's code may do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;

use super::fan_out::{FanOut, FanOutSummary, SourceFanOut};
use super::source::Source;
use crate::delivery::Command;
use crate::lifecycle::{RunId, WorkRun};

/// Carries out what a workflow asks for: as the run's owner, or to find out what its batches send.
pub(crate) trait ContextHost: Send + Sync {
    fn fan_out(&self, path: String, fan_out: Arc<dyn FanOut>) -> BoxFuture<'_, anyhow::Result<FanOutSummary>>;
}

/// A run, as its workflow's code sees it.
#[derive(Clone)]
pub struct Context {
    run: Arc<WorkRun>,
    host: Arc<dyn ContextHost>,
    next_ordinal: Arc<AtomicU32>,
}

impl Context {
    pub(crate) fn new(run: Arc<WorkRun>, host: Arc<dyn ContextHost>) -> Self {
        Self {
            run,
            host,
            next_ordinal: Arc::default(),
        }
    }

    /// The run.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        self.run.id
    }

    /// The run whose message ids this one uses: itself, or the first of its chain of retries.
    #[must_use]
    pub fn origin_id(&self) -> RunId {
        self.run.origin_id
    }

    /// The schedule's slot this run stands for.
    #[must_use]
    pub fn slot(&self) -> Option<DateTime<Utc>> {
        self.run.slot
    }

    /// The instant this run is about: its slot, or when it was started. The same in every replay.
    #[must_use]
    pub fn nominal_time(&self) -> DateTime<Utc> {
        self.run.slot.unwrap_or(self.run.created_at)
    }

    /// Sends one message for each item of the source, in leased batches on any replica of the fleet, and answers
    /// when every item has its first outcome. `message` makes the command of an item's row; `None` skips the item;
    /// an error stores the item as refused.
    ///
    /// # Errors
    /// The source's ids cannot be read, do not ascend, or come twice.
    pub async fn fan_out<S, M>(&self, source: S, message: M) -> anyhow::Result<FanOutSummary>
    where
        S: Source,
        M: Fn(&S::Row) -> anyhow::Result<Option<Command>> + Send + Sync + 'static,
    {
        let path = format!(
            "{}:{}",
            self.next_ordinal.fetch_add(1, Ordering::Relaxed),
            source.name()
        );
        self.host
            .fan_out(path, Arc::new(SourceFanOut { source, message }))
            .await
    }
}

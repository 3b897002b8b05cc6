//! Pruning: page by page, each its own transaction, so that nothing is held for long.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Job, Prunable, Reign, RetentionStore};
use crate::lifecycle::FleetError;
use crate::telemetry::closed::Pruned;
use crate::telemetry::meters;

/// Pages of other rows that take as long as one of the inbox: a pass a minute then keeps up with 33,000 messages/s.
const INBOX_PAGES: i32 = 10;
/// Passes that leave out what had nothing to prune: it was looked at in vain, and grows by the day.
const RESTS: u32 = 4;
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// How long things are kept, counted from when they were over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionSettings {
    /// Finished runs with their steps, batches, history and settled messages.
    pub runs: Duration,
    /// Audit rows of no run.
    pub transitions: Duration,
    /// Settled direct commands.
    pub undelivered: Duration,
    /// Replicas that are gone.
    pub replicas: Duration,
    /// Messages that consumers remember, and their dead records.
    pub inbox: Duration,
    /// What replicas counted.
    pub measures: Duration,
    /// Rows deleted at once; a page takes a few milliseconds.
    pub page: i32,
    /// Most pages of each kind per pass, so that a backlog is worked off evenly and not in one burst.
    pub pages: u32,
}

impl Default for RetentionSettings {
    fn default() -> Self {
        Self {
            runs: 30 * DAY,
            transitions: 90 * DAY,
            undelivered: 30 * DAY,
            replicas: DAY,
            inbox: 14 * DAY,
            measures: 14 * DAY,
            page: 1_000,
            pages: 200,
        }
    }
}

impl RetentionSettings {
    fn keep(&self, what: Prunable) -> Duration {
        match what {
            Prunable::Runs => self.runs,
            Prunable::Transitions => self.transitions,
            Prunable::Undelivered => self.undelivered,
            Prunable::Replicas => self.replicas,
            Prunable::Inbox => self.inbox,
            Prunable::Measures => self.measures,
        }
    }

    /// Rows of the inbox are small and come as fast as messages do, so that a pass must be able to take as many.
    fn page(&self, what: Prunable) -> i32 {
        match what {
            Prunable::Inbox => self.page.saturating_mul(INBOX_PAGES),
            _ => self.page,
        }
    }
}

/// Prunes what is past its time. Needs no fence: two at once skip each other's rows.
pub struct Retention {
    store: Arc<dyn RetentionStore>,
    every: Duration,
    settings: RetentionSettings,
    /// How many passes more leave out what had nothing to prune.
    resting: Mutex<HashMap<Prunable, u32>>,
}

impl Retention {
    /// A pass each `every`.
    #[must_use]
    pub fn new(store: Arc<dyn RetentionStore>, every: Duration, settings: RetentionSettings) -> Self {
        Self {
            store,
            every,
            settings,
            resting: Mutex::default(),
        }
    }

    /// One pass over everything; answers how many rows are gone. One kind that fails does not keep the others.
    ///
    /// # Errors
    /// The last failure, after all kinds were tried.
    pub async fn prune(&self, reign: &Reign) -> Result<u64, FleetError> {
        self.resting().clear();
        self.prune_due(reign).await
    }

    /// The same without what had nothing to prune a few passes ago.
    async fn prune_due(&self, reign: &Reign) -> Result<u64, FleetError> {
        let mut gone = 0;
        let mut failure = None;
        for what in Prunable::ALL {
            if self.rests(what) {
                continue;
            }
            match self.prune_kind(what, reign).await {
                Ok(rows) => gone += rows,
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(gone), Err)
    }

    fn resting(&self) -> MutexGuard<'_, HashMap<Prunable, u32>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this pass leaves it out.
    fn rests(&self, what: Prunable) -> bool {
        let mut resting = self.resting();
        let left = resting.remove(&what).unwrap_or_default();
        if left > 1 {
            resting.insert(what, left - 1);
        }
        left > 0
    }

    async fn prune_kind(&self, what: Prunable, reign: &Reign) -> Result<u64, FleetError> {
        let (keep, page) = (self.settings.keep(what), self.settings.page(what));
        let mut gone = 0;
        for _ in 0..self.settings.pages {
            if reign.over.is_cancelled() {
                break;
            }
            let pruned = self.store.prune(what, keep, page).await?;
            gone += pruned.rows;
            if !pruned.more {
                if gone == 0 {
                    self.resting().insert(what, RESTS);
                }
                break;
            }
        }
        meters().pruned(label(what), gone);
        if gone > 0 {
            tracing::debug!(?what, rows = gone, "pruned");
        }
        Ok(gone)
    }
}

#[async_trait]
impl Job for Retention {
    fn name(&self) -> &'static str {
        "retention"
    }

    fn every(&self) -> Duration {
        self.every
    }

    async fn run_once(&self, reign: &Reign) -> Result<u64, FleetError> {
        self.prune_due(reign).await
    }
}

fn label(what: Prunable) -> Pruned {
    match what {
        Prunable::Runs => Pruned::Runs,
        Prunable::Transitions => Pruned::Transitions,
        Prunable::Undelivered => Pruned::Undelivered,
        Prunable::Replicas => Pruned::Replicas,
        Prunable::Inbox => Pruned::Inbox,
        Prunable::Measures => Pruned::Measures,
    }
}

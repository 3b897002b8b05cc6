//! What the limits of queues allow now, and when they allow more.

use chrono::{DateTime, Utc};

use super::Runs;
use super::claim::Claimable;
use super::run::Run;

impl Runs {
    /// Whether it would be claimed, whatever the limits of its queue say.
    pub(super) fn is_let_through(&self, run: &Run, asked: Claimable<'_>) -> bool {
        self.claimable(run, asked).is_some() && !self.limits(run.queue())
    }

    /// Some queue with limits would give a run.
    pub(super) fn any_limited(&self, asked: Claimable<'_>) -> bool {
        let limited = self.queues.keys().filter(|name| self.limits(name));
        limited.into_iter().any(|name| {
            let picked = self.pick_limited(name, 1, asked);
            picked.is_some_and(|(again, fit)| !again.is_empty() || !fit.is_empty())
        })
    }

    /// When the next token comes of a queue that has none, though runs wait in it.
    pub(super) fn next_token(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let waiting = |name: &str| {
            let due = |run: &&Run| run.queue() == name && run.is_waiting() && run.ready.is_some_and(|at| at.at <= now);
            self.by_id.values().any(|run| due(&run))
        };
        let empty = self.queues.iter().filter(|(name, _)| waiting(name));
        empty.filter_map(|(_, queue)| queue.next_token_at()).min()
    }

    fn limits(&self, queue: &str) -> bool {
        self.queues.get(queue).is_some_and(Self::is_limited)
    }
}

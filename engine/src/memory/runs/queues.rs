//! Queues with limits: places, tokens and turns.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Runs;
use super::claim::Claimable;
use super::run::{Holder, Ready, Run, Status};
use crate::lifecycle::{ClaimPage, Holds, LimitedClaim, QueueNews, QueueRule, QueueSettings, RunId};

/// Nobody asks for the next token more often.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// What is set for a queue, and what is left of its tokens.
pub(super) struct Queue {
    settings: QueueSettings,
    tokens: f64,
    refilled_at: DateTime<Utc>,
    paused: bool,
    /// Whose turn was last.
    last: Turn,
}

/// A tenant and a limit key; what has neither is nobody's.
type Turn = (String, String);

impl Queue {
    fn new(settings: QueueSettings, now: DateTime<Utc>) -> Self {
        Self {
            tokens: settings.whole_burst().unwrap_or_default(),
            settings,
            refilled_at: now,
            paused: false,
            last: Turn::default(),
        }
    }

    /// Tokens that are left at this instant; none: as many as one likes.
    fn allowance(&self, now: DateTime<Utc>) -> Option<f64> {
        let (rate, burst) = (self.settings.rate_per_s?, self.settings.whole_burst()?);
        let passed = (now - self.refilled_at).to_std().unwrap_or_default().as_secs_f64();
        Some(burst.min(self.tokens + rate * passed))
    }

    fn spend(&mut self, count: usize, now: DateTime<Utc>) {
        if let Some(allowance) = self.allowance(now) {
            self.tokens = allowance - count as f64;
            self.refilled_at = now;
        }
    }

    #[cfg(feature = "testing")]
    pub(super) fn next_token_at(&self) -> Option<DateTime<Utc>> {
        self.next_token().map(|wait| self.refilled_at + wait)
    }

    /// When a token comes, if there is none.
    fn next_token(&self) -> Option<Duration> {
        let missing = 1.0 - self.tokens;
        let wait = Duration::try_from_secs_f64(missing.max(0.0) / self.settings.rate_per_s?);
        (missing > 0.0).then(|| wait.unwrap_or(Duration::MAX).max(SHORTEST_PAUSE))
    }
}

impl Run {
    /// It holds a place in its queue.
    fn holds_place(&self) -> bool {
        !self.status.is_over() && (self.holds == Some(Holds::Run) || (self.holds.is_some() && self.holder.is_some()))
    }

    fn turn(&self) -> Turn {
        (
            self.tenant.clone().unwrap_or_default(),
            self.limit_key.clone().unwrap_or_default(),
        )
    }
}

impl Runs {
    pub(super) fn set_queue(&mut self, settings: QueueSettings, now: DateTime<Utc>) {
        let name = settings.name.clone();
        let queue = self
            .queues
            .entry(name)
            .or_insert_with(|| Queue::new(settings.clone(), now));
        let left_over = queue.allowance(now);
        let burst = settings.whole_burst();
        queue.tokens = burst.map_or(0.0, |burst| left_over.unwrap_or(burst).min(burst));
        queue.refilled_at = now;
        queue.settings = settings;
        self.hold_places();
    }

    pub(super) fn pause_queue(&mut self, name: &str, paused: bool, now: DateTime<Utc>) {
        let queue = self
            .queues
            .entry(name.to_owned())
            .or_insert_with(|| Queue::new(QueueSettings::new(name), now));
        queue.paused = paused;
    }

    /// Runs that were claimed before their queue had limits get their places.
    pub(super) fn hold_places(&mut self) {
        for run in self.by_id.values_mut() {
            let Some(queue) = self.queues.get(run.queue()) else {
                continue;
            };
            let settings = &queue.settings;
            let counts = settings.max_running.is_some() || settings.max_per_key.is_some() || settings.fair;
            if counts && !run.status.is_over() && (run.holder.is_some() || run.holds == Some(Holds::Run)) {
                run.holds = Some(settings.holds);
            }
        }
    }

    /// Its runs are claimed through the gate.
    pub(super) fn is_limited(queue: &Queue) -> bool {
        queue.paused || queue.settings.is_limited()
    }

    /// As many as the limits of the queue allow, each in its place.
    pub(super) fn claim_limited(&mut self, page: &ClaimPage, holder: Holder) -> LimitedClaim {
        let now = holder.since;
        let Some(share) = page.shares.first() else {
            return LimitedClaim::default();
        };
        let asked = Claimable {
            runnable: &page.runnable,
            suspects: page.suspects,
            now,
        };
        let Some((again, fit)) = self.pick_limited(&share.queue, share.take as usize, asked) else {
            return LimitedClaim::default();
        };
        let last = fit.last().and_then(|run| self.by_id.get(run)).map(Run::turn);
        let Some(queue) = self.queues.get_mut(&share.queue) else {
            return LimitedClaim::default();
        };
        let holds = queue.settings.holds;
        queue.spend(fit.len(), now);
        if let (true, Some(last)) = (queue.settings.fair, last) {
            queue.last = last;
        }
        let again_at = queue.next_token();
        let claimed = again.into_iter().chain(fit).filter_map(|run| {
            let run = self.by_id.get_mut(&run)?;
            run.holds = Some(holds);
            Some(run.take(page, holder))
        });
        LimitedClaim {
            runs: claimed.collect(),
            again: again_at,
        }
    }

    /// What the limits of a queue allow: runs that hold a place already, and runs that get one. None: it is paused, or
    /// nothing is set for it.
    pub(super) fn pick_limited(
        &self,
        name: &str,
        take: usize,
        asked: Claimable<'_>,
    ) -> Option<(Vec<RunId>, Vec<RunId>)> {
        let queue = self.queues.get(name).filter(|queue| !queue.paused)?;
        let ready = self.ready_of(name, asked);
        let (again, fresh): (Vec<_>, Vec<_>) = ready.into_iter().partition(|(_, run)| self.goes_on(*run));
        let again: Vec<RunId> = again.into_iter().take(take).map(|(_, run)| run).collect();
        let holding = self
            .by_id
            .values()
            .filter(|run| run.queue() == name && run.holds_place());
        let most = queue.settings.max_running;
        let free = most.map_or(usize::MAX, |most| (most as usize).saturating_sub(holding.count()));
        // Whole tokens only.
        let tokens = queue.allowance(asked.now);
        let tokens = tokens.map_or(usize::MAX, |tokens| tokens.max(0.0) as usize);
        let room = (take - again.len()).min(free).min(tokens);
        let fit = self.fitting(queue, fresh, room);
        Some((again, fit))
    }

    fn goes_on(&self, run: RunId) -> bool {
        self.by_id.get(&run).is_some_and(|run| run.holds == Some(Holds::Run))
    }

    /// Those of the runs that fit: none of a full key, and in a fair queue those first whose tenant has fewest under way.
    fn fitting(&self, queue: &Queue, fresh: Vec<(Ready, RunId)>, room: usize) -> Vec<RunId> {
        let holding = self
            .by_id
            .values()
            .filter(|run| run.queue() == queue.settings.name && run.holds_place());
        let (mut of_key, mut of_tenant) = (BTreeMap::<String, u32>::new(), BTreeMap::<String, u32>::new());
        for (tenant, key) in holding.map(Run::turn) {
            *of_key.entry(key).or_default() += 1;
            *of_tenant.entry(tenant).or_default() += 1;
        }
        let fresh: Vec<(Ready, RunId, Turn)> = fresh
            .into_iter()
            .filter_map(|(rank, run)| Some((rank, run, self.by_id.get(&run)?.turn())))
            .collect();
        let turns = turns_after(&queue.last, fresh.iter().map(|(_, _, turn)| turn.clone()).collect());
        let mut fit = Vec::new();
        for (rank, run, (tenant, key)) in fresh {
            let running = of_key.entry(key.clone()).or_default();
            *running += 1;
            if !key.is_empty() && queue.settings.max_per_key.is_some_and(|most| *running > most) {
                continue;
            }
            let under_way = of_tenant.entry(tenant.clone()).or_default();
            *under_way += 1;
            let turn = turns.get(&(tenant, key)).copied().unwrap_or_default();
            let place = if queue.settings.fair {
                (*under_way, turn)
            } else {
                (0, 0)
            };
            fit.push((place, rank, run));
        }
        fit.sort_unstable();
        fit.into_iter().take(room).map(|(_, _, run)| run).collect()
    }

    pub(super) fn read_queues(&self, workflows: &[String]) -> QueueNews {
        let rules = self.queues.values().map(|queue| QueueRule {
            name: queue.settings.name.clone(),
            limited: Self::is_limited(queue),
            max_attempt: queue.settings.max_attempt,
        });
        let waiting = self.by_id.values().filter(|run| run.is_waiting());
        let ours = waiting.filter(|run| workflows.contains(&run.request.workflow));
        let named: BTreeSet<String> = ours.filter_map(|run| run.queue.clone()).collect();
        QueueNews {
            rules: rules.collect(),
            named: named.into_iter().collect(),
        }
    }

    pub(super) fn waiting_queues(&self, queues: &[String], now: DateTime<Utc>) -> Vec<String> {
        let is_due = |run: &Run| run.is_waiting() && run.ready.is_some_and(|ready| ready.at <= now);
        let has_due = |queue: &&String| self.by_id.values().any(|run| run.queue() == *queue && is_due(run));
        queues.iter().filter(has_due).cloned().collect()
    }

    pub(super) fn suspect_queues(&self) -> Vec<String> {
        let suspects = self
            .by_id
            .values()
            .filter(|run| run.is_waiting() && run.attempts >= super::recover::SUSPECT_AFTER);
        let names: BTreeSet<String> = suspects.map(|run| run.queue().to_owned()).collect();
        names.into_iter().collect()
    }
}

impl Run {
    /// It is queued, perhaps paused, and its code has never run.
    pub(super) fn has_not_begun(&self) -> bool {
        matches!(self.status, Status::Queued | Status::Paused) && self.started_at.is_none()
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.ready.is_some() && self.holder.is_none() && self.status.may_be_claimed()
    }
}

/// The turns in their order, beginning behind the last one; what has neither tenant nor key is before all.
fn turns_after(last: &Turn, turns: BTreeSet<Turn>) -> BTreeMap<Turn, usize> {
    let nobody = Turn::default();
    let (before, behind): (Vec<_>, Vec<_>) = turns
        .into_iter()
        .filter(|turn| *turn != nobody)
        .partition(|turn| turn <= last);
    behind.into_iter().chain(before).zip(1..).collect()
}

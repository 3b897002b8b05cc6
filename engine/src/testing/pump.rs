//! Letting things happen: until nothing more does, and from one instant to the next.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::engine::{Replica, TestEngine, World};
use crate::lifecycle::{Clock as _, RunClaim};
use crate::memory::Pulse;

/// Looks without a pause; then the processor is left to whatever takes real time.
const BUSY_LOOKS: u32 = 2_000;
const PAUSE: Duration = Duration::from_micros(200);
/// Busy runs that are named.
const SHOWN: usize = 3;
/// It counts as idle when it was so often in a row, with everybody asked in between.
const SURE: u32 = 3;

impl TestEngine {
    /// Lets everything happen that happens by itself, without any time passing.
    ///
    /// # Panics
    /// A step takes longer than [`TestEngine::patience`], or a workflow needs what the test did not give.
    pub async fn run_until_idle(&self) {
        let _turn = self.world.turn.lock().await;
        self.world.settle().await;
    }

    /// Lets so much time pass, and everything happen that is due meanwhile, each at its instant. For a step that takes
    /// longer than [`TestEngine::patience`] time passes all the same, so that its timeout comes.
    ///
    /// # Panics
    /// A workflow needs what the test did not give.
    pub async fn advance(&self, time: Duration) {
        let _turn = self.world.turn.lock().await;
        let until = self.now() + time;
        loop {
            self.world.settle_within(self.world.patience()).await;
            match self.world.next_event().filter(|at| *at <= until) {
                Some(at) => self.world.move_to(at),
                None => break,
            }
        }
        self.world.move_to(until);
        self.world.settle_within(self.world.patience()).await;
    }
}

impl World {
    /// Until nothing more happens unless time passes.
    pub(super) async fn settle(&self) {
        let patience = self.patience();
        if !self.settle_within(patience).await {
            let busy = self.busy();
            panic!("after {patience:?} of real time the engine is still busy: {busy}");
        }
    }

    /// The next instant at which anything happens.
    pub(super) fn next_event(&self) -> Option<DateTime<Utc>> {
        [self.store.next_due_instant(), self.clock.next_waited()]
            .into_iter()
            .flatten()
            .filter(|at| *at > self.clock.now())
            .min()
    }

    pub(super) fn move_to(&self, at: DateTime<Utc>) {
        self.clock.jump_to(at);
        // Leases last as long as their replicas: what is over time is ended, and what nobody completed completed.
        self.store.sweep();
    }

    /// Answers whether it is idle.
    async fn settle_within(&self, patience: Duration) -> bool {
        let (mut since, mut writes) = (Instant::now(), self.writes());
        let (mut looks, mut idle) = (0, 0);
        while idle < SURE {
            if let Some(missing) = self.missing() {
                panic!("{missing}");
            }
            idle = if self.is_idle() { idle + 1 } else { 0 };
            looks += 1;
            if looks < BUSY_LOOKS {
                tokio::task::yield_now().await;
            } else if self.writes() != writes {
                // It comes along, however much there is of it.
                (since, writes) = (Instant::now(), self.writes());
                tokio::time::sleep(PAUSE).await;
            } else if since.elapsed() > patience {
                return false;
            } else {
                tokio::time::sleep(PAUSE).await;
            }
        }
        true
    }

    /// Rings for what is to be done, and answers whether there is nothing.
    fn is_idle(&self) -> bool {
        let replica = self.living();
        let pulse = self.store.pulse(&replica.shared.registry.runnable());
        if pulse.ready {
            // They may wait in a queue that is not known yet.
            replica.shared.hints.queues.store(true, Ordering::Relaxed);
            replica.shared.hints.runs.notify_one();
            self.clock.nudge();
        }
        if pulse.ready_batches {
            replica.shared.hints.batches.notify_one();
        }
        let all_still = is_all_still(&replica, &pulse);
        let waited = self.clock.next_waited().is_none_or(|at| at > self.clock.now());
        let batches = replica.shared.book.batch_count();
        all_still && waited && batches == 0 && !pulse.ready && !pulse.ready_batches && !replica.faulty.is_dead()
    }

    fn busy(&self) -> String {
        let views = self.store.views();
        let held = views.iter().filter(|view| view.claim.is_some());
        let runs: Vec<String> = held
            .take(SHOWN)
            .map(|view| format!("run {} of {}", view.id, view.workflow))
            .collect();
        match runs.is_empty() {
            true => "with batches of a fan-out, or with runs that no workflow here can run".to_owned(),
            false => format!("a step does not end of {}", runs.join(", ")),
        }
    }
}

/// Every run that is held waits for the clock, and has heard all that reached it.
fn is_all_still(replica: &Replica, pulse: &Pulse) -> bool {
    let book = replica.shared.book.runs();
    let book: HashMap<RunClaim, _> = book.iter().map(|held| (held.claim, held)).collect();
    let mut still = book.len() == pulse.held.len();
    for (claim, wake_seq, stopping) in &pulse.held {
        let heard = !stopping && book.get(claim).is_some_and(|held| held.is_still(*wake_seq));
        if !heard {
            replica.shared.hints.stops.notify_one();
        }
        still &= heard;
    }
    still
}

//! What the orchestrator has done, in numbers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What was done since the start, and what is under way this moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DirectStats {
    /// Commands taken in.
    pub accepted: u64,
    /// Commands that a field or their kind made impossible, at the door or when their bytes were made.
    pub invalid: u64,
    /// Commands turned away because both queues were full, or after the stop.
    pub not_accepted: u64,
    /// Commands acknowledged before anything was stored of them.
    pub delivered: u64,
    /// Rows stored as refused; counted by reason as well.
    pub refused: u64,
    /// Rows stored, by the code of their reason.
    pub stored: BTreeMap<&'static str, u64>,
    /// Stored rows that were acknowledged after all and settled.
    pub confirmed: u64,
    /// Tries to store that failed.
    pub store_failures: u64,
    /// Commands that were neither sent nor stored when the stop's time was over, or that the store can never take.
    pub unplaced: u64,
    /// Outcomes that the user's handler was not told because it was too slow.
    pub notices_dropped: u64,
    /// Commands that wait to be sent.
    pub queued: usize,
    /// Commands that wait to be stored.
    pub spilled: usize,
    /// Messages whose outcome is not known.
    pub in_flight: usize,
    /// The brokers stand still: everything goes to the table.
    pub stalled: bool,
}

/// The counters behind them. What the pump counts alone it only stores.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Taken from the queue, by the pump.
    pub(super) taken: AtomicU64,
    /// Taken in by the writer's queue without the pump.
    pub(super) straight: AtomicU64,
    pub(super) invalid: AtomicU64,
    pub(super) not_accepted: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) confirmed: AtomicU64,
    pub(super) store_failures: AtomicU64,
    pub(super) unplaced: AtomicU64,
    pub(super) notices_dropped: AtomicU64,
    pub(super) in_flight: AtomicUsize,
    pub(super) stalled: AtomicBool,
    stored: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counters {
    pub(super) fn stored(&self, code: &'static str) {
        *self.lock().entry(code).or_default() += 1;
    }

    pub(super) fn snapshot(&self, queued: usize, spilled: usize) -> DirectStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DirectStats {
            accepted: read(&self.taken) + read(&self.straight) + queued as u64,
            invalid: read(&self.invalid),
            not_accepted: read(&self.not_accepted),
            delivered: read(&self.delivered),
            refused: read(&self.refused),
            stored: self.lock().clone(),
            confirmed: read(&self.confirmed),
            store_failures: read(&self.store_failures),
            unplaced: read(&self.unplaced),
            notices_dropped: read(&self.notices_dropped),
            queued,
            spilled,
            in_flight: self.in_flight.load(Ordering::Relaxed),
            stalled: self.stalled.load(Ordering::Relaxed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

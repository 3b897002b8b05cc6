//! What became of a batch's messages: one counter a batch, a bit an item.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::window::Window;
use crate::delivery::{Failure, InFlight, Outcome, OutcomeSink};

/// A message that was not delivered.
#[derive(Debug, Clone)]
pub(crate) struct NotDelivered {
    pub(crate) index: u32,
    pub(crate) refused: bool,
    pub(crate) failure: Failure,
}

/// Outcomes of one batch, filled by the publisher's threads.
#[derive(Debug)]
pub(crate) struct BatchTracker {
    bits: Vec<AtomicU64>,
    delivered: AtomicUsize,
    in_flight: InFlight,
    failures: Mutex<Vec<NotDelivered>>,
    window: Arc<Window>,
    places: AtomicUsize,
    saved: AtomicUsize,
}

impl BatchTracker {
    /// A batch of so many items, some of which an earlier holder had acknowledged.
    pub(crate) fn new(items: usize, delivered_bits: Option<&[u8]>, window: Arc<Window>) -> Self {
        let bits: Vec<AtomicU64> = (0..items.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let mut before = 0;
        for index in 0..items {
            if delivered_bits.is_some_and(|bits| bits.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)) {
                bits[index / 64].fetch_or(1 << (index % 64), Ordering::Relaxed);
                before += 1;
            }
        }
        Self {
            bits,
            delivered: AtomicUsize::new(before),
            in_flight: InFlight::default(),
            failures: Mutex::default(),
            window,
            places: AtomicUsize::new(0),
            saved: AtomicUsize::new(before),
        }
    }

    pub(crate) fn is_delivered(&self, index: usize) -> bool {
        self.bits[index / 64].load(Ordering::Acquire) >> (index % 64) & 1 == 1
    }

    pub(crate) fn delivered(&self) -> usize {
        self.delivered.load(Ordering::Acquire)
    }

    /// Takes places in the window for messages to come.
    pub(crate) async fn take_places(&self, count: usize) {
        self.window.take(count).await;
        self.places.fetch_add(count, Ordering::AcqRel);
    }

    /// Gives places back: outcomes committed, or messages that were never sent.
    pub(crate) fn give_back(&self, count: usize) {
        let mut given = 0;
        let _ = self.places.fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| {
            given = held.min(count);
            Some(held - given)
        });
        self.window.give_back(given);
    }

    /// What is offered and not settled.
    pub(crate) fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// What is delivered beyond what was saved: bits to save and their count, if there is anything new.
    pub(crate) fn progress(&self) -> Option<(Vec<u8>, usize)> {
        if self.delivered() <= self.saved.load(Ordering::Acquire) {
            return None;
        }
        let words: Vec<u64> = self.bits.iter().map(|word| word.load(Ordering::Acquire)).collect();
        let count = words.iter().map(|word| word.count_ones() as usize).sum();
        Some((words.iter().flat_map(|word| word.to_le_bytes()).collect(), count))
    }

    /// Progress of so many items is committed: their places are free again.
    pub(crate) fn progress_saved(&self, count: usize) {
        let before = self.saved.fetch_max(count, Ordering::AcqRel);
        self.give_back(count.saturating_sub(before));
    }

    pub(crate) fn failures(&self) -> Vec<NotDelivered> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl OutcomeSink for BatchTracker {
    fn settle(&self, index: u32, outcome: Outcome) {
        let at = index as usize;
        match outcome {
            Outcome::Delivered { .. } => {
                self.bits[at / 64].fetch_or(1 << (at % 64), Ordering::AcqRel);
                self.delivered.fetch_add(1, Ordering::AcqRel);
            }
            Outcome::Refused(failure) => {
                // It is not in the log: nothing of it can come twice.
                self.give_back(1);
                self.fail(NotDelivered {
                    index,
                    refused: true,
                    failure,
                });
            }
            Outcome::Unknown(failure) => self.fail(NotDelivered {
                index,
                refused: false,
                failure,
            }),
        }
        self.in_flight.settled();
    }
}

impl BatchTracker {
    fn fail(&self, failed: NotDelivered) {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(failed);
    }
}

impl Drop for BatchTracker {
    /// Whatever end a batch takes, its places do not stay taken.
    fn drop(&mut self) {
        self.window.give_back(self.places.load(Ordering::Acquire));
    }
}

//! The bound of items sent whose outcome is not committed: what a kill can make us send again.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, Semaphore};

/// A bounded count of items, shared by all batches of a process.
#[derive(Debug)]
pub(crate) struct Window {
    places: Semaphore,
    size: usize,
    /// Rung when somebody found the window full: save progress now instead of at the next renewal.
    pub(crate) full: Notify,
    waiting: AtomicUsize,
}

impl Window {
    pub(crate) fn new(size: usize) -> Self {
        Self {
            places: Semaphore::new(size),
            size,
            full: Notify::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn used(&self) -> usize {
        self.size.saturating_sub(self.places.available_permits())
    }

    /// How many batches wait for a place.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes places; waits while the window is full.
    pub(crate) async fn take(&self, count: usize) {
        let count = u32::try_from(count.min(self.size)).unwrap_or(u32::MAX);
        if let Ok(permit) = self.places.try_acquire_many(count) {
            permit.forget();
            return;
        }
        let _waits = Waiting::new(&self.waiting);
        self.full.notify_one();
        if let Ok(permit) = self.places.acquire_many(count).await {
            permit.forget();
        }
    }

    pub(crate) fn give_back(&self, count: usize) {
        self.places.add_permits(count);
    }
}

/// Counts a waiter for as long as it waits, also when it is dropped while waiting.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

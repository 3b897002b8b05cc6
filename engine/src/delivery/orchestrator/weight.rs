//! How much memory the commands take that wait in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// All that may be taken.
#[derive(Debug)]
pub(super) struct Memory {
    taken: Arc<AtomicUsize>,
    most: usize,
}

/// A part of it, given back when dropped.
#[derive(Debug)]
pub(super) struct Weight {
    taken: Arc<AtomicUsize>,
    bytes: usize,
}

impl Memory {
    pub(super) fn new(most: usize) -> Self {
        Self {
            taken: Arc::default(),
            most,
        }
    }

    /// Takes so many bytes, if they are there.
    pub(super) fn take(&self, bytes: usize) -> Option<Weight> {
        let weight = Weight {
            taken: self.taken.clone(),
            bytes,
        };
        let before = self.taken.fetch_add(bytes, Ordering::Relaxed);
        (before + bytes <= self.most).then_some(weight)
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

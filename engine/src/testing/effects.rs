//! What a workflow's steps did to the world, as a test counts it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A tally of what was done, by name, that outlives crashes: a step says what it does, the test asserts how often. Give
/// it to the engine as a resource, or capture a clone.
#[derive(Debug, Clone, Default)]
pub struct Effects(Arc<Mutex<BTreeMap<String, u32>>>);

impl Effects {
    /// Something was done; answers how often by now.
    pub fn did(&self, what: impl Into<String>) -> u32 {
        let mut done = self.lock();
        let times = done.entry(what.into()).or_insert(0);
        *times += 1;
        *times
    }

    /// How often it was done.
    #[must_use]
    pub fn count(&self, what: &str) -> u32 {
        self.lock().get(what).copied().unwrap_or(0)
    }

    /// # Panics
    /// It was not done exactly once.
    #[track_caller]
    pub fn assert_once(&self, what: &str) {
        assert_eq!(
            self.count(what),
            1,
            "{what} was to be done once; done: {:?}",
            self.lock()
        );
    }

    /// # Panics
    /// It was never done.
    #[track_caller]
    pub fn assert_at_least_once(&self, what: &str) {
        assert!(self.count(what) > 0, "{what} was not done; done: {:?}", self.lock());
    }

    /// # Panics
    /// It was done.
    #[track_caller]
    pub fn assert_never(&self, what: &str) {
        assert_eq!(self.count(what), 0, "{what} was done; done: {:?}", self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! What a candidate tells of leadership, for as long as its loop lives.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::telemetry::catalogue::{LEADER_TERM, LEADERLESS_DURATION, LEADING};
use crate::telemetry::{Watching, meters};

/// No term.
const NONE: i64 = 0;

#[derive(Debug)]
struct Known {
    /// In which it leads.
    term: AtomicI64,
    /// Since when it has known of no leader.
    leaderless: Mutex<Option<Instant>>,
}

/// Tells it.
pub(super) struct Telling {
    known: Arc<Known>,
    _watching: [Watching; 3],
}

impl Telling {
    /// A candidate that knows of no leader yet.
    pub(super) fn begin() -> Self {
        meters().is_candidate();
        let known = Arc::new(Known {
            term: AtomicI64::new(NONE),
            leaderless: Mutex::new(Some(Instant::now())),
        });
        let (leading, term, leaderless) = (known.clone(), known.clone(), known.clone());
        Self {
            known,
            _watching: [
                meters().watch(&LEADING, &[], move || Some(f64::from(leading.term().is_some()))),
                meters().watch(&LEADER_TERM, &[], move || term.term().map(|term| term as f64)),
                meters().watch(&LEADERLESS_DURATION, &[], move || Some(leaderless.leaderless_for())),
            ],
        }
    }

    /// It leads.
    pub(super) fn leads(&self, term: i64) {
        self.known.term.store(term, Ordering::Relaxed);
        self.heard_of_leader();
    }

    /// It leads no more.
    pub(super) fn leads_no_more(&self) {
        self.known.term.store(NONE, Ordering::Relaxed);
        self.hears_of_none();
    }

    /// There is a leader.
    pub(super) fn heard_of_leader(&self) {
        *self.known.lock() = None;
    }

    /// It was not told of one.
    pub(super) fn hears_of_none(&self) {
        self.known.lock().get_or_insert_with(Instant::now);
    }
}

impl Known {
    fn term(&self) -> Option<i64> {
        Some(self.term.load(Ordering::Relaxed)).filter(|term| *term != NONE)
    }

    fn leaderless_for(&self) -> f64 {
        self.lock().map_or(0.0, |since| since.elapsed().as_secs_f64())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.leaderless.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_counts_from_the_first_answer_that_named_no_leader() {
        let telling = Telling::begin();
        let of = |telling: &Telling| (telling.known.term(), telling.known.lock().is_some());
        assert_eq!(of(&telling), (None, true), "before any answer it knows of none");
        telling.heard_of_leader();
        assert_eq!(of(&telling), (None, false));
        assert_eq!(telling.known.leaderless_for(), 0.0);
        telling.hears_of_none();
        let since = *telling.known.lock();
        telling.hears_of_none();
        assert_eq!(*telling.known.lock(), since);
        telling.leads(7);
        assert_eq!(of(&telling), (Some(7), false));
        telling.leads_no_more();
        assert_eq!(of(&telling), (None, true));
    }
}

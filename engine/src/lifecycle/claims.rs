//! What a manager handle remembers of the claims it made, to fence its later writes with.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::manager::RunId;

/// Released claims are kept for repeated releases; the oldest are forgotten beyond this many.
const MOST_RELEASED: usize = 10_000;

/// A claim this handle got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) claim_id: Uuid,
    pub(crate) token: i64,
}

/// What is known of a batch: a claim that was granted, and one that was asked for without an answer yet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Known {
    pub(crate) held: Option<Held>,
    pub(crate) asked: Option<Uuid>,
}

impl Known {
    /// Whether a claim found in the store is this handle's.
    pub(crate) fn owns(&self, claim_id: Uuid) -> bool {
        self.asked == Some(claim_id) || self.held.is_some_and(|held| held.claim_id == claim_id)
    }
}

#[derive(Debug, Default)]
struct Memory {
    known: HashMap<(RunId, i32), Known>,
    released: VecDeque<(RunId, i32)>,
}

/// The claims of one handle.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    memory: Mutex<Memory>,
}

impl Claims {
    /// What is known of a batch.
    pub(crate) fn known(&self, run: RunId, batch: i32) -> Known {
        self.lock().known.get(&(run, batch)).copied().unwrap_or_default()
    }

    /// Chooses the claim id before the request. A request without an answer is repeated under the same id: should
    /// the first one still take effect, it is found to be ours.
    pub(crate) fn ask(&self, run: RunId, batch: i32) -> (Uuid, Known) {
        let mut memory = self.lock();
        let known = memory.known.entry((run, batch)).or_default();
        let claim_id = *known.asked.get_or_insert_with(Uuid::new_v4);
        (claim_id, *known)
    }

    /// The claim was granted.
    pub(crate) fn granted(&self, run: RunId, batch: i32, held: Held) {
        let granted = Known {
            held: Some(held),
            asked: None,
        };
        self.lock().known.insert((run, batch), granted);
    }

    /// The claim was refused for certain.
    pub(crate) fn refused(&self, run: RunId, batch: i32, claim_id: Uuid) {
        let mut memory = self.lock();
        let Some(known) = memory.known.get_mut(&(run, batch)) else {
            return;
        };
        if known.asked == Some(claim_id) {
            known.asked = None;
        }
        if known.held.is_none() && known.asked.is_none() {
            memory.known.remove(&(run, batch));
        }
    }

    /// Whether the claim was granted is not known.
    pub(crate) fn unanswered(&self, run: RunId, batch: i32, claim_id: Uuid) {
        let mut memory = self.lock();
        let known = memory.known.entry((run, batch)).or_default();
        known.asked.get_or_insert(claim_id);
    }

    /// The batch is done; its claim is kept for a while, so that a repeated release is recognised.
    pub(crate) fn released(&self, run: RunId, batch: i32) {
        let mut memory = self.lock();
        memory.released.push_back((run, batch));
        if memory.released.len() > MOST_RELEASED
            && let Some(oldest) = memory.released.pop_front()
        {
            memory.known.remove(&oldest);
        }
    }

    /// The claim is somebody else's now.
    pub(crate) fn lost(&self, run: RunId, batch: i32, held: Held) {
        let mut memory = self.lock();
        if memory
            .known
            .get(&(run, batch))
            .is_some_and(|known| known.held == Some(held) && known.asked.is_none())
        {
            memory.known.remove(&(run, batch));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        // Every change is complete before the guard is dropped, so a panic elsewhere leaves nothing half done.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unanswered_claim_is_asked_for_under_the_same_id() {
        let claims = Claims::default();
        let run = Uuid::new_v4();
        let (first, _) = claims.ask(run, 1);
        assert_eq!(claims.ask(run, 1).0, first);
        claims.refused(run, 1, first);
        assert_ne!(claims.ask(run, 1).0, first);
    }

    #[test]
    fn a_new_request_keeps_the_claim_that_is_held() {
        let claims = Claims::default();
        let run = Uuid::new_v4();
        let held = Held {
            claim_id: Uuid::new_v4(),
            token: 1,
        };
        claims.granted(run, 1, held);
        let (asked, known) = claims.ask(run, 1);
        assert!(known.owns(held.claim_id) && known.owns(asked));
        claims.refused(run, 1, asked);
        assert_eq!(claims.known(run, 1).held, Some(held));
    }

    #[test]
    fn released_claims_are_forgotten_in_the_end() {
        let claims = Claims::default();
        let run = Uuid::new_v4();
        for batch in 0..=MOST_RELEASED as i32 {
            claims.granted(
                run,
                batch,
                Held {
                    claim_id: Uuid::new_v4(),
                    token: 1,
                },
            );
            claims.released(run, batch);
        }
        assert!(claims.known(run, 0).held.is_none());
        assert!(claims.known(run, 1).held.is_some());
        assert_eq!(claims.lock().known.len(), MOST_RELEASED);
    }
}

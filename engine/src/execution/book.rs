//! The claims this process holds, and what is known of their fate.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::sync::Notify;
use uuid::Uuid;

use super::tracker::BatchTracker;
use crate::lifecycle::{BatchClaim, MOST_ATTRIBUTES, Poked, RunClaim, RunId, misfit_attribute};

const HELD: u8 = 0;
const HALTED: u8 = 1;
const LOST: u8 = 2;

/// What a holder may still do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Go on.
    Held,
    /// The run was asked to stop: send nothing more, hand back.
    Halted,
    /// No renewal was answered in time: send nothing more. Somebody may have taken over, so what is written names the
    /// claim, which the database judges; giving the work back with what is known of it costs the fleet least.
    Doubted,
    /// Somebody took over, or long since may have: send nothing more, write nothing.
    Lost,
}

/// The fate of one claim, shared between its holder and the keeper.
#[derive(Debug)]
pub(crate) struct Lease {
    fate: AtomicU8,
    trusted_until: Mutex<Instant>,
    /// How long a doubt may last.
    grace: Duration,
    changed: Notify,
}

impl Lease {
    /// A lease from a request made then, trusted for so long.
    pub(crate) fn new(asked: Instant, trusted: Duration) -> Self {
        Self {
            fate: AtomicU8::new(HELD),
            trusted_until: Mutex::new(asked + trusted),
            grace: trusted,
            changed: Notify::new(),
        }
    }

    /// By what was last heard and the monotonic clock.
    pub(crate) fn fate(&self) -> Fate {
        let overdue = Instant::now().checked_duration_since(*lock(&self.trusted_until));
        match (self.fate.load(Ordering::Acquire), overdue) {
            (LOST, _) => Fate::Lost,
            (_, Some(overdue)) if overdue >= self.grace => Fate::Lost,
            (_, Some(_)) => Fate::Doubted,
            (HALTED, None) => Fate::Halted,
            _ => Fate::Held,
        }
    }

    /// Whether its holder was told to stop. Cheap enough to be asked for each message; the clock is not looked at.
    pub(crate) fn is_told(&self) -> bool {
        self.fate.load(Ordering::Acquire) != HELD
    }

    pub(crate) fn renewed(&self, trusted_until: Instant) {
        *lock(&self.trusted_until) = trusted_until;
    }

    pub(crate) fn halt(&self) {
        self.fate.fetch_max(HALTED, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    pub(crate) fn lose(&self) {
        self.fate.fetch_max(LOST, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    /// Waits until the holder must stop.
    pub(crate) async fn must_stop(&self) -> Fate {
        self.turns_from(Fate::Held).await
    }

    /// Waits until its fate is another one.
    pub(crate) async fn turns_from(&self, known: Fate) -> Fate {
        loop {
            let changed = self.changed.notified();
            let fate = self.fate();
            if fate != known {
                return fate;
            }
            let until = *lock(&self.trusted_until);
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
    }
}

/// A batch in flight.
#[derive(Debug)]
pub(crate) struct HeldBatch {
    pub(crate) claim: BatchClaim,
    pub(crate) tracker: Arc<BatchTracker>,
    pub(crate) lease: Lease,
}

/// A run whose code runs here.
#[derive(Debug)]
pub(crate) struct HeldRun {
    pub(crate) claim: RunClaim,
    pub(crate) lease: Lease,
    poke: Poke,
    /// It does nothing until time passes or something reaches it.
    sits: AtomicBool,
    /// Its code waits for a child whose end it has not heard.
    awaits_child: AtomicBool,
    /// Steps of it that pause before their next try.
    pausing: AtomicU32,
    /// What its code set of its attributes: written when it is let go of.
    attributes: Mutex<Map<String, Value>>,
}

/// A step that pauses.
pub(crate) struct Pausing<'a>(&'a HeldRun);

impl Drop for Pausing<'_> {
    fn drop(&mut self) {
        self.0.sits(false);
        self.0.pausing.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What others did to a run that is held, as far as the keeper has heard.
#[derive(Debug)]
struct Poke {
    wake_seq: AtomicI64,
    paused: AtomicBool,
    forced: AtomicBool,
    changed: Notify,
}

impl HeldRun {
    /// A run that was claimed when it had been woken so often.
    pub(crate) fn new(claim: RunClaim, lease: Lease, wake_seq: i64) -> Self {
        let poke = Poke {
            wake_seq: AtomicI64::new(wake_seq),
            paused: AtomicBool::new(false),
            forced: AtomicBool::new(false),
            changed: Notify::new(),
        };
        Self {
            claim,
            lease,
            poke,
            sits: AtomicBool::new(false),
            awaits_child: AtomicBool::new(false),
            pausing: AtomicU32::new(0),
            attributes: Mutex::default(),
        }
    }

    /// Sets an attribute of the run; says if it cannot be.
    pub(crate) fn set_attribute(&self, name: &str, value: Value) -> Result<(), String> {
        if !value.is_null()
            && let Some(wrong) = misfit_attribute(name, &value)
        {
            return Err(wrong);
        }
        let mut attributes = lock(&self.attributes);
        if attributes.len() >= MOST_ATTRIBUTES && !attributes.contains_key(name) {
            return Err(format!("a run's code sets at most {MOST_ATTRIBUTES} attributes"));
        }
        attributes.insert(name.to_owned(), value);
        Ok(())
    }

    /// The attributes that its code set so far.
    pub(crate) fn attributes(&self) -> Option<Map<String, Value>> {
        let attributes = lock(&self.attributes);
        (!attributes.is_empty()).then(|| attributes.clone())
    }

    pub(crate) fn pause(&self) -> Pausing<'_> {
        self.pausing.fetch_add(1, Ordering::AcqRel);
        Pausing(self)
    }

    pub(crate) fn pausing(&self) -> u32 {
        self.pausing.load(Ordering::Acquire)
    }

    pub(crate) fn sits(&self, sits: bool) {
        self.sits.store(sits, Ordering::Release);
    }

    pub(crate) fn awaits_child(&self, awaits: bool) {
        self.awaits_child.store(awaits, Ordering::Release);
    }

    /// Somebody took over, or long since may have.
    pub(crate) fn is_lost(&self) -> bool {
        self.lease.fate() == Fate::Lost
    }

    /// It does nothing until time passes, and has heard of so many wake-ups.
    #[cfg(feature = "testing")]
    pub(crate) fn is_still(&self, wake_seq: i64) -> bool {
        self.sits.load(Ordering::Acquire) && self.poke.wake_seq.load(Ordering::Acquire) >= wake_seq
    }

    /// Heard of the run.
    pub(crate) fn heard(&self, poked: &Poked) {
        let was_forced = self.poke.forced.swap(poked.forced, Ordering::AcqRel);
        if poked.halted {
            self.lease.halt();
        }
        let before = self.poke.wake_seq.fetch_max(poked.wake_seq, Ordering::AcqRel);
        let paused = self.poke.paused.swap(poked.paused, Ordering::AcqRel);
        if before < poked.wake_seq || paused != poked.paused || was_forced != poked.forced {
            self.sits(false);
            self.poke.changed.notify_one();
        }
    }

    /// What was heard of could not be read; so many wake-ups were. Whoever hears of the run next tells of it again.
    pub(crate) fn unheard(&self, seen: i64) {
        self.poke.wake_seq.fetch_min(seen, Ordering::AcqRel);
    }

    /// Nothing new of it is to begin.
    pub(crate) fn is_paused(&self) -> bool {
        self.poke.paused.load(Ordering::Acquire)
    }

    /// It is to stop without undoing what it did.
    pub(crate) fn is_forced(&self) -> bool {
        self.poke.forced.load(Ordering::Acquire)
    }

    /// What was heard of it before is to be looked at again.
    pub(crate) fn ring(&self) {
        self.poke.changed.notify_one();
    }

    /// Completes when something was heard of the run; one waits.
    pub(crate) async fn poked(&self) {
        self.poke.changed.notified().await;
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Book {
    batches: Mutex<HashMap<Uuid, Arc<HeldBatch>>>,
    /// By the whole claim: the runs of a page share its id.
    runs: Mutex<HashMap<RunClaim, Arc<HeldRun>>>,
}

impl Book {
    pub(crate) fn hold_batch(&self, held: Arc<HeldBatch>) {
        lock(&self.batches).insert(held.claim.claim_id, held);
    }

    pub(crate) fn drop_batch(&self, claim: &BatchClaim) {
        lock(&self.batches).remove(&claim.claim_id);
    }

    pub(crate) fn hold_run(&self, held: Arc<HeldRun>) {
        lock(&self.runs).insert(held.claim, held);
    }

    pub(crate) fn drop_run(&self, claim: &RunClaim) {
        lock(&self.runs).remove(claim);
    }

    pub(crate) fn batches(&self) -> Vec<Arc<HeldBatch>> {
        lock(&self.batches).values().cloned().collect()
    }

    pub(crate) fn runs(&self) -> Vec<Arc<HeldRun>> {
        lock(&self.runs).values().cloned().collect()
    }

    /// Whoever runs the code of these runs here looks at once what reached them.
    pub(crate) fn poke(&self, runs: &BTreeSet<RunId>) {
        let held = lock(&self.runs);
        for held in held.values().filter(|held| runs.contains(&held.claim.run)) {
            held.ring();
        }
    }

    /// Whoever runs code here that waits for a child looks whether that is over.
    pub(crate) fn poke_parents(&self) {
        let held = lock(&self.runs);
        for held in held.values().filter(|held| held.awaits_child.load(Ordering::Acquire)) {
            held.sits(false);
            held.ring();
        }
    }

    pub(crate) fn run_count(&self) -> usize {
        lock(&self.runs).len()
    }

    pub(crate) fn batch_count(&self) -> usize {
        lock(&self.batches).len()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const TRUSTED: Duration = Duration::from_secs(50);

    #[test]
    fn every_run_of_a_page_is_held() {
        let (book, claim_id) = (Book::default(), Uuid::now_v7());
        let claims = [1, 2, 3].map(|_| RunClaim {
            run: Uuid::now_v7(),
            token: 1,
            claim_id,
        });
        for claim in claims {
            book.hold_run(Arc::new(HeldRun::new(claim, asked_ago(Duration::ZERO), 0)));
        }
        book.drop_run(&claims[1]);
        let held: HashSet<_> = book.runs().iter().map(|held| held.claim).collect();
        assert_eq!(held, HashSet::from([claims[0], claims[2]]));
    }

    fn asked_ago(ago: Duration) -> Lease {
        let asked = Instant::now()
            .checked_sub(ago)
            .expect("the clock runs longer than that");
        Lease::new(asked, TRUSTED)
    }

    #[test]
    fn a_lease_is_held_then_doubted_then_lost() {
        assert_eq!(asked_ago(TRUSTED / 2).fate(), Fate::Held);
        assert_eq!(asked_ago(TRUSTED * 3 / 2).fate(), Fate::Doubted);
        assert_eq!(asked_ago(TRUSTED * 2).fate(), Fate::Lost);
    }

    #[test]
    fn a_late_answer_ends_a_doubt_but_no_answer_undoes_a_loss() {
        let doubted = asked_ago(TRUSTED);
        assert!(!doubted.is_told());
        doubted.halt();
        assert!(doubted.is_told());
        assert_eq!(
            doubted.fate(),
            Fate::Doubted,
            "a stop is not known to be ours to settle"
        );
        doubted.renewed(Instant::now() + TRUSTED);
        assert_eq!(doubted.fate(), Fate::Halted);
        doubted.lose();
        doubted.renewed(Instant::now() + TRUSTED);
        assert_eq!(doubted.fate(), Fate::Lost);
    }
}

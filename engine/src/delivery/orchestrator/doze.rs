//! Rest of a thread that takes from a queue: it looks about every millisecond while there is traffic, and is woken only
//! out of a longer sleep, so that whoever fills the queue makes no system call.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Between two looks while there is traffic.
const NAP: Duration = Duration::from_millis(1);
/// After so long without traffic the thread sleeps until it is woken.
const AWAKE_FOR: Duration = Duration::from_millis(50);
/// Nothing depends on it: a sleeper that was not woken looks by itself.
const SLEEP: Duration = Duration::from_secs(1);

/// Where one thread rests.
#[derive(Debug, Default)]
pub(super) struct Doze {
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Doze {
    /// Wakes the thread if it sleeps. Called after something was put where it looks.
    pub(super) fn nudge(&self) {
        // Orders what was put before the look at the flag; the sleeper orders its flag before its last look.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// Wakes it from any rest.
    pub(super) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Rests the calling thread, the only one that does so here: shortly, or until woken when the last traffic is long
    /// ago and it still has nothing to do.
    pub(super) fn rest(&self, last_traffic: Instant, nothing_to_do: impl Fn() -> bool) {
        if last_traffic.elapsed() < AWAKE_FOR {
            thread::park_timeout(NAP);
            return;
        }
        self.thread.get_or_init(thread::current);
        self.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if nothing_to_do() {
            thread::park_timeout(SLEEP);
        }
        self.asleep.store(false, Ordering::Release);
    }

    /// Makes the calling thread the one that is woken.
    pub(super) fn is_mine(&self) {
        self.thread.get_or_init(thread::current);
    }
}

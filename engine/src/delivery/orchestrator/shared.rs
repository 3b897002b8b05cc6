//! What the callers, the pump and the writer share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use concurrent_queue::{ConcurrentQueue, PushError};
use tokio_util::sync::CancellationToken;

use super::super::direct::Topics;
use super::super::key_hash::KeyHash;
use super::counters::{Counters, DirectStats, add};
use super::doze::Doze;
use super::lanes::{LANES, Lanes};
use super::notices::Notices;
use super::pending::Entry;
use super::settings::DirectSettings;
use super::spill::{Reason, Spill};
use super::weight::Memory;

/// Queues, counters and the stop.
pub(super) struct Shared {
    pub(super) settings: DirectSettings,
    pub(super) topics: Topics,
    pub(super) key_hash: KeyHash,
    /// Commands to be sent. Closed: nothing more is accepted.
    pub(super) queue: ConcurrentQueue<Entry>,
    /// Commands to be stored. Closed: the pump puts nothing more into it.
    pub(super) spill: Lanes,
    memory: Memory,
    pub(super) pump: Doze,
    pub(super) counters: Counters,
    pub(super) notices: Notices,
    stop: OnceLock<Stop>,
    writing: AtomicUsize,
    /// All threads have ended.
    pub(super) ended: CancellationToken,
}

/// Until when what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop {
    /// What is not acknowledged by then goes to the table.
    pub(super) send_until: Instant,
    /// What is not stored by then is given up.
    pub(super) give_up_at: Instant,
}

impl Shared {
    pub(super) fn new(settings: DirectSettings, topics: Topics, key_hash: KeyHash, notices: Notices) -> Arc<Self> {
        Arc::new(Self {
            queue: ConcurrentQueue::bounded(settings.queue.max(1)),
            spill: Lanes::new(settings.spill),
            memory: Memory::new(settings.memory),
            settings,
            topics,
            key_hash,
            pump: Doze::default(),
            counters: Counters::default(),
            notices,
            stop: OnceLock::new(),
            writing: AtomicUsize::new(LANES),
            ended: CancellationToken::new(),
        })
    }

    /// Takes a command in, or gives it back: both queues or their memory are full, or nothing more is accepted.
    pub(super) fn accept(&self, mut entry: Entry, later: bool) -> Result<(), Entry> {
        entry.weight = self.memory.take(entry.command.weight());
        if entry.weight.is_none() {
            add(&self.counters.not_accepted, 1);
            return Err(entry);
        }
        if later {
            return self.store(entry, Reason::NotBefore);
        }
        match self.queue.push(entry) {
            Ok(()) => {
                self.pump.nudge();
                Ok(())
            }
            Err(PushError::Full(entry)) => self.store(entry, Reason::QueueFull),
            Err(PushError::Closed(entry)) => {
                add(&self.counters.not_accepted, 1);
                Err(entry)
            }
        }
    }

    fn store(&self, entry: Entry, reason: Reason) -> Result<(), Entry> {
        let back = if self.queue.is_closed() {
            Spill::Entry(entry, reason)
        } else {
            match self.spill.push(Spill::Entry(entry, reason)) {
                Ok(()) => {
                    add(&self.counters.straight, 1);
                    return Ok(());
                }
                Err(back) => back,
            }
        };
        add(&self.counters.not_accepted, 1);
        match back {
            Spill::Entry(entry, _) => Err(entry),
            // What was pushed comes back.
            Spill::Row(..) | Spill::Confirm(_) => Ok(()),
        }
    }

    /// Accepts nothing more and gives what is there so long to be sent or stored. The first stop counts.
    pub(super) fn stop(&self, within: Duration) {
        let now = Instant::now();
        self.stop.get_or_init(|| Stop {
            send_until: now + within / 2,
            give_up_at: now + within,
        });
        self.queue.close();
        self.pump.wake();
        self.spill.wake();
    }

    pub(super) fn stopping(&self) -> Option<Stop> {
        self.stop.get().copied()
    }

    /// Whether what could not be placed so far must be given up.
    pub(super) fn is_over(&self) -> bool {
        self.stopping().is_some_and(|stop| Instant::now() >= stop.give_up_at)
    }

    /// So long, but no longer than a stop leaves time.
    pub(super) fn within_stop(&self, pause: Duration) -> Duration {
        self.stopping().map_or(pause, |stop| {
            let left = stop.give_up_at.saturating_duration_since(Instant::now());
            pause.min(left)
        })
    }

    /// What was done so far.
    pub(super) fn stats(&self) -> DirectStats {
        self.counters.snapshot(self.queue.len(), self.spill.len())
    }

    /// A writer has ended.
    pub(super) fn writer_ended(&self) {
        if self.writing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.ended.cancel();
        }
    }

    /// Counts a command that is lost to this process.
    pub(super) fn unplaced(&self, count: usize) {
        self.counters.unplaced.fetch_add(count as u64, Ordering::Relaxed);
    }
}

//! The queues of the writers. All work on one message goes to one of them, so that it is done in order.

use concurrent_queue::{ConcurrentQueue, PopError};

use super::doze::Doze;
use super::spill::Spill;

/// As many statements are under way at once; more would only take processors from everybody else.
pub(super) const LANES: usize = 2;

/// One queue for each writer.
pub(super) struct Lanes([Lane; LANES]);

/// A writer's queue, and where it rests.
pub(super) struct Lane {
    queue: ConcurrentQueue<Spill>,
    pub(super) doze: Doze,
}

impl Lanes {
    /// Room for so much work, shared evenly.
    pub(super) fn new(room: usize) -> Self {
        let share = room.div_ceil(LANES).max(1);
        Self(std::array::from_fn(|_| Lane {
            queue: ConcurrentQueue::bounded(share),
            doze: Doze::default(),
        }))
    }

    /// Puts work into its lane, or gives it back when that is full or closed.
    pub(super) fn push(&self, spill: Spill) -> Result<(), Spill> {
        let lane = &self.0[(spill.message_id().as_u128() % LANES as u128) as usize];
        match lane.queue.push(spill) {
            Ok(()) => {
                lane.doze.nudge();
                Ok(())
            }
            Err(error) => Err(error.into_inner()),
        }
    }

    pub(super) fn lane(&self, number: usize) -> &Lane {
        &self.0[number]
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|lane| lane.queue.len()).sum()
    }

    /// Nothing more comes.
    pub(super) fn close(&self) {
        for lane in &self.0 {
            lane.queue.close();
        }
        self.wake();
    }

    pub(super) fn wake(&self) {
        for lane in &self.0 {
            lane.doze.wake();
        }
    }
}

impl Lane {
    pub(super) fn pop(&self) -> Result<Spill, PopError> {
        self.queue.pop()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Nothing is there, and something may come.
    pub(super) fn is_quiet(&self) -> bool {
        self.queue.is_empty() && !self.queue.is_closed()
    }
}

//! Whether the brokers stand still: a pure state that knows no clock but the instants it is given.
//!
//! A frozen broker answers nothing and breaks no connection, so neither errors nor breakers tell of it. The age of the
//! oldest unanswered message does. A stall is this orchestrator's own: a slow broker only slows batches down, and their
//! breakers stay closed.

use std::time::{Duration, Instant};

/// Stalled or not, and why not yet.
#[derive(Debug)]
pub(super) struct Stall {
    patience: Duration,
    stalled: bool,
    /// Nothing could be offered since then, for want of room.
    blocked_since: Option<Instant>,
    /// While stalled one command goes out from time to time to find out.
    next_trial: Option<Instant>,
}

impl Stall {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            stalled: false,
            blocked_since: None,
            next_trial: None,
        }
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// A message sent then is overdue.
    pub(super) fn is_overdue(&self, sent: Instant, now: Instant) -> bool {
        now.saturating_duration_since(sent) >= self.patience
    }

    /// Something is overdue, so it stalls; answers whether that is news.
    pub(super) fn overdue(&mut self, now: Instant) -> bool {
        let news = !self.stalled;
        if news {
            self.stalled = true;
            self.next_trial = Some(now + self.patience);
        }
        news
    }

    /// There was no room for a message; answers whether it stalls by that. Sooner than by an overdue message: behind a
    /// full window that nothing leaves the queue grows, and what is in it must be stored in time too.
    pub(super) fn blocked(&mut self, now: Instant) -> bool {
        let since = *self.blocked_since.get_or_insert(now);
        now.saturating_duration_since(since) >= self.patience / 4 && self.overdue(now)
    }

    /// A message was taken.
    pub(super) fn taken(&mut self) {
        self.blocked_since = None;
    }

    /// Messages were acknowledged. That ends a stall, unless those without an answer still fill half of the window: then
    /// only part of the brokers answer, and the rest of the window would soon be gone too. Answers whether it ended.
    pub(super) fn acknowledged(&mut self, overdue: usize, window: usize) -> bool {
        let ended = self.stalled && overdue * 2 <= window;
        if ended {
            self.stalled = false;
            self.blocked_since = None;
            self.next_trial = None;
        }
        ended
    }

    /// Whether one command may go out although it is stalled.
    pub(super) fn may_try(&mut self, now: Instant) -> bool {
        match self.next_trial {
            Some(at) if now >= at => {
                self.next_trial = Some(now + self.patience);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);

    #[test]
    fn an_overdue_message_stalls_once_and_an_acknowledgement_ends_it() {
        let (mut stall, start) = (Stall::new(PATIENCE), Instant::now());
        assert!(!stall.is_overdue(start, start + PATIENCE / 2));
        assert!(stall.is_overdue(start, start + PATIENCE));
        assert!(stall.overdue(start) && !stall.overdue(start));
        assert!(stall.is_stalled());
        assert!(stall.acknowledged(3, 8) && !stall.is_stalled());
        assert!(!stall.acknowledged(0, 8), "it ends once");
    }

    #[test]
    fn a_window_half_full_of_overdue_messages_stays_stalled() {
        let mut stall = Stall::new(PATIENCE);
        stall.overdue(Instant::now());
        assert!(!stall.acknowledged(5, 8) && stall.is_stalled());
        assert!(stall.acknowledged(4, 8));
    }

    #[test]
    fn want_of_room_stalls_only_when_it_lasts() {
        let (mut stall, start) = (Stall::new(PATIENCE), Instant::now());
        assert!(!stall.blocked(start) && !stall.blocked(start + PATIENCE / 8));
        stall.taken();
        assert!(!stall.blocked(start + PATIENCE));
        assert!(stall.blocked(start + PATIENCE + PATIENCE / 4) && stall.is_stalled());
    }

    #[test]
    fn one_command_is_tried_from_time_to_time() {
        let (mut stall, start) = (Stall::new(PATIENCE), Instant::now());
        assert!(!stall.may_try(start));
        stall.overdue(start);
        assert!(!stall.may_try(start + PATIENCE / 2));
        assert!(stall.may_try(start + PATIENCE) && !stall.may_try(start + PATIENCE));
        assert!(stall.may_try(start + PATIENCE * 2));
    }
}

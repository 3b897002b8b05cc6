//! When an undelivered message is tried again, and when no more. Pure.

use std::time::Duration;

use super::publisher::{Failure, Outcome};
use super::undelivered::Settlement;

/// When to try again and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetryPolicy {
    /// Attempts before a message is dead.
    pub(crate) max_attempts: u32,
    /// Delay after the first attempt.
    pub(crate) first_delay: Duration,
    /// Longest delay.
    pub(crate) max_delay: Duration,
}

impl RetryPolicy {
    /// What becomes of a row that was tried `attempts` times before; nothing: it is given back as if never tried.
    ///
    /// While the topic's breaker is open an unknown outcome says nothing of the message, so it costs no attempt.
    pub(crate) fn settle(
        &self,
        attempts: u32,
        outcome: Option<Outcome>,
        topic_open: bool,
        random: f64,
    ) -> Option<Settlement> {
        match outcome? {
            Outcome::Delivered { partition, offset } => Some(Settlement::Delivered { partition, offset }),
            Outcome::Refused(failure) => Some(Settlement::Refused(failure)),
            Outcome::Unknown(_) if topic_open => None,
            Outcome::Unknown(failure) => Some(self.after(attempts, failure, random)),
        }
    }

    fn after(&self, attempts: u32, failure: Failure, random: f64) -> Settlement {
        if attempts.saturating_add(1) >= self.max_attempts {
            return Settlement::Dead(failure);
        }
        Settlement::Retry {
            delay: self.delay(attempts, random),
            failure,
        }
    }

    /// Doubled for each attempt before, shortened at random by up to a quarter so that rows that failed together do
    /// not come back together.
    fn delay(&self, attempts: u32, random: f64) -> Duration {
        let full = self
            .first_delay
            .saturating_mul(1 << attempts.min(20))
            .min(self.max_delay);
        full.mul_f64(1.0 - 0.25 * random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        max_attempts: 4,
        first_delay: Duration::from_secs(5),
        max_delay: Duration::from_secs(15),
    };

    fn failure() -> Failure {
        Failure {
            code: "timed_out",
            detail: "no answer".to_owned(),
        }
    }

    fn unknown() -> Option<Outcome> {
        Some(Outcome::Unknown(failure()))
    }

    #[test]
    fn delays_double_up_to_the_longest_and_then_it_is_dead() {
        let delay = |attempts| match POLICY.settle(attempts, unknown(), false, 0.0) {
            Some(Settlement::Retry { delay, .. }) => Some(delay.as_secs()),
            _ => None,
        };
        assert_eq!([0, 1, 2].map(delay), [Some(5), Some(10), Some(15)]);
        for attempts in [3, 4, u32::MAX] {
            let settled = POLICY.settle(attempts, unknown(), false, 0.0);
            assert_eq!(settled, Some(Settlement::Dead(failure())), "{attempts}");
        }
    }

    #[test]
    fn jitter_shortens_by_a_quarter_at_most() {
        assert_eq!(POLICY.delay(1, 1.0), Duration::from_millis(7500));
        assert_eq!(POLICY.delay(u32::MAX, 1.0), Duration::from_millis(11_250));
    }

    #[test]
    fn an_open_breaker_costs_no_attempt_but_a_known_outcome_stands() {
        assert_eq!(POLICY.settle(3, unknown(), true, 0.0), None);
        let refused = POLICY.settle(0, Some(Outcome::Refused(failure())), true, 0.0);
        assert_eq!(refused, Some(Settlement::Refused(failure())));
        let delivered = Outcome::Delivered {
            partition: 3,
            offset: 7,
        };
        assert_eq!(
            POLICY.settle(9, Some(delivered), true, 0.0),
            Some(Settlement::Delivered {
                partition: 3,
                offset: 7
            })
        );
    }

    #[test]
    fn what_was_not_sent_is_given_back() {
        assert_eq!(POLICY.settle(3, None, false, 0.0), None);
    }
}

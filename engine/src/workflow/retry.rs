//! How often a failed step is tried again, and when.

use std::time::Duration;

/// How often a failed step is tried again, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Tries in all, at least one.
    pub attempts: u32,
    /// Pause after the first failure.
    pub first: Duration,
    /// How many times longer each next pause is.
    pub factor: f64,
    /// Longest pause, but for what `jitter` adds.
    pub longest: Duration,
    /// Share of a pause by which it may be longer or shorter, so that failures of many runs spread.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            first: Duration::from_millis(200),
            factor: 2.0,
            longest: Duration::from_secs(60),
            jitter: 0.2,
        }
    }
}

impl RetryPolicy {
    /// The first failure is the last.
    #[must_use]
    pub fn none() -> Self {
        Self {
            attempts: 1,
            ..Self::default()
        }
    }

    /// How long to wait after so many failures; none when the step has failed for good. `draw` is between 0 and 1.
    pub(crate) fn pause(&self, failures: u32, draw: f64) -> Option<Duration> {
        if failures >= self.attempts {
            return None;
        }
        let power = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let spread = 1.0 + self.jitter.clamp(0.0, 1.0) * (2.0 * draw - 1.0);
        let seconds = self.first.as_secs_f64() * self.factor.max(1.0).powi(power);
        // Bounded before it is made a duration: a long row of failures overflows otherwise.
        let bounded = seconds.min(self.longest.as_secs_f64()) * spread;
        Duration::try_from_secs_f64(bounded).ok().or(Some(self.longest))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_end_with_the_attempts() {
        let policy = RetryPolicy {
            attempts: 40,
            ..RetryPolicy::default()
        };
        let middle: Vec<_> = (1..=4).map(|failures| policy.pause(failures, 0.5).unwrap()).collect();
        assert_eq!(middle, [200, 400, 800, 1600].map(Duration::from_millis));
        assert_eq!(policy.pause(39, 0.5), Some(policy.longest));
        assert_eq!(policy.pause(40, 0.5), None);
        assert_eq!(RetryPolicy::none().pause(1, 0.5), None);
    }

    #[test]
    fn jitter_spreads_a_pause_both_ways() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.pause(1, 0.0), Some(Duration::from_millis(160)));
        assert_eq!(policy.pause(1, 1.0), Some(Duration::from_millis(240)));
    }

    #[test]
    fn absurd_policies_do_not_overflow() {
        let policy = RetryPolicy {
            attempts: u32::MAX,
            factor: f64::INFINITY,
            first: Duration::MAX,
            longest: Duration::MAX,
            jitter: f64::NAN,
        };
        assert!(policy.pause(u32::MAX - 1, 1.0).is_some());
    }
}

//! Queues that something is set for, as whoever claims from them sees them.

use std::time::Duration;

use super::fleet::{RunClaim, WorkRun};

/// Longest name of a queue, tenant, limit key or debounce key, in characters.
pub const LONGEST_QUEUE_NAME: usize = 200;
/// Highest priority of a run.
pub const HIGHEST_PRIORITY: u8 = 20;

/// What is set for a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRule {
    /// The queue.
    pub name: String,
    /// It has limits, is fair or paused: its runs are claimed by [`claim_limited_runs`](super::RunStore::claim_limited_runs).
    pub limited: bool,
    /// How long code may run from its claim until it waits or ends.
    pub max_attempt: Option<Duration>,
}

/// What a replica is to know of queues.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueNews {
    /// Queues that something is set for.
    pub rules: Vec<QueueRule>,
    /// Queues with a name of their own in which runs of the asked workflows wait.
    pub named: Vec<String>,
}

/// What a claim from a limited queue got.
#[derive(Debug, Clone, Default)]
pub struct LimitedClaim {
    /// The runs.
    pub runs: Vec<(RunClaim, WorkRun)>,
    /// When asking again may get more though nothing ends and nothing comes; none: then.
    pub again: Option<Duration>,
}

/// How long a run holds its place in a limited queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Holds {
    /// While its code runs: a run that sleeps or waits for a signal holds none.
    #[default]
    Code,
    /// From its first claim until it is over.
    Run,
}

impl Holds {
    /// As it stands in the tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Run => "run",
        }
    }
}

/// What is to be set for a queue; what is not said is no limit.
///
/// ```
/// use lockgate::lifecycle::QueueSettings;
///
/// let mails = QueueSettings::new("mails").max_running(50).max_per_key(2).rate_per_s(100.0).fair();
/// assert!(mails.check().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct QueueSettings {
    /// The queue; a workflow without one has its own name.
    pub name: String,
    /// Most runs that hold a place at once in the whole fleet.
    pub max_running: Option<u32>,
    /// The same for each limit key.
    pub max_per_key: Option<u32>,
    /// Claims a second in the whole fleet; with [`Holds::Run`] only first ones.
    pub rate_per_s: Option<f64>,
    /// Claims that may come at once after a pause; none: those of a second.
    pub burst: Option<u32>,
    /// Tenants take turns, those with fewest runs under way first.
    pub fair: bool,
    /// How long a run holds its place.
    pub holds: Holds,
    /// How long code may run from its claim until it waits or ends.
    pub max_attempt: Option<Duration>,
}

impl QueueSettings {
    /// A queue without limits.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            max_running: None,
            max_per_key: None,
            rate_per_s: None,
            burst: None,
            fair: false,
            holds: Holds::Code,
            max_attempt: None,
        }
    }

    /// At most so many runs at once in the whole fleet.
    #[must_use]
    pub fn max_running(mut self, runs: u32) -> Self {
        self.max_running = Some(runs);
        self
    }

    /// At most so many runs of each limit key at once.
    #[must_use]
    pub fn max_per_key(mut self, runs: u32) -> Self {
        self.max_per_key = Some(runs);
        self
    }

    /// At most so many claims a second in the whole fleet.
    #[must_use]
    pub fn rate_per_s(mut self, rate: f64) -> Self {
        self.rate_per_s = Some(rate);
        self
    }

    /// So many claims may come at once after a pause.
    #[must_use]
    pub fn burst(mut self, claims: u32) -> Self {
        self.burst = Some(claims);
        self
    }

    /// Tenants take turns.
    #[must_use]
    pub fn fair(mut self) -> Self {
        self.fair = true;
        self
    }

    /// How long a run holds its place.
    #[must_use]
    pub fn holds(mut self, holds: Holds) -> Self {
        self.holds = holds;
        self
    }

    /// Code may run so long from its claim until it waits or ends.
    #[must_use]
    pub fn max_attempt(mut self, time: Duration) -> Self {
        self.max_attempt = Some(time);
        self
    }

    /// Whether it makes sense.
    ///
    /// # Errors
    /// What does not, in words.
    pub fn check(&self) -> Result<(), String> {
        let wrong = |why: String| Err(why);
        let too_many = |limit: Option<u32>| limit.is_some_and(|limit| i32::try_from(limit).is_err());
        if let Some(why) = misnamed(&self.name) {
            return wrong(format!("a queue's name {why}"));
        }
        if self.max_running == Some(0) || self.max_per_key == Some(0) {
            return wrong("a limit is at least 1; pausing the queue keeps everything back".to_owned());
        }
        if too_many(self.max_running) || too_many(self.max_per_key) {
            return wrong(format!("a limit is at most {}", i32::MAX));
        }
        // Of a smaller one the part that a moment gives is no number any more.
        if self.rate_per_s.is_some_and(|rate| !(1e-6..=1e6).contains(&rate)) {
            return wrong("rate_per_s is from 0.000001 to 1000000".to_owned());
        }
        if self.burst.is_some_and(|burst| !(1..=1_000_000).contains(&burst)) {
            return wrong("burst is from 1 to 1000000".to_owned());
        }
        let (shortest, longest) = (Duration::from_secs(1), Duration::from_secs(1000 * 86_400));
        match self.max_attempt {
            Some(time) if time < shortest || time > longest => {
                wrong("max_attempt is from a second to 1000 days".to_owned())
            }
            _ => self.contradiction().map_or(Ok(()), Err),
        }
    }

    /// Settings of which each makes sense, though not together.
    pub(crate) fn contradiction(&self) -> Option<String> {
        match (self.max_per_key, self.max_running) {
            (Some(key), Some(all)) if key > all => Some(format!(
                "max_per_key {key} is above max_running {all} and could never be reached"
            )),
            _ if self.burst.is_some() && self.rate_per_s.is_none() => {
                Some("a burst without a rate_per_s limits nothing".to_owned())
            }
            _ => None,
        }
    }

    /// How much may come at once, when there is a rate.
    pub(crate) fn whole_burst(&self) -> Option<f64> {
        let rate = self.rate_per_s?;
        Some(self.burst.map_or_else(|| rate.ceil().max(1.0), f64::from))
    }

    /// Its runs are claimed through the gate.
    pub(crate) fn is_limited(&self) -> bool {
        self.max_running.is_some() || self.max_per_key.is_some() || self.rate_per_s.is_some() || self.fair
    }
}

/// Why something cannot be the name of a queue, a tenant or a key; none: it can.
pub(crate) fn misnamed(name: &str) -> Option<String> {
    match name.chars().count() {
        0 => Some("is empty".to_owned()),
        length if length > LONGEST_QUEUE_NAME => {
            Some(format!("has {length} characters, more than {LONGEST_QUEUE_NAME}"))
        }
        _ if name.contains('\0') => Some("contains a zero character".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_named() {
        let queue = || QueueSettings::new("mails");
        let wrong = [
            (QueueSettings::new(""), "name is empty"),
            (QueueSettings::new("x".repeat(201)), "201 characters"),
            (queue().max_running(0), "at least 1"),
            (queue().max_running(u32::MAX), "at most"),
            (queue().max_running(2).max_per_key(3), "never be reached"),
            (queue().rate_per_s(-1.0), "from 0.000001"),
            (queue().rate_per_s(1e-300), "from 0.000001"),
            (queue().rate_per_s(f64::NAN), "from 0.000001"),
            (queue().burst(5), "without a rate_per_s"),
            (queue().rate_per_s(1.0).burst(0), "from 1 to 1000000"),
            (queue().max_attempt(Duration::from_millis(10)), "from a second"),
        ];
        for (settings, why) in wrong {
            let said = settings.check().expect_err("it was taken");
            assert!(said.contains(why), "{said}");
        }
        let all = queue().max_running(5).max_per_key(5).rate_per_s(0.1).burst(9).fair();
        assert_eq!(all.holds(Holds::Run).check(), Ok(()));
    }
}

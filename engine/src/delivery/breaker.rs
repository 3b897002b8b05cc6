//! The breaker of one topic: stops claims while the topic cannot take messages. Pure: it knows no
//! clock but the instants it is given and no randomness but its seed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::publisher::TopicTrouble;

/// When to open and how long to stay open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// How many of the most recent outcomes count; at most the window of unconfirmed messages.
    pub window: u32,
    /// How many outcomes must be known before their share means anything.
    pub min_sample: u32,
    /// The share of unknown outcomes, in percent, that opens it.
    pub unknown_percent: u32,
    /// The first pause before a probe.
    pub first_pause: Duration,
    /// The longest pause before a probe.
    pub last_pause: Duration,
    /// How long a probe may go without an end before another one is let through.
    pub probe_timeout: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> BreakerPolicy {
        BreakerPolicy {
            window: 1000,
            min_sample: 50,
            unknown_percent: 50,
            first_pause: Duration::from_secs(1),
            // A probe costs one batch its time and is handed back when it fails; a fleet that rests long after its
            // brokers are back costs more.
            last_pause: Duration::from_secs(10),
            // Twice the default message timeout: a probe's messages have their outcomes by then.
            probe_timeout: Duration::from_secs(60),
        }
    }
}

/// Why a breaker is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The brokers have no such topic.
    TopicMissing,
    /// The brokers do not let this client write to it.
    NotAuthorised,
    /// No broker can be reached.
    AllBrokersDown,
    /// The producer failed for good and is being replaced.
    ProducerFatal,
    /// Most of the recent outcomes are unknown.
    MostlyUnknown,
}

impl Reason {
    /// The reason as it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::TopicMissing => "topic_missing",
            Reason::NotAuthorised => "not_authorised",
            Reason::AllBrokersDown => "all_brokers_down",
            Reason::ProducerFatal => "producer_fatal",
            Reason::MostlyUnknown => "mostly_unknown",
        }
    }
}

impl From<TopicTrouble> for Reason {
    fn from(trouble: TopicTrouble) -> Reason {
        match trouble {
            TopicTrouble::Missing => Reason::TopicMissing,
            TopicTrouble::NotAuthorised => Reason::NotAuthorised,
        }
    }
}

/// What became of messages of the topic, or of the way to it. Refused messages say nothing about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// So many messages were acknowledged.
    Delivered(u32),
    /// So many messages have an unknown outcome.
    Unknown(u32),
    /// The topic, the brokers or the producer are in a trouble that no message can pass.
    Trouble(Reason),
}

/// The right to send one batch through a half-open breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe(u64);

/// How a probe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeEnd {
    /// The broker acknowledged messages of it, and no more were lost than that.
    Delivered,
    /// It failed: messages of it are unknown, or the topic is in trouble.
    Failed,
    /// Nothing was sent, so nothing was learnt.
    NothingSent,
}

/// May a batch be claimed?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Go,
    /// One batch, whose end must be told with [`Breaker::probe_over`].
    Probe(Probe),
    /// Not before this instant.
    Wait(Instant),
}

/// The three states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything goes.
    Closed,
    /// Nothing goes.
    Open,
    /// One batch is on its way to find out.
    HalfOpen,
}

impl BreakerState {
    /// The state as it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half_open",
        }
    }
}

/// What is to be said of a breaker, in times relative to the asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerReport {
    /// Its state.
    pub state: BreakerState,
    /// Why it is not closed.
    pub reason: Option<Reason>,
    /// For how long it has not been closed, over all retries.
    pub not_closed_for: Option<Duration>,
    /// In what time the next probe may go.
    pub retry_in: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed,
    Open {
        since: Instant,
        reason: Reason,
        retry_at: Instant,
    },
    HalfOpen {
        since: Instant,
        reason: Reason,
        probe: Probe,
        until: Instant,
    },
}

/// The state machine of one topic's breaker.
#[derive(Debug, Clone)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: State,
    recent: Recent,
    /// Openings since it was last closed: the exponent of the pause.
    failures: u32,
    probes: u64,
    random: u64,
}

impl Breaker {
    /// A closed breaker. The seed varies the pauses, so that replicas do not probe in step.
    pub fn new(policy: BreakerPolicy, seed: u64) -> Breaker {
        Breaker {
            policy,
            state: State::Closed,
            recent: Recent::default(),
            failures: 0,
            probes: 0,
            random: seed,
        }
    }

    /// Asks to claim a batch. An open breaker whose pause is over becomes half-open by the answer.
    pub fn admit(&mut self, now: Instant) -> Admission {
        let (since, reason) = match self.state {
            State::Closed => return Admission::Go,
            State::Open { retry_at, .. } if now < retry_at => return Admission::Wait(retry_at),
            State::HalfOpen { until, .. } if now < until => return Admission::Wait(until),
            // A probe that never ended (its worker died) is void from here on.
            State::Open { since, reason, .. } | State::HalfOpen { since, reason, .. } => (since, reason),
        };
        self.probes += 1;
        let probe = Probe(self.probes);
        self.state = State::HalfOpen {
            since,
            reason,
            probe,
            until: now + self.policy.probe_timeout,
        };
        Admission::Probe(probe)
    }

    /// Takes in what became of messages. May open a closed breaker, or decide a half-open one.
    pub fn observe(&mut self, observation: Observation, now: Instant) {
        match (self.state, observation) {
            (State::Closed, Observation::Delivered(count)) => self.recent.push(false, count, self.policy.window),
            (State::Closed, Observation::Unknown(count)) => {
                self.recent.push(true, count, self.policy.window);
                if self.recent.mostly_unknown(&self.policy) {
                    self.open(now, Reason::MostlyUnknown, now);
                }
            }
            (State::Closed, Observation::Trouble(reason)) => self.open(now, reason, now),
            // Whoever's message it was: the topic takes messages again.
            (State::HalfOpen { .. }, Observation::Delivered(count)) if count > 0 => self.close(),
            (State::HalfOpen { since, .. }, Observation::Trouble(reason)) => self.open(since, reason, now),
            // Messages that time out while it is half-open were mostly sent before it opened; those of
            // the probe are told by its end. Once open, only a probe can change its mind.
            (State::HalfOpen { .. } | State::Open { .. }, _) => {}
        }
    }

    /// Ends a probe. A probe that was overtaken (decided otherwise, or timed out) changes nothing.
    pub fn probe_over(&mut self, ended: Probe, end: ProbeEnd, now: Instant) {
        let State::HalfOpen {
            since, reason, probe, ..
        } = self.state
        else {
            return;
        };
        if probe != ended {
            return;
        }
        match end {
            ProbeEnd::Delivered => self.close(),
            ProbeEnd::Failed => self.open(since, reason, now),
            ProbeEnd::NothingSent => {
                // Not a failure: the pause does not grow. Still a pause, so that idle workers do not spin.
                self.state = State::Open {
                    since,
                    reason,
                    retry_at: now + self.policy.first_pause,
                };
            }
        }
    }

    /// What is to be said of it now.
    pub fn report(&self, now: Instant) -> BreakerReport {
        let (state, since, reason, next) = match self.state {
            State::Closed => {
                return BreakerReport {
                    state: BreakerState::Closed,
                    reason: None,
                    not_closed_for: None,
                    retry_in: None,
                };
            }
            State::Open {
                since,
                reason,
                retry_at,
            } => (BreakerState::Open, since, reason, retry_at),
            State::HalfOpen {
                since, reason, until, ..
            } => (BreakerState::HalfOpen, since, reason, until),
        };
        BreakerReport {
            state,
            reason: Some(reason),
            not_closed_for: Some(now.saturating_duration_since(since)),
            retry_in: Some(next.saturating_duration_since(now)),
        }
    }

    fn open(&mut self, since: Instant, reason: Reason, now: Instant) {
        let retry_at = now + self.pause();
        self.failures = self.failures.saturating_add(1);
        self.recent = Recent::default();
        self.state = State::Open {
            since,
            reason,
            retry_at,
        };
    }

    fn close(&mut self) {
        self.failures = 0;
        self.recent = Recent::default();
        self.state = State::Closed;
    }

    /// The doubled pause, shortened at random by up to a quarter but never below the first.
    fn pause(&mut self) -> Duration {
        let policy = &self.policy;
        let full = policy
            .first_pause
            .saturating_mul(1 << self.failures.min(20))
            .min(policy.last_pause);
        let first = policy.first_pause.min(policy.last_pause);
        full.mul_f64(1.0 - 0.25 * next_random(&mut self.random)).max(first)
    }
}

/// The most recent outcomes, oldest first, as runs of equal ones.
#[derive(Debug, Clone, Default)]
struct Recent {
    runs: VecDeque<(bool, u32)>,
    total: u32,
    unknown: u32,
}

impl Recent {
    fn push(&mut self, unknown: bool, count: u32, window: u32) {
        let count = count.min(window);
        match self.runs.back_mut() {
            Some((last, length)) if *last == unknown => *length += count,
            _ if count > 0 => self.runs.push_back((unknown, count)),
            _ => {}
        }
        self.total += count;
        self.unknown += if unknown { count } else { 0 };
        while self.total > window {
            self.drop_oldest(self.total - window);
        }
    }

    fn drop_oldest(&mut self, excess: u32) {
        let Some((unknown, length)) = self.runs.front_mut() else {
            return;
        };
        let dropped = excess.min(*length);
        *length -= dropped;
        self.total -= dropped;
        self.unknown -= if *unknown { dropped } else { 0 };
        if *length == 0 {
            self.runs.pop_front();
        }
    }

    fn mostly_unknown(&self, policy: &BreakerPolicy) -> bool {
        let share = u64::from(self.unknown) * 100;
        self.total >= policy.min_sample && share >= u64::from(self.total) * u64::from(policy.unknown_percent)
    }
}

/// A number in `0.0..1.0` from a splitmix64 sequence; quality does not matter here.
fn next_random(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;

//! The breakers of all topics a process writes to.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use chrono::{SecondsFormat, Utc};

use super::breaker::{
    Admission, Breaker, BreakerPolicy, BreakerReport, BreakerState, Observation, Probe, ProbeEnd, Reason,
};
use super::publisher::{PublisherEvents, TopicTrouble};
use crate::telemetry::catalogue::BREAKER_STATE;
use crate::telemetry::closed::BreakerWhy;
use crate::telemetry::{Watching, meters};

/// One breaker a topic, made when the topic is first named.
pub struct Breakers {
    policy: BreakerPolicy,
    topics: Mutex<HashMap<String, Known>>,
}

/// A breaker whose state is told.
struct Known {
    breaker: Breaker,
    state: Arc<AtomicU8>,
    _watching: Watching,
}

impl Known {
    fn new(policy: BreakerPolicy, topic: &str) -> Self {
        let seed = topic
            .bytes()
            .fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let state = Arc::new(AtomicU8::new(number(BreakerState::Closed)));
        let told = state.clone();
        let watching = meters().watch(&BREAKER_STATE, &[topic], move || {
            Some(f64::from(told.load(Ordering::Relaxed)))
        });
        Self {
            breaker: Breaker::new(policy, seed),
            state,
            _watching: watching,
        }
    }

    /// Does something to the breaker, and tells what it is then.
    fn act<T>(&mut self, topic: &str, now: Instant, act: impl FnOnce(&mut Breaker, Instant) -> T) -> T {
        let answer = act(&mut self.breaker, now);
        let report = self.breaker.report(now);
        let before = self.state.swap(number(report.state), Ordering::Relaxed);
        if let (CLOSED, BreakerState::Open, Some(reason)) = (before, report.state, report.reason) {
            meters().breaker_opened(topic, why(reason));
        }
        answer
    }
}

const CLOSED: u8 = 0;

/// As it is told: the more, the worse.
fn number(state: BreakerState) -> u8 {
    match state {
        BreakerState::Closed => CLOSED,
        BreakerState::HalfOpen => 1,
        BreakerState::Open => 2,
    }
}

fn why(reason: Reason) -> BreakerWhy {
    match reason {
        Reason::TopicMissing => BreakerWhy::TopicMissing,
        Reason::NotAuthorised => BreakerWhy::NotAuthorised,
        Reason::AllBrokersDown => BreakerWhy::AllBrokersDown,
        Reason::ProducerFatal => BreakerWhy::ProducerFatal,
        Reason::MostlyUnknown => BreakerWhy::MostlyUnknown,
    }
}

impl Breakers {
    /// No topics yet.
    #[must_use]
    pub fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy,
            topics: Mutex::default(),
        }
    }

    /// Makes the topic known, so that trouble with all brokers is trouble with it.
    pub fn watch(&self, topic: &str) {
        self.with(topic, |_, _| ());
    }

    /// May a batch for this topic be claimed?
    pub fn admit(&self, topic: &str) -> Admission {
        self.with(topic, Breaker::admit)
    }

    /// Whether messages for the topic would go nowhere this moment. Asks nothing of the breaker.
    #[must_use]
    pub fn is_open(&self, topic: &str) -> bool {
        self.with(topic, |breaker, now| breaker.report(now).state == BreakerState::Open)
    }

    /// Whether the topic is not known to take messages again: its breaker is open, or half-open. Asks nothing of it.
    #[must_use]
    pub fn is_in_trouble(&self, topic: &str) -> bool {
        self.with(topic, |breaker, now| breaker.report(now).state != BreakerState::Closed)
    }

    /// Whether an open breaker's pause is over, so that one batch may find out. Asks nothing of the breaker.
    #[must_use]
    pub fn may_probe(&self, topic: &str) -> bool {
        self.with(topic, |breaker, now| {
            breaker.report(now).retry_in.is_some_and(|pause| pause.is_zero())
        })
    }

    /// Takes in what became of messages.
    pub fn observe(&self, topic: &str, observation: Observation) {
        self.with(topic, |breaker, now| breaker.observe(observation, now));
    }

    /// Ends a probe.
    pub fn probe_over(&self, topic: &str, probe: Probe, end: ProbeEnd) {
        self.with(topic, |breaker, now| breaker.probe_over(probe, end, now));
    }

    /// Those that are not closed, of all that a process goes by, as its replica's row shows them: one a topic, in its worst
    /// state, and among those alike the one that has been in trouble for longest.
    #[must_use]
    pub fn report<'a>(all: impl IntoIterator<Item = &'a Self>) -> serde_json::Value {
        let now = Instant::now();
        let mut worst: BTreeMap<String, BreakerReport> = BTreeMap::new();
        for breakers in all {
            for (topic, known) in lock(&breakers.topics).iter() {
                let report = known.breaker.report(now);
                let badness = |report: &BreakerReport| (number(report.state), report.not_closed_for);
                let is_worse = |other| badness(&report) > badness(other);
                if report.state != BreakerState::Closed && worst.get(topic).is_none_or(is_worse) {
                    worst.insert(topic.clone(), report);
                }
            }
        }
        let row = |(topic, report): (String, BreakerReport)| {
            let since = Utc::now() - report.not_closed_for.unwrap_or_default();
            serde_json::json!({
                "topic": topic,
                "state": report.state.as_str(),
                "since": since.to_rfc3339_opts(SecondsFormat::Millis, true),
                "reason": report.reason.map(Reason::as_str),
            })
        };
        worst.into_iter().map(row).collect()
    }

    fn with<T>(&self, topic: &str, act: impl FnOnce(&mut Breaker, Instant) -> T) -> T {
        let mut topics = lock(&self.topics);
        if let Some(known) = topics.get_mut(topic) {
            return known.act(topic, Instant::now(), act);
        }
        let known = topics
            .entry(topic.to_owned())
            .or_insert_with(|| Known::new(self.policy, topic));
        known.act(topic, Instant::now(), act)
    }

    fn trouble_everywhere(&self, reason: Reason) {
        let now = Instant::now();
        for (topic, known) in lock(&self.topics).iter_mut() {
            known.act(topic, now, |breaker, now| {
                breaker.observe(Observation::Trouble(reason), now)
            });
        }
    }
}

/// A breaker is a plain value: a panic while it was held cannot have left it half changed in a way that matters.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl PublisherEvents for Breakers {
    fn topic_trouble(&self, topic: &str, trouble: TopicTrouble) {
        self.observe(topic, Observation::Trouble(trouble.into()));
    }

    fn all_brokers_down(&self) {
        self.trouble_everywhere(Reason::AllBrokersDown);
    }

    fn fatal(&self) {
        self.trouble_everywhere(Reason::ProducerFatal);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::catalogue::BREAKER_OPENED;

    const TOPIC: &str = "email_commands";

    #[test]
    fn a_topic_under_probe_is_in_trouble_though_its_breaker_is_not_open() {
        let breakers = Breakers::new(BreakerPolicy {
            first_pause: Duration::ZERO,
            last_pause: Duration::ZERO,
            ..BreakerPolicy::default()
        });
        assert!(!breakers.is_in_trouble(TOPIC));
        let opened = || meters().total(&BREAKER_OPENED, Some("all_brokers_down"));
        let before = opened();
        breakers.observe(TOPIC, Observation::Trouble(Reason::AllBrokersDown));
        assert!(opened() > before);
        assert!(breakers.is_open(TOPIC) && breakers.is_in_trouble(TOPIC));
        assert!(matches!(breakers.admit(TOPIC), Admission::Probe(_)));
        assert!(!breakers.is_open(TOPIC) && breakers.is_in_trouble(TOPIC));
        breakers.observe(TOPIC, Observation::Delivered(1));
        assert!(!breakers.is_in_trouble(TOPIC));
    }

    #[test]
    fn of_two_breakers_of_a_topic_the_worse_one_is_told() {
        let hasty = BreakerPolicy {
            first_pause: Duration::ZERO,
            last_pause: Duration::ZERO,
            ..BreakerPolicy::default()
        };
        let [sent, served] = [BreakerPolicy::default(), hasty].map(Breakers::new);
        // Not the time since when: it is told by two clocks that are read one after the other.
        let words = |all: [&Breakers; 2]| {
            let rows = Breakers::report(all).as_array().cloned().unwrap_or_default();
            let word = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
            let rows = rows
                .iter()
                .map(|row| ["topic", "state", "reason"].map(|name| word(row, name)));
            rows.collect::<Vec<_>>()
        };
        let told = || {
            let rows = words([&sent, &served]);
            assert_eq!(rows, words([&served, &sent]));
            rows
        };
        assert!(told().is_empty());
        served.observe("b", Observation::Trouble(Reason::NotAuthorised));
        sent.observe("a", Observation::Trouble(Reason::TopicMissing));
        let (a, b) = (["a", "open", "topic_missing"], ["b", "open", "not_authorised"]);
        assert_eq!(told(), [a, b]);
        // On one of the two ways to it a batch is already finding out.
        assert!(matches!(served.admit("b"), Admission::Probe(_)));
        sent.observe("b", Observation::Trouble(Reason::AllBrokersDown));
        assert_eq!(told(), [a, ["b", "open", "all_brokers_down"]]);
    }
}

//! What became of a batch's messages, topic by topic: what breakers are fed with and probes are judged by.

use std::sync::Arc;

use crate::delivery::{Breakers, Observation, Probe, ProbeEnd};

/// The messages that a batch has sent to one topic.
#[derive(Debug)]
struct Tally {
    topic: Arc<str>,
    delivered: u32,
    unknown: u32,
}

/// Those of all topics of a batch, which are few.
#[derive(Debug, Default)]
pub(crate) struct Tallies(Vec<Tally>);

impl Tallies {
    /// The place of a topic, and whether it is new here.
    pub(crate) fn place(&mut self, topic: &Arc<str>) -> (usize, bool) {
        if let Some(at) = self.0.iter().position(|tally| tally.topic == *topic) {
            return (at, false);
        }
        self.0.push(Tally {
            topic: topic.clone(),
            delivered: 0,
            unknown: 0,
        });
        (self.0.len() - 1, true)
    }

    pub(crate) fn has(&self, topic: &str) -> bool {
        self.0.iter().any(|tally| *tally.topic == *topic)
    }

    /// Tells each breaker what became of messages since it was told last. The counts, by place, are of the whole batch.
    pub(crate) fn tell(&mut self, breakers: &Breakers, delivered: &[u32], unknown: &[u32]) {
        for (at, tally) in self.0.iter_mut().enumerate() {
            if delivered[at] > tally.delivered {
                let news = Observation::Delivered(delivered[at] - tally.delivered);
                breakers.observe(&tally.topic, news);
            }
            if unknown[at] > tally.unknown {
                breakers.observe(&tally.topic, Observation::Unknown(unknown[at] - tally.unknown));
            }
            (tally.delivered, tally.unknown) = (delivered[at], unknown[at]);
        }
    }

    /// Each topic, and how many of its messages were delivered.
    pub(crate) fn delivered(&self) -> impl Iterator<Item = (&Arc<str>, u32)> {
        self.0.iter().map(|tally| (&tally.topic, tally.delivered))
    }

    /// The topic, when there is one.
    pub(crate) fn only_topic(&self) -> Option<&str> {
        match self.0.as_slice() {
            [tally] => Some(&tally.topic),
            _ => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the outcome of any message is known to be unknown.
    pub(crate) fn any_unknown(&self) -> bool {
        self.0.iter().any(|tally| tally.unknown > 0)
    }

    /// Ends the probes that the batch was claimed with.
    pub(crate) fn end(&self, breakers: &Breakers, probes: Vec<(String, Probe)>) {
        for (topic, probe) in probes {
            let sent = self.0.iter().find(|tally| *tally.topic == *topic);
            let end = match sent.map_or((0, 0), |tally| (tally.delivered, tally.unknown)) {
                (0, 0) => ProbeEnd::NothingSent,
                (delivered, unknown) if delivered >= unknown => ProbeEnd::Delivered,
                _ => ProbeEnd::Failed,
            };
            breakers.probe_over(&topic, probe, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::delivery::{Admission, BreakerPolicy, Reason};

    fn breakers() -> Breakers {
        Breakers::new(BreakerPolicy {
            min_sample: 10,
            first_pause: Duration::ZERO,
            last_pause: Duration::from_secs(60),
            ..BreakerPolicy::default()
        })
    }

    #[test]
    fn a_topic_that_takes_nothing_opens_its_own_breaker_and_no_other() {
        let (breakers, mut tallies) = (breakers(), Tallies::default());
        assert_eq!(tallies.place(&Arc::from("good")), (0, true));
        assert_eq!(tallies.place(&Arc::from("bad")), (1, true));
        assert_eq!(tallies.place(&Arc::from("good")), (0, false));
        tallies.tell(&breakers, &[6, 0], &[0, 6]);
        assert!(!breakers.is_open("bad"), "six outcomes are too few to tell");
        tallies.tell(&breakers, &[90, 0], &[0, 10]);
        assert!(breakers.is_open("bad") && !breakers.is_open("good"));
    }

    #[test]
    fn a_probe_is_judged_by_the_messages_of_its_topic() {
        let (breakers, mut tallies) = (breakers(), Tallies::default());
        for topic in ["good", "bad", "unused"] {
            breakers.observe(topic, Observation::Trouble(Reason::AllBrokersDown));
        }
        let probes: Vec<_> = ["good", "bad", "unused"]
            .into_iter()
            .filter_map(|topic| match breakers.admit(topic) {
                Admission::Probe(probe) => Some((topic.to_owned(), probe)),
                _ => None,
            })
            .collect();
        assert_eq!(probes.len(), 3);
        tallies.place(&Arc::from("good"));
        tallies.place(&Arc::from("bad"));
        tallies.tell(&breakers, &[3, 0], &[0, 3]);
        tallies.end(&breakers, probes);
        assert!(!breakers.is_in_trouble("good"));
        assert!(breakers.is_open("bad") && breakers.is_open("unused"));
    }
}

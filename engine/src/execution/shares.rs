//! How much to claim of which queue.

use std::collections::{BTreeMap, BTreeSet};

use crate::lifecycle::Share;

/// Most queues in one question.
pub(crate) const MOST_QUEUES: usize = 64;

/// The queues that are served, and which of them had more than was asked for.
#[derive(Debug)]
pub(crate) struct Queues {
    names: Vec<String>,
    full: BTreeSet<String>,
    turn: usize,
    /// How many were asked in vain since anything came.
    vain: usize,
}

impl Queues {
    pub(crate) fn new(names: Vec<String>) -> Self {
        Self {
            names,
            full: BTreeSet::new(),
            turn: 0,
            vain: 0,
        }
    }

    /// How many are served.
    pub(crate) fn count(&self) -> usize {
        self.names.len()
    }

    /// From now on these are served.
    pub(crate) fn serve(&mut self, names: Vec<String>) {
        if names != self.names {
            self.full.retain(|name| names.contains(name));
            self.names = names;
        }
    }

    /// Whether it had more than was asked for.
    pub(crate) fn is_full(&self, name: &str) -> bool {
        self.full.contains(name)
    }

    /// Deals so many slots out, never more: queues that filled their share last time divide what the others leave, which
    /// are asked for one run each, so that one busy queue of ten gets the page. Queues take turns where slots are few.
    pub(crate) fn deal(&mut self, slots: usize) -> Vec<Share> {
        let asked = self.names.len().min(MOST_QUEUES).min(slots);
        if asked == 0 {
            return Vec::new();
        }
        let names: Vec<&String> = self
            .names
            .iter()
            .cycle()
            .skip(self.turn % self.names.len())
            .take(asked)
            .collect();
        self.turn = (self.turn + asked) % self.names.len();
        let busy = names.iter().filter(|name| self.full.contains(**name)).count();
        let (takers, each) = if busy == 0 { (asked, 0) } else { (busy, 1) };
        let rest = slots - each * (asked - takers);
        let mut place = 0;
        let mut shares = Vec::with_capacity(asked);
        for name in names {
            let takes = if busy == 0 || self.full.contains(name) {
                place += 1;
                rest / takers + usize::from(place <= rest % takers)
            } else {
                1
            };
            shares.push(Share {
                queue: name.clone(),
                take: u32::try_from(takes).unwrap_or(u32::MAX),
            });
        }
        shares
    }

    /// Notes how many runs came of each queue; answers whether any may have more.
    pub(crate) fn learn<'a>(&mut self, asked: &[Share], came: impl Iterator<Item = &'a str>) -> bool {
        let mut got: BTreeMap<&str, usize> = BTreeMap::new();
        for queue in came {
            *got.entry(queue).or_default() += 1;
        }
        self.vain = if got.is_empty() {
            self.vain + asked.len()
        } else {
            asked.len()
        };
        // What was not asked since anything came may have something too.
        let mut more = self.vain < self.names.len();
        if !more {
            self.vain = 0;
        }
        for share in asked {
            if got
                .get(share.queue.as_str())
                .is_some_and(|got| *got >= share.take as usize)
            {
                self.full.insert(share.queue.clone());
                more = true;
            } else {
                self.full.remove(&share.queue);
            }
        }
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(names: &[&str]) -> Queues {
        Queues::new(names.iter().map(|name| (*name).to_owned()).collect())
    }

    fn takes(shares: &[Share]) -> Vec<(&str, u32)> {
        shares.iter().map(|share| (share.queue.as_str(), share.take)).collect()
    }

    #[test]
    fn slots_are_divided_until_it_is_known_who_has_much() {
        let mut queues = queues(&["a", "b", "c"]);
        let shares = queues.deal(10);
        assert_eq!(takes(&shares), [("a", 4), ("b", 3), ("c", 3)]);
        assert!(queues.learn(&shares, ["b", "b", "b", "a"].into_iter()));
        let shares = queues.deal(10);
        assert_eq!(takes(&shares), [("a", 1), ("b", 8), ("c", 1)]);
        assert!(!queues.learn(&shares, std::iter::repeat_n("b", 7)));
        assert_eq!(takes(&queues.deal(10)), [("a", 4), ("b", 3), ("c", 3)]);
    }

    #[test]
    fn never_more_than_the_slots_and_each_queue_has_its_turn() {
        let mut queues = queues(&["a", "b", "c"]);
        let mut asked = BTreeSet::new();
        for _ in 0..3 {
            let shares = queues.deal(1);
            assert_eq!(shares.iter().map(|share| share.take).sum::<u32>(), 1);
            asked.extend(shares.into_iter().map(|share| share.queue));
        }
        assert_eq!(asked.len(), 3);
        assert!(queues.deal(0).is_empty());
        assert!(super::Queues::new(Vec::new()).deal(5).is_empty());
    }

    #[test]
    fn with_few_slots_all_are_asked_before_nothing_is_thought_to_wait() {
        let mut queues = queues(&["a", "b", "c"]);
        let mut more = |came: Option<&str>| {
            let shares = queues.deal(1);
            queues.learn(&shares, came.into_iter())
        };
        assert_eq!([more(None), more(None), more(None)], [true, true, false]);
        assert!(more(Some("a")), "it may have another, and the others were not asked");
        assert_eq!([more(None), more(None)], [true, false]);
    }

    #[test]
    fn a_fleet_of_queues_is_asked_in_parts() {
        let names: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let mut queues = Queues::new(names);
        let first = queues.deal(1_000);
        assert_eq!(first.len(), MOST_QUEUES);
        assert_eq!(first.iter().map(|share| share.take).sum::<u32>(), 1_000);
        assert!(queues.learn(&first, ["7"].into_iter()), "the others are asked at once");
        assert!(!queues.learn(&first, std::iter::empty()));
        let second = queues.deal(1_000);
        let all: BTreeSet<_> = first.iter().chain(&second).map(|share| share.queue.clone()).collect();
        assert_eq!(all.len(), 100);
    }
}

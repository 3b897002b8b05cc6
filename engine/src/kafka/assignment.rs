//! Which partitions a consumer holds, how far each is settled, and what of that the brokers know.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::lag::{Look, looks};
use super::report::Report;
use super::reports::log_line;
use super::sight::Sight;

/// A partition that is held.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// Grows with every assignment: what was read under an earlier one says nothing of this one.
    hold: u64,
    /// The offset behind the last settled record.
    settled: Option<i64>,
    /// The offset that was last handed to the brokers. No callback says whether they took it: the binding sets none (its issue
    /// 856).
    committed: Option<i64>,
    /// The offset that was handed to them twice, some time apart.
    committed_twice: Option<i64>,
    /// The offset of the first record that was read: all before it is settled, or was never there.
    begins: Option<i64>,
    /// The offset behind the last record that was read.
    read: Option<i64>,
    /// What the library last said of it.
    look: Option<Look>,
}

impl Held {
    /// How many of the records that were there at the last look are not settled. It was a moment ago: more may be settled.
    fn lag(&self) -> Option<i64> {
        let look = self.look?;
        if look.read && self.read.is_none_or(|read| self.settled >= Some(read)) {
            return Some(0);
        }
        let from = self.settled.or(self.begins).or(look.from)?;
        Some((look.end - from).max(0))
    }
}

/// The partitions of one topic that are held. Shared by the consumer's thread, its callbacks and who settles.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    held: Mutex<Holds>,
    /// Nothing is to be fetched: who settles is behind.
    paused: AtomicBool,
}

#[derive(Debug, Default)]
struct Holds {
    last: u64,
    partitions: HashMap<i32, Held>,
}

impl Assignment {
    fn lock(&self) -> MutexGuard<'_, Holds> {
        // Every change is whole by itself.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present hold of a partition; 0 when it is not held (its records are settled, their offsets are not ours).
    #[cfg(test)]
    fn hold(&self, partition: i32) -> u64 {
        self.lock().partitions.get(&partition).map_or(0, |held| held.hold)
    }

    fn assign(&self, partitions: impl Iterator<Item = i32>) {
        let mut holds = self.lock();
        for partition in partitions {
            holds.last += 1;
            let held = Held {
                hold: holds.last,
                settled: None,
                committed: None,
                committed_twice: None,
                begins: None,
                read: None,
                look: None,
            };
            holds.partitions.insert(partition, held);
        }
    }

    fn revoke(&self, partitions: impl Iterator<Item = i32>) {
        let mut holds = self.lock();
        for partition in partitions {
            holds.partitions.remove(&partition);
        }
    }

    /// Whoever held them is of no more use: they are assigned anew.
    pub(super) fn revoke_all(&self) {
        self.lock().partitions.clear();
    }

    /// Notes that this was read of a partition, the first one of a hold as where it begins; gives the hold, as `hold` does.
    pub(super) fn reads(&self, partition: i32, offset: i64) -> u64 {
        self.lock().partitions.get_mut(&partition).map_or(0, |held| {
            held.begins = held.begins.or(Some(offset));
            held.read = Some(offset + 1);
            held.hold
        })
    }

    /// Takes in what the library says of partitions, of which others are held by others.
    fn looked_at(&self, looks: &HashMap<i32, Look>) {
        for (partition, held) in &mut self.lock().partitions {
            held.look = looks.get(partition).copied();
        }
    }

    /// How many records of what is held are not settled, as of the last look; `None`: nothing is known of any of it.
    pub(super) fn lag(&self) -> Option<f64> {
        let holds = self.lock();
        let known = holds.partitions.values().filter_map(Held::lag);
        let all = known.reduce(|all, one| all + one);
        all.map(|records| records as f64)
    }

    /// Notes that all before this offset is settled, if the hold is still the same.
    pub(super) fn settle(&self, partition: i32, hold: u64, next: i64) {
        if let Some(held) = self.lock().partitions.get_mut(&partition)
            && held.hold == hold
        {
            held.settled = held.settled.max(Some(next));
        }
    }

    /// What is settled and not committed; counts as committed from now on.
    fn take_uncommitted(&self) -> Vec<(i32, i64)> {
        let mut uncommitted = Vec::new();
        for (partition, held) in &mut self.lock().partitions {
            if let Some(next) = held.settled.filter(|_| held.settled > held.committed) {
                held.committed = held.settled;
                uncommitted.push((*partition, next));
            }
        }
        uncommitted
    }

    /// All that is settled is to be committed again.
    fn forget_commits(&self) {
        for held in self.lock().partitions.values_mut() {
            held.committed = None;
        }
    }

    /// What was committed once is to be committed a second time: a rebalance may have refused the first one.
    pub(super) fn doubt_commits(&self) {
        for held in self.lock().partitions.values_mut() {
            if held.committed != held.committed_twice {
                held.committed_twice = held.committed.take();
            }
        }
    }

    /// Tells the brokers all that is settled, whatever they were told before: there is no later time to tell it.
    pub(super) fn commit_all(&self, consumer: &BaseConsumer<Holder>, topic: &str, mode: CommitMode) {
        self.forget_commits();
        self.commit(consumer, topic, mode);
    }

    /// Tells the brokers what is settled and was not told.
    pub(super) fn commit(&self, consumer: &BaseConsumer<Holder>, topic: &str, mode: CommitMode) {
        let mut offsets = TopicPartitionList::new();
        for (partition, next) in self.take_uncommitted() {
            // Only a negative offset is refused.
            let _ = offsets.add_partition_offset(topic, partition, Offset::Offset(next));
        }
        if offsets.count() == 0 {
            return;
        }
        if let Err(error) = consumer.commit(&offsets, mode) {
            tracing::debug!(%error, "offsets were not committed; what they cover is read again at worst");
            self.forget_commits();
        }
    }

    pub(super) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }
}

/// The callbacks of a consumer; they run on the thread that polls it.
pub(super) struct Holder {
    pub(super) topic: String,
    pub(super) assignment: std::sync::Arc<Assignment>,
    /// Whether the consumer still knows a broker.
    pub(super) sight: Sight,
    /// Another consumer has taken its place, and the assignment.
    pub(super) retired: AtomicBool,
}

fn numbers(partitions: &TopicPartitionList) -> Vec<i32> {
    partitions
        .elements()
        .iter()
        .map(|element| element.partition())
        .collect()
}

impl ClientContext for Holder {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the client library met an error");
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let report = Report::read(statistics);
        self.sight.heard(report.as_ref());
        if let Some(report) = report.filter(|_| !self.retired.load(Ordering::Relaxed)) {
            self.assignment.looked_at(&looks(&report, &self.topic));
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, line);
    }
}

impl ConsumerContext for Holder {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if self.retired.load(Ordering::Relaxed) {
            return;
        }
        match rebalance {
            Rebalance::Assign(partitions) => {
                let partitions = numbers(partitions);
                tracing::info!(name: "partitions_assigned", topic = self.topic, ?partitions, "a consumer has these partitions now");
                self.assignment.assign(partitions.into_iter());
            }
            Rebalance::Revoke(partitions) => {
                let partitions = numbers(partitions);
                tracing::info!(name: "partitions_revoked", topic = self.topic, ?partitions, "a consumer has these partitions no more");
                // Others may hold them already when they are lost; then the commit would be refused. Not waited for here, which
                // might be for ever: the library gives partitions away only when all commits have ended.
                if !consumer.assignment_lost() {
                    self.assignment.commit_all(consumer, &self.topic, CommitMode::Async);
                }
                self.assignment.revoke(partitions.into_iter());
            }
            Rebalance::Error(error) => {
                tracing::warn!(name: "rebalance_failed", topic = self.topic, %error, "partitions could not be taken or given");
            }
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance
            && self.assignment.paused.load(Ordering::Relaxed)
            && let Err(error) = consumer.pause(partitions)
        {
            tracing::debug!(%error, "new partitions were not paused");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_under_an_earlier_hold_is_not_committed() {
        let assignment = Assignment::default();
        assignment.assign([0, 1].into_iter());
        let earlier = assignment.hold(0);
        assignment.settle(0, earlier, 5);
        assignment.settle(1, assignment.hold(1), 3);
        assignment.revoke([0].into_iter());
        assert_eq!(assignment.hold(0), 0);
        assignment.assign([0].into_iter());
        assignment.settle(0, earlier, 9);
        assert_eq!(assignment.take_uncommitted(), [(1, 3)]);
    }

    #[test]
    fn offsets_only_grow_are_committed_once_and_again_after_a_failure() {
        let assignment = Assignment::default();
        assignment.assign([7].into_iter());
        let hold = assignment.hold(7);
        assert_eq!(assignment.take_uncommitted(), []);
        assignment.settle(7, hold, 4);
        assignment.settle(7, hold, 2);
        assert_eq!(assignment.take_uncommitted(), [(7, 4)]);
        assert_eq!(assignment.take_uncommitted(), []);
        assignment.forget_commits();
        assert_eq!(assignment.take_uncommitted(), [(7, 4)]);
    }

    #[test]
    fn what_was_committed_once_is_committed_once_more() {
        let assignment = Assignment::default();
        assignment.assign([7].into_iter());
        let hold = assignment.hold(7);
        assignment.doubt_commits();
        assert_eq!(assignment.take_uncommitted(), []);
        assignment.settle(7, hold, 4);
        for committed in [&[(7, 4)][..], &[(7, 4)], &[], &[]] {
            assert_eq!(assignment.take_uncommitted(), committed);
            assignment.doubt_commits();
        }
        assignment.settle(7, hold, 5);
        assert_eq!(assignment.take_uncommitted(), [(7, 5)]);
        assignment.doubt_commits();
        assert_eq!(assignment.take_uncommitted(), [(7, 5)]);
    }

    #[test]
    fn what_is_held_and_not_settled_is_the_lag() {
        let assignment = Assignment::default();
        let look = |end, from| Look { end, from, read: false };
        assert_eq!(assignment.lag(), None);
        assignment.assign([0, 1, 2].into_iter());
        assert_eq!(assignment.lag(), None, "nothing was heard of what is held");
        // Others hold 3 by now, and of 2 nothing is known yet.
        let report = HashMap::from([(0, look(10, Some(4))), (1, look(8, None)), (3, look(99, Some(1)))]);
        assignment.looked_at(&report);
        assert_eq!(assignment.lag(), Some(6.0));
        // Nothing was ever committed: where it was first read is where it begins.
        assignment.reads(1, 5);
        assignment.reads(1, 6);
        assert_eq!(assignment.lag(), Some(9.0));
        assignment.settle(1, assignment.hold(1), 7);
        assert_eq!(assignment.lag(), Some(7.0));
        // More has come and was settled since that look.
        assignment.settle(0, assignment.hold(0), 12);
        assert_eq!(assignment.lag(), Some(1.0));
        assignment.revoke([1].into_iter());
        assert_eq!(assignment.lag(), Some(0.0));
        // All is fetched: behind the last record there is nothing but the mark of a transaction.
        assignment.reads(0, 12);
        let all = |end| {
            HashMap::from([(
                0,
                Look {
                    end,
                    from: Some(12),
                    read: true,
                },
            )])
        };
        assignment.looked_at(&all(14));
        assert_eq!(assignment.lag(), Some(2.0), "what was read is not settled");
        assignment.settle(0, assignment.hold(0), 13);
        assert_eq!(assignment.lag(), Some(0.0));
        assignment.revoke([0].into_iter());
        assert_eq!(assignment.lag(), None, "what is not held any more is still told");
        assignment.assign([0].into_iter());
        assert_eq!(assignment.lag(), None, "an earlier hold is told");
    }
}

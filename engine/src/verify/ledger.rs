//! What the tables say must, may or must not be in the topics, and how often each item was found there.

use std::collections::HashMap;

use super::findings::{Finding, Findings, Kind, Place};
use super::leaves::{Leaf, Leaves, find_twice};
use super::tables::{BatchFacts, StoredFacts};
use crate::delivery::message_id;
use crate::lifecycle::{RunId, unpack_ids};

/// What is expected of an item, in the two upper bits of its byte; how often it was found is in the lower six.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Expected {
    /// Its batch is not finished, or its messages are not ours to know: nothing is expected.
    Anything = 0,
    /// It was acknowledged.
    Once = 1,
    /// It was sent and nobody knows.
    Maybe = 2,
    /// It was not sent by the claim that finished its batch.
    Never = 3,
}

const COUNT: u8 = 0b0011_1111;
const ALL_EXPECTED: [Expected; 4] = [Expected::Anything, Expected::Once, Expected::Maybe, Expected::Never];

/// Sent by redelivery any number of times: it is not over.
const UNBOUNDED: u32 = u32::MAX;

/// An acknowledged redelivery, to be found where the tables say.
pub(super) struct Redelivered {
    pub(super) message: uuid::Uuid,
    pub(super) batch_seq: Option<i32>,
    pub(super) item: Option<i64>,
    pub(super) found: bool,
}

/// The books of one run.
pub(super) struct Ledger {
    pub(super) origin: RunId,
    pub(super) leaves: Leaves,
    states: Vec<u8>,
    /// Claims by redelivery of the items that had any, by index.
    redelivered: HashMap<usize, u32>,
    pub(super) places: HashMap<Place, Redelivered>,
    /// Claims of a batch that ended otherwise than by finishing it.
    lost_claims: HashMap<i32, u32>,
    pub(super) findings: Findings,
}

impl Ledger {
    pub(super) fn new(origin: RunId) -> Self {
        Self {
            origin,
            leaves: Leaves::default(),
            states: Vec::new(),
            redelivered: HashMap::new(),
            places: HashMap::new(),
            lost_claims: HashMap::new(),
            findings: Findings::default(),
        }
    }

    /// Takes a batch in, by its first outcomes.
    pub(super) fn add_batch(&mut self, facts: &BatchFacts) {
        if facts.status == "claimed" {
            *self.lost_claims.entry(facts.seq).or_default() += 1;
        }
        let Some(leaf) = self.leaves.add(facts, &mut self.findings) else {
            return;
        };
        let (base, count) = (leaf.base, leaf.count);
        let judged = leaf.done && leaf.step.is_some();
        let first = if judged { Expected::Once } else { Expected::Anything };
        self.states.resize(base + count, (first as u8) << 6);
        if judged {
            let items = leaf.items().into_owned();
            self.mark_exceptions(facts, base, &items);
        }
    }

    fn mark_exceptions(&mut self, facts: &BatchFacts, base: usize, items: &[i64]) {
        let lists = [
            ("refused", &facts.refused_ids, Expected::Never),
            ("unknown", &facts.unknown_ids, Expected::Maybe),
            ("skipped", &facts.skipped_ids, Expected::Never),
            ("vanished", &facts.vanished_ids, Expected::Never),
        ];
        for (outcome, packed, expected) in lists {
            let Some(packed) = packed else { continue };
            let listed = match unpack_ids(facts.first_id, packed) {
                Ok(listed) => listed,
                Err(error) => {
                    let what = || Finding::new(Kind::Plan, format!("{outcome} items: {error}")).batch(facts.seq);
                    self.findings.add(Kind::Plan, what);
                    continue;
                }
            };
            for item in listed {
                match items.binary_search(&item) {
                    Ok(at) => self.states[base + at] = (expected as u8) << 6,
                    Err(_) => self.findings.add(Kind::Plan, || {
                        let detail = format!("listed as {outcome}, but not an item of the batch");
                        Finding::new(Kind::Plan, detail).batch(facts.seq).item(item)
                    }),
                }
            }
        }
    }

    pub(super) fn add_lost_claims(&mut self, seq: i32, count: i64) {
        *self.lost_claims.entry(seq).or_default() += u32::try_from(count).unwrap_or(u32::MAX);
    }

    /// Takes an undelivered row in, by its present state.
    pub(super) fn add_stored(&mut self, row: &StoredFacts) {
        if let Some((partition, offset)) = row.place {
            let place = Place {
                topic: row.topic.clone(),
                partition,
                offset,
            };
            let redelivered = Redelivered {
                message: row.message_id,
                batch_seq: row.batch_seq,
                item: row.item_id,
                found: false,
            };
            self.places.insert(place, redelivered);
        }
        let (Some(step), Some(seq), Some(item)) = (&row.step, row.batch_seq, row.item_id) else {
            return;
        };
        let index = self.leaves.index_of(seq, item);
        if index.is_none() || message_id(self.origin, step, item) != row.message_id {
            self.findings.add(Kind::Stored, || {
                let detail = match index {
                    None => format!("undelivered row {} is of no item of the batch", row.id),
                    Some(_) => format!("undelivered row {} has not the item's message id", row.id),
                };
                Finding::new(Kind::Stored, detail)
                    .batch(seq)
                    .item(item)
                    .message(row.message_id)
            });
        }
        if let Some(index) = index.filter(|index| self.expected(*index) != Expected::Anything) {
            self.mark_stored(index, row);
        }
    }

    fn mark_stored(&mut self, index: usize, row: &StoredFacts) {
        let mut sent = u32::try_from(row.claims).unwrap_or(UNBOUNDED);
        let mut expected = self.expected(index);
        match row.status.as_str() {
            "delivered" => {
                // The first attempt may be in the log beside the redelivered one.
                sent += u32::from(expected == Expected::Maybe);
                sent = sent.saturating_sub(1);
                expected = Expected::Once;
            }
            // It may be sent again while we read.
            "due" | "claimed" => sent = UNBOUNDED,
            _ => {}
        }
        if row.reason_code == "kills_worker" && expected == Expected::Never {
            // The last worker that took it may have sent it before it died.
            expected = Expected::Maybe;
        }
        self.states[index] = (expected as u8) << 6;
        if sent > 0 || row.claims > 0 {
            self.redelivered.insert(index, sent);
        }
    }

    /// Looks for items in two batches; all batches have been added.
    pub(super) fn check_plan(&mut self) {
        find_twice(&self.leaves, &mut self.findings);
    }

    pub(super) fn expected(&self, index: usize) -> Expected {
        ALL_EXPECTED[usize::from(self.states[index] >> 6)]
    }

    pub(super) fn copies(&self, index: usize) -> u32 {
        u32::from(self.states[index] & COUNT)
    }

    /// The item of this index is in the topic once more.
    pub(super) fn found(&mut self, index: usize) {
        let state = &mut self.states[index];
        if *state & COUNT < COUNT {
            *state += 1;
        }
    }

    pub(super) fn was_redelivered(&self, index: usize) -> bool {
        self.redelivered.contains_key(&index)
    }

    /// How often an item may be in the topic beyond what is expected of it: each claim of its batch that did not
    /// finish may have sent it, and so may each claim by redelivery.
    pub(super) fn spare(&self, leaf: &Leaf, index: usize) -> u32 {
        let redelivered = self.redelivered.get(&index).copied().unwrap_or(0);
        redelivered.saturating_add(self.lost_claims_of(leaf.seq))
    }

    pub(super) fn lost_claims_of(&self, seq: i32) -> u32 {
        let claims = self.leaves.lineage(seq).filter_map(|seq| self.lost_claims.get(&seq));
        claims.fold(0, |sum, claims| sum.saturating_add(*claims))
    }

    /// Claims that did not finish their batch, and how many messages they may have sent in vain: at most the items of
    /// the batch, and at most the window of a replica.
    pub(super) fn lost_claims(&self, window: u64) -> (u64, u64) {
        let each = self.lost_claims.iter().map(|(seq, claims)| {
            let items = self.leaves.size_of(*seq).min(window);
            (u64::from(*claims), u64::from(*claims) * items)
        });
        each.fold((0, 0), |sum, (claims, sent)| (sum.0 + claims, sum.1 + sent))
    }

    /// Claims by redelivery, of rows that are over.
    pub(super) fn redeliveries(&self) -> u64 {
        let bounded = self.redelivered.values().filter(|sent| **sent != UNBOUNDED);
        bounded.map(|sent| u64::from(*sent)).sum()
    }
}

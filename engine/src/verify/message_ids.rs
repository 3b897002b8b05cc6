//! From a record's message id to its item: the ids of the batch that its header names, made when first asked for.

use std::collections::HashMap;

use uuid::Uuid;

use super::leaves::Leaves;
use crate::delivery::message_id;
use crate::lifecycle::RunId;

/// Ids held at once: some 16 MiB. Records come in the order of their partition, so the batches of the same time are
/// asked for again and again.
const MOST_IDS: usize = 1 << 19;

/// The message ids of the batches used last.
pub(super) struct MessageIds {
    origin: RunId,
    batches: HashMap<i32, Known>,
    held: usize,
    most: usize,
    clock: u64,
}

struct Known {
    /// Ascending, with the index of the item.
    ids: Vec<(Uuid, usize)>,
    used: u64,
}

impl MessageIds {
    pub(super) fn new(origin: RunId) -> Self {
        Self {
            origin,
            batches: HashMap::new(),
            held: 0,
            most: MOST_IDS,
            clock: 0,
        }
    }

    /// The index of the item that the message is of; none: it is no message of the batch.
    pub(super) fn index_of(&mut self, leaves: &Leaves, seq: i32, message: Uuid) -> Option<usize> {
        self.clock += 1;
        if !self.batches.contains_key(&seq) {
            self.make(leaves, seq);
        }
        let known = self.batches.get_mut(&seq)?;
        known.used = self.clock;
        let at = known.ids.binary_search_by_key(&message, |(id, _)| *id).ok()?;
        known.ids.get(at).map(|(_, index)| *index)
    }

    fn make(&mut self, leaves: &Leaves, seq: i32) {
        let mut ids = Vec::new();
        for leaf in leaves.holding(seq) {
            let Some(step) = &leaf.step else { continue };
            for (at, item) in leaf.items().iter().enumerate() {
                ids.push((message_id(self.origin, step, *item), leaf.base + at));
            }
        }
        ids.sort_unstable();
        self.held += ids.len();
        self.batches.insert(seq, Known { ids, used: self.clock });
        while self.held > self.most && self.batches.len() > 1 {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .batches
            .iter()
            .min_by_key(|(_, known)| known.used)
            .map(|(seq, _)| *seq);
        if let Some(known) = oldest.and_then(|seq| self.batches.remove(&seq)) {
            self.held -= known.ids.len();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::verify::findings::Findings;
    use crate::verify::tables::BatchFacts;

    fn batch(seq: i32, status: &str, parent_seq: Option<i32>, first_id: i64, last_id: i64) -> BatchFacts {
        BatchFacts {
            seq,
            step: Some("0:reports".to_owned()),
            status: status.to_owned(),
            parent_seq,
            first_id,
            last_id,
            n_items: (last_id - first_id + 1) as i32,
            ids: None,
            refused_ids: None,
            unknown_ids: None,
            skipped_ids: None,
            vanished_ids: None,
        }
    }

    #[test]
    fn a_split_batch_finds_its_items_in_its_descendants_and_memory_is_bounded() {
        let (origin, mut leaves, mut findings) = (Uuid::from_u128(7), Leaves::default(), Findings::default());
        for facts in [
            batch(1, "split", None, 1, 8),
            batch(2, "done", None, 11, 20),
            batch(3, "done", Some(1), 1, 4),
            batch(4, "split", Some(1), 5, 8),
            batch(5, "done", Some(4), 5, 6),
            batch(6, "done", Some(4), 7, 8),
        ] {
            leaves.add(&facts, &mut findings);
        }
        let mut ids = MessageIds::new(origin);
        ids.most = 12;
        let id = |item| message_id(origin, "0:reports", item);
        let mut item = |seq, item| {
            let index = ids.index_of(&leaves, seq, id(item))?;
            assert!(ids.held <= 12 || ids.batches.len() == 1);
            Some((leaves.of_index(index).seq, leaves.of_index(index).item_at(index)))
        };
        assert_eq!(item(1, 1), Some((3, 1)));
        assert_eq!(item(2, 20), Some((2, 20)));
        assert_eq!(item(1, 8), Some((6, 8)));
        assert_eq!(item(4, 6), Some((5, 6)));
        assert_eq!((item(4, 4), item(2, 8), item(9, 1)), (None, None, None));
        assert!(findings.kept.is_empty());
    }
}

//! The batches of a run and their items, in about a byte an item besides the packed ids.

use std::borrow::Cow;
use std::collections::HashMap;

use super::findings::{Finding, Findings, Kind};
use super::tables::BatchFacts;
use crate::lifecycle::{BadIds, ItemIds, unpack_ids};

/// A batch that holds its items itself.
pub(super) struct Leaf {
    pub(super) seq: i32,
    pub(super) step: Option<String>,
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) count: usize,
    /// Index of its first item among those of the run.
    pub(super) base: usize,
    pub(super) done: bool,
    packed: Option<Vec<u8>>,
}

impl Leaf {
    /// Its items, ascending. They decoded when it was taken in.
    pub(super) fn items(&self) -> Cow<'_, [i64]> {
        let items = match &self.packed {
            None => (self.first..=self.last).collect(),
            Some(packed) => unpack_ids(self.first, packed).unwrap_or_default(),
        };
        Cow::Owned(items)
    }

    pub(super) fn item_at(&self, index: usize) -> i64 {
        let at = index - self.base;
        match &self.packed {
            None => self.first + at as i64,
            Some(_) => self.items().get(at).copied().unwrap_or(self.first),
        }
    }
}

/// All batches of a run.
#[derive(Default)]
pub(super) struct Leaves {
    /// Ascending by number, and so by `base`.
    leaves: Vec<Leaf>,
    /// What a split batch was split into.
    halves: HashMap<i32, Vec<i32>>,
    parents: HashMap<i32, i32>,
    /// Items of each batch, split ones included.
    sizes: HashMap<i32, u64>,
    items: usize,
    /// Highest number, whatever its state.
    pub(super) last_seq: i32,
}

impl Leaves {
    /// Takes the next batch in; a damaged one is a finding, and its items are not known. Batches come ascending.
    pub(super) fn add(&mut self, facts: &BatchFacts, findings: &mut Findings) -> Option<&Leaf> {
        self.last_seq = facts.seq;
        self.sizes.insert(facts.seq, u64::try_from(facts.n_items).unwrap_or(0));
        if let Some(parent) = facts.parent_seq {
            self.parents.insert(facts.seq, parent);
            self.halves.entry(parent).or_default().push(facts.seq);
        }
        if facts.status == "split" {
            return None;
        }
        let ids = match exact_ids(facts) {
            Ok(ids) => ids,
            Err(error) => {
                findings.add(Kind::Plan, || {
                    Finding::new(Kind::Plan, error.to_string()).batch(facts.seq)
                });
                return None;
            }
        };
        self.leaves.push(Leaf {
            seq: facts.seq,
            step: facts.step.clone(),
            first: facts.first_id,
            last: facts.last_id,
            count: ids.len(),
            base: self.items,
            done: facts.status == "done",
            packed: facts.ids.clone(),
        });
        self.items += ids.len();
        self.leaves.last()
    }

    /// How many items they hold.
    pub(super) fn items(&self) -> usize {
        self.items
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Leaf> {
        self.leaves.iter()
    }

    pub(super) fn get(&self, seq: i32) -> Option<&Leaf> {
        let at = self.leaves.binary_search_by_key(&seq, |leaf| leaf.seq).ok()?;
        self.leaves.get(at)
    }

    /// The batch that holds the item of this index.
    pub(super) fn of_index(&self, index: usize) -> &Leaf {
        let after = self.leaves.partition_point(|leaf| leaf.base <= index);
        &self.leaves[after - 1]
    }

    /// Where an item of a batch stands among those of the run.
    pub(super) fn index_of(&self, seq: i32, item: i64) -> Option<usize> {
        let leaf = self.get(seq)?;
        let at = leaf.items().binary_search(&item).ok()?;
        Some(leaf.base + at)
    }

    /// The batches that hold the items of this one: itself, or what it was split into.
    pub(super) fn holding(&self, seq: i32) -> Vec<&Leaf> {
        let mut found = Vec::new();
        let mut open = vec![seq];
        while let Some(seq) = open.pop() {
            found.extend(self.get(seq));
            // A half has a higher number than its parent, so this ends whatever the tables say.
            let halves = self.halves.get(&seq).into_iter().flatten();
            open.extend(halves.filter(|half| **half > seq));
        }
        found
    }

    pub(super) fn size_of(&self, seq: i32) -> u64 {
        self.sizes.get(&seq).copied().unwrap_or(0)
    }

    /// A batch and those it was split from.
    pub(super) fn lineage(&self, seq: i32) -> impl Iterator<Item = i32> {
        std::iter::successors(Some(seq), |seq| {
            self.parents.get(seq).copied().filter(|parent| parent < seq)
        })
    }
}

fn exact_ids(facts: &BatchFacts) -> Result<ItemIds, BadIds> {
    // Before a range is written out: a damaged one may be longer than memory.
    let span = facts.last_id.wrapping_sub(facts.first_id) as u64;
    if facts.ids.is_none() && span.wrapping_add(1) != facts.n_items as u64 {
        return Err(BadIds(
            "first and last item do not go with their number, and no list is stored",
        ));
    }
    ItemIds::from_stored(facts.first_id, facts.last_id, facts.n_items, facts.ids.as_deref())
}

/// Finds items that are in two batches of a step, by the ids themselves.
pub(super) fn find_twice(leaves: &Leaves, findings: &mut Findings) {
    let mut order: Vec<&Leaf> = leaves.iter().collect();
    order.sort_by(|one, other| (&one.step, one.first, one.seq).cmp(&(&other.step, other.first, other.seq)));
    let mut cluster: Vec<&Leaf> = Vec::new();
    let mut reach = i64::MIN;
    for leaf in order {
        // Batches of a plan follow one another; only where ranges overlap can an item be in two.
        let apart = cluster
            .last()
            .is_none_or(|before| before.step != leaf.step || reach < leaf.first);
        if apart {
            find_twice_within(&cluster, findings);
            cluster.clear();
            reach = i64::MIN;
        }
        reach = reach.max(leaf.last);
        cluster.push(leaf);
    }
    find_twice_within(&cluster, findings);
}

fn find_twice_within(cluster: &[&Leaf], findings: &mut Findings) {
    if cluster.len() < 2 {
        return;
    }
    let each = |leaf: &&Leaf| leaf.items().iter().map(|item| (*item, leaf.seq)).collect::<Vec<_>>();
    let mut items: Vec<(i64, i32)> = cluster.iter().flat_map(each).collect();
    items.sort_unstable();
    for pair in items.windows(2) {
        let ((item, seq), (again, other)) = (pair[0], pair[1]);
        if item == again {
            findings.add(Kind::Twice, || {
                Finding::new(Kind::Twice, format!("also an item of batch {seq}"))
                    .batch(other)
                    .item(item)
            });
        }
    }
}

//! The exact items of a batch, in memory and packed.
//!
//! Contiguous batches need no bytes: first, last and count say it all. Others are packed relative to a base, in
//! the shorter of two forms, each number in base 128 (least first, high bit set when more follows):
//! `1` differences, `2` pairs of gap and length of a run of neighbours. `lockgate.decode_ids` reads the same.

const DIFFERENCES: u8 = 1;
const RUNS: u8 = 2;
/// Bounds what damaged bytes can make us allocate.
const MOST_ITEMS: u64 = 1 << 20;

/// Packed ids that do not decode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("packed ids do not decode: {0}")]
pub struct BadIds(pub &'static str);

/// The items of a batch: strictly ascending, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemIds {
    ids: Vec<i64>,
}

impl ItemIds {
    /// Takes ids that ascend strictly.
    ///
    /// # Errors
    /// They are empty or do not ascend.
    pub fn new(ids: Vec<i64>) -> Result<Self, BadIds> {
        if ids.is_empty() {
            return Err(BadIds("no ids"));
        }
        if ids.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(BadIds("ids do not ascend"));
        }
        Ok(Self { ids })
    }

    /// Restores a batch from what its row holds.
    ///
    /// # Errors
    /// The bytes and the counts do not fit together.
    pub fn from_stored(first: i64, last: i64, count: i32, packed: Option<&[u8]>) -> Result<Self, BadIds> {
        let ids: Vec<i64> = match packed {
            None => (first..=last).collect(),
            Some(bytes) => unpack_ids(first, bytes)?,
        };
        if ids.len() != usize::try_from(count).unwrap_or(0) || ids.first() != Some(&first) || ids.last() != Some(&last)
        {
            return Err(BadIds("first, last or count differ from the list"));
        }
        Self::new(ids)
    }

    /// The ids, ascending.
    #[must_use]
    pub fn as_slice(&self) -> &[i64] {
        &self.ids
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Never true: a batch has at least one item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The smallest.
    #[must_use]
    pub fn first(&self) -> i64 {
        self.ids[0]
    }

    /// The largest.
    #[must_use]
    pub fn last(&self) -> i64 {
        self.ids[self.ids.len() - 1]
    }

    /// Where an id stands.
    #[must_use]
    pub fn index_of(&self, id: i64) -> Option<usize> {
        self.ids.binary_search(&id).ok()
    }

    /// The bytes that a row needs besides first, last and count: none when contiguous.
    #[must_use]
    pub fn packed(&self) -> Option<Vec<u8>> {
        (!is_contiguous(&self.ids)).then(|| pack_ids(self.first(), &self.ids))
    }
}

/// Whether ascending ids have no gap.
#[must_use]
pub(crate) fn is_contiguous(ids: &[i64]) -> bool {
    match (ids.first(), ids.last()) {
        (Some(first), Some(last)) => last.wrapping_sub(*first) as u64 == ids.len() as u64 - 1,
        _ => false,
    }
}

/// Packs strictly ascending ids, none below the base.
#[must_use]
pub fn pack_ids(base: i64, ids: &[i64]) -> Vec<u8> {
    let differences = pack_differences(base, ids);
    let runs = pack_runs(base, ids);
    if runs.len() < differences.len() {
        runs
    } else {
        differences
    }
}

fn pack_differences(base: i64, ids: &[i64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ids.len() + 2);
    bytes.push(DIFFERENCES);
    let mut before = base;
    for id in ids {
        push_number(&mut bytes, id.wrapping_sub(before) as u64);
        before = *id;
    }
    bytes
}

fn pack_runs(base: i64, ids: &[i64]) -> Vec<u8> {
    let mut bytes = vec![RUNS];
    let mut next = base;
    let mut at = 0;
    while at < ids.len() {
        let start = ids[at];
        let mut length = 1;
        while at + length < ids.len() && ids[at + length] == start.wrapping_add(length as i64) {
            length += 1;
        }
        push_number(&mut bytes, start.wrapping_sub(next) as u64);
        push_number(&mut bytes, length as u64);
        next = start.wrapping_add(length as i64);
        at += length;
    }
    bytes
}

/// Unpacks what [`pack_ids`] made with the same base.
///
/// # Errors
/// The bytes are cut off, of an unknown form, or not ascending.
pub fn unpack_ids(base: i64, bytes: &[u8]) -> Result<Vec<i64>, BadIds> {
    let (form, mut rest) = bytes.split_first().ok_or(BadIds("no bytes"))?;
    let mut ids = Vec::new();
    // Wider than an id: the run that ends at the largest id has its end beyond it.
    let mut next = i128::from(base);
    while !rest.is_empty() {
        next += i128::from(take_number(&mut rest)?);
        match *form {
            DIFFERENCES => ids.push(id_at(next)?),
            RUNS => {
                let length = take_number(&mut rest)?;
                if ids.len() as u64 + length.min(MOST_ITEMS) >= MOST_ITEMS {
                    return Err(BadIds("more ids than any batch has"));
                }
                for _ in 0..length {
                    ids.push(id_at(next)?);
                    next += 1;
                }
            }
            _ => return Err(BadIds("unknown form")),
        }
    }
    if ids.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(BadIds("ids do not ascend"));
    }
    Ok(ids)
}

fn id_at(wide: i128) -> Result<i64, BadIds> {
    i64::try_from(wide).map_err(|_| BadIds("id out of range"))
}

fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 128 {
        bytes.push((number & 127) as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Result<u64, BadIds> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(BadIds("cut off"))?;
        *bytes = rest;
        number |= u64::from(byte & 127) << shift;
        if byte & 128 == 0 {
            return Ok(number);
        }
    }
    Err(BadIds("number too long"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn contiguous_batches_need_no_bytes() {
        assert_eq!(ItemIds::new(vec![7, 8, 9]).unwrap().packed(), None);
        assert_eq!(ItemIds::from_stored(7, 9, 3, None).unwrap().as_slice(), &[7, 8, 9]);
    }

    #[test]
    fn a_list_that_does_not_ascend_is_not_a_batch() {
        assert!(ItemIds::new(vec![2, 2]).is_err());
        assert!(ItemIds::new(vec![3, 2]).is_err());
        assert!(ItemIds::new(vec![]).is_err());
    }

    #[test]
    fn a_stored_list_must_agree_with_its_row() {
        let bytes = pack_ids(1, &[1, 3, 9]);
        assert!(ItemIds::from_stored(1, 9, 3, Some(&bytes)).is_ok());
        assert!(ItemIds::from_stored(1, 9, 2, Some(&bytes)).is_err());
        assert!(ItemIds::from_stored(1, 8, 3, Some(&bytes)).is_err());
    }

    #[test]
    fn the_shorter_form_is_taken() {
        let clustered: Vec<i64> = (0..500).chain(10_000..10_500).collect();
        assert!(pack_ids(0, &clustered).len() < 12);
        let alternate: Vec<i64> = (0..1000).map(|n| n * 2).collect();
        assert_eq!(pack_ids(0, &alternate).len(), 1001);
    }

    #[test]
    fn the_smallest_and_largest_ids_survive_both_forms() {
        let far_apart = [i64::MIN, -1, i64::MAX];
        assert_eq!(
            unpack_ids(i64::MIN, &pack_ids(i64::MIN, &far_apart)).unwrap(),
            far_apart
        );
        let run_at_the_end: Vec<i64> = std::iter::once(1).chain(i64::MAX - 50..=i64::MAX).collect();
        let packed = pack_ids(1, &run_at_the_end);
        assert_eq!(packed[0], RUNS);
        assert_eq!(unpack_ids(1, &packed).unwrap(), run_at_the_end);
    }

    proptest! {
        #[test]
        fn what_was_packed_unpacks(ids in proptest::collection::btree_set(-10_000i64..10_000, 1..300), spread in 1i64..1_000_000_000) {
            let ids: Vec<i64> = ids.iter().map(|id| id * spread).collect::<BTreeSet<_>>().into_iter().collect();
            prop_assert_eq!(unpack_ids(ids[0], &pack_ids(ids[0], &ids)).unwrap(), ids);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(ids) = unpack_ids(0, &bytes) {
                prop_assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
            }
        }
    }
}

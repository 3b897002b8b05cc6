//! What becomes of the rows of a page by the outcomes of their messages. Pure.

use std::collections::HashMap;

use super::message::Outgoing;
use super::store::{RefusedRow, SettledPage};
use crate::delivery::{Failure, Outcome};

/// What a page came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// What is written.
    pub(super) settled: SettledPage,
    /// How many rows stay, to be sent again.
    pub(super) kept: usize,
    /// Why the first of them stays.
    pub(super) trouble: Option<Failure>,
}

/// A row goes once its message is in the log behind those of the same key before it. From the first of a key that is not,
/// all of that key stay and are sent again, so that what was sent last of each is in order.
pub(super) fn judge(rows: &[Outgoing], outcomes: Vec<Option<Outcome>>) -> Verdict {
    let mut verdict = Verdict::default();
    // Of each key the partition and offset of its last message; none once one of them stays.
    let mut keys: HashMap<&[u8], Option<(i32, i64)>> = HashMap::new();
    for (row, outcome) in rows.iter().zip(outcomes) {
        let last = row.message.key.as_deref().and_then(|key| keys.get(key).copied());
        let stays = match outcome {
            Some(Outcome::Refused(failure)) => {
                verdict.settled.refused.push(RefusedRow {
                    seq: row.place.seq,
                    headers: row.message.headers.clone(),
                    failure,
                });
                continue;
            }
            Some(Outcome::Delivered { partition, offset }) => match last {
                Some(None) => Some(behind()),
                Some(Some((before, at))) if before == partition && at > offset => Some(behind()),
                _ => {
                    verdict.settled.delivered.push(row.place.seq);
                    if let Some(key) = &row.message.key {
                        keys.insert(key, Some((partition, offset)));
                    }
                    continue;
                }
            },
            Some(Outcome::Unknown(failure)) => Some(failure),
            None => None,
        };
        verdict.kept += 1;
        verdict.trouble = verdict.trouble.or(stays);
        if let Some(key) = &row.message.key {
            keys.insert(key, None);
        }
    }
    verdict
}

fn behind() -> Failure {
    Failure {
        code: "out_of_order",
        detail: "a message of the same key before it is not in the log, or behind it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::Place;
    use super::*;
    use crate::delivery::{Headers, Message};

    fn rows(keys: &[Option<&str>]) -> Vec<Outgoing> {
        let row = |(at, key): (usize, &Option<&str>)| Outgoing {
            place: Place {
                not_before: None,
                seq: at as i64 + 1,
            },
            message: Message {
                topic: "topic".into(),
                key: key.map(|key| key.as_bytes().to_vec()),
                payload: Vec::new(),
                headers: Headers::default(),
            },
            broken: false,
        };
        keys.iter().enumerate().map(row).collect()
    }

    fn at(offset: i64) -> Option<Outcome> {
        Some(Outcome::Delivered { partition: 0, offset })
    }

    fn failure() -> Failure {
        Failure {
            code: "timed_out",
            detail: "no answer".to_owned(),
        }
    }

    fn unknown() -> Option<Outcome> {
        Some(Outcome::Unknown(failure()))
    }

    #[test]
    fn what_is_in_the_log_in_order_goes() {
        let rows = rows(&[Some("a"), Some("b"), None, Some("a")]);
        let verdict = judge(&rows, vec![at(1), at(7), at(0), at(2)]);
        assert_eq!(verdict.settled.delivered, [1, 2, 3, 4]);
        assert_eq!((verdict.kept, verdict.trouble), (0, None));
    }

    #[test]
    fn from_the_first_unknown_of_a_key_on_all_of_that_key_stay_and_nothing_else() {
        let rows = rows(&[Some("a"), Some("a"), Some("b"), Some("a"), None, None]);
        let verdict = judge(&rows, vec![at(1), unknown(), at(2), at(3), unknown(), at(4)]);
        assert_eq!(verdict.settled.delivered, [1, 3, 6]);
        assert_eq!((verdict.kept, verdict.trouble), (3, Some(failure())));
    }

    #[test]
    fn what_was_not_offered_stays_with_all_of_its_key() {
        let rows = rows(&[Some("a"), Some("a"), None]);
        let verdict = judge(&rows, vec![None, at(1), None]);
        assert_eq!(verdict.settled, SettledPage::default());
        assert_eq!(verdict.kept, 3);
    }

    #[test]
    fn what_the_log_has_in_the_wrong_order_is_sent_again_behind_the_first() {
        // A neighbour too large for the topic sends others through a second try, behind what was sent meanwhile.
        let rows = rows(&[Some("a"), Some("a"), Some("a")]);
        let verdict = judge(&rows, vec![at(9), at(3), at(10)]);
        assert_eq!(verdict.settled.delivered, [1]);
        assert_eq!(verdict.kept, 2);
        assert_eq!(verdict.trouble.map(|trouble| trouble.code), Some("out_of_order"));
    }

    #[test]
    fn a_refused_row_moves_and_holds_nobody_up() {
        let rows = rows(&[Some("a"), Some("a"), Some("b"), Some("b")]);
        let refused = || Some(Outcome::Refused(failure()));
        let verdict = judge(&rows, vec![refused(), at(1), unknown(), refused()]);
        let moved: Vec<i64> = verdict.settled.refused.iter().map(|row| row.seq).collect();
        assert_eq!(
            (verdict.settled.delivered, moved, verdict.kept),
            (vec![2], vec![1, 4], 1)
        );
    }

    proptest::proptest! {
        /// Nothing is lost or doubled: each row goes, moves or stays; and of a key nothing goes behind what stays.
        #[test]
        fn every_row_has_one_fate(fates in proptest::collection::vec((0..4u8, 0..3u8), 0..40)) {
            let keys: Vec<Option<&str>> = fates.iter().map(|(_, key)| ["x", "y"].get(usize::from(*key)).copied()).collect();
            let rows = rows(&keys);
            let outcomes = fates.iter().enumerate().map(|(place, (fate, _))| match fate {
                0 => None,
                1 => unknown(),
                2 => Some(Outcome::Refused(failure())),
                _ => at(place as i64),
            });
            let verdict = judge(&rows, outcomes.collect());
            let gone = &verdict.settled.delivered;
            let moved: Vec<i64> = verdict.settled.refused.iter().map(|row| row.seq).collect();
            proptest::prop_assert_eq!(gone.len() + moved.len() + verdict.kept, rows.len());
            for (early, late) in rows.iter().enumerate().flat_map(|(at, early)| rows[at + 1..].iter().map(move |late| (early, late))) {
                let stays = !gone.contains(&early.place.seq) && !moved.contains(&early.place.seq);
                if stays && early.message.key.is_some() && early.message.key == late.message.key {
                    proptest::prop_assert!(!gone.contains(&late.place.seq));
                }
            }
        }
    }
}

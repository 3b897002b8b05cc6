//! A kind of command of the tests' own, and what came of those that were enqueued.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use lockgate::delivery::{CommandKind, Direct, InvalidCommand, KeyHash, Topics};
use lockgate::postgres::Outbox;
use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;

use crate::topic::Sent;

/// The n-th note to somebody.
#[derive(Debug, Clone, Serialize)]
pub struct Note {
    /// Where it goes.
    #[serde(skip)]
    pub topic: String,
    /// To whom; notes to one are in order.
    pub to: Option<String>,
    /// Which.
    pub n: u32,
    /// Makes it larger.
    pub filling: String,
}

impl Note {
    /// A small note.
    #[must_use]
    pub fn new(topic: &str, to: Option<&str>, n: u32) -> Self {
        Self {
            topic: topic.to_owned(),
            to: to.map(str::to_owned),
            n,
            filling: String::new(),
        }
    }

    /// The same with so much more in it.
    #[must_use]
    pub fn filled(mut self, bytes: usize) -> Self {
        self.filling = "x".repeat(bytes);
        self
    }
}

impl CommandKind for Note {
    const TYPE: &'static str = "note";

    fn validate(&self) -> Result<(), InvalidCommand> {
        match self.n {
            0 => Err(InvalidCommand {
                field: "n",
                problem: "is zero",
            }),
            _ => Ok(()),
        }
    }

    fn key(&self, _hash: &KeyHash) -> Option<Vec<u8>> {
        self.to.as_ref().map(|to| to.as_bytes().to_vec())
    }

    fn correlation_id(&self) -> &str {
        "notes"
    }

    fn topic(&self) -> Option<Cow<'static, str>> {
        Some(self.topic.clone().into())
    }
}

/// Notes 1 to `each` to everybody, in turns, the last of one of them behind all of the first.
pub fn to_everybody(topic: &str, people: u32, each: u32) -> impl Iterator<Item = Note> {
    let topic = topic.to_owned();
    (1..=each).flat_map(move |n| {
        let topic = topic.clone();
        (0..people).map(move |person| Note::new(&topic, Some(&format!("person {person}")), n))
    })
}

/// Enqueues notes in one transaction and commits it.
///
/// # Panics
/// The database refuses.
pub async fn enqueue(pool: &PgPool, notes: impl Iterator<Item = Note>) -> Vec<Uuid> {
    let outbox = Outbox::new(Topics::default(), KeyHash::none());
    let mut transaction = pool.begin().await.unwrap();
    let ids = outbox
        .enqueue_all_in(&mut transaction, notes.map(Direct::new))
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    ids
}

/// How many records there are beyond the first of each message, when every one of these messages is there, nothing else
/// is, all are intact, and those of each key are in order: the first copies, and the last ones.
///
/// # Panics
/// That does not hold.
#[must_use]
pub fn hold(records: &[Sent], ids: &[Uuid]) -> usize {
    let wanted: BTreeSet<Uuid> = ids.iter().copied().collect();
    assert_eq!(wanted.len(), ids.len(), "an id was given twice");
    let there: BTreeSet<Uuid> = records.iter().map(|record| record.message_id).collect();
    let missing = wanted.difference(&there).count();
    let foreign = there.difference(&wanted).count();
    assert_eq!(
        (missing, foreign),
        (0, 0),
        "of {} messages lost and invented",
        ids.len()
    );
    assert!(
        records.iter().all(|record| record.intact),
        "a checksum is not that of its value"
    );
    let place: BTreeMap<Uuid, usize> = ids.iter().enumerate().map(|(at, id)| (*id, at)).collect();
    let mut first: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
    let mut last: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
    let mut ordered: Vec<&Sent> = records.iter().filter(|record| record.key.is_some()).collect();
    ordered.sort_by_key(|record| (record.partition, record.offset));
    for record in ordered {
        let (key, at) = (record.key.as_deref().unwrap(), place[&record.message_id]);
        let seen = first.entry(key).or_default();
        if !seen.contains(&at) {
            seen.push(at);
        }
        let latest = last.entry(key).or_default();
        latest.retain(|other| *other != at);
        latest.push(at);
    }
    for (what, orders) in [("first", first), ("last", last)] {
        for (key, order) in orders {
            let key = String::from_utf8_lossy(key);
            assert!(
                order.is_sorted(),
                "the {what} copies of {key} are out of order: {order:?}"
            );
        }
    }
    records.len() - wanted.len()
}

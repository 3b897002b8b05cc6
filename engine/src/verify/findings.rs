//! What verification found: counted by kind, the first of each kind kept with all that names it.

use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

/// How many findings of a kind are kept; more say nothing new.
const KEPT: u64 = 20;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The ids of a batch do not decode, do not ascend or are not as many as its row says.
    Plan,
    /// An item is in two batches of a step.
    Twice,
    /// The tables do not agree among themselves on an undelivered message.
    Stored,
    /// Delivered by the tables, not in the topic.
    Lost,
    /// In the topic under this run, but none of its messages.
    Invented,
    /// In the topic, though by the tables nothing was sent for the item.
    Unexpected,
    /// In the topic more often than claims of its batch and redeliveries explain.
    Duplicate,
    /// The value is not what its checksum says.
    Checksum,
    /// Not where the tables say it is.
    Misplaced,
    /// Sent after the run was stopped.
    Late,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// In which batch.
    pub batch_seq: Option<i32>,
    /// With which item.
    pub item_id: Option<i64>,
    /// With which message.
    pub message_id: Option<Uuid>,
    /// Where in the topic.
    pub place: Option<Place>,
    /// In words.
    pub detail: String,
}

/// Where a record is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
}

impl Finding {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            batch_seq: None,
            item_id: None,
            message_id: None,
            place: None,
            detail: detail.into(),
        }
    }

    pub(super) fn batch(mut self, seq: i32) -> Self {
        self.batch_seq = Some(seq);
        self
    }

    pub(super) fn item(mut self, item: i64) -> Self {
        self.item_id = Some(item);
        self
    }

    pub(super) fn message(mut self, message: Uuid) -> Self {
        self.message_id = Some(message);
        self
    }

    pub(super) fn place(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }
}

/// All findings.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) counts: BTreeMap<Kind, u64>,
    pub(super) kept: Vec<Finding>,
}

impl Findings {
    /// Takes a finding in; it is put into words only when it is kept.
    pub(super) fn add(&mut self, kind: Kind, finding: impl FnOnce() -> Finding) {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        if *count <= KEPT {
            self.kept.push(finding());
        }
    }
}

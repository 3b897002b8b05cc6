//! Judges the records of a topic, one at a time.

use std::collections::BTreeSet;
use std::str::FromStr;

use chrono::{DateTime, Duration, Utc};
use uuid::Uuid;

use super::findings::{Finding, Kind, Place};
use super::ledger::Ledger;
use super::message_ids::MessageIds;
use super::tables::RunFacts;
use crate::delivery::Record;

/// How far clocks may be apart, and how long a message that was on its way when a run was stopped may still take.
const LATE: Duration = Duration::seconds(60);

/// Takes records in and keeps the books.
pub(super) struct Judge {
    pub(super) ledger: Ledger,
    ids: MessageIds,
    run: String,
    finished: bool,
    /// Nothing of a stopped run is sent later.
    late_after: Option<DateTime<Utc>>,
    /// Records of the run.
    pub(super) ours: u64,
    /// Records of batches that were planned after the tables were read.
    pub(super) younger: u64,
}

impl Judge {
    pub(super) fn new(run: &RunFacts, ledger: Ledger) -> Self {
        let stopped = matches!(run.status.as_str(), "cancelled" | "failed");
        Self {
            ids: MessageIds::new(run.origin_id),
            run: run.run.to_string(),
            finished: run.finished_at.is_some(),
            late_after: run.finished_at.filter(|_| stopped).map(|at| at + LATE),
            ledger,
            ours: 0,
            younger: 0,
        }
    }

    pub(super) fn record(&mut self, topic: &str, record: &Record) {
        let message: Option<Uuid> = parsed(record, "message-id");
        // A name is made only where it is needed: most records are judged without one.
        let place = || Place {
            topic: topic.to_owned(),
            partition: record.partition,
            offset: record.offset,
        };
        if !self.ledger.places.is_empty() {
            self.check_place(&place(), message);
        }
        if header(record, "run-id") != Some(self.run.as_bytes()) {
            return;
        }
        self.ours += 1;
        let seq: Option<i32> = parsed(record, "batch-seq");
        let index = self.index_of(message, seq, place);
        if let Some(index) = index {
            self.ledger.found(index);
        }
        let wrong_value = checksum(record).err().map(|detail| (Kind::Checksum, detail));
        let problems = wrong_value
            .into_iter()
            .chain(self.late(index, record).map(|detail| (Kind::Late, detail)));
        for (kind, detail) in problems {
            let item = index.map(|index| self.ledger.leaves.of_index(index).item_at(index));
            self.ledger.findings.add(kind, || {
                let mut finding = Finding::new(kind, detail).place(place());
                (finding.item_id, finding.batch_seq, finding.message_id) = (item, seq, message);
                finding
            });
        }
    }

    /// What is redelivered may well be sent when its run is over.
    fn late(&self, index: Option<usize>, record: &Record) -> Option<String> {
        let (after, sent) = self.late_after.zip(record.timestamp)?;
        let expected = sent <= after || self.ledger.was_redelivered(index?);
        (!expected).then(|| format!("sent {sent}, when the run was over"))
    }

    /// A record that the tables point at must be the message they mean.
    fn check_place(&mut self, place: &Place, message: Option<Uuid>) {
        let Some(meant) = self.ledger.places.get_mut(place) else {
            return;
        };
        meant.found = true;
        if message == Some(meant.message) {
            return;
        }
        let mut finding = Finding::new(
            Kind::Misplaced,
            "another message is where the tables say that this one is",
        );
        (finding.batch_seq, finding.item_id) = (meant.batch_seq, meant.item);
        finding = finding.message(meant.message).place(place.clone());
        self.ledger.findings.add(Kind::Misplaced, || finding);
    }

    /// The item that a record of this run is of.
    fn index_of(&mut self, message: Option<Uuid>, seq: Option<i32>, place: impl Fn() -> Place) -> Option<usize> {
        let detail = match (message, seq) {
            (Some(message), Some(seq)) => {
                if let Some(index) = self.ids.index_of(&self.ledger.leaves, seq, message) {
                    return Some(index);
                }
                if seq > self.ledger.leaves.last_seq && !self.finished {
                    self.younger += 1;
                    return None;
                }
                "not a message of the batch that its header names"
            }
            (None, _) => "no message-id in its headers",
            (_, None) => "no batch-seq in its headers",
        };
        self.ledger.findings.add(Kind::Invented, || {
            let mut finding = Finding::new(Kind::Invented, detail).place(place());
            (finding.message_id, finding.batch_seq) = (message, seq);
            finding
        });
        None
    }

    /// What the tables point at and no record was found at.
    pub(super) fn check_places(&mut self, topics: &BTreeSet<String>) {
        let Ledger { places, findings, .. } = &mut self.ledger;
        let mut missing: Vec<_> = places
            .iter()
            .filter(|(place, meant)| !meant.found && topics.contains(&place.topic))
            .collect();
        missing.sort_by_key(|(place, _)| *place);
        for (place, meant) in missing {
            findings.add(Kind::Misplaced, || {
                let mut finding = Finding::new(Kind::Misplaced, "no record is where the tables say that it is");
                (finding.batch_seq, finding.item_id) = (meant.batch_seq, meant.item);
                finding.message(meant.message).place(place.clone())
            });
        }
    }
}

fn header<'a>(record: &'a Record, name: &str) -> Option<&'a [u8]> {
    let found = record.headers.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| value.as_slice())
}

fn parsed<T: FromStr>(record: &Record, name: &str) -> Option<T> {
    std::str::from_utf8(header(record, name)?).ok()?.parse().ok()
}

/// Whether the value is what was sent.
fn checksum(record: &Record) -> Result<(), String> {
    let said = header(record, "crc32c").ok_or("no crc32c in its headers")?;
    let is = format!("{:08x}", crc32c::crc32c(&record.payload));
    match said == is.as_bytes() {
        true => Ok(()),
        false => Err(format!(
            "its crc32c header is {}, its value's is {is}",
            String::from_utf8_lossy(said)
        )),
    }
}

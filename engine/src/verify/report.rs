//! The verdict on a run: what was compared, what was found, and whether it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::findings::{Finding, Kind};
use super::ledger::{Expected, Ledger};
use super::records::Judge;
use super::tables::RunFacts;
use crate::delivery::message_id;

/// What was asked for.
#[derive(Debug, Clone, Serialize)]
pub struct Scope {
    /// Topics that were read.
    pub topics: BTreeSet<String>,
    /// Records from then on.
    pub since: DateTime<Utc>,
    /// The window of a replica: the most that a claim can have sent in vain.
    #[serde(skip)]
    pub window: u64,
}

/// Copies beyond the first, and how many the tables explain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Duplicates {
    /// Copies beyond the first.
    pub extra: u64,
    /// At most so many are explained.
    pub bound: u64,
    /// By claims that did not finish their batch, each of at most its items or the window.
    pub lost_claims: u64,
    /// And by redeliveries.
    pub redeliveries: u64,
}

/// The verdict.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The run.
    pub run_id: Uuid,
    /// Its state when its tables were read.
    pub status: String,
    /// Whether nothing was found.
    pub holds: bool,
    /// What was compared.
    #[serde(flatten)]
    pub scope: Scope,
    /// Records that were read.
    pub records: u64,
    /// Those of the run.
    pub records_of_run: u64,
    /// Those of batches planned while reading; not judged.
    pub records_younger: u64,
    /// Items of the run.
    pub items: u64,
    /// Those that must be in a topic.
    pub delivered: u64,
    /// Those that may be.
    pub uncertain: u64,
    /// Those nothing was sent for.
    pub not_sent: u64,
    /// Those of unfinished batches, or of batches whose messages are the caller's; not judged.
    pub not_judged: u64,
    /// Copies beyond the first.
    pub duplicates: Duplicates,
    /// Findings by kind.
    pub counts: BTreeMap<Kind, u64>,
    /// The first of each kind.
    pub findings: Vec<Finding>,
}

/// Compares what was expected with what was found; all records have been taken in.
pub(super) fn conclude(run: RunFacts, scope: Scope, records: u64, mut judge: Judge) -> Report {
    judge.check_places(&scope.topics);
    let (ours, younger, mut ledger) = (judge.ours, judge.younger, judge.ledger);
    let mut by_expected = [0u64; 4];
    let mut extra = 0u64;
    for index in 0..ledger.leaves.items() {
        let expected = ledger.expected(index);
        by_expected[expected as usize] += 1;
        extra += judge_item(&mut ledger, index, expected);
    }
    let (lost_claims, sent_in_vain) = ledger.lost_claims(scope.window);
    let redeliveries = ledger.redeliveries();
    let bound = sent_in_vain + redeliveries;
    let of = |expected: Expected| by_expected[expected as usize];
    Report {
        run_id: run.run,
        status: run.status,
        holds: ledger.findings.counts.is_empty(),
        scope,
        records,
        records_of_run: ours,
        records_younger: younger,
        items: ledger.leaves.items() as u64,
        delivered: of(Expected::Once),
        uncertain: of(Expected::Maybe),
        not_sent: of(Expected::Never),
        not_judged: of(Expected::Anything),
        duplicates: Duplicates {
            extra,
            bound,
            lost_claims,
            redeliveries,
        },
        counts: ledger.findings.counts,
        findings: ledger.findings.kept,
    }
}

/// Judges one item; answers its copies beyond the first.
fn judge_item(ledger: &mut Ledger, index: usize, expected: Expected) -> u64 {
    let copies = ledger.copies(index);
    let explained = match expected {
        Expected::Anything => return 0,
        Expected::Once | Expected::Maybe => 1,
        Expected::Never => 0,
    };
    if copies <= explained && (copies > 0 || expected != Expected::Once) {
        return 0;
    }
    let leaf = ledger.leaves.of_index(index);
    let spare = ledger.spare(leaf, index);
    let allowed = spare.saturating_add(explained);
    let problem = match (copies, expected) {
        (0, Expected::Once) => Some((Kind::Lost, "delivered by the tables, not in the topic".to_owned())),
        _ if copies <= allowed => None,
        (_, Expected::Never) if allowed == 0 => {
            Some((Kind::Unexpected, "in the topic, but nothing was sent for it".to_owned()))
        }
        _ => Some((
            Kind::Duplicate,
            format!("{copies} times in the topic, claims and redeliveries explain {allowed}"),
        )),
    };
    let (seq, item, step) = (leaf.seq, leaf.item_at(index), leaf.step.clone());
    if let Some((kind, detail)) = problem {
        let origin = ledger.origin;
        ledger.findings.add(kind, || {
            let finding = Finding::new(kind, detail).batch(seq).item(item);
            match step {
                Some(step) => finding.message(message_id(origin, &step, item)),
                None => finding,
            }
        });
    }
    u64::from(copies.saturating_sub(explained))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topics: Vec<&str> = self.scope.topics.iter().map(String::as_str).collect();
        let since = self.scope.since.to_rfc3339_opts(SecondsFormat::Secs, true);
        writeln!(f, "run {} is {}", self.run_id, self.status)?;
        writeln!(
            f,
            "read {} records of {} since {since}, {} of the run",
            self.records,
            topics.join(", "),
            self.records_of_run
        )?;
        writeln!(
            f,
            "{} items: {} delivered, {} uncertain, {} not sent, {} not judged",
            self.items, self.delivered, self.uncertain, self.not_sent, self.not_judged
        )?;
        let Duplicates {
            extra,
            bound,
            lost_claims,
            redeliveries,
        } = self.duplicates;
        writeln!(
            f,
            "{extra} copies beyond the first; {lost_claims} unfinished claims and {redeliveries} redeliveries explain up to {bound}"
        )?;
        if self.records_younger > 0 {
            writeln!(
                f,
                "{} records of batches planned while reading are not judged",
                self.records_younger
            )?;
        }
        for (kind, count) in &self.counts {
            writeln!(f, "{count} {}", kind.words())?;
        }
        for finding in &self.findings {
            writeln!(f, "  {finding}")?;
        }
        write!(f, "{}", if self.holds { "it holds" } else { "it does not hold" })
    }
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::Plan => "problems in the exact items of batches",
            Self::Twice => "items in two batches",
            Self::Stored => "undelivered rows that do not fit their items",
            Self::Lost => "lost items",
            Self::Invented => "invented records",
            Self::Unexpected => "items in the topic for which nothing was sent",
            Self::Duplicate => "items in the topic too often",
            Self::Checksum => "values that are not what was sent",
            Self::Misplaced => "redelivered messages that are not where the tables say",
            Self::Late => "records sent after the run was stopped",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = format!("{:?}", self.kind).to_lowercase();
        write!(f, "{kind}:")?;
        if let Some(item) = self.item_id {
            write!(f, " item {item}")?;
        }
        if let Some(seq) = self.batch_seq {
            write!(f, " batch {seq}")?;
        }
        if let Some(message) = self.message_id {
            write!(f, " message {message}")?;
        }
        if let Some(place) = &self.place {
            write!(f, " at {}[{}]@{}", place.topic, place.partition, place.offset)?;
        }
        write!(f, ": {}", self.detail)
    }
}

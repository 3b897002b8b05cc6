//! What the store has at the end of a pass, held to the writes at which it could have crashed: nothing may have become
//! durable past them.

use std::collections::HashMap;

use super::crashes::{CLAIM, Point, STEP};
use crate::lifecycle::{Kind, RunId, StepState, StepStatus};
use crate::memory::{MemoryRunStore, RunChange};

/// Durable things that no write stands for, by name.
pub(super) fn unseen(store: &MemoryRunStore, points: &[Point]) -> Vec<String> {
    let mut seen: HashMap<RunId, Vec<&str>> = HashMap::new();
    for point in points {
        seen.entry(point.write.run).or_default().push(&point.write.what);
    }
    let mut unseen = Vec::new();
    for run in store.views() {
        let writes = seen.remove(&run.id).unwrap_or_default();
        let mut expect = |times: usize, what: &str, fits: &dyn Fn(&str) -> bool| {
            let found = writes.iter().filter(|write| fits(write)).count();
            if found < times {
                unseen.push(format!("{what} of run {} ({found} of {times})", run.id));
            }
        };
        let claims = usize::try_from(run.token).unwrap_or(0);
        expect(claims, "claims", &|write| write == CLAIM);
        for step in store.steps(run.id) {
            for (what, prefix) in writes_of(&step) {
                expect(1, &what, &|write| write == what || (prefix && write.starts_with(&what)));
            }
        }
        let changes = store.changes(run.id);
        for names in ENDS {
            let ends = changes.iter().filter(|change| ends_of(change) == Some(names)).count();
            expect(ends, names[0], &|write| {
                names.iter().any(|name| write.starts_with(name))
            });
        }
        for batch in store.finished_batches(run.id) {
            let what = format!("end of batch {batch}");
            expect(1, &what, &|write| write == what);
        }
    }
    unseen
}

/// Which writes a step's row comes of; of some only the beginning is known.
fn writes_of(step: &StepState) -> Vec<(String, bool)> {
    let path = &step.path;
    let mut writes = match step.kind {
        Kind::FanOut => vec![
            (format!("opening of {path}"), false),
            (format!("plan of {path} after "), true),
        ],
        Kind::Child => vec![(format!("start of child {path}"), false)],
        _ => Vec::new(),
    };
    // A fan-out is completed by whoever ends its last batch, and what is dropped by what drops it.
    let is_written = matches!(step.status, StepStatus::Completed | StepStatus::Failed) && step.kind != Kind::FanOut;
    if is_written {
        writes.push((format!("{STEP}{path}"), false));
    }
    writes
}

/// How the ends of claims are called.
const ENDS: [&[&str]; 5] = [
    &["end", "continuation"],
    &["failure"],
    &["quarantine", "not undone"],
    &["wait for "],
    &["hand back", "overrun", "wait to undo", "unwinding", "wait for "],
];

fn ends_of(change: &RunChange) -> Option<&'static [&'static str]> {
    // Who lost it wrote nothing.
    change
        .since
        .filter(|_| change.reason.as_deref() != Some("lease ended"))?;
    Some(match change.to {
        "completed" => ENDS[0],
        "failed" | "stopping" => ENDS[1],
        "quarantined" => ENDS[2],
        "suspended" => ENDS[3],
        _ => ENDS[4],
    })
}

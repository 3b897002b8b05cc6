//! Every point at which a process may die or an answer be lost, in one table: the crash tests go through it, the fail
//! points of the engine are held to it, and so is the crash table of ARCHITECTURE.md.

use std::collections::BTreeSet;
use std::path::Path;

/// One point.
#[derive(Debug)]
pub struct CrashPoint {
    /// Its number in the table.
    pub id: &'static str,
    /// The fail point that stands there; none: the fault comes from outside.
    pub fail_point: Option<&'static str>,
    /// Who dies, or what fails, between what.
    pub fault: &'static str,
    /// What is true afterwards.
    pub expected: &'static str,
}

const fn at(id: &'static str, fail_point: &'static str, fault: &'static str, expected: &'static str) -> CrashPoint {
    CrashPoint {
        id,
        fail_point: Some(fail_point),
        fault,
        expected,
    }
}

const fn from_outside(id: &'static str, fault: &'static str, expected: &'static str) -> CrashPoint {
    CrashPoint {
        id,
        fail_point: None,
        fault,
        expected,
    }
}

/// The table. T trigger, P plan, C claim, K publish, D outcome, R stop, E end.
pub const CRASH_POINTS: &[CrashPoint] = &[
    from_outside(
        "T1s",
        "the request to start a run never arrives",
        "nothing was started; asked again, the same key starts it",
    ),
    from_outside(
        "T2s",
        "a run is started, the answer is lost",
        "asked again, the same key finds that run",
    ),
    at(
        "P1",
        "plan.before_chunk",
        "a replica dies between claiming a run and its first batches",
        "another plans it from the start",
    ),
    at(
        "P2",
        "plan.after_chunk",
        "a replica dies mid plan",
        "another goes on at the cursor, which was committed with the batches",
    ),
    at(
        "P3",
        "plan.before_end",
        "a replica dies when all batches are written and the plan is not marked whole",
        "another finds nothing above the cursor and marks it",
    ),
    at(
        "C1",
        "claim.before_commit",
        "a worker dies between its claim and the commit",
        "the batch is free, another claims it",
    ),
    from_outside(
        "C2",
        "a claim is committed, its answer is lost",
        "the claimer finds it by the id it chose and goes on",
    ),
    at(
        "C3",
        "claim.after_commit",
        "a worker dies between claim and first message",
        "the lease ends, another claims it",
    ),
    at(
        "K1",
        "publish.mid",
        "a worker dies mid batch",
        "another sends the batch again from its saved progress; at most the window twice",
    ),
    from_outside(
        "K2",
        "the producer's queue is full",
        "the worker waits for room and renews meanwhile",
    ),
    from_outside(
        "K3",
        "an item has no message: not serialisable, panics",
        "it is stored as refused, its neighbours go",
    ),
    from_outside(
        "K4",
        "the broker refuses a request because of one message",
        "each is sent once alone; the one to blame is stored as refused",
    ),
    from_outside(
        "D1",
        "the broker stands still, reports fail, outcomes are unknown",
        "the breaker opens, batches pause; what is stored is within the window",
    ),
    at(
        "D2",
        "finish.before_commit",
        "a worker dies when all is confirmed and the finish is not sent",
        "another sends what was not saved again; at most the window twice",
    ),
    from_outside(
        "D3",
        "the rows of undelivered items cannot be written",
        "the batch is not finished until they can, or until its lease is lost",
    ),
    from_outside(
        "D4",
        "a finish is committed, its answer is lost",
        "found by the claim's id: nothing is sent again",
    ),
    at(
        "D6",
        "finish.after_commit",
        "the worker of the last batch dies right after its finish",
        "the sweep completes the fan-out",
    ),
    from_outside(
        "D5",
        "a worker is frozen beyond its lease and goes on",
        "another has taken over; it writes nothing",
    ),
    from_outside(
        "R1",
        "a replica is asked to stop mid run",
        "it finishes or hands back with progress and exits with 0: nothing is sent twice",
    ),
    from_outside(
        "R2",
        "a replica is asked to stop, the broker stands still, the deadline passes",
        "it exits with 1 in time; its leases end and others go on",
    ),
    at(
        "E1",
        "run.before_end",
        "a replica dies before it ends the run",
        "another runs the code again, finds the recorded results and ends it",
    ),
    at(
        "E2",
        "run.after_end",
        "a replica dies right after it ended the run",
        "the run has ended once",
    ),
    at(
        "E3",
        "run.after_let_go",
        "a replica dies when the run waits for its batches",
        "others finish them; the last one wakes the run",
    ),
    from_outside(
        "L1",
        "every request of a run is lost once",
        "each is made again; nothing happens twice",
    ),
    from_outside(
        "L2",
        "every answer of a run is lost once",
        "each outcome is found out; nothing happens twice",
    ),
];

/// The fail points in the engine's sources.
///
/// # Panics
/// They cannot be read.
#[must_use]
pub fn in_engine() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(path).unwrap();
                let names = text
                    .split("fail_point!(\"")
                    .skip(1)
                    .filter_map(|rest| rest.split('"').next());
                found.extend(names.map(str::to_owned));
            }
        }
    }
    found
}

/// The table in Markdown, as ARCHITECTURE.md has it.
#[must_use]
pub fn as_markdown() -> String {
    let mut table =
        String::from("| | Fail point | What dies or fails | What is true afterwards |\n|---|---|---|---|\n");
    for CrashPoint {
        id,
        fail_point,
        fault,
        expected,
    } in CRASH_POINTS
    {
        let point = fail_point.map_or_else(|| "from outside".to_owned(), |name| format!("`{name}`"));
        table.push_str(&format!("| {id} | {point} | {fault} | {expected} |\n"));
    }
    table
}

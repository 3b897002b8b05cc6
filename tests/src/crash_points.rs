//! Every point at which a process may die or an answer be lost, in one table: the crash tests go through it, the fail
//! points of the engine are held to it, and so is the crash table of ARCHITECTURE.md.

use std::collections::BTreeSet;
use std::path::Path;

/// One row of the table.
#[derive(Debug)]
pub struct CrashPoint {
    /// Its number.
    pub id: &'static str,
    /// The fail points that stand there; none: the fault comes from outside.
    pub fail_points: &'static [&'static str],
    /// Who dies, or what fails, between what.
    pub fault: &'static str,
    /// What is left in the tables.
    pub left: &'static str,
    /// What happens then.
    pub then: &'static str,
}

const fn at(
    id: &'static str,
    fail_points: &'static [&'static str],
    fault: &'static str,
    left: &'static str,
    then: &'static str,
) -> CrashPoint {
    CrashPoint {
        id,
        fail_points,
        fault,
        left,
        then,
    }
}

/// The table. T trigger, P plan, C claim, K publish, D outcome, R stop, E end, F redelivery, G direct command,
/// O outbox, S consumers, W workflows, N network.
#[rustfmt::skip]
pub const CRASH_POINTS: &[CrashPoint] = &[
    at("T1", &["trigger.before_commit"], "the leader fires a slot → commit", "nothing", "the next leader fires the slot"),
    at("T2", &["trigger.after_commit"], "a slot's run is committed → the leader hears so", "run queued, slot passed", "the slot is unique and remembered: nobody fires it again"),
    at("T3", &[], "tick: leader changes between \"due?\" and insert", "0 or 1 run", "`(schedule, slot)` is unique; the old term writes nothing"),
    at("T4", &[], "start by hand: its request or its answer is lost", "0 or 1 run", "the caller asks again; same key, same run"),
    at("P1", &["plan.before_chunk"], "run claimed → first chunk", "run leased", "lease ends, recovered, planned from the cursor"),
    at("P2", &["plan.after_chunk"], "between chunks", "chunks and cursor together", "the next owner goes on behind the cursor"),
    at("P3", &["plan.before_end"], "last ids written → plan marked whole", "batches, run leased", "recovered; nothing is left above the cursor, the plan is whole"),
    at("C1", &["claim.before_commit"], "claim sent → commit", "free", "somebody else claims"),
    at("C2", &[], "claim commits → answer lost", "claimed", "read again by claim id, else the lease ends"),
    at("C3", &["claim.after_commit"], "claimed → first publish", "claimed", "the lease ends, recovered"),
    at("K1", &["publish.mid"], "mid publish", "some in Kafka", "claimed again; at most W are sent twice, same ids"),
    at("K2", &[], "queue full", "–", "waits, leases renewed; not an error"),
    at("K3", &[], "row cannot be made a message", "–", "that item refused, the batch goes on"),
    at("K4", &[], "too large reported for many", "–", "each sent once alone; alone too large: refused"),
    at("D1", &[], "report failed or timed out", "unknown", "stored with the finish, or kept in the batch when the breaker opens"),
    at("D2", &["finish.before_commit"], "all confirmed → finish commits", "claimed", "sent again, at most W"),
    at("D3", &[], "finish refused by the database", "claimed", "tried again while the lease is trusted, then forgotten and recovered"),
    at("D4", &[], "finish commits → answer lost", "done", "read again by claim id: done and mine"),
    at("D5", &[], "lease gone → finish", "another's claim", "0 rows: nothing is written"),
    at("D6", &["finish.after_commit"], "last batch done → fan-out completed", "step open", "the sweep completes it and wakes the run, whatever others of it do"),
    at("R1", &[], "SIGTERM", "claimed", "no new claims, batches finished, the rest handed back with progress, plans left at their cursors, exit 0"),
    at("R2", &[], "drain deadline passed", "claimed", "leases end; exit 1 says so"),
    at("E1", &["run.before_end"], "code returned → run completed", "run leased", "recovered; the code runs again over recorded results and ends it"),
    at("E2", &["run.after_end"], "run completed → its owner hears so", "completed", "nothing is left to do; it ends once"),
    at("E3", &["run.after_let_go"], "run suspended → its batches done", "batches leased or free", "others finish them; whoever finishes last wakes the run"),
    at("F1", &["redelivery.after_claim", "redelivery.after_publish", "redelivery.after_commit"], "redelivery: claimed → sent → marked", "claimed", "lease ends; at most one more copy a crash"),
    at("F2", &[], "redelivery of a refused row", "–", "never by itself; an operator's act with a reason"),
    at("G1", &["direct.after_publish"], "direct command sent → outcome handled", "nothing", "what had reached the broker arrives once; all else in memory is lost, as the type's docs say"),
    at("G2", &["direct.before_store"], "direct commands taken for the table → stored", "nothing", "what was in memory only is lost; rows of earlier pages are sent"),
    at("G3", &["direct.after_store"], "direct commands stored → their process hears so", "due", "redelivered once under the same id"),
    at("G4", &["direct.before_confirm"], "late acknowledgement → its row settled", "due", "sent once more under the same id"),
    at("O1", &["outbox.after_claim"], "a lane claimed → its first page", "lane leased", "the lease ends, another sends it"),
    at("O2", &["outbox.mid_page"], "mid page", "all rows of the page", "sent again in order, same ids; at most a page a lane and route"),
    at("O3", &["outbox.after_publish"], "page acknowledged → deleted", "all rows of the page", "sent again in order, same ids"),
    at("O4", &["outbox.after_delete"], "page deleted → the next sent, or the lane given back", "lane leased", "the lease ends, another goes on"),
    at("O5", &[], "lane's lease gone → delete", "another's claim", "0 rows: nothing is deleted, moved or read"),
    at("O6", &[], "enqueued → the caller's commit", "nothing", "nothing is sent, others are not held up"),
    at("O7", &[], "broker or topic in trouble", "all rows", "the breaker opens, nothing moves to the undelivered ones, all is sent afterwards"),
    at("O8", &[], "SIGTERM while lanes are sent", "rows not sent", "pages on their way end, the lanes are given back, exit 0"),
    at("O9", &["outbox.after_refuse"], "what can never go is moved → what was delivered is deleted", "all other rows of the page", "sent again in order, same ids; the refused ones are there once"),
    at("S1", &["inbox.before_commit"], "a consumer's effects written → commit", "nothing", "the page is read and settled again"),
    at("S2", &["inbox.after_commit"], "effects and ids committed → offsets committed", "effects, ids", "read again; the ids are known, nothing happens twice"),
    at("S3", &["mail.after_claim"], "an e-mail claimed → handed to the mail server", "sending", "the lease ends; sent once"),
    at("S4", &["mail.after_send"], "the mail server took it → marked as sent", "sending", "the lease ends; sent again under the same Message-ID, at most 8 a crash"),
    at("S5", &[], "the mail server took it → the database takes no mark", "sending", "the mark is repeated until the lease ends and no more of the page is offered; only after a longer outage sent again, at most 8 an outage and sender"),
    at("W1", &["start_runs.before_commit"], "starts on their way → commit", "nothing", "nothing was started, and whoever asks again starts it; a repeat under the same id starts none twice"),
    at("W2", &["start_runs.after_commit"], "starts committed → their caller hears so", "runs queued, or leased when they began at once", "claimed by anybody, or recovered when their leases end"),
    at("W3", &["claim_runs.after_commit"], "a page of runs claimed → their code", "runs leased", "leases end, recovered; nobody is blamed who only stood beside"),
    at("W4", &["step.before_save"], "a step's code returned → its checkpoint", "no row", "it is done again: at least once"),
    at("W5", &["steps.before_commit"], "a group of checkpoints sent → commit", "none of the group", "as W4, for all in it"),
    at("W6", &["steps.after_commit"], "a group of checkpoints committed → their code hears so", "rows", "replayed from there, nothing again"),
    at("W7", &["transaction.before_commit"], "a workflow's rows and their checkpoint written → commit", "nothing", "done again, once"),
    at("W8", &["transaction.after_commit"], "rows and checkpoint committed → their code hears so", "both", "replayed from there, once"),
    at("W9", &["suspend.before_commit"], "all that a run does is wait → let go of", "run leased", "recovered, waits again until the same instants"),
    at("W10", &["suspend.after_commit"], "a waiting run let go of → its process hears so", "run suspended, waits open", "its timer, or a signal, wakes it"),
    at("W11", &[], "a signal commits while its run is let go of", "one more wake-up", "letting go is refused and the signal taken, or the run is awake"),
    at("W12", &["children.before_commit", "children.after_commit"], "a page of children sent → commit, or → their parents hear so", "nothing, or children queued and their steps open", "replayed: the same ids, none is started twice"),
    at("W13", &["endings.before_commit"], "a group of ends sent → commit", "runs leased", "recovered; replayed over recorded steps and ended"),
    at("W14", &["parents.before_wake"], "a child's end is committed → its parent is woken", "child over, parent asleep or held", "the sweep wakes it; code that is held looks by itself"),
    at("W15", &["undo.before_save", "undo.after_save"], "a step undone → recorded, or → its run hears so", "its step done, not undone; or undone", "that one is undone again, or none; the others are not"),
    at("W16", &["continue.before_commit", "continue.after_commit"], "a run's end and the one that goes on sent → commit, or → its process hears so", "neither, or both", "replayed and ended again, or nothing is left to do"),
    at("W17", &["limits.before_commit", "limits.after_claim"], "runs of a limited queue picked → claimed → their code", "nothing, or places held by leased runs", "claimed again; leases end, and their places with them"),
    at("W18", &[], "lease gone → checkpoint, transaction, end", "another's claim", "0 rows: nothing is written; a first result counts for both"),
    at("W21", &["fork.before_commit", "fork.after_commit"], "a run and its copied steps written → commit, or → who asked hears so", "nothing, or the whole copy", "asked again, under an id made before: one run"),
    at("W22", &["stop_children.mid"], "a page of the children of a run that is over is stopped → the next", "the others at work, their steps open", "the sweep stops them, and theirs"),
    at("W23", &["publications.before_commit", "publications.after_commit"], "commands and their steps sent → commit, or → their code hears so", "neither, or both", "published again, or replayed: one row, one message id"),
    at("W24", &["select.before_commit"], "a branch ended first → its select recorded", "no winner", "both run again over what is recorded; either may win"),
    at("W25", &["select.after_commit"], "a select recorded → its code hears so", "the winner, the others dropped", "replayed along the winner alone"),
    at("W26", &["followers.before_wake"], "a scheduled run's end is committed → who waited for it is woken", "run over, the next slot's run asleep", "the sweep wakes it"),
    at("W27", &["stop_lost_children.mid"], "a page of the children of branches that lost a select is stopped → the next", "the others at work, their steps open", "the sweep stops them, while their run goes on"),
    at("W28", &["claim_runs.before_commit"], "a page of runs picked → the claim commits", "nothing", "claimed by anybody, and nobody is blamed"),
    at("W29", &["recover_runs.before_commit", "recover_runs.after_commit"], "a sweep takes runs from the dead → commit, or → it hears so", "runs leased by the dead, or due for anybody", "the next sweep recovers them, or nobody: one death counts once"),
    at("W30", &["settle_stops.before_commit", "settle_stops.after_commit"], "a sweep ends runs that were to stop → commit, or → it hears so", "runs to stop, or over and untold", "the next sweep ends them, or tells of them: each ends once"),
    at("N1", &[], "each request of a replica is lost once", "–", "made again; nothing happens twice"),
    at("N2", &[], "each answer to a replica is lost once", "–", "found out by claim or cursor; nothing happens twice"),
    at("N3", &[], "all connections of a replica go silent, without an end", "what was on its way, or not", "one call waits, the others' connections are closed unasked; as N1 and N2"),
];

/// Fail points at which nobody dies, and the test that arms them: `engine/tests/kafka_blind.rs`.
const NO_DEATHS: [&str; 1] = ["kafka.blind"];

/// The fail points in the sources at which a process dies.
///
/// # Panics
/// They cannot be read.
#[must_use]
pub fn in_sources() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = ["../engine/src", "../workflows/src"]
        .map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
        .to_vec();
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
                found.extend(names.filter(|name| !NO_DEATHS.contains(name)).map(str::to_owned));
            }
        }
    }
    found
}

/// The table in Markdown, as ARCHITECTURE.md has it.
#[must_use]
pub fn as_markdown() -> String {
    let mut table =
        String::from("| # | fail point | death or fault between | left | then |\n| --- | --- | --- | --- | --- |\n");
    for CrashPoint {
        id,
        fail_points,
        fault,
        left,
        then,
    } in CRASH_POINTS
    {
        let points: Vec<String> = fail_points.iter().map(|name| format!("`{name}`")).collect();
        let points = if points.is_empty() {
            "–".to_owned()
        } else {
            points.join(" ")
        };
        table.push_str(&format!("| {id} | {points} | {fault} | {left} | {then} |\n"));
    }
    table
}

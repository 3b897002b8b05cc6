//! A run and its proof as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use uuid::Uuid;

use super::output::{clean, or_dash, table, time};
use super::runs::state;
use crate::inspect::{Proof, RunDetail, StepSummary, TransitionRow};

/// One run for people.
pub(super) fn detail(found: &RunDetail) -> String {
    let run = &found.run;
    let text = |value: &Option<String>| or_dash(value.as_ref(), |value| clean(value));
    let mut lines = vec![
        ("run", run.run_id.to_string()),
        ("workflow", clean(&run.workflow)),
        ("status", state(run)),
        ("reason", text(&run.reason)),
        ("started by", clean(&run.actor)),
        ("created", time(&run.created_at)),
        ("started", or_dash(run.started_at.as_ref(), time)),
        ("finished", or_dash(run.finished_at.as_ref(), time)),
    ];
    let mut optional = |name, value: Option<String>| lines.extend(value.map(|value| (name, value)));
    optional("schedule", run.schedule.as_deref().map(clean));
    optional("slot", run.slot.as_ref().map(time));
    optional("key", run.idempotency_key.as_deref().map(clean));
    optional("singleton", run.singleton_key.as_deref().map(clean));
    optional("pace", found.pace_per_s.map(|pace| format!("{pace} messages a second")));
    optional("deadline", found.deadline_at.as_ref().map(time));
    let holder = found
        .claimed_by
        .map(|by| format!("{by} until {}", or_dash(found.lease_until.as_ref(), time)));
    optional("code run by", holder);
    for (name, value) in belongs(found) {
        optional(name, value);
    }
    optional("batches", counted(&found.batches));
    optional("given", found.params.as_ref().map(|params| clean(params.as_str())));
    optional("returned", found.output.as_ref().map(|output| clean(output.as_str())));
    for shown in &found.shown {
        let value = shortened(&format!("{} = {}", shown.name, shown.value));
        optional("shows", Some(format!("{} ({})", clean(&value), time(&shown.at))));
    }
    let mut shown = String::new();
    for (name, value) in lines {
        let _ = writeln!(shown, "{name:<12}{value}");
    }
    if !found.steps.is_empty() {
        let columns = [
            "step",
            "kind",
            "status",
            "due",
            "failures",
            "planned",
            "plan",
            "done",
            "delivered",
            "batches",
        ];
        shown.push_str(&format!("\n{}", table(&columns, found.steps.iter().map(step))));
    }
    if !found.transitions.is_empty() {
        let columns = ["at", "what", "from", "to", "by", "reason"];
        shown.push_str(&format!(
            "\n{}",
            table(&columns, found.transitions.iter().map(transition))
        ));
    }
    shown
}

/// So much of a value as a line can have.
fn shortened(value: &str) -> String {
    const LONGEST: usize = 160;
    match value.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value.to_owned(),
    }
}

/// What it belongs to, and by what it is found.
fn belongs(found: &RunDetail) -> Vec<(&'static str, Option<String>)> {
    let run = &found.run;
    let forks: Vec<String> = found.forks.iter().map(ToString::to_string).collect();
    let attribute = |(name, value): (&String, &serde_json::Value)| clean(&format!("{name}={value}"));
    let attributes = run.attributes.as_ref();
    let attributes = attributes.map(|all| all.iter().map(attribute).collect::<Vec<_>>().join(", "));
    vec![
        (
            "ids of",
            (found.origin_id != run.run_id).then(|| found.origin_id.to_string()),
        ),
        ("made of", run.forked_from.map(|run| run.to_string())),
        ("done again", (!forks.is_empty()).then(|| forks.join(", "))),
        ("child of", run.parent_id.map(|parent| child_of(parent, found))),
        ("goes on as", found.continued_as.map(|next| next.to_string())),
        ("children", counted(&found.children)),
        ("queue", (run.queue != run.workflow).then(|| clean(&run.queue))),
        ("tenant", run.tenant.as_deref().map(clean)),
        ("attributes", attributes),
    ]
}

fn counted(counts: &BTreeMap<String, i64>) -> Option<String> {
    let counts: Vec<String> = counts
        .iter()
        .map(|(status, count)| format!("{count} {status}"))
        .collect();
    (!counts.is_empty()).then(|| counts.join(", "))
}

fn child_of(parent: Uuid, found: &RunDetail) -> String {
    let step = or_dash(found.parent_path.as_ref(), |path| clean(path));
    let outlives = if found.detached { ", which it outlives" } else { "" };
    format!("{parent}, step {step}{outlives}")
}

fn step(step: &StepSummary) -> Vec<String> {
    let mut cells = vec![
        step.path.clone(),
        step.kind.clone(),
        step.status.clone(),
        or_dash(step.due_at.as_ref(), time),
        step.attempts.to_string(),
    ];
    if step.kind == "fan_out" {
        cells.extend([
            step.planned_items.to_string(),
            if step.planned_at.is_some() { "whole" } else { "growing" }.to_owned(),
            step.done_items.to_string(),
            step.delivered.to_string(),
            format!("{}/{}", step.done_batches, step.planned_batches),
        ]);
    }
    cells.resize(10, "–".to_owned());
    cells
}

fn transition(row: &TransitionRow) -> Vec<String> {
    let what = match row.batch_seq {
        Some(seq) => format!("{} {seq}", row.entity),
        None => row.entity.clone(),
    };
    let by = row
        .actor
        .clone()
        .or_else(|| row.replica.map(|replica| replica.to_string()));
    vec![
        time(&row.at),
        what,
        or_dash(row.from_status.as_ref(), String::clone),
        row.to_status.clone(),
        or_dash(by.as_ref(), String::clone),
        or_dash(row.reason.as_ref(), String::clone),
    ]
}

/// A proof for people: the sum, then every problem with its batch and item.
pub(super) fn proof_text(proof: &Proof) -> String {
    let mut text = format!("run {} ({}, {})\n", proof.run_id, clean(&proof.workflow), proof.status);
    let sum = [
        ("delivered", proof.delivered),
        ("undelivered", proof.undelivered),
        ("dead", proof.dead),
        ("discarded", proof.discarded),
        ("skipped", proof.skipped),
        ("vanished", proof.vanished),
        ("open", proof.open),
    ];
    let _ = writeln!(text, "{:<14}{:>12}", "planned", proof.planned);
    for (name, count) in sum {
        let _ = writeln!(text, "  {name:<12}{count:>12}");
    }
    if proof.holds() {
        text.push_str("the proof holds\n");
        return text;
    }
    let _ = writeln!(text, "the proof does not hold: {} problems", proof.problems.len());
    for problem in &proof.problems {
        let batch = problem.batch_seq.map(|seq| format!(" batch {seq}")).unwrap_or_default();
        let item = problem.item_id.map(|id| format!(" item {id}")).unwrap_or_default();
        let _ = writeln!(text, "  {}{batch}{item}: {}", problem.problem, clean(&problem.detail));
    }
    text
}

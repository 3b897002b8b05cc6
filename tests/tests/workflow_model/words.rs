//! Answers in words that are the same in every world.

use std::fmt::Debug;

use chrono::{DateTime, Utc};
use lockgate::lifecycle::{FleetError, RunClaim, StepState, StepStatus, WorkRun};
use lockgate_tests::conformance::runs::RunWorld;

use crate::story::UNIT;

pub async fn say_claimed(world: &dyn RunWorld, mut claimed: Vec<(RunClaim, WorkRun)>) -> String {
    let now = world.now().await;
    claimed.sort_by_key(|(claim, _)| claim.run);
    let words = claimed.into_iter().map(|(claim, mut run)| {
        run.steps.sort_by(|one, other| one.path.cmp(&other.path));
        let steps: Vec<String> = run.steps.iter().map(|step| say_step(step, now)).collect();
        let signals: Vec<i64> = run.signals.iter().map(|signal| signal.seq).collect();
        say(&(
            claim,
            run.queue,
            run.attempts,
            run.code_version,
            run.undoing,
            run.wake_seq,
            steps,
            signals,
        ))
    });
    words.collect::<Vec<_>>().join("\n")
}

/// A step without the instants that differ by the time a test takes.
pub fn say_step(step: &StepState, now: DateTime<Utc>) -> String {
    let due = step.due_at.map(|at| units((at - now).as_seconds_f64()));
    let state = (
        &step.path,
        step.kind,
        step.status,
        step.result.as_deref().map(String::from_utf8_lossy),
    );
    // What is dropped ends by the store's own clock.
    let finished = step.finished_at.filter(|_| step.status != StepStatus::Dropped);
    say(&(
        state,
        finished,
        step.finished_at.is_some(),
        due,
        step.attempts,
        step.claim_token,
    ))
}

pub fn units(seconds: f64) -> i64 {
    (seconds / UNIT.as_secs_f64()).round() as i64
}

pub fn say_answer(answer: Result<impl Debug, FleetError>) -> String {
    match answer {
        Ok(answer) => without_starts(&say(&answer)),
        Err(FleetError::Refused(_)) => "refused".to_owned(),
        Err(other) => panic!("{other}"),
    }
}

/// An adopted wait began when it was opened, which is the store's own instant.
fn without_starts(words: &str) -> String {
    let mut parts = words.split("started_at: ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |told, part| {
        told + part.split_once(", ").map_or(part, |(_, rest)| rest)
    })
}

pub fn say(value: &impl Debug) -> String {
    format!("{value:?}")
}

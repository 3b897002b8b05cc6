//! Waking runs, and telling them something.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::Runs;
use super::run::{Ready, Run, Status, StoredSignal};
use super::views::SignalView;
use crate::lifecycle::{FleetError, NewSignal, News, RunId, Signal, Signalled};

/// Signals that a run has not taken; more are not stored.
const MOST_WAITING: usize = 1_000;
const LONGEST_NAME: usize = 100;
const LONGEST_KEY: usize = 2_000;
const LONGEST_PAYLOAD: usize = 64 * 1024;

impl Runs {
    pub(super) fn wake(&mut self, runs: &[RunId], now: DateTime<Utc>) -> u64 {
        let runs: BTreeSet<&RunId> = runs.iter().collect();
        let mut woken = 0;
        for run in runs {
            let ready = self.ready(now);
            if let Some(run) = self.by_id.get_mut(run).filter(|run| !run.status.is_over()) {
                run.wake(ready);
                woken += 1;
            }
        }
        woken
    }

    pub(super) fn signal(&mut self, signal: &NewSignal, now: DateTime<Utc>) -> Result<Signalled, FleetError> {
        let payload = check(signal)?;
        let ready = self.ready(now);
        // Known before over: who asks again because an answer was lost hears that it was sent, also by a run that went on.
        let key = &signal.idempotency_key;
        let mut meant = signal.run;
        while let Some(run) = self.by_id.get(&meant) {
            if key.is_some() && run.signals.iter().any(|stored| stored.idempotency_key == *key) {
                return Ok(Signalled::Known);
            }
            match run.continued_as {
                Some(next) => meant = next,
                None => break,
            }
        }
        let Some(run) = self.by_id.get_mut(&meant) else {
            return Ok(Signalled::Unknown);
        };
        if run.status.is_over() {
            return Ok(Signalled::Over(run.status.as_str().to_owned()));
        }
        if run.signals.iter().filter(|stored| stored.consumed_by.is_none()).count() >= MOST_WAITING {
            return Ok(Signalled::Full);
        }
        let seq = run.signals.last().map_or(0, |last| last.signal.seq) + 1;
        run.signals.push(StoredSignal {
            signal: Signal {
                seq,
                name: signal.name.clone(),
                payload,
            },
            idempotency_key: key.clone(),
            consumed_by: None,
        });
        if let Some(reason) = signal.reason.as_ref().filter(|reason| !reason.is_empty()) {
            let told = format!("signal {}: {reason}", signal.name);
            run.note(Some(run.status), "signalled", Some(told));
        }
        run.wake(ready);
        Ok(Signalled::Sent)
    }

    /// What is seen of each of these runs; those that are gone are left out.
    pub(super) fn look_at<T>(&self, runs: &[RunId], see: impl Fn(&Run) -> T) -> Vec<T> {
        let runs: BTreeSet<&RunId> = runs.iter().collect();
        runs.into_iter()
            .filter_map(|run| self.by_id.get(run).map(&see))
            .collect()
    }
}

pub(super) fn news(run: &Run) -> News {
    News {
        run: run.id(),
        wake_seq: run.wake_seq,
        signals: run.waiting_signals(),
        fan_outs: run.fan_outs(),
    }
}

impl Run {
    /// What is queued keeps its time and what is paused its rest: they find what is new when they run.
    fn wake(&mut self, now: Ready) {
        self.wake_seq += 1;
        if matches!(self.status, Status::Running | Status::Suspended) {
            self.ready = Some(now);
        }
    }
}

impl SignalView {
    pub(super) fn of(stored: &StoredSignal) -> Self {
        Self {
            seq: stored.signal.seq,
            name: stored.signal.name.clone(),
            payload: stored.signal.payload.clone(),
            consumed_by: stored.consumed_by.clone(),
        }
    }
}

/// What a table would refuse; else the payload as it is kept.
fn check(signal: &NewSignal) -> Result<Vec<u8>, FleetError> {
    let refused = |why: &str| Err(FleetError::Refused(why.to_owned()));
    let fits = |text: &str, most: usize| !text.is_empty() && text.len() <= most && !text.contains('\0');
    if !fits(&signal.name, LONGEST_NAME) {
        return refused("a signal's name has 1 to 100 bytes");
    }
    if signal
        .idempotency_key
        .as_deref()
        .is_some_and(|key| !fits(key, LONGEST_KEY))
    {
        return refused("a signal's idempotency key has 1 to 2000 bytes");
    }
    if signal.reason.as_deref().is_some_and(|reason| reason.contains('\0')) {
        return refused("a signal's reason has a zero character");
    }
    if has_zero(&signal.payload) {
        return refused("a signal's payload has a zero character");
    }
    match serde_json::to_vec(&signal.payload) {
        Ok(payload) if payload.len() <= LONGEST_PAYLOAD => Ok(payload),
        _ => refused("a signal's payload is longer than 64 KiB"),
    }
}

fn has_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_zero),
        Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| name.contains('\0') || has_zero(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

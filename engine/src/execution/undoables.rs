//! What of a run can be undone, and in which order.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};

use super::history::{Asked, History};
use crate::lifecycle::{StepState, StepStatus};
use crate::workflow::Undo;

/// Whether a step was done.
#[derive(Debug, Clone, PartialEq)]
enum How {
    /// It was not begun, or it is certain that it left nothing.
    Not,
    /// It was begun.
    Perhaps,
    /// It was, with this result, then.
    Done(Vec<u8>, DateTime<Utc>),
}

struct Undoable {
    undo: Option<Undo>,
    how: How,
    /// In the order in which the code came to them.
    number: usize,
}

/// The steps of a run that can be undone, as far as its code has come to them.
#[derive(Default)]
pub(super) struct Undoables(BTreeMap<String, Undoable>);

impl fmt::Debug for Undoables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Undoables {
    /// The code has come to a step and said how it is undone.
    pub(super) fn learn(&mut self, path: String, undo: Undo, asked: &Asked) {
        let how = match (asked, &undo) {
            (Asked::Ended(step), _) if step.status == StepStatus::Completed => done(step),
            // A transaction that is not known to be committed has left nothing.
            (Asked::Ended(_) | Asked::Open(_), Undo::Action(..)) => How::Perhaps,
            _ => How::Not,
        };
        let number = self.0.len();
        let undo = Some(undo);
        self.0.insert(path, Undoable { undo, how, number });
    }

    pub(super) fn begun(&mut self, path: &str) {
        if let Some(undoable) = self.0.get_mut(path) {
            undoable.how = How::Perhaps;
        }
    }

    pub(super) fn done(&mut self, path: &str, result: Vec<u8>, at: DateTime<Utc>) {
        if let Some(undoable) = self.0.get_mut(path) {
            undoable.how = How::Done(result, at);
        }
    }

    /// How a step is undone, and what it came to, if that is known; it is handed out once.
    pub(super) fn take(&mut self, path: &str) -> Option<(Undo, Option<Vec<u8>>)> {
        let undoable = self.0.get_mut(path)?;
        let result = match &undoable.how {
            How::Not => return None,
            How::Perhaps => None,
            How::Done(result, _) => Some(result.clone()),
        };
        Some((undoable.undo.take()?, result))
    }

    /// A step is undone, as recorded.
    pub(super) fn undone(&mut self, path: &str) {
        if let Some(undoable) = self.0.get_mut(path) {
            undoable.how = How::Not;
        }
    }

    /// How a step is undone was handed out, and dropped before that was done: only its code, run again, says it anew.
    pub(super) fn is_spent(&self, path: &str) -> bool {
        let undoable = self.0.get(path);
        undoable.is_some_and(|undoable| undoable.undo.is_none() && undoable.how != How::Not)
    }

    /// What is recorded and not undone, and the code has not come to.
    pub(super) fn missing(&self, history: &History) -> Vec<String> {
        let missing = history.not_undone().filter(|step| !self.0.contains_key(&step.path));
        missing.map(|step| step.path.clone()).collect()
    }

    /// What is to be undone, last one first, among branches: by when it was done. What may have been done may have been
    /// done last.
    pub(super) fn in_order(&self, history: &History) -> Vec<String> {
        let known = self.0.iter().filter_map(|(path, undoable)| {
            let at = match &undoable.how {
                How::Not => return None,
                How::Perhaps => None,
                How::Done(_, at) => Some(*at),
            };
            Some((at, undoable.number, path.as_str()))
        });
        let missing = history.not_undone().filter(|step| !self.0.contains_key(&step.path));
        let missing = missing.map(|step| (step.finished_at, 0, step.path.as_str()));
        let mut order: Vec<_> = known.chain(missing).collect();
        order.sort_by_key(|(at, number, path)| (at.is_some(), Reverse((*at, *number, *path))));
        order.into_iter().map(|(_, _, path)| path.to_owned()).collect()
    }
}

fn done(step: &StepState) -> How {
    let at = step.finished_at.unwrap_or(step.started_at);
    How::Done(step.result.clone().unwrap_or_else(|| b"null".to_vec()), at)
}

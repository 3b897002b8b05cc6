//! One run as the reference has it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use lockgate::lifecycle::{Again, Kind, NewStep, RepeatRun, RunClaim, RunId, StepStatus};

use crate::FirstResult;
use crate::ops::{ActOp, Op};
use crate::story::path_of;
use crate::take::Told;

#[derive(Debug, Clone)]
pub struct Run {
    pub status: &'static str,
    pub wake_seq: i64,
    pub token: i64,
    pub claim: Option<RunClaim>,
    pub stop: Option<&'static str>,
    /// Of one that is to stop: what it did is undone first; or that is over, or not asked for.
    pub undoing: Option<bool>,
    /// It is of the queue with limits.
    pub limited: bool,
    pub turn: Turn,
    /// It has a place there, until it is over or only while it is held.
    pub place: Option<bool>,
    /// Waiting, and held.
    pub batches: (u8, u8),
    pub open: BTreeMap<String, Kind>,
    pub results: BTreeMap<String, FirstResult>,
    /// Steps that can be undone.
    pub undoables: BTreeSet<String>,
    pub parent: Option<Parent>,
    /// Goes on in its place.
    pub next: Option<RunId>,
    /// In which unit of time it was claimed last, and was over.
    pub claimed_in: Option<u64>,
    pub over_in: Option<u64>,
    /// It waits until another one is over.
    pub follows: bool,
    /// Its code has run, or steps of it are recorded.
    pub begun: bool,
}

/// Tenant and key.
pub type Turn = (Option<String>, Option<String>);

/// Who started it, and where.
#[derive(Debug, Clone)]
pub struct Parent {
    pub run: RunId,
    pub path: String,
    pub detached: bool,
}

impl Run {
    pub fn queued(limited: bool, turn: Turn, parent: Option<Parent>) -> Self {
        Self {
            status: "queued",
            wake_seq: 0,
            token: 0,
            claim: None,
            stop: None,
            undoing: None,
            place: None,
            batches: (0, 0),
            open: BTreeMap::new(),
            results: BTreeMap::new(),
            undoables: BTreeSet::new(),
            limited,
            turn,
            parent,
            next: None,
            claimed_in: None,
            over_in: None,
            follows: false,
            begun: false,
        }
    }

    /// It ends and another one, which was woken once, goes on in its place; in that of its queue too, if it holds one until it is
    /// over.
    pub fn go_on_as(&mut self, next: RunId) -> Self {
        (self.status, self.claim, self.next) = ("completed", None, Some(next));
        Self {
            wake_seq: 1,
            place: self.place.filter(|until_over| *until_over),
            ..Self::queued(self.limited, self.turn.clone(), self.parent.clone())
        }
    }

    /// Paths of the steps that a repetition is asked to begin at: of that path, else of that name.
    fn named(&self, from: &str) -> Vec<&str> {
        let paths = || self.open.keys().chain(self.results.keys()).map(String::as_str);
        let own = |path: &&str| !path.starts_with("undo");
        let is_named = |path: &&str| {
            path.rsplit('/')
                .next()
                .and_then(|last| last.split_once(':'))
                .is_some_and(|(_, name)| name == from)
        };
        match paths().filter(own).find(|path| *path == from) {
            Some(path) => vec![path],
            None => paths().filter(own).filter(is_named).collect(),
        }
    }

    /// Whether it has such a step, or several.
    pub fn names(&self, from: &str) -> bool {
        !self.named(from).is_empty()
    }

    pub fn may_be_repeated(&self, repeat: &RepeatRun) -> bool {
        let is_there = match &repeat.from {
            Some(from) => self.named(from).len() == 1,
            None => repeat.again != Again::Retry || self.status != "completed",
        };
        self.is_over() && is_there
    }

    /// The same once more: with what stands before the step that it begins at, before what was undone, and before what failed
    /// beside these; what a branch did that lost a select counts where that is decided again.
    pub fn again(&self, repeat: &RepeatRun, detached: &[String]) -> Self {
        let ended = |wanted: StepStatus| self.results.iter().filter(move |(_, (status, _))| *status == wanted);
        let own = |path: &&str| !path.starts_with("undo");
        let counts = |path: &&str| self.lost_to(path).is_none();
        let failed = || ended(StepStatus::Failed).map(|(path, _)| path.as_str()).filter(own);
        let undone = || ended(StepStatus::Completed).filter_map(|(path, _)| path.strip_prefix("undo/"));
        let mut base: Vec<&str> = match &repeat.from {
            Some(from) => self.named(from),
            None if repeat.again == Again::Retry => failed().filter(counts).take(1).collect(),
            None => Vec::new(),
        };
        let starts_over = repeat.from.is_none() && repeat.again != Again::Retry;
        base.extend(undone().filter(counts));
        let is_beside = |path: &&str| base.iter().any(|root| stands(path, root).is_eq());
        let mut roots: Vec<&str> = failed().filter(counts).filter(is_beside).collect();
        roots.extend(&base);
        let is_under = |select: &str, root: &&str| root.strip_prefix(select).is_some_and(|rest| rest.starts_with('/'));
        let mut lost: Vec<&str> = failed().chain(undone()).collect();
        lost.retain(|path| {
            self.lost_to(path)
                .is_some_and(|select| roots.iter().any(|root| is_under(select, root)))
        });
        roots.extend(lost);
        let is_kept = |path: &str| own(&path) && roots.iter().all(|root| stands(path, root).is_le());
        let is_known = |path: &String, status| status != StepStatus::Dropped || detached.contains(path);
        let kept = self.results.iter().filter(|(path, (status, _))| {
            let kept = path.strip_prefix("undo/").filter(|_| *status == StepStatus::Completed);
            let kept = kept.filter(|step| {
                self.results
                    .get(*step)
                    .is_some_and(|(status, _)| is_known(&(*step).to_owned(), *status))
            });
            !starts_over && is_known(path, *status) && is_kept(kept.unwrap_or(path))
        });
        let results: BTreeMap<String, FirstResult> =
            kept.map(|(path, result)| (path.clone(), result.clone())).collect();
        let undoables = self.undoables.iter().filter(|path| results.contains_key(*path));
        Self {
            begun: !results.is_empty(),
            undoables: undoables.cloned().collect(),
            results,
            ..Self::queued(self.limited, self.turn.clone(), None)
        }
    }

    /// The select that the branch lost in which a step is.
    fn lost_to<'path>(&self, path: &'path str) -> Option<&'path str> {
        let mut parts = path.splitn(3, '/');
        let (place, branch, _) = (parts.next()?, parts.next()?, parts.next()?);
        let (status, winner) = self.results.get(place)?;
        let is_lost = *status == StepStatus::Completed && winner.as_deref() != Some(branch.as_bytes());
        is_lost.then_some(place)
    }

    pub fn may_be_claimed(&self) -> bool {
        let goes_on = self.stop.is_none() || self.undoing == Some(true);
        goes_on && matches!(self.status, "queued" | "running" | "suspended")
    }

    pub fn wake(&mut self) {
        self.wake_seq += i64::from(!self.is_over());
    }

    /// Steps that wait for children.
    pub fn open_children(&self) -> Vec<String> {
        let open = self.open.iter().filter(|(_, kind)| **kind == Kind::Child);
        open.map(|(path, _)| path.clone()).collect()
    }

    /// Those of branches that lost, however late they were started.
    pub fn lost_children(&self) -> Vec<String> {
        let mut children = self.open_children();
        children.retain(|path| self.lost_to(path).is_some());
        children
    }

    pub fn drop_steps(&mut self, paths: &[String]) {
        for path in paths {
            self.open.remove(path);
            self.results.insert(path.clone(), (StepStatus::Dropped, None));
        }
    }

    /// A child that was started there and is stopped with that.
    pub fn is_to_stop(&self, parent: RunId, paths: &[String]) -> bool {
        let is_there = |above: &Parent| above.run == parent && !above.detached && paths.contains(&above.path);
        self.parent.as_ref().is_some_and(is_there) && !self.is_over() && self.stop.is_none()
    }

    pub fn stop(&mut self, status: &'static str) {
        self.stop.get_or_insert(status);
        self.settle_stop();
    }

    pub fn is_over(&self) -> bool {
        matches!(self.status, "completed" | "failed" | "cancelled")
    }

    /// Something that can be undone was begun and is not undone.
    pub fn did_something(&self) -> bool {
        let undone = |path: &String| {
            let undo = self.results.get(&format!("undo/{path}"));
            undo.is_some_and(|(status, _)| *status == StepStatus::Completed)
        };
        self.undoables.iter().any(|path| !undone(path))
    }

    /// What it did is undone before it is over.
    pub fn settle_stop(&mut self) {
        let Some(stop) = self.stop else { return };
        if self.is_over() || self.claim.is_some() || self.undoing == Some(true) {
            return;
        }
        if self.undoing.is_none() && self.did_something() {
            self.undoing = Some(true);
            self.wake_seq += 1;
            if matches!(self.status, "paused" | "quarantined") {
                self.status = "running";
            }
        } else if self.batches.1 == 0 {
            self.status = stop;
        }
    }

    pub fn has_place(&self) -> bool {
        !self.is_over() && (self.place == Some(true) || (self.place.is_some() && self.claim.is_some()))
    }

    pub fn open(&mut self, path: String, kind: Kind) {
        if kind == Kind::Undoable {
            self.undoables.insert(path.clone());
        }
        self.open.insert(path, kind);
    }

    pub fn has(&self, path: &str) -> bool {
        self.open.contains_key(path) || self.results.contains_key(path)
    }

    /// The first result of a path stays; a wait is ended by its own kind.
    pub fn record(&mut self, step: &NewStep) {
        let other_wait = self.open.get(&step.path).is_some_and(|kind| *kind != step.kind);
        if other_wait || self.results.contains_key(&step.path) {
            return;
        }
        if step.status == StepStatus::Open {
            return self.open(step.path.clone(), step.kind);
        }
        self.open.remove(&step.path);
        if step.kind == Kind::Undoable {
            self.undoables.insert(step.path.clone());
        }
        self.results
            .insert(step.path.clone(), (step.status, step.result.clone()));
    }

    /// What is open in the branches that lost is dropped, but for what can be undone.
    pub fn select(&mut self, step: &NewStep, lost: &[String]) {
        if self.has(&step.path) {
            return;
        }
        self.record(step);
        let is_lost = |path: &str| lost.iter().any(|prefix| path.starts_with(prefix));
        for (path, kind) in std::mem::take(&mut self.open) {
            if is_lost(&path) && kind != Kind::Undoable {
                self.results.insert(path, (StepStatus::Dropped, None));
            } else {
                self.open.insert(path, kind);
            }
        }
    }

    pub fn allows(&self, act: &ActOp, had_batches: bool, seen: i64) -> bool {
        match act {
            ActOp::Wait { .. } => self.stop.is_none() && self.wake_seq == seen,
            ActOp::Complete | ActOp::Fail => {
                self.stop.is_none() && self.status == "running" && !(had_batches && self.batches != (0, 0))
            }
            ActOp::WaitToUndo { .. } => self.undoing != Some(false) && self.wake_seq == seen,
            ActOp::Quarantine | ActOp::HandBack { .. } | ActOp::NotUndone { .. } | ActOp::Unwound => true,
        }
    }

    pub fn let_go(&mut self, act: &ActOp) {
        self.claim = None;
        self.status = match act {
            ActOp::Complete => "completed",
            ActOp::Fail => "failed",
            ActOp::Quarantine | ActOp::NotUndone { .. } => "quarantined",
            ActOp::Wait { batches: false, .. } if self.status == "running" => "suspended",
            _ => self.status,
        };
        let undoes = matches!(act, ActOp::WaitToUndo { .. } | ActOp::NotUndone { .. });
        if undoes && self.stop.is_some() {
            self.undoing = self.undoing.or(Some(true));
        }
        if matches!(act, ActOp::Unwound) {
            self.undoing = Some(false);
        }
        for (path, kind) in act.waits() {
            let path = path_of(*path);
            if !self.has(&path) {
                self.open(path, *kind);
            }
        }
    }
}

/// Whether a step stands before a place, beside it in another branch, or there or behind it.
fn stands(path: &str, place: &str) -> Ordering {
    let numbers = |path: &str| -> Vec<u32> {
        let parts = path.split('/').map(|part| part.split(':').next().unwrap_or(part));
        parts.map(|number| number.parse().unwrap()).collect()
    };
    let (one, other) = (numbers(path), numbers(place));
    match one.iter().zip(&other).position(|(one, other)| one != other) {
        None => Ordering::Greater,
        Some(at) if at % 2 == 1 => Ordering::Equal,
        Some(at) => one[at].cmp(&other[at]),
    }
}

/// What somebody outside does to one run.
pub fn one(run: &mut Run, op: &Op, told: &Told) {
    let may_run = matches!(run.status, "queued" | "running" | "suspended");
    match op {
        Op::Signal { .. } => run.wake_seq += i64::from(told.words == "Sent"),
        Op::Pause { .. } if may_run && run.stop.is_none() => run.status = "paused",
        Op::Resume { .. } if matches!(run.status, "paused" | "quarantined") => {
            run.wake_seq += 1;
            run.status = if run.begun { "running" } else { "queued" };
        }
        Op::Cancel { .. } if !run.is_over() => run.stop("cancelled"),
        Op::ForceCancel { .. } if !run.is_over() => {
            run.undoing = Some(false);
            run.stop("cancelled");
        }
        Op::SettleStop { .. } => run.settle_stop(),
        Op::Batches { waiting, held, .. } => run.batches = (*waiting, *held),
        _ => {}
    }
}

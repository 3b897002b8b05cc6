//! A third statement of what becomes of runs, as small as it can be: per run its state, its claim, its wake-ups, and the
//! first result of each path. It says beforehand what letting go answers; of leases it knows only who lost one.

use std::collections::{BTreeMap, BTreeSet};

use lockgate::lifecycle::{Kind, LetGo, NewStep, RunClaim, RunId, StepStatus};
use lockgate_tests::conformance::runs::{RunSeen, RunWorld};

use crate::FirstResult;
use crate::ops::{ActOp, LimitsOp, Op};
use crate::story::{Made, Step, Told, path_of};

#[derive(Debug, Clone)]
struct Run {
    status: &'static str,
    wake_seq: i64,
    token: i64,
    claim: Option<RunClaim>,
    stop: Option<&'static str>,
    /// Of one that is to stop: what it did is undone first; or that is over, or not asked for.
    undoing: Option<bool>,
    /// It is of the queue with limits, and of this key there.
    limited: Option<Option<String>>,
    /// It has a place there, until it is over or only while it is held.
    place: Option<bool>,
    /// Waiting, and held.
    batches: (u8, u8),
    open: BTreeMap<String, Kind>,
    results: BTreeMap<String, FirstResult>,
    /// Steps that can be undone.
    undoables: BTreeSet<String>,
}

/// All runs, and what is set for the queue with limits.
#[derive(Debug, Default)]
pub struct Reference(BTreeMap<RunId, Run>, Option<LimitsOp>);

impl Run {
    fn is_over(&self) -> bool {
        matches!(self.status, "completed" | "failed" | "cancelled")
    }

    /// Something that can be undone was begun and is not undone.
    fn did_something(&self) -> bool {
        let undone = |path: &String| {
            let undo = self.results.get(&format!("undo/{path}"));
            undo.is_some_and(|(status, _)| *status == StepStatus::Completed)
        };
        self.undoables.iter().any(|path| !undone(path))
    }

    /// What it did is undone before it is over.
    fn settle_stop(&mut self) {
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

    fn has_place(&self) -> bool {
        !self.is_over() && (self.place == Some(true) || (self.place.is_some() && self.claim.is_some()))
    }

    fn open(&mut self, path: String, kind: Kind) {
        if kind == Kind::Undoable {
            self.undoables.insert(path.clone());
        }
        self.open.insert(path, kind);
    }

    fn has(&self, path: &str) -> bool {
        self.open.contains_key(path) || self.results.contains_key(path)
    }

    /// The first result of a path stays; a wait is ended by its own kind.
    fn record(&mut self, step: &NewStep) {
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
    fn select(&mut self, step: &NewStep, lost: &[String]) {
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

    fn allows(&self, act: &ActOp, had_batches: bool, seen: i64) -> bool {
        match act {
            ActOp::Wait { .. } => self.stop.is_none() && self.wake_seq == seen,
            ActOp::Complete | ActOp::Fail => {
                self.stop.is_none() && self.status == "running" && !(had_batches && self.batches != (0, 0))
            }
            ActOp::WaitToUndo { .. } => self.undoing != Some(false) && self.wake_seq == seen,
            ActOp::Quarantine | ActOp::HandBack { .. } | ActOp::NotUndone { .. } | ActOp::Unwound => true,
        }
    }

    fn let_go(&mut self, act: &ActOp) {
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

impl Reference {
    fn held(&mut self, claim: &RunClaim) -> Option<&mut Run> {
        self.0.get_mut(&claim.run).filter(|run| run.claim == Some(*claim))
    }

    /// Does the same; `after` is how the runs are now, for what time decides.
    pub fn follow(&mut self, step: &Step, told: &Told, made: &Made, after: &[RunSeen]) {
        match step {
            Step::Start(start, _) => {
                let run = Run {
                    status: "queued",
                    wake_seq: 0,
                    token: 0,
                    claim: None,
                    stop: None,
                    undoing: None,
                    limited: start.queue.as_ref().map(|_| start.limit_key.clone()),
                    place: None,
                    batches: (0, 0),
                    open: BTreeMap::new(),
                    results: BTreeMap::new(),
                    undoables: BTreeSet::new(),
                };
                self.0.insert(start.request.id, run);
            }
            Step::Claim(_) => told.claims.iter().for_each(|claim| self.claimed(claim)),
            Step::ClaimLimited(_) => self.claimed_limited(&told.claims),
            Step::Select(step, lost) => {
                if let Some(run) = self.held(&step.claim) {
                    run.select(step, lost);
                }
            }
            Step::Save(group) => self.save(group, told.words == "refused"),
            Step::Settle(step) => {
                if let Some(run) = self.held(&step.claim) {
                    run.record(step);
                }
            }
            Step::LetGo(group) => {
                for ((claim, act, had_batches), answer) in group.iter().zip(&told.let_go) {
                    self.let_go(claim, act, *had_batches, *answer, made);
                }
            }
            Step::Other(op) => self.other(op, told, made, after),
        }
    }

    fn claimed(&mut self, claim: &RunClaim) {
        let run = self.0.get_mut(&claim.run).unwrap();
        let was = (
            run.claim,
            run.stop.is_none() || run.undoing == Some(true),
            matches!(run.status, "queued" | "running" | "suspended"),
        );
        assert_eq!(was, (None, true, true), "{claim:?}");
        run.token += 1;
        assert_eq!(run.token, claim.token, "{claim:?}");
        (run.claim, run.status) = (Some(*claim), "running");
    }

    /// Of the queue with limits never more have a place than may, nor of a key.
    fn claimed_limited(&mut self, claims: &[RunClaim]) {
        let before = self.places();
        for claim in claims {
            self.claimed(claim);
            let until_over = self.1.is_some_and(|limits| limits.until_over);
            let run = self.0.get_mut(&claim.run).unwrap();
            assert!(run.limited.is_some(), "{claim:?}");
            run.place = Some(until_over);
        }
        let Some(limits) = self.1 else { return };
        for (key, count) in self.places() {
            let most = if key.is_none() { limits.most } else { limits.of_a_key };
            let were = before.get(&key).copied().unwrap_or(0);
            assert!(
                most.is_none_or(|most| count <= usize::from(most).max(were)),
                "{count} of {key:?} where {most:?} may: {claims:?}"
            );
        }
    }

    /// How many have a place, all together and by key.
    fn places(&self) -> BTreeMap<Option<String>, usize> {
        let mut places = BTreeMap::new();
        for run in self.0.values().filter(|run| run.has_place()) {
            *places.entry(None).or_default() += 1;
            if let Some(Some(key)) = &run.limited {
                *places.entry(Some(key.clone())).or_default() += 1;
            }
        }
        places
    }

    /// What was claimed before there were limits has a place too.
    fn give_places(&mut self) {
        let Some(limits) = self.1 else { return };
        if limits.most.is_none() && limits.of_a_key.is_none() {
            return;
        }
        for run in self
            .0
            .values_mut()
            .filter(|run| run.limited.is_some() && !run.is_over())
        {
            if run.claim.is_some() || run.place == Some(true) {
                run.place = Some(limits.until_over);
            }
        }
    }

    fn save(&mut self, group: &[NewStep], refused: bool) {
        let taken = |step: &&NewStep| {
            let held = self.0.get(&step.claim.run).filter(|run| run.claim == Some(step.claim));
            !step.ends_open && held.is_some_and(|run| run.has(&step.path))
        };
        assert_eq!(group.iter().any(|step| taken(&step)), refused, "{group:?}");
        for step in group.iter().filter(|_| !refused) {
            if let Some(run) = self.held(&step.claim) {
                run.record(step);
            }
        }
    }

    fn let_go(&mut self, claim: &RunClaim, act: &ActOp, had_batches: bool, answer: LetGo, made: &Made) {
        let Some(run) = self.held(claim) else {
            return assert_eq!(answer, LetGo::Lost, "{claim:?}");
        };
        let seen = made.wake_seq(claim.run) - i64::from(act.behind().unwrap_or(0));
        assert_eq!(
            run.allows(act, had_batches, seen),
            answer == LetGo::Done,
            "{claim:?} {act:?} {answer:?}"
        );
        if answer == LetGo::Done {
            run.let_go(act);
        }
    }

    fn other(&mut self, op: &Op, told: &Told, made: &Made, after: &[RunSeen]) {
        match op {
            Op::Wake { runs } => {
                let runs: BTreeSet<RunId> = runs.iter().map(|run| made.run(*run)).collect();
                for run in runs {
                    if let Some(run) = self.0.get_mut(&run).filter(|run| !run.is_over()) {
                        run.wake_seq += 1;
                    }
                }
            }
            Op::Fail { claim } => {
                if let Some(run) = self.held(&made.claim(*claim)) {
                    run.stop.get_or_insert("failed");
                    run.claim = None;
                    run.settle_stop();
                }
            }
            Op::Die { .. } | Op::Sweep => self.swept(after),
            Op::Limit(limits) => {
                self.1 = Some(*limits);
                self.give_places();
            }
            Op::Signal { run, .. }
            | Op::Pause { run }
            | Op::Resume { run }
            | Op::Cancel { run }
            | Op::ForceCancel { run }
            | Op::SettleStop { run }
            | Op::Batches { run, .. } => {
                if let Some(run) = self.0.get_mut(&made.run(*run)) {
                    one(run, op, told);
                }
            }
            _ => {}
        }
    }

    /// Who lost a lease is nobody's, in the state that it was in or set aside.
    fn swept(&mut self, after: &[RunSeen]) {
        for seen in after {
            let Some(run) = self.0.get_mut(&seen.run) else { continue };
            if run.claim.is_some() && seen.claim.is_none() {
                run.claim = None;
                if seen.status == "quarantined" && run.status == "running" {
                    run.status = "quarantined";
                }
            }
            run.settle_stop();
        }
        self.give_places();
    }

    /// Whether the store has the same runs.
    pub async fn check(&self, world: &dyn RunWorld, runs: &[RunSeen]) {
        assert_eq!(runs.len(), self.0.len());
        for seen in runs {
            let run = &self.0[&seen.run];
            let expected = (run.status, run.wake_seq, run.token, run.claim);
            assert_eq!(
                (seen.status.as_str(), seen.wake_seq, seen.token, seen.claim),
                expected,
                "{seen:?}"
            );
            let (mut open, mut results) = (BTreeMap::new(), BTreeMap::new());
            for step in world.steps(seen.run).await {
                match step.status {
                    StepStatus::Open => drop(open.insert(step.path, step.kind)),
                    status => drop(results.insert(step.path, (status, step.result))),
                }
            }
            assert_eq!((&open, &results), (&run.open, &run.results), "{seen:?}");
        }
    }
}

/// What somebody outside does to one run.
fn one(run: &mut Run, op: &Op, told: &Told) {
    let may_run = matches!(run.status, "queued" | "running" | "suspended");
    match op {
        Op::Signal { .. } => run.wake_seq += i64::from(told.words == "Sent"),
        Op::Pause { .. } if may_run && run.stop.is_none() => run.status = "paused",
        Op::Resume { .. } if matches!(run.status, "paused" | "quarantined") => {
            run.wake_seq += 1;
            run.status = if run.token > 0 { "running" } else { "queued" };
        }
        Op::Cancel { .. } if !run.is_over() => {
            run.stop.get_or_insert("cancelled");
            run.settle_stop();
        }
        Op::ForceCancel { .. } if !run.is_over() => {
            run.stop.get_or_insert("cancelled");
            run.undoing = Some(false);
            run.settle_stop();
        }
        Op::SettleStop { .. } => run.settle_stop(),
        Op::Batches { waiting, held, .. } => run.batches = (*waiting, *held),
        _ => {}
    }
}

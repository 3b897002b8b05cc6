//! A third statement of what becomes of runs, as small as it can be: per run its state, its claim, its wake-ups, and the
//! first result of each path. It says beforehand what letting go answers; of leases it knows only who lost one.

use std::collections::{BTreeMap, BTreeSet};

use lockgate::lifecycle::{Kind, LetGo, NewStep, RunClaim, RunId, StepStatus};
use lockgate_tests::conformance::runs::{RunSeen, RunWorld};

use crate::FirstResult;
use crate::ops::{ActOp, Op};
use crate::story::{Made, Step, Told};

#[derive(Debug, Clone)]
struct Run {
    status: &'static str,
    wake_seq: i64,
    token: i64,
    claim: Option<RunClaim>,
    stop: Option<&'static str>,
    /// Waiting, and held.
    batches: (u8, u8),
    open: BTreeMap<String, Kind>,
    results: BTreeMap<String, FirstResult>,
}

/// All runs.
#[derive(Debug, Default)]
pub struct Reference(BTreeMap<RunId, Run>);

impl Run {
    fn is_over(&self) -> bool {
        matches!(self.status, "completed" | "failed" | "cancelled")
    }

    fn settle_stop(&mut self) {
        if let Some(stop) = self.stop
            && !self.is_over()
            && self.claim.is_none()
            && self.batches.1 == 0
        {
            self.status = stop;
        }
    }

    fn has(&self, path: &str) -> bool {
        self.open.contains_key(path) || self.results.contains_key(path)
    }

    /// The first result of a path stays; a wait is ended by its own kind.
    fn record(&mut self, step: &NewStep) {
        let other_wait = self.open.get(&step.path).is_some_and(|kind| *kind != step.kind);
        if !other_wait && !self.results.contains_key(&step.path) {
            self.open.remove(&step.path);
            self.results
                .insert(step.path.clone(), (step.status, step.result.clone()));
        }
    }

    fn allows(&self, act: &ActOp, had_batches: bool, seen: i64) -> bool {
        match act {
            ActOp::Wait { .. } => self.stop.is_none() && self.wake_seq == seen,
            ActOp::Complete | ActOp::Fail => {
                self.stop.is_none() && self.status == "running" && !(had_batches && self.batches != (0, 0))
            }
            ActOp::Quarantine | ActOp::HandBack { .. } => true,
        }
    }

    fn let_go(&mut self, act: &ActOp) {
        self.claim = None;
        self.status = match act {
            ActOp::Complete => "completed",
            ActOp::Fail => "failed",
            ActOp::Quarantine => "quarantined",
            ActOp::Wait { batches: false, .. } if self.status == "running" => "suspended",
            ActOp::Wait { .. } | ActOp::HandBack { .. } => self.status,
        };
        let ActOp::Wait { waits, .. } = act else { return };
        for (path, kind) in waits {
            let path = format!("{path}:a");
            if !self.has(&path) {
                self.open.insert(path, *kind);
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
                    batches: (0, 0),
                    open: BTreeMap::new(),
                    results: BTreeMap::new(),
                };
                self.0.insert(start.request.id, run);
            }
            Step::Claim(_) => told.claims.iter().for_each(|claim| self.claimed(claim)),
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
            run.stop,
            matches!(run.status, "queued" | "running" | "suspended"),
        );
        assert_eq!(was, (None, None, true), "{claim:?}");
        run.token += 1;
        assert_eq!(run.token, claim.token, "{claim:?}");
        (run.claim, run.status) = (Some(*claim), "running");
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
        let seen = match act {
            ActOp::Wait { behind, .. } => made.wake_seq(claim.run) - i64::from(*behind),
            _ => 0,
        };
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
            Op::Signal { run, .. }
            | Op::Pause { run }
            | Op::Resume { run }
            | Op::Cancel { run }
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
        Op::SettleStop { .. } => run.settle_stop(),
        Op::Batches { waiting, held, .. } => run.batches = (*waiting, *held),
        _ => {}
    }
}

//! A third statement of what becomes of runs, as small as it can be: per run its state, its claim, its wake-ups, the first
//! result of each path, and who started it. It says beforehand what letting go answers; of leases it knows only who lost
//! one, and of time only how many units have passed.

use std::collections::{BTreeMap, BTreeSet};

use lockgate::lifecycle::{ClaimPage, Continuation, LetGo, NewChild, NewStep, RepeatRun, RunClaim, RunId, StepStatus};
use lockgate_tests::conformance::runs::{RunSeen, RunWorld, Wake};

use crate::gate::{Gate, Places, fresh, left_out};
use crate::ops::{ActOp, LimitsOp, Op};
use crate::run::{Parent, Run, one};
use crate::story::{Made, Step};
use crate::take::Told;

/// All runs, and the queue with limits.
#[derive(Debug, Default)]
pub struct Reference {
    runs: BTreeMap<RunId, Run>,
    gate: Option<Gate>,
    now: u64,
}

impl Reference {
    fn held(&mut self, claim: &RunClaim) -> Option<&mut Run> {
        self.runs.get_mut(&claim.run).filter(|run| run.claim == Some(*claim))
    }

    /// Does the same; `after` is how the runs are now, for what time decides.
    pub fn follow(&mut self, step: &Step, told: &Told, made: &Made, after: &[RunSeen]) {
        match step {
            Step::Start(start, _) => {
                let turn = (start.tenant.clone(), start.limit_key.clone());
                let run = Run {
                    follows: start.after_run.is_some(),
                    ..Run::queued(start.queue.is_some(), turn, None)
                };
                self.runs.insert(start.request.id, run);
            }
            Step::Claim(_) => told.claims.iter().for_each(|claim| self.claimed(claim)),
            Step::ClaimLimited(page) => self.claimed_limited(page, &told.claims, made.is_paused, after),
            Step::Select(step, lost) => self.select(step, lost),
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
            Step::Child(child, _) => self.start(child, &told.words),
            Step::Continue(next) => self.go_on(next, told.let_go[0]),
            Step::Repeat(repeat) => self.repeat(repeat, &told.words, after),
            Step::Other(op) => self.other(op, told, made, after),
        }
        self.note_ends();
    }

    fn note_ends(&mut self) {
        for run in self.runs.values_mut().filter(|run| run.is_over()) {
            run.over_in.get_or_insert(self.now);
        }
    }

    fn claimed(&mut self, claim: &RunClaim) {
        let run = self.runs.get_mut(&claim.run).unwrap();
        assert!(run.claim.is_none() && run.may_be_claimed(), "{claim:?} {run:?}");
        run.token += 1;
        assert_eq!(run.token, claim.token, "{claim:?}");
        (run.claim, run.status, run.begun) = (Some(*claim), "running", true);
        run.claimed_in = Some(self.now);
    }

    /// Of the queue with limits never more have a place than may, nor more than there are tokens; and none is kept back
    /// without one of these.
    fn claimed_limited(&mut self, page: &ClaimPage, claims: &[RunClaim], is_paused: bool, after: &[RunSeen]) {
        assert!(!is_paused || claims.is_empty(), "{claims:?}");
        let (before, fresh) = (Places::of(self.runs.values()), fresh(&self.runs, claims));
        let until_over = self.gate.as_ref().is_some_and(|gate| gate.limits.until_over);
        for claim in claims {
            self.claimed(claim);
            let run = self.runs.get_mut(&claim.run).unwrap();
            assert!(run.limited, "{claim:?}");
            run.place = Some(until_over);
        }
        let Some(gate) = self.gate.as_mut().filter(|_| !is_paused) else {
            return;
        };
        let no_token = gate.spend(fresh.len(), self.now);
        let limits = gate.limits;
        let places = Places::of(self.runs.values());
        places.check(&before, limits);
        let left = left_out(&self.runs, page, after, limits);
        if limits.fair {
            places.check_turns(&fresh, &left);
        }
        let is_full = limits.most.is_some_and(|most| places.all >= usize::from(most));
        let all_taken = claims.len() == page.shares[0].take as usize;
        assert!(
            left.is_empty() || no_token || is_full || all_taken,
            "{left:?} are kept back: {places:?} {limits:?}"
        );
    }

    /// What was claimed before there were limits has a place too.
    fn give_places(&mut self) {
        let Some(limits) = self
            .gate
            .as_ref()
            .map(|gate| gate.limits)
            .filter(|limits| limits.counts())
        else {
            return;
        };
        let limited = self.runs.values_mut().filter(|run| run.limited && !run.is_over());
        for run in limited.filter(|run| run.claim.is_some() || run.place == Some(true)) {
            run.place = Some(limits.until_over);
        }
    }

    /// What the branches started that lost is stopped with them.
    fn select(&mut self, step: &NewStep, lost: &[String]) {
        let Some(run) = self.held(&step.claim).filter(|run| !run.has(&step.path)) else {
            return;
        };
        let mut children = run.open_children();
        children.retain(|path| lost.iter().any(|prefix| path.starts_with(prefix)));
        run.select(step, lost);
        self.stop_those(step.claim.run, &children);
    }

    fn save(&mut self, group: &[NewStep], refused: bool) {
        let taken = |step: &&NewStep| {
            let held = self
                .runs
                .get(&step.claim.run)
                .filter(|run| run.claim == Some(step.claim));
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

    /// A child is started with its step, once.
    fn start(&mut self, child: &NewChild, words: &str) {
        let Some(parent) = self.held(&child.claim) else {
            return assert_eq!(words, "[false]");
        };
        assert_eq!(words, "[true]");
        if !parent.has(&child.path) {
            parent.open(child.path.clone(), lockgate::lifecycle::Kind::Child);
        }
        let wishes = &child.wishes;
        let turn = (
            wishes.tenant.clone().or(parent.turn.0.clone()),
            wishes.limit_key.clone(),
        );
        let above = Parent {
            run: child.claim.run,
            path: child.path.clone(),
            detached: wishes.detached,
        };
        self.runs
            .entry(child.id)
            .or_insert_with(|| Run::queued(wishes.queue.is_some(), turn, Some(above)));
    }

    fn go_on(&mut self, next: &Continuation, answer: LetGo) {
        let Some(run) = self.held(&next.claim) else {
            return assert_eq!(answer, LetGo::Lost, "{next:?}");
        };
        let may = run.allows(&ActOp::Complete, next.had_batches, 0) && run.wake_seq == next.seen;
        assert_eq!(may, answer == LetGo::Done, "{next:?} {answer:?}");
        if may {
            let goes_on = run.go_on_as(next.next);
            self.runs.insert(next.next, goes_on);
        }
    }

    /// What stands before the step from which on one that is over is done again is there once more; how many signals are told
    /// again the reference does not know.
    fn repeat(&mut self, repeat: &RepeatRun, words: &str, after: &[RunSeen]) {
        // A step that is named may be that of the run itself.
        let of_itself = |from: &String| self.runs.get(&repeat.run).is_some_and(|run| run.names(from));
        let of = match repeat.from.as_ref().is_some_and(of_itself) {
            true => repeat.run,
            false => self.meant(repeat.run),
        };
        let may = self.runs.get(&of).is_some_and(|run| run.may_be_repeated(repeat));
        assert_eq!(may, words.starts_with("Ok"), "{repeat:?} {words}");
        if may {
            let parents = self.runs.values().filter_map(|run| run.parent.as_ref());
            let detached = parents.filter(|above| above.run == of && above.detached);
            let detached: Vec<String> = detached.map(|above| above.path.clone()).collect();
            let mut again = self.runs[&of].again(repeat, &detached);
            let seen = after.iter().find(|seen| seen.run == repeat.id);
            again.wake_seq = seen.map_or(0, |seen| seen.wake_seq);
            self.runs.insert(repeat.id, again);
        }
    }

    /// The run itself, or the one that goes on in its place.
    fn meant(&self, run: RunId) -> RunId {
        let mut meant = run;
        while let Some(next) = self.runs.get(&meant).and_then(|run| run.next) {
            meant = next;
        }
        meant
    }

    /// Does something that may end a run, whose parent hears of that.
    fn change(&mut self, run: RunId, act: impl FnOnce(&mut Run)) {
        let Some(changed) = self.runs.get_mut(&run) else { return };
        let was_over = changed.is_over();
        act(changed);
        let ends = !was_over && changed.is_over();
        if let Some(parent) = changed.parent.as_ref().filter(|_| ends).map(|parent| parent.run) {
            self.wake(parent);
        }
    }

    fn stop_those(&mut self, parent: RunId, paths: &[String]) -> bool {
        let children = self.runs.iter().filter(|(_, child)| child.is_to_stop(parent, paths));
        let children: Vec<RunId> = children.map(|(child, _)| *child).collect();
        for child in &children {
            self.change(*child, |child| child.stop("cancelled"));
        }
        !children.is_empty()
    }

    /// Of a run that is over or to stop; answers whether that changed anything.
    fn stop_children(&mut self, run: RunId) -> bool {
        let Some(parent) = self.runs.get(&run).filter(|run| run.is_over() || run.stop.is_some()) else {
            return false;
        };
        let (is_over, open) = (parent.is_over(), parent.open_children());
        let stopped = self.stop_those(run, &open);
        if let Some(parent) = self.runs.get_mut(&run).filter(|_| is_over) {
            parent.drop_steps(&open);
        }
        stopped || (is_over && !open.is_empty())
    }

    /// Of branches that lost a select; answers whether that stopped any.
    fn stop_lost_children(&mut self, run: RunId) -> bool {
        let lost = self.runs[&run].lost_children();
        let stopped = self.stop_those(run, &lost);
        if let Some(parent) = self.runs.get_mut(&run) {
            parent.drop_steps(&lost);
        }
        stopped
    }

    fn wake(&mut self, run: RunId) {
        if let Some(run) = self.runs.get_mut(&run) {
            run.wake();
        }
    }

    fn other(&mut self, op: &Op, told: &Told, made: &Made, after: &[RunSeen]) {
        match op {
            Op::Wake { runs } => {
                let runs: BTreeSet<RunId> = runs.iter().map(|run| made.run(*run)).collect();
                runs.into_iter().for_each(|run| self.wake(run));
            }
            Op::Fail { claim } => {
                let claim = made.claim(*claim);
                if self.held(&claim).is_some() {
                    self.change(claim.run, |run| {
                        run.claim = None;
                        run.stop("failed");
                    });
                }
            }
            Op::Die { .. } | Op::Sweep => self.swept(&made.before, after),
            Op::Limit(limits) => self.limit(*limits),
            Op::Advance { by } => self.now += u64::from(*by),
            Op::StopChildren { run } => drop(self.stop_children(made.run(*run))),
            Op::Cancel { run } | Op::ForceCancel { run } => self.cancel(self.meant(made.run(*run)), op, told),
            Op::Signal { run, .. } | Op::Pause { run } | Op::Resume { run } => {
                self.one(self.meant(made.run(*run)), op, told);
            }
            Op::SettleStop { run } | Op::Batches { run, .. } => self.one(made.run(*run), op, told),
            _ => {}
        }
    }

    fn one(&mut self, run: RunId, op: &Op, told: &Told) {
        self.change(run, |run| one(run, op, told));
    }

    fn limit(&mut self, limits: LimitsOp) {
        self.gate = Some(Gate::new(limits, self.gate.as_ref(), self.now));
        self.give_places();
    }

    /// Its children are stopped with it, and its parent hears of its end.
    fn cancel(&mut self, run: RunId, op: &Op, told: &Told) {
        self.one(run, op, told);
        self.stop_children(run);
        let over = self.runs.get(&run).filter(|run| run.is_over());
        if let Some(parent) = over.and_then(|run| run.parent.as_ref()).map(|parent| parent.run) {
            self.wake(parent);
        }
    }

    /// Who lost a lease is nobody's, in the state that it was in or set aside. Who sleeps though a child is over is woken,
    /// and the children of those that are over or to stop are stopped, and theirs, and those of branches that lost.
    fn swept(&mut self, before: &[RunSeen], after: &[RunSeen]) {
        for seen in after {
            self.change(seen.run, |run| {
                if run.claim.is_some() && seen.claim.is_none() {
                    run.claim = None;
                    if seen.status == "quarantined" && run.status == "running" {
                        run.status = "quarantined";
                    }
                }
                run.settle_stop();
            });
        }
        self.give_places();
        self.note_ends();
        let asleep = before
            .iter()
            .filter(|seen| seen.claim.is_none() && seen.wake != Wake::Due);
        let sleeps = |seen: &&RunSeen| {
            self.runs
                .get(&seen.run)
                .is_some_and(|run| run.wake_seq == seen.wake_seq)
        };
        let untold = asleep
            .filter(sleeps)
            .map(|seen| seen.run)
            .filter(|run| self.is_untold(*run));
        for parent in untold.collect::<Vec<_>>() {
            self.wake(parent);
        }
        let mut more = true;
        while more {
            more = false;
            for run in self.runs.keys().copied().collect::<Vec<_>>() {
                more |= self.stop_children(run) | self.stop_lost_children(run);
            }
        }
    }

    /// A child of it has ended since it was claimed.
    fn is_untold(&self, run: RunId) -> bool {
        let parent = &self.runs[&run];
        let open = parent.open_children();
        let is_news = |child: &Run| {
            let above = child
                .parent
                .as_ref()
                .filter(|above| above.run == run && child.next.is_none());
            let since = parent
                .claimed_in
                .is_some_and(|claimed| child.over_in.is_some_and(|over| over >= claimed));
            above.is_some_and(|above| open.contains(&above.path)) && since
        };
        matches!(parent.status, "running" | "suspended") && self.runs.values().any(is_news)
    }

    /// Whether the store has the same runs.
    pub async fn check(&self, world: &dyn RunWorld, runs: &[RunSeen]) {
        assert_eq!(runs.len(), self.runs.len());
        for seen in runs {
            let run = &self.runs[&seen.run];
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

//! What is done next, the same in every world: its ids are chosen before.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lockgate::lifecycle::{
    ChildWishes, ClaimPage, Continuation, Kind, LetGo, NewChild, NewStep, RepeatRun, RunClaim, RunId, Runnable, Share,
    StepStatus, derived_id,
};
use lockgate::memory::RunStart;
use lockgate_tests::conformance::runs::{RunSeen, Wake};
use uuid::Uuid;

use crate::ops::{ActOp, ChildOp, ClaimAt, HELD, LimitsOp, Op, RunAt, StepOp};

const WORKFLOW: &str = "orders";
pub const BULK: &str = "bulk";
/// Where the select stands.
const SELECT: &str = "4:select";
/// Instants are so far apart that the time a test takes does not matter.
pub const UNIT: Duration = Duration::from_secs(600);
/// Places at which children are started.
pub const CHILDREN: u8 = 4;
const MOST_STARTED: usize = 5;
/// With those that others start.
const MOST_RUNS: usize = 9;
/// So many that a page takes all.
const MOST: u8 = 10;
const URGENT: u8 = 20;
/// Formed as the engine's own.
const FIRST_ID: u128 = 0x0199_0000_0000_7000_8000_0000_0000_0000;

/// What was made so far, the same in every world.
#[derive(Debug, Default)]
pub struct Made {
    ids: u128,
    pub runs: Vec<RunId>,
    pub claims: Vec<RunClaim>,
    /// Some were made ready by one statement, and which of those goes first is open.
    pub tied: bool,
    /// Runs as they were before this step.
    pub before: Vec<RunSeen>,
    /// What is set for the queue that may have limits.
    pub limits: Option<LimitsOp>,
    pub is_paused: bool,
}

impl Made {
    /// The next id: what is asked for by the order of ids is the same whenever the story is told.
    fn id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(FIRST_ID + self.ids)
    }

    /// A run to start, under an id of its own.
    fn start(&mut self, bulk: bool, urgent: bool, after: Option<RunAt>) -> RunStart {
        let mut start = RunStart {
            queue: bulk.then(|| BULK.to_owned()),
            priority: if urgent { URGENT } else { 0 },
            after_run: after.filter(|_| !self.runs.is_empty()).map(|after| self.run(after)),
            ..RunStart::new(WORKFLOW)
        };
        start.request.id = self.id();
        self.runs.push(start.request.id);
        start
    }

    pub fn run(&self, at: RunAt) -> RunId {
        let at = usize::from(at) % self.runs.len().max(1);
        self.runs.get(at).copied().unwrap_or(Uuid::nil())
    }

    pub fn claim(&self, at: ClaimAt) -> RunClaim {
        let nobody = RunClaim {
            run: Uuid::nil(),
            token: 1,
            claim_id: Uuid::nil(),
        };
        let held = self.held();
        let of = if at < HELD && !held.is_empty() {
            &held
        } else {
            &self.claims
        };
        let from_last = usize::from(at) % of.len().max(1);
        of.iter().rev().nth(from_last).copied().unwrap_or(nobody)
    }

    /// A child of this run, unless it or its place is taken. Whoever does not hold the run starts none.
    fn child(&mut self, claim: RunClaim, path: u8, wishes: ChildOp) -> Option<NewChild> {
        let path = child_path(path);
        let id = derived_id(claim.run, &path);
        if self.held().contains(&claim) && !self.runs.contains(&id) {
            self.make_room()?;
            self.runs.push(id);
        }
        Some(NewChild {
            claim,
            path,
            begun_at: instant(),
            id,
            origin_id: id,
            workflow: WORKFLOW.to_owned(),
            params: b"1".to_vec(),
            wishes: ChildWishes {
                queue: wishes.bulk.then(|| BULK.to_owned()),
                priority: wishes.urgent.then_some(URGENT),
                detached: wishes.detached,
                limit_key: wishes.key.map(|key| format!("key {key}")),
                tenant: wishes.tenant.map(|tenant| format!("tenant {tenant}")),
                ..ChildWishes::default()
            },
        })
    }

    /// The run that goes on in the place of this one has an id of its own, which nobody has if it does not go on.
    fn continuation(&mut self, claim: RunClaim, behind: u8, had_batches: bool) -> Option<Continuation> {
        self.make_room()?;
        Some(Continuation {
            claim,
            next: self.id(),
            params: b"2".to_vec(),
            seen: self.wake_seq(claim.run) - i64::from(behind),
            had_batches,
            attributes: None,
        })
    }

    fn make_room(&self) -> Option<()> {
        (self.runs.len() < MOST_RUNS).then_some(())
    }

    fn held(&self) -> Vec<RunClaim> {
        self.before.iter().filter_map(|seen| seen.claim).collect()
    }

    /// A run that goes on as another has made that one, and so has one that is done again.
    pub fn heard(&mut self, step: &Step, let_go: &[LetGo], runs: &[RunSeen]) {
        match (step, let_go) {
            (Step::Continue(next), [LetGo::Done]) => self.runs.push(next.next),
            (Step::Repeat(repeat), _) if runs.iter().any(|seen| seen.run == repeat.id) => self.runs.push(repeat.id),
            _ => {}
        }
    }

    /// Mostly one that is over.
    fn repeat(&mut self, run: RunAt, from: Option<u8>, forks: bool) -> Option<RepeatRun> {
        self.make_room()?;
        let is_over = |seen: &&RunSeen| matches!(seen.status.as_str(), "completed" | "failed" | "cancelled");
        let over: Vec<RunId> = self.before.iter().filter(is_over).map(|seen| seen.run).collect();
        let of = over.get(usize::from(run) % over.len().max(1)).copied();
        let of = of.unwrap_or_else(|| self.run(run));
        let again = if forks {
            RepeatRun::fork(of)
        } else {
            RepeatRun::retry(of)
        };
        Some(RepeatRun {
            id: self.id(),
            from: from.map(step_named),
            ..again
        })
    }

    /// Its runs are claimed through the gate.
    fn is_limited(&self) -> bool {
        let has_limits = |limits: LimitsOp| limits.counts() || limits.rate.is_some();
        self.is_paused || self.limits.is_some_and(has_limits)
    }

    /// What is claimed without a look at limits.
    fn open_queues(&self, take: u8, bulk: u8) -> Vec<(&'static str, u8)> {
        let both = [(WORKFLOW, take), (BULK, bulk)];
        let open = both
            .into_iter()
            .filter(|(queue, _)| *queue != BULK || !self.is_limited());
        open.collect()
    }

    /// What was made ready by one statement is told apart again once it is not ready any more.
    pub fn forget_ties(&mut self) {
        let waiting = self
            .before
            .iter()
            .filter(|seen| seen.claim.is_none() && seen.wake != Wake::Never);
        self.tied &= waiting.count() > 1;
    }

    fn suspects(&self) -> usize {
        self.before
            .iter()
            .filter(|seen| seen.attempts >= 2 && seen.claim.is_none())
            .count()
    }

    pub fn wake_seq(&self, run: RunId) -> i64 {
        let seen = self.before.iter().find(|seen| seen.run == run);
        seen.map_or(0, |seen| seen.wake_seq)
    }
}

/// One step, the same for every world: its ids are chosen before.
#[derive(Debug)]
pub enum Step {
    Start(Box<RunStart>, u8),
    Claim(ClaimPage),
    ClaimLimited(ClaimPage),
    Save(Vec<NewStep>),
    Settle(NewStep),
    Select(NewStep, Vec<String>),
    LetGo(Vec<(RunClaim, ActOp, bool)>),
    /// A child, and in how much time it starts.
    Child(Box<NewChild>, u8),
    Continue(Continuation),
    Repeat(RepeatRun),
    Other(Op),
}

/// How many runs became ready by one thing that was done; by time alone each has an instant of its own.
pub fn made_ready(step: &Step, before: &[RunSeen], after: &[RunSeen]) -> u64 {
    if matches!(step, Step::Other(Op::Advance { .. })) {
        return 0;
    }
    let was = |now: &RunSeen| before.iter().find(|was| was.run == now.run);
    let is_new = |now: &&RunSeen| {
        now.wake == Wake::Due
            && was(now).is_none_or(|was| (was.wake, was.wake_seq, was.token) != (now.wake, now.wake_seq, now.token))
    };
    after.iter().filter(|now| now.claim.is_none()).filter(is_new).count() as u64
}

/// Chooses the ids.
pub fn prepare(op: &Op, made: &mut Made) -> Option<Step> {
    Some(match op {
        // What needs a claim gets one first.
        needs_one if needs_one.claim().is_some_and(|at| at < HELD) && made.held().is_empty() => {
            let suspects = made.suspects() == 1 && needs_one.claim().is_some_and(|at| at % 2 == 0);
            Step::Claim(page(made.id(), &made.open_queues(MOST, MOST), (1, 2), suspects))
        }
        Op::Start { .. } if made.runs.len() >= MOST_STARTED => return None,
        Op::Start {
            bulk,
            urgent,
            start_in,
            after,
            key,
            tenant,
        } => {
            let start = RunStart {
                limit_key: key.map(|key| format!("key {key}")),
                tenant: tenant.map(|tenant| format!("tenant {tenant}")),
                ..made.start(*bulk, *urgent, *after)
            };
            Step::Start(Box::new(start), *start_in)
        }
        Op::Claim { take, bulk, versions } => {
            let all_if_tied = |take: &u8| if made.tied { take.saturating_mul(MOST) } else { *take };
            let shares = made.open_queues(all_if_tied(take), all_if_tied(bulk));
            Step::Claim(page(made.id(), &shares, *versions, false))
        }
        Op::ClaimLimited { .. } if made.tied || !made.is_limited() => return None,
        Op::ClaimLimited { take, suspects } => Step::ClaimLimited(page(made.id(), &[(BULK, *take)], (1, 2), *suspects)),
        Op::ClaimSuspect { .. } if made.tied && made.suspects() > 1 => return None,
        Op::ClaimSuspect { bulk: true } if made.is_limited() => return None,
        Op::ClaimSuspect { bulk } => {
            let queue = if *bulk { BULK } else { WORKFLOW };
            Step::Claim(page(made.id(), &[(queue, 3)], (1, 2), true))
        }
        Op::Save { group } => {
            let mut paths = HashSet::new();
            let steps = group.iter().map(|step| new_step(step, made));
            let steps: Vec<_> = steps
                .filter(|step| paths.insert((step.claim.run, step.path.clone())))
                .collect();
            Step::Save(one_taker_a_signal(steps))
        }
        Op::Settle { step } => Step::Settle(new_step(step, made)),
        Op::Repeat { run, from, forks } => Step::Repeat(made.repeat(*run, *from, *forks)?),
        Op::Child { .. } | Op::EndChild { .. } | Op::Continue { .. } => family(op, made)?,
        Op::Select { .. } | Op::Undo { .. } => branch(op, made),
        Op::LetGo { group } => {
            let mut runs = HashSet::new();
            let group = group
                .iter()
                .map(|(at, act, batches)| (made.claim(*at), act.clone(), *batches));
            Step::LetGo(group.filter(|(claim, ..)| runs.insert(claim.run)).collect())
        }
        Op::Limit(limits) => {
            made.limits = Some(*limits);
            Step::Other(op.clone())
        }
        // What nobody has heard of cannot go on.
        Op::Hold { paused: false } if !made.is_paused => return None,
        Op::Hold { paused } => {
            made.is_paused = *paused;
            Step::Other(op.clone())
        }
        other => Step::Other(other.clone()),
    })
}

/// What a run does with others.
fn family(op: &Op, made: &mut Made) -> Option<Step> {
    Some(match op {
        Op::Child { claim, path, wishes } => {
            let child = made.child(made.claim(*claim), *path, *wishes)?;
            Step::Child(Box::new(child), wishes.start_in)
        }
        Op::EndChild { claim, path, result } => Step::Save(vec![NewStep {
            ends_open: true,
            ..ended(made.claim(*claim), child_path(*path), Kind::Child, *result)
        }]),
        Op::Continue { claim, behind, batches } => {
            Step::Continue(made.continuation(made.claim(*claim), *behind, *batches)?)
        }
        other => Step::Other(other.clone()),
    })
}

/// What branches of a run come to.
fn branch(op: &Op, made: &Made) -> Step {
    match op {
        Op::Select { claim, winner } => {
            let lost = (0..3).filter(|number| number != winner);
            let step = ended(made.claim(*claim), SELECT.to_owned(), Kind::Select, *winner);
            Step::Select(step, lost.map(|number| format!("{SELECT}/{number}/")).collect())
        }
        Op::Undo { claim, path } => {
            let path = format!("undo/{}", path_of(*path));
            Step::Settle(ended(made.claim(*claim), path, Kind::Step, 0))
        }
        other => Step::Other(other.clone()),
    }
}

fn page(claim_id: Uuid, shares: &[(&str, u8)], (oldest, newest): (u32, u32), suspects: bool) -> ClaimPage {
    let share = |(queue, take): &(&str, u8)| Share {
        queue: (*queue).to_owned(),
        take: u32::from(*take),
    };
    ClaimPage {
        claim_id,
        shares: shares.iter().map(share).collect(),
        runnable: vec![Runnable {
            workflow: WORKFLOW.to_owned(),
            version: newest,
            replays: oldest..=newest,
        }],
        suspects,
    }
}

/// The places of the code itself, then those in the branches of its select.
pub fn path_of(path: u8) -> String {
    match path.checked_sub(4) {
        None => format!("{path}:a"),
        Some(within) => format!("{SELECT}/{}/{}:a", within / 2, within % 2),
    }
}

/// Behind those, two of the code itself and one in each of two branches.
pub fn child_path(path: u8) -> String {
    match path.checked_sub(2) {
        None => format!("{}:child", 5 + path),
        Some(branch) => format!("{SELECT}/{branch}/2:child"),
    }
}

/// A step by its path, or by a name that several have.
fn step_named(from: u8) -> String {
    match from {
        path if path < 10 => path_of(path),
        10 | 11 => child_path(from - 10),
        12 => SELECT.to_owned(),
        _ => "a".to_owned(),
    }
}

fn instant() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(1_790_000_000)
}

fn ended(claim: RunClaim, path: String, kind: Kind, result: u8) -> NewStep {
    NewStep {
        claim,
        path,
        kind,
        status: StepStatus::Completed,
        result: Some(result.to_string().into_bytes()),
        started_at: instant(),
        finished_at: instant(),
        attempts: 0,
        signal_seq: None,
        ends_open: false,
    }
}

fn new_step(step: &StepOp, made: &Made) -> NewStep {
    let ended = ended(made.claim(step.claim), path_of(step.path), step.kind, step.result);
    NewStep {
        status: step.status,
        result: ended.result.filter(|_| step.status != StepStatus::Open),
        signal_seq: step.signal.map(i64::from),
        ends_open: step.ends_open,
        ..ended
    }
}

/// Two takers of one signal in one statement would be a mistake of the code that runs, and either may win.
fn one_taker_a_signal(mut steps: Vec<NewStep>) -> Vec<NewStep> {
    let mut taken = HashSet::new();
    for step in &mut steps {
        let (run, first) = (step.claim.run, &mut taken);
        step.signal_seq = step.signal_seq.filter(|seq| first.insert((run, *seq)));
    }
    steps
}

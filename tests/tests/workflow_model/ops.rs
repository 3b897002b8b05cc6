//! What may be done to runs, at random. Indices mean something whatever was done before, so that any list can be shortened.

use lockgate::lifecycle::{Kind, StepStatus};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Which claim: below [`HELD`] one that is held, else any that was made so far, which may be a zombie's.
pub type ClaimAt = u8;
/// Bound of the numbers that mean a claim that is held.
pub const HELD: u8 = 4;
/// Which of the runs started so far.
pub type RunAt = u8;

impl Op {
    /// The claim that is meant first, if any.
    pub fn claim(&self) -> Option<ClaimAt> {
        match self {
            Self::Save { group } => group.first().map(|step| step.claim),
            Self::LetGo { group } => group.first().map(|(claim, ..)| *claim),
            Self::Settle { step } => Some(step.claim),
            Self::Select { claim, .. } | Self::Undo { claim, .. } => Some(*claim),
            Self::Child { claim, .. } | Self::EndChild { claim, .. } | Self::Continue { claim, .. } => Some(*claim),
            Self::Fail { claim } | Self::Renew { claim } | Self::Die { claim } => Some(*claim),
            _ => None,
        }
    }
}

/// The end of a step.
#[derive(Debug, Clone)]
pub struct StepOp {
    pub claim: ClaimAt,
    pub path: u8,
    pub kind: Kind,
    pub status: StepStatus,
    pub result: u8,
    pub signal: Option<u8>,
    pub ends_open: bool,
}

/// How to let go.
#[derive(Debug, Clone)]
pub enum ActOp {
    Complete,
    Fail,
    Quarantine,
    HandBack {
        delay: u8,
    },
    /// `behind`: how many wake-ups fewer than there were it has seen.
    Wait {
        behind: u8,
        due_in: Option<u8>,
        batches: bool,
        waits: Vec<(u8, Kind)>,
    },
    /// As above, between two tries to undo something.
    WaitToUndo {
        behind: u8,
        due_in: Option<u8>,
        waits: Vec<(u8, Kind)>,
    },
    NotUndone {
        waits: Vec<(u8, Kind)>,
    },
    Unwound,
}

impl ActOp {
    /// How many wake-ups fewer than there were it has seen, if it is a wait.
    pub fn behind(&self) -> Option<u8> {
        match self {
            Self::Wait { behind, .. } | Self::WaitToUndo { behind, .. } => Some(*behind),
            _ => None,
        }
    }

    /// What is waited for.
    pub fn waits(&self) -> &[(u8, Kind)] {
        match self {
            Self::Wait { waits, .. } | Self::WaitToUndo { waits, .. } | Self::NotUndone { waits } => waits,
            _ => &[],
        }
    }
}

/// What is set for the queue that has limits.
#[derive(Debug, Clone, Copy)]
pub struct LimitsOp {
    pub most: Option<u8>,
    pub of_a_key: Option<u8>,
    pub until_over: bool,
    /// Tokens for each unit of time, and how many are saved up.
    pub rate: Option<(u8, u8)>,
    pub fair: bool,
}

/// Of a token, a unit.
pub const RATE_MORE: f64 = 0.01;

impl LimitsOp {
    /// Runs have places.
    pub fn counts(self) -> bool {
        self.most.is_some() || self.of_a_key.is_some() || self.fair
    }
}

/// What a child is started with beside its step.
#[derive(Debug, Clone, Copy)]
pub struct ChildOp {
    pub bulk: bool,
    pub urgent: bool,
    pub detached: bool,
    pub start_in: u8,
    pub key: Option<u8>,
    pub tenant: Option<u8>,
}

/// One thing done.
#[derive(Debug, Clone)]
pub enum Op {
    Start {
        bulk: bool,
        urgent: bool,
        start_in: u8,
        after: Option<RunAt>,
        key: Option<u8>,
        tenant: Option<u8>,
    },
    Claim {
        take: u8,
        bulk: u8,
        versions: (u32, u32),
    },
    ClaimSuspect {
        bulk: bool,
    },
    /// From the queue with limits.
    ClaimLimited {
        take: u8,
        suspects: bool,
    },
    Limit(LimitsOp),
    /// The queue is paused, or goes on.
    Hold {
        paused: bool,
    },
    Save {
        group: Vec<StepOp>,
    },
    Settle {
        step: StepOp,
    },
    /// A branch of the select wins.
    Select {
        claim: ClaimAt,
        winner: u8,
    },
    /// A step is undone.
    Undo {
        claim: ClaimAt,
        path: u8,
    },
    LetGo {
        group: Vec<(ClaimAt, ActOp, bool)>,
    },
    /// Its code starts a child.
    Child {
        claim: ClaimAt,
        path: u8,
        wishes: ChildOp,
    },
    /// Its code records how a child ended.
    EndChild {
        claim: ClaimAt,
        path: u8,
        result: u8,
    },
    /// It ends by going on as another run.
    Continue {
        claim: ClaimAt,
        behind: u8,
        batches: bool,
    },
    /// Which of its children are over.
    AskChildren {
        run: RunAt,
    },
    /// Those of a run that is over, or is to stop.
    StopChildren {
        run: RunAt,
    },
    Signal {
        run: RunAt,
        key: Option<u8>,
        content: u8,
    },
    Wake {
        runs: Vec<RunAt>,
    },
    Look {
        runs: Vec<RunAt>,
    },
    Pause {
        run: RunAt,
    },
    Resume {
        run: RunAt,
    },
    Cancel {
        run: RunAt,
    },
    ForceCancel {
        run: RunAt,
    },
    SettleStop {
        run: RunAt,
    },
    /// One that is over is done again: from a step, from where it failed, or, a fork, from the beginning.
    Repeat {
        run: RunAt,
        from: Option<u8>,
        forks: bool,
    },
    Fail {
        claim: ClaimAt,
    },
    Batches {
        run: RunAt,
        waiting: u8,
        held: u8,
    },
    Renew {
        claim: ClaimAt,
    },
    Advance {
        by: u8,
    },
    Die {
        claim: ClaimAt,
    },
    Sweep,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![3 => Just(Kind::Step), 2 => Just(Kind::Signal), 1 => Just(Kind::Sleep), 2 => Just(Kind::Undoable)]
}

/// What can be undone may only have begun.
fn status() -> impl Strategy<Value = StepStatus> {
    prop_oneof![4 => Just(StepStatus::Completed), 1 => Just(StepStatus::Failed), 1 => Just(StepStatus::Open)]
}

/// Four places of the code itself, and two in each branch of its select.
fn path() -> impl Strategy<Value = u8> {
    0..10_u8
}

/// Two places of the code itself, and one in each of two branches of its select.
fn child_path() -> impl Strategy<Value = u8> {
    0..4_u8
}

/// Mostly one that is held, now and then one that may be lost.
fn claim() -> impl Strategy<Value = ClaimAt> {
    prop_oneof![6 => 0..HELD, 1 => HELD..]
}

/// Mostly the first run, so that much happens to one.
fn run() -> impl Strategy<Value = RunAt> {
    prop_oneof![3 => Just(0_u8), 1 => Just(1_u8), 1 => any::<u8>()]
}

fn step() -> impl Strategy<Value = StepOp> {
    let signal = option::weighted(0.4, 1..4_u8);
    (claim(), path(), kind(), status(), 0..3_u8, signal, any::<bool>()).prop_map(
        |(claim, path, kind, status, result, signal, ends_open)| {
            let begins = status == StepStatus::Open && kind == Kind::Undoable;
            let ended = if status == StepStatus::Open {
                StepStatus::Completed
            } else {
                status
            };
            StepOp {
                claim,
                path,
                kind,
                status: if begins { status } else { ended },
                result,
                signal: signal.filter(|_| !begins),
                ends_open: ends_open && !begins,
            }
        },
    )
}

fn act() -> impl Strategy<Value = ActOp> {
    let behind = prop_oneof![5 => Just(0_u8), 1 => Just(1_u8)];
    let due_in = option::of(0..4_u8);
    let waits = || vec((path(), kind()), 0..3);
    let undoes = (behind.clone(), due_in.clone(), waits());
    let undoes = undoes.prop_map(|(behind, due_in, waits)| ActOp::WaitToUndo { behind, due_in, waits });
    let wait = (behind, due_in, any::<bool>(), waits()).prop_map(|(behind, due_in, batches, waits)| ActOp::Wait {
        behind,
        due_in,
        batches,
        waits,
    });
    prop_oneof![
        1 => Just(ActOp::Complete),
        1 => Just(ActOp::Fail),
        1 => Just(ActOp::Quarantine),
        3 => (0..3_u8).prop_map(|delay| ActOp::HandBack { delay }),
        12 => wait,
        2 => undoes,
        1 => waits().prop_map(|waits| ActOp::NotUndone { waits }),
        2 => Just(ActOp::Unwound),
    ]
}

fn start() -> impl Strategy<Value = Op> {
    let start_in = prop_oneof![3 => Just(0_u8), 1 => 0..3_u8];
    let after = option::weighted(0.1, any::<u8>());
    let key = option::of(0..2_u8);
    let start = (any::<bool>(), any::<bool>(), start_in, after, key, tenant());
    start.prop_map(|(bulk, urgent, start_in, after, key, tenant)| Op::Start {
        bulk,
        urgent,
        start_in,
        after,
        key,
        tenant,
    })
}

fn tenant() -> impl Strategy<Value = Option<u8>> {
    option::weighted(0.7, 0..3_u8)
}

fn child() -> impl Strategy<Value = ChildOp> {
    let start_in = prop_oneof![4 => Just(0_u8), 1 => 1..3_u8];
    let detached = prop_oneof![4 => Just(false), 1 => Just(true)];
    let key = option::of(0..2_u8);
    let child = (any::<bool>(), any::<bool>(), detached, start_in, key, tenant());
    child.prop_map(|(bulk, urgent, detached, start_in, key, tenant)| ChildOp {
        bulk,
        urgent,
        detached,
        start_in,
        key,
        tenant,
    })
}

fn child_act() -> impl Strategy<Value = Op> {
    let starts = (claim(), child_path(), child());
    let ends = (claim(), child_path(), 0..3_u8);
    let behind = prop_oneof![5 => Just(0_u8), 1 => Just(1_u8)];
    let goes_on = (claim(), behind, any::<bool>());
    prop_oneof![
        6 => starts.prop_map(|(claim, path, wishes)| Op::Child { claim, path, wishes }),
        3 => ends.prop_map(|(claim, path, result)| Op::EndChild { claim, path, result }),
        2 => goes_on.prop_map(|(claim, behind, batches)| Op::Continue { claim, behind, batches }),
        3 => run().prop_map(|run| Op::AskChildren { run }),
        2 => any::<u8>().prop_map(|run| Op::StopChildren { run }),
    ]
}

fn queue_act() -> impl Strategy<Value = Op> {
    let rate = option::of((1..3_u8, 1..4_u8));
    let limits = (
        option::of(1..4_u8),
        option::of(1..3_u8),
        any::<bool>(),
        rate,
        any::<bool>(),
    );
    let limits = limits.prop_map(|(most, of_a_key, until_over, rate, fair)| LimitsOp {
        most,
        // More of a key than in all is refused.
        of_a_key: of_a_key.map(|key| key.min(most.unwrap_or(key))),
        until_over,
        rate,
        fair,
    });
    let claim = (1..4_u8, prop_oneof![4 => Just(false), 1 => Just(true)]);
    prop_oneof![
        2 => limits.prop_map(Op::Limit),
        1 => prop_oneof![1 => Just(true), 2 => Just(false)].prop_map(|paused| Op::Hold { paused }),
        6 => claim.prop_map(|(take, suspects)| Op::ClaimLimited { take, suspects }),
    ]
}

fn run_act() -> impl Strategy<Value = Op> {
    let runs = || vec(run(), 0..3);
    let signal = (run(), option::of(0..3_u8), any::<u8>());
    prop_oneof![
        12 => signal.prop_map(|(run, key, content)| Op::Signal { run, key, content }),
        6 => runs().prop_map(|runs| Op::Wake { runs }),
        6 => runs().prop_map(|runs| Op::Look { runs }),
        6 => run().prop_map(|run| Op::Pause { run }),
        9 => run().prop_map(|run| Op::Resume { run }),
        2 => any::<u8>().prop_map(|run| Op::Cancel { run }),
        1 => any::<u8>().prop_map(|run| Op::ForceCancel { run }),
        1 => run().prop_map(|run| Op::SettleStop { run }),
        3 => (any::<u8>(), option::of(0..14_u8), any::<bool>()).prop_map(|(run, from, forks)| Op::Repeat { run, from, forks }),
        1 => (run(), 0..2_u8, 0..2_u8).prop_map(|(run, waiting, held)| Op::Batches { run, waiting, held }),
    ]
}

fn claim_act() -> impl Strategy<Value = Op> {
    let versions = prop_oneof![4 => Just((1_u32, 2_u32)), 1 => Just((1, 1)), 1 => Just((2, 3))];
    let take = || prop_oneof![3 => Just(3_u8), 1 => 0..3_u8];
    let page = (take(), take(), versions);
    prop_oneof![
        12 => page.prop_map(|(take, bulk, versions)| Op::Claim { take, bulk, versions }),
        10 => any::<bool>().prop_map(|bulk| Op::ClaimSuspect { bulk }),
        12 => vec(step(), 1..4).prop_map(|group| Op::Save { group }),
        12 => step().prop_map(|step| Op::Settle { step }),
        4 => (claim(), 0..3_u8).prop_map(|(claim, winner)| Op::Select { claim, winner }),
        6 => (claim(), path()).prop_map(|(claim, path)| Op::Undo { claim, path }),
        18 => vec((claim(), act(), any::<bool>()), 1..4).prop_map(|group| Op::LetGo { group }),
        1 => claim().prop_map(|claim| Op::Fail { claim }),
        2 => claim().prop_map(|claim| Op::Renew { claim }),
        10 => claim().prop_map(|claim| Op::Die { claim }),
    ]
}

/// Anything.
pub fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => start(),
        12 => run_act(),
        22 => claim_act(),
        6 => child_act(),
        6 => queue_act(),
        3 => (1..7_u8).prop_map(|by| Op::Advance { by }),
        3 => Just(Op::Sweep),
    ]
}

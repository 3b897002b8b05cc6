//! Does one thing to a world, and says what it answered in words that are the same in every world.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use lockgate::lifecycle::{
    Act, ClaimPage, Ending, Holds, Kind, LetGo, NewSignal, NewStep, OpenWait, QueueSettings, RunClaim, RunId, Runnable,
    Share, StepStatus,
};
use lockgate::memory::RunStart;
use lockgate_tests::conformance::runs::{RunSeen, RunWorld, Wake};
use serde_json::Value;
use uuid::Uuid;

use crate::ops::{ActOp, ClaimAt, HELD, LimitsOp, Op, RunAt, StepOp};
use crate::words::{say, say_answer, say_claimed, units};

const WORKFLOW: &str = "orders";
pub const BULK: &str = "bulk";
/// Where the select stands.
const SELECT: &str = "4:select";
/// Instants are so far apart that the time a test takes does not matter.
pub const UNIT: Duration = Duration::from_secs(600);
const MOST_RUNS: usize = 5;
/// So many that a page takes all.
const MOST: u8 = 10;

/// What was made so far, the same in every world.
#[derive(Debug, Default)]
pub struct Made {
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
    /// A run to start, under an id of its own.
    fn start(&mut self, bulk: bool, urgent: bool, after: Option<RunAt>, key: Option<u8>) -> RunStart {
        let start = RunStart {
            limit_key: key.map(|key| format!("key {key}")),
            queue: bulk.then(|| BULK.to_owned()),
            priority: if urgent { 20 } else { 0 },
            after_run: after.filter(|_| !self.runs.is_empty()).map(|after| self.run(after)),
            ..RunStart::new(WORKFLOW)
        };
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

    fn held(&self) -> Vec<RunClaim> {
        self.before.iter().filter_map(|seen| seen.claim).collect()
    }

    /// Its runs are claimed through the gate.
    fn is_limited(&self) -> bool {
        let has_limits = |limits: LimitsOp| limits.most.is_some() || limits.of_a_key.is_some();
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
    Other(Op),
}

/// Chooses the ids.
pub fn prepare(op: &Op, made: &mut Made) -> Option<Step> {
    Some(match op {
        // What needs a claim gets one first.
        needs_one if needs_one.claim().is_some_and(|at| at < HELD) && made.held().is_empty() => {
            let suspects = made.suspects() == 1 && needs_one.claim().is_some_and(|at| at % 2 == 0);
            Step::Claim(page(&made.open_queues(MOST, MOST), (1, 2), suspects))
        }
        Op::Start { .. } if made.runs.len() >= MOST_RUNS => return None,
        Op::Start {
            bulk,
            urgent,
            start_in,
            after,
            key,
        } => {
            let start = made.start(*bulk, *urgent, *after, *key);
            Step::Start(Box::new(start), *start_in)
        }
        Op::Claim { take, bulk, versions } => {
            let all_if_tied = |take: &u8| if made.tied { take.saturating_mul(MOST) } else { *take };
            let shares = made.open_queues(all_if_tied(take), all_if_tied(bulk));
            Step::Claim(page(&shares, *versions, false))
        }
        Op::ClaimLimited { .. } if made.tied || !made.is_limited() => return None,
        Op::ClaimLimited { take, suspects } => Step::ClaimLimited(page(&[(BULK, *take)], (1, 2), *suspects)),
        Op::ClaimSuspect { .. } if made.tied && made.suspects() > 1 => return None,
        Op::ClaimSuspect { bulk: true } if made.is_limited() => return None,
        Op::ClaimSuspect { bulk } => {
            let queue = if *bulk { BULK } else { WORKFLOW };
            Step::Claim(page(&[(queue, 3)], (1, 2), true))
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
        Op::Select { claim, winner } => {
            let lost = (0..3).filter(|number| number != winner);
            let step = ended(made.claim(*claim), SELECT.to_owned(), Kind::Select, *winner);
            Step::Select(step, lost.map(|number| format!("{SELECT}/{number}/")).collect())
        }
        Op::Undo { claim, path } => {
            let path = format!("undo/{}", path_of(*path));
            Step::Settle(ended(made.claim(*claim), path, Kind::Step, 0))
        }
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

fn page(shares: &[(&str, u8)], (oldest, newest): (u32, u32), suspects: bool) -> ClaimPage {
    let share = |(queue, take): &(&str, u8)| Share {
        queue: (*queue).to_owned(),
        take: u32::from(*take),
    };
    ClaimPage {
        claim_id: Uuid::new_v4(),
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

fn ended(claim: RunClaim, path: String, kind: Kind, result: u8) -> NewStep {
    let instant = DateTime::UNIX_EPOCH + TimeDelta::seconds(1_790_000_000);
    NewStep {
        claim,
        path,
        kind,
        status: StepStatus::Completed,
        result: Some(result.to_string().into_bytes()),
        started_at: instant,
        finished_at: instant,
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

/// What a world answered.
#[derive(Debug, Default, PartialEq)]
pub struct Told {
    pub words: String,
    /// Claims that were got.
    pub claims: Vec<RunClaim>,
    /// What became of letting go, in order.
    pub let_go: Vec<LetGo>,
    /// How many runs may have been made ready by one statement.
    pub made_ready: u64,
}

impl Told {
    fn in_words(words: String) -> Self {
        Self {
            words,
            ..Self::default()
        }
    }
}

/// Does it.
pub async fn take(world: &dyn RunWorld, step: &Step, made: &Made) -> Told {
    let store = world.replica();
    match step {
        Step::Start(start, start_in) => {
            let mut start = (**start).clone();
            start.request.start_at = (*start_in > 0).then_some(world.now().await + UNIT * u32::from(*start_in));
            Told::in_words(say(&world.start(start).await))
        }
        Step::Claim(page) => {
            let claimed = store.claim_runs(page).await.unwrap();
            let mut claims: Vec<RunClaim> = claimed.iter().map(|(claim, _)| *claim).collect();
            claims.sort_by_key(|claim| claim.run);
            // Whose answer was lost reads the same.
            let read = store.read_claimed_runs(page).await.unwrap();
            let words = say_claimed(world, claimed).await;
            assert_eq!(say_claimed(world, read).await, words);
            Told {
                words,
                claims,
                ..Told::default()
            }
        }
        Step::ClaimLimited(page) => {
            let claimed = store.claim_limited_runs(page).await.unwrap();
            let mut claims: Vec<RunClaim> = claimed.runs.iter().map(|(claim, _)| *claim).collect();
            claims.sort_by_key(|claim| claim.run);
            Told {
                words: say_claimed(world, claimed.runs).await,
                claims,
                ..Told::default()
            }
        }
        Step::Select(step, lost) => Told::in_words(say_answer(store.settle_select(step, lost).await)),
        Step::Save(group) => Told::in_words(say_answer(store.save_steps(group).await)),
        Step::Settle(step) => Told::in_words(say_answer(store.settle_step(step).await)),
        Step::LetGo(group) => {
            let mut endings = Vec::new();
            for (claim, act, had_batches) in group {
                endings.push(ending(world, *claim, act, *had_batches, made).await);
            }
            let let_go = store.let_go_runs(&endings).await.unwrap();
            Told {
                made_ready: let_go.iter().filter(|answer| **answer == LetGo::Done).count() as u64,
                let_go,
                ..Told::default()
            }
        }
        Step::Other(op) => take_other(world, op, made).await,
    }
}

async fn ending(world: &dyn RunWorld, claim: RunClaim, act: &ActOp, had_batches: bool, made: &Made) -> Ending {
    let due = async |units: Option<u8>| match units {
        Some(units) => Some(world.now().await + UNIT * u32::from(units)),
        None => None,
    };
    let act = match act {
        ActOp::Complete => Act::Complete { output: b"1".to_vec() },
        ActOp::Fail => Act::Fail {
            reason: "no money".to_owned(),
        },
        ActOp::Quarantine => Act::Quarantine {
            reason: "the code differs".to_owned(),
        },
        ActOp::HandBack { delay } => Act::HandBack {
            delay: UNIT * u32::from(*delay),
            reason: None,
        },
        ActOp::Wait { due_in, batches, .. } => Act::Wait {
            seen: seen(act, claim, made),
            due_at: due(*due_in).await,
            batches: *batches,
            waits: waits(act),
        },
        ActOp::WaitToUndo { due_in, .. } => Act::WaitToUndo {
            seen: seen(act, claim, made),
            due_at: due(*due_in).await,
            waits: waits(act),
        },
        ActOp::NotUndone { .. } => Act::NotUndone {
            reason: "the bank is closed".to_owned(),
            waits: waits(act),
        },
        ActOp::Unwound => Act::Unwound,
    };
    Ending {
        claim,
        act,
        had_batches,
        attributes: None,
    }
}

fn seen(act: &ActOp, claim: RunClaim, made: &Made) -> i64 {
    made.wake_seq(claim.run) - i64::from(act.behind().unwrap_or(0))
}

fn waits(act: &ActOp) -> Vec<OpenWait> {
    let mut paths = HashSet::new();
    let waits = act.waits().iter().filter(|(path, _)| paths.insert(*path));
    let open = |(path, kind): &(u8, Kind)| OpenWait {
        path: path_of(*path),
        kind: *kind,
        due_at: None,
        attempts: u16::from(*path),
    };
    waits.map(open).collect()
}

async fn take_other(world: &dyn RunWorld, op: &Op, made: &Made) -> Told {
    let ready = |made_ready: u64| Told {
        made_ready,
        ..Told::in_words(say(&made_ready))
    };
    match op {
        Op::Wake { runs } => ready(world.replica().wake_runs(&runs_of(runs, made)).await.unwrap()),
        Op::Die { claim } => {
            world.end_leases(&made.claim(*claim)).await;
            ready(world.sweep().await)
        }
        Op::Sweep => ready(world.sweep().await),
        Op::Advance { by } => {
            world.advance(UNIT * u32::from(*by)).await;
            Told::default()
        }
        Op::Renew { claim } => Told::in_words(say(&world.renew(&made.claim(*claim)).await)),
        Op::Fail { claim } => Told::in_words(say(&world.fail_claimed(&made.claim(*claim), "no money").await)),
        about_runs => Told::in_words(tell(world, about_runs, made).await),
    }
}

/// What somebody outside does to runs, or asks of them.
async fn tell(world: &dyn RunWorld, op: &Op, made: &Made) -> String {
    match op {
        Op::Signal { run, key, content } => {
            let signal = NewSignal {
                run: made.run(*run),
                name: "paid".to_owned(),
                payload: Value::from(*content),
                idempotency_key: key.map(|key| key.to_string()),
                actor: None,
            };
            say(&world.replica().signal_run(&signal).await.unwrap())
        }
        Op::Look { runs } => look(world, &runs_of(runs, made)).await,
        Op::Pause { run } => world.pause(made.run(*run)).await,
        Op::Resume { run } => world.resume(made.run(*run)).await,
        Op::Cancel { run } => world.cancel(made.run(*run)).await,
        Op::ForceCancel { run } => world.force_cancel(made.run(*run)).await,
        Op::Limit(limits) => {
            world.set_queue(settings(*limits)).await;
            String::new()
        }
        Op::Hold { paused } => {
            world.pause_queue(BULK, *paused).await;
            String::new()
        }
        Op::SettleStop { run } => say(&world.settle_stop(made.run(*run)).await),
        Op::Batches { run, waiting, held } if made.runs.contains(&made.run(*run)) => {
            let (waiting, held) = (u32::from(*waiting), u32::from(*held));
            world.set_batches(made.run(*run), waiting, held).await;
            String::new()
        }
        _ => String::new(),
    }
}

fn settings(limits: LimitsOp) -> QueueSettings {
    QueueSettings {
        max_running: limits.most.map(u32::from),
        max_per_key: limits.of_a_key.map(u32::from),
        holds: if limits.until_over { Holds::Run } else { Holds::Code },
        ..QueueSettings::new(BULK)
    }
}

fn runs_of(runs: &[RunAt], made: &Made) -> Vec<RunId> {
    runs.iter().map(|run| made.run(*run)).collect()
}

async fn look(world: &dyn RunWorld, runs: &[RunId]) -> String {
    let store = world.replica();
    let mut poked = store.poked_runs(runs).await.unwrap();
    poked.sort_by_key(|poked| poked.run);
    let mut news = store.read_news(runs).await.unwrap();
    news.sort_by_key(|news| news.run);
    let news: Vec<_> = news
        .into_iter()
        .map(|news| {
            (
                news.wake_seq,
                news.signals.into_iter().map(|signal| signal.seq).collect::<Vec<_>>(),
            )
        })
        .collect();
    let due = store.next_due(&[BULK.to_owned()]).await.unwrap();
    let due = due.map(|due| units(due.as_secs_f64()));
    say(&(poked, news, due))
}

//! Does one thing to a world, and says what it answered in words that are the same in every world.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lockgate::lifecycle::{Act, Ending, Holds, Kind, LetGo, NewSignal, OpenWait, QueueSettings, RunClaim, RunId};
use lockgate_tests::conformance::runs::RunWorld;
use serde_json::Value;

use crate::ops::{ActOp, LimitsOp, Op, RATE_MORE, RunAt};
use crate::story::{BULK, CHILDREN, Made, Step, UNIT, child_path, path_of};
use crate::words::{say, say_answer, say_claimed, units};

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
    /// When a claim may get more; what a test takes is within it.
    pub again: Again,
}

/// About how long until a token comes.
#[derive(Debug, Default, Clone, Copy)]
pub struct Again(pub Option<Duration>);

impl PartialEq for Again {
    fn eq(&self, other: &Self) -> bool {
        match (self.0, other.0) {
            (Some(one), Some(other)) => one.abs_diff(other) < UNIT / 10,
            (one, other) => one == other,
        }
    }
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
            start.request.start_at = later(world, *start_in).await;
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
                again: Again(claimed.again),
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
        Step::Child(child, start_in) => {
            let mut child = (**child).clone();
            child.wishes.start_at = later(world, *start_in).await;
            Told::in_words(say_answer(store.start_children(&[child]).await))
        }
        Step::Continue(next) => Told {
            let_go: store.continue_runs(std::slice::from_ref(next)).await.unwrap(),
            ..Told::default()
        },
        Step::Repeat(repeat) => Told::in_words(say(&world.repeat(repeat).await)),
        Step::Other(op) => take_other(world, op, made).await,
    }
}

async fn later(world: &dyn RunWorld, units: u8) -> Option<DateTime<Utc>> {
    match units {
        0 => None,
        units => Some(world.now().await + UNIT * u32::from(units)),
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
                reason: None,
            };
            say(&world.replica().signal_run(&signal).await.unwrap())
        }
        Op::AskChildren { run } => {
            let paths: Vec<String> = (0..CHILDREN).map(child_path).collect();
            let ended = world.replica().ended_children(made.run(*run), &paths).await;
            let mut ended = ended.unwrap();
            ended.sort_by(|one, other| one.path.cmp(&other.path));
            say(&ended)
        }
        Op::StopChildren { run } => say(&world.replica().stop_children(made.run(*run)).await.unwrap()),
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
        // A little more than whole tokens a unit: rounding makes none late.
        rate_per_s: limits
            .rate
            .map(|(tokens, _)| (f64::from(tokens) + RATE_MORE) / UNIT.as_secs_f64()),
        burst: limits.rate.map(|(_, burst)| u32::from(burst)),
        fair: limits.fair,
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

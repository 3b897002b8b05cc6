//! Runs the code of one run: polls it, lets go of it while it waits, and ends it.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use futures::{FutureExt, future};
use tracing::Instrument;

use super::book::{Fate, HeldRun, Lease};
use super::executor::Shared;
use super::owner_host::{Left, OwnerHost, Stalled};
use crate::lifecycle::{Act, Ended, Ending, FleetError, LetGo, RunClaim, WorkRun};
use crate::telemetry;
use crate::workflow::Context;

/// Before a run is tried again whose store or source failed.
const RETRY: Duration = Duration::from_secs(1);
/// A wait that ends sooner is sat out: letting go costs two writes and a claim.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// Runs a claimed run's code until it ends, waits or is not ours any more.
pub(super) async fn drive(shared: Arc<Shared>, claim: RunClaim, run: WorkRun, asked: Instant) {
    let span = telemetry::run_span(&run);
    let lease = Lease::new(asked, shared.settings.trusted());
    let held = Arc::new(HeldRun::new(claim, lease, run.wake_seq));
    shared.book.hold_run(held.clone());
    let (seen, left) = code(&shared, &held, run).instrument(span).await;
    if let Err(error) = let_go(&shared, &held, seen, left).await {
        // The lease ends and the run is recovered.
        tracing::warn!(run = %claim.run, %error, "could not let go of the run");
    }
    shared.book.drop_run(&claim);
    fail::fail_point!("run.after_let_go");
}

/// What a look at the code found.
enum Looked {
    Ended(Result<anyhow::Result<Vec<u8>>, Box<dyn Any + Send>>),
    Left(Left),
    Stalled(Stalled),
    /// The first timer ended.
    Due,
}

type Code<'a> = BoxFuture<'a, Result<anyhow::Result<Vec<u8>>, Box<dyn Any + Send>>>;

/// Runs the workflow's code once. It is dropped where it is when it waits: it is run again over what it recorded.
/// Answers why it was left and what wake-ups were seen.
async fn code(shared: &Arc<Shared>, held: &Arc<HeldRun>, run: WorkRun) -> (i64, Left) {
    let run = Arc::new(run);
    let host = Arc::new(OwnerHost::new(shared.clone(), held.clone(), run.clone()));
    let left = run_code(shared, &host, &run).await;
    (host.seen(), left)
}

async fn run_code(shared: &Shared, host: &Arc<OwnerHost>, run: &Arc<WorkRun>) -> Left {
    let Some(workflow) = shared.registry.get(&run.workflow) else {
        return Left::Retry(format!("no workflow {} here", run.workflow));
    };
    let held = &host.held;
    let context = Context::new(run.clone(), host.clone(), shared.resources.clone());
    let mut code: Code<'_> = AssertUnwindSafe(async { workflow.run(context, &run.params).await })
        .catch_unwind()
        .boxed();
    loop {
        let looked = tokio::select! {
            biased;
            fate = held.lease.must_stop() => {
                // In doubt it is left as it is: only a run that is known to be ours may be put to sleep.
                return if fate == Fate::Halted { Left::Halted } else { Left::Lost };
            }
            () = shared.hurry.cancelled() => return Left::Retry("this replica stops".to_owned()),
            looked = look(&mut code, host) => looked,
            () = held.poked() => {
                hear(shared, host).await;
                continue;
            }
        };
        match looked {
            Looked::Left(left) => return left,
            Looked::Due => host.ring(),
            Looked::Stalled(stalled) => {
                if let Some(left) = suspend(shared, host, stalled).await {
                    return left;
                }
            }
            Looked::Ended(outcome) => {
                drop(code);
                return end(shared, host, outcome).await;
            }
        }
    }
}

/// Polls the code until something is to be done about it.
async fn look(code: &mut Code<'_>, host: &OwnerHost) -> Looked {
    let mut timer: Option<(DateTime<Utc>, BoxFuture<'_, ()>)> = None;
    future::poll_fn(|cx| {
        host.held.sits(false);
        host.polled_by(cx.waker());
        let polled = code.poll_unpin(cx);
        // Code that was left may have gone on with an error: it is not to be believed.
        if let Some(left) = host.take_left() {
            return Poll::Ready(Looked::Left(left));
        }
        if let Poll::Ready(outcome) = polled {
            return Poll::Ready(Looked::Ended(outcome));
        }
        if let Some(stalled) = host.stalled()
            && !is_soon(host, stalled.due_at)
        {
            return Poll::Ready(Looked::Stalled(stalled));
        }
        if let Some(due) = host.next_due() {
            let (_, sleep) = match timer.take().filter(|(at, _)| *at == due) {
                Some(same) => timer.insert(same),
                None => timer.insert((due, host.shared.clock.sleep(until(host, due)))),
            };
            if sleep.poll_unpin(cx).is_ready() {
                return Poll::Ready(Looked::Due);
            }
        }
        host.held.sits(host.sits());
        Poll::Pending
    })
    .await
}

fn until(host: &OwnerHost, due: DateTime<Utc>) -> Duration {
    (due - host.time()).to_std().unwrap_or_default()
}

fn is_soon(host: &OwnerHost, due_at: Option<DateTime<Utc>>) -> bool {
    due_at.is_some_and(|due| until(host, due) < SHORT_WAIT)
}

async fn hear(shared: &Shared, host: &OwnerHost) {
    match shared.runs.read_news(&[host.held.claim.run]).await {
        Ok(news) => news.into_iter().for_each(|news| host.hear(news)),
        // Letting go is refused as long as the news is not heard.
        Err(error) => tracing::warn!(run = %host.held.claim.run, %error, "could not read what reached the run"),
    }
}

/// Lets go of a run that waits; `None` when it goes on because something came meanwhile.
async fn suspend(shared: &Shared, host: &OwnerHost, stalled: Stalled) -> Option<Left> {
    let act = Act::Wait {
        seen: stalled.seen,
        due_at: stalled.due_at,
        batches: stalled.batches,
        waits: stalled.waits,
    };
    fail::fail_point!("suspend.before_commit");
    let gone = ask(shared, &host.held, act, stalled.batches).await;
    fail::fail_point!("suspend.after_commit");
    match gone {
        Ok(LetGo::Done) => Some(Left::Gone),
        Ok(LetGo::Lost) => Some(Left::Lost),
        Ok(LetGo::Held(poked)) if poked.halted => Some(Left::Halted),
        Ok(LetGo::Held(_)) if shared.stopping.is_cancelled() => Some(Left::Retry("this replica stops".to_owned())),
        Ok(LetGo::Held(_)) => {
            hear(shared, host).await;
            None
        }
        Err(error) => Some(Left::Retry(error.to_string())),
    }
}

async fn ask(shared: &Shared, held: &Arc<HeldRun>, act: Act, had_batches: bool) -> Result<LetGo, FleetError> {
    let ending = Ending {
        claim: held.claim,
        act,
        had_batches,
    };
    shared.endings.let_go(held, ending).await
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

async fn end(shared: &Shared, host: &OwnerHost, outcome: Result<anyhow::Result<Vec<u8>>, Box<dyn Any + Send>>) -> Left {
    fail::fail_point!("run.before_end", |_| Left::Lost);
    if let Some(how) = host.never_asked() {
        return Left::Diverged(how);
    }
    let written = match outcome {
        Ok(Ok(output)) => ask(shared, &host.held, Act::Complete { output }, host.has_batches()).await,
        Ok(Err(error)) => fail(shared, host, format!("{error:#}")).await,
        Err(panic) => {
            fail(
                shared,
                host,
                format!("the workflow's code panicked: {}", panic_text(&*panic)),
            )
            .await
        }
    };
    match written {
        Ok(LetGo::Done) => {
            fail::fail_point!("run.after_end", |_| Left::Gone);
            Left::Gone
        }
        // Taken over, or ended by a request whose answer was lost: either way no longer ours.
        Ok(LetGo::Lost) => Left::Lost,
        // Stopped or paused meanwhile: the row decides.
        Ok(LetGo::Held(_)) => Left::Halted,
        Err(error) => Left::Retry(error.to_string()),
    }
}

async fn fail(shared: &Shared, host: &OwnerHost, reason: String) -> Result<LetGo, FleetError> {
    let claim = &host.held.claim;
    tracing::error!(run = %claim.run, reason, "the run failed");
    let act = Act::Fail { reason: reason.clone() };
    match ask(shared, &host.held, act, host.has_batches()).await? {
        // Batches of it are unfinished, or it was stopped or paused: it ends when they are back.
        LetGo::Held(_) => match shared.fleet.fail_claimed_run(claim, &reason).await? {
            Ended::Done => Ok(LetGo::Done),
            Ended::Lost => Ok(LetGo::Lost),
        },
        decided => Ok(decided),
    }
}

/// Gives the claim up as fits.
async fn let_go(shared: &Shared, held: &Arc<HeldRun>, seen: i64, left: Left) -> Result<(), FleetError> {
    let act = match left {
        Left::Gone | Left::Lost => return Ok(()),
        Left::Halted => {
            let act = Act::Wait {
                seen,
                due_at: None,
                batches: true,
                waits: Vec::new(),
            };
            // A paused run sleeps until it is resumed; a stopped one ends when its batches are back.
            match ask(shared, held, act, true).await? {
                LetGo::Held(_) => Some(hand_back(Duration::ZERO, None)),
                LetGo::Done | LetGo::Lost => None,
            }
        }
        Left::Retry(why) => {
            tracing::warn!(run = %held.claim.run, why, "the run's code is run again in a moment");
            let stops = shared.stopping.is_cancelled();
            Some(hand_back(if stops { Duration::ZERO } else { RETRY }, Some(why)))
        }
        Left::Diverged(reason) => {
            tracing::error!(run = %held.claim.run, reason, "the run is set aside");
            Some(Act::Quarantine { reason })
        }
    };
    if let Some(act) = act {
        ask(shared, held, act, true).await?;
    }
    shared.fleet.settle_stop(held.claim.run).await?;
    Ok(())
}

fn hand_back(delay: Duration, reason: Option<String>) -> Act {
    Act::HandBack { delay, reason }
}

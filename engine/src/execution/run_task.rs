//! Runs the code of one run: polls it until it ends, waits, or is not ours any more.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use futures::{FutureExt, future};
use tracing::Instrument;

use super::book::{Fate, HeldRun, Lease};
use super::child_steps::look_after_family;
use super::executor::Shared;
use super::letting_go::{end, let_go, suspend};
use super::owner_host::{Left, OwnerHost};
use super::recall::recall;
use super::run_told::{RunTold, Stay};
use super::undoing::End;
use super::waits::Stalled;
use crate::lifecycle::{RunClaim, WorkRun};
use crate::telemetry;
use crate::telemetry::closed::RunEnd;
use crate::workflow::Context;

/// A wait that ends sooner is sat out: letting go costs two writes and a claim.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// Runs a claimed run's code until it ends, waits or is not ours any more.
pub(super) async fn drive(shared: Arc<Shared>, claim: RunClaim, run: WorkRun, asked: Instant) {
    let (span, parent) = (telemetry::run_scope(&run), run.parent_id);
    let lease = Lease::new(asked, shared.settings.trusted());
    let held = Arc::new(HeldRun::new(claim, lease, run.wake_seq));
    shared.book.hold_run(held.clone());
    let booked = Booked(&shared, claim);
    let (told, seen, left) = code(&shared, &held, run).instrument(span).await;
    let stay = Stay::of(&left);
    let ended = let_go(&shared, &held, seen, left).await.unwrap_or_else(|error| {
        // The lease ends and the run is recovered.
        tracing::warn!(name: "run_not_let_go", run = %claim.run, %error, "could not let go of the run");
        None
    });
    match ended {
        Some(RunEnd::Cancelled) => told.settled(RunEnd::Cancelled),
        Some(end) => told.ended(end, None),
        None => {}
    }
    told.left(stay);
    if ended == Some(RunEnd::Cancelled) {
        look_after_family(&shared, claim.run, parent, true).await;
    }
    drop(booked);
    fail::fail_point!("run.after_let_go");
}

/// A run in the book, out of which it goes also when this is dropped or panics: its lease is not renewed for ever.
struct Booked<'a>(&'a Shared, RunClaim);

impl Drop for Booked<'_> {
    fn drop(&mut self) {
        self.0.book.drop_run(&self.1);
    }
}

/// What a look at the code found.
enum Looked {
    Ended(End),
    Left(Left),
    Stalled(Stalled),
    /// The first timer ended.
    Due,
}

type Code = BoxFuture<'static, End>;

/// Says that the code is dropped, and not something by it.
struct Closing<'a>(&'a OwnerHost);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Runs the workflow's code once. It is dropped where it is when it waits: it is run again over what it recorded.
/// Answers what is told of it, what wake-ups were seen and why it was left.
async fn code(shared: &Arc<Shared>, held: &Arc<HeldRun>, mut run: WorkRun) -> (Arc<RunTold>, i64, Left) {
    let recalled = match run.unread {
        true => recall(shared, held).await.map(|(record, place)| (record, Some(place))),
        false => Ok((run.take_record(), None)),
    };
    let run = Arc::new(run);
    let ((record, _place), left) = match recalled {
        Ok(recalled) => (recalled, None),
        Err(left) => (Default::default(), Some(left)),
    };
    let host = Arc::new(OwnerHost::new(shared.clone(), held.clone(), run.clone(), record));
    let left = match left {
        Some(left) => left,
        None => run_code(shared, &host, &run).await,
    };
    (host.told.clone(), host.seen(), left)
}

async fn run_code(shared: &Shared, host: &Arc<OwnerHost>, run: &Arc<WorkRun>) -> Left {
    let Some(workflow) = shared.registry.get(&run.workflow) else {
        return Left::Retry(format!("no workflow {} here", run.workflow));
    };
    let held = &host.held;
    let context = Context::new(run.clone(), host.clone(), shared.resources.clone());
    let mut code: Code = host.clone().carry_out(workflow, context).boxed();
    // Dropped before the code is: what that drops is not dropped by the code.
    let _closing = Closing(host);
    let mut known = Fate::Held;
    let mut overrun = pin!(overrun(shared, shared.queues.max_attempt(&run.queue)));
    loop {
        let looked = tokio::select! {
            biased;
            fate = held.lease.turns_from(known) => {
                known = fate;
                match fate {
                    Fate::Held => continue,
                    Fate::Halted if held.is_forced() => return Left::Halted,
                    Fate::Halted => host.unwind(true),
                    // In doubt it is left as it is: only a run that is known to be ours may be put to sleep.
                    Fate::Doubted | Fate::Lost => return Left::Lost,
                }
                continue;
            }
            () = shared.hurry.cancelled() => return Left::Retry("this replica stops".to_owned()),
            looked = look(&mut code, host) => looked,
            limit = &mut overrun => return Left::Overran(limit),
            () = held.poked() => {
                if held.is_forced() {
                    return Left::Halted;
                }
                host.hear_news().await;
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
            Looked::Ended(ended) => {
                drop(code);
                return end(shared, host, ended).await;
            }
        }
    }
}

/// Waits as long as the code may run; for ever where nothing limits it.
async fn overrun(shared: &Shared, limit: Option<Duration>) -> Duration {
    let Some(limit) = limit else {
        return future::pending().await;
    };
    shared.clock.sleep(limit).await;
    limit
}

/// Polls the code until something is to be done about it.
async fn look(code: &mut Code, host: &OwnerHost) -> Looked {
    let mut timer: Option<(DateTime<Utc>, BoxFuture<'_, ()>)> = None;
    future::poll_fn(|cx| {
        host.held.sits(false);
        host.polled_by(cx.waker());
        // The code is within the claim's span, and so is what it asks of the store; what else this task does is not.
        let attached = host.told.attach();
        let polled = code.poll_unpin(cx);
        drop(attached);
        // Code that was left may have gone on with an error: it is not to be believed.
        if let Some(left) = host.take_left() {
            return Poll::Ready(Looked::Left(left));
        }
        if let Poll::Ready(ended) = polled {
            return Poll::Ready(Looked::Ended(ended));
        }
        if let Some(dropped) = host.dropped() {
            return Poll::Ready(Looked::Left(Left::Diverged(dropped)));
        }
        if host.tell_refusals() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
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
        host.rests();
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

//! Runs the code of a run that is ours until it ends or waits, and lets go.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use tracing::Instrument;

use super::book::{Fate, HeldRun, Lease};
use super::executor::Shared;
use super::fan_outs::recorded;
use super::planner::{self, PlanEnd};
use crate::lifecycle::{Act, Ended, Ending, FleetError, LetGo, RunClaim, WorkRun};
use crate::telemetry;
use crate::workflow::{Context, ContextHost, FanOut, FanOutSummary};

/// Before a run is tried again whose store or source failed.
const RETRY: Duration = Duration::from_secs(1);

/// Why a run's code was left before it ended.
#[derive(Debug)]
enum Left {
    /// It waits: for its batches.
    Waits,
    /// It was paused or asked to stop.
    Halted,
    /// Somebody took over.
    Lost,
    /// The store or the source failed; try again.
    Retry(String),
}

pub(super) async fn drive(shared: Arc<Shared>, claim: RunClaim, run: WorkRun, asked: Instant) {
    let span = telemetry::run_span(&run);
    let lease = Lease::new(asked, shared.settings.trusted());
    let held = Arc::new(HeldRun::new(claim, lease, run.wake_seq));
    shared.book.hold_run(held.clone());
    let mut run = Some(run);
    while let Some(this) = run.take() {
        let seen = this.wake_seq;
        let left = code(&shared, &held, this).instrument(span.clone()).await;
        match let_go(&shared, &held, seen, left).await {
            // Woken meanwhile: the claim is still ours, so its code goes on with what is new.
            Ok(true) => run = shared.fleet.read_run(claim.run).await.ok().flatten(),
            Ok(false) => {}
            // The lease ends and the run is recovered.
            Err(error) => tracing::warn!(run = %claim.run, %error, "could not let go of the run"),
        }
    }
    shared.book.drop_run(&claim);
    fail::fail_point!("run.after_let_go");
}

/// Gives the claim up as fits; true when the run was woken meanwhile and is still ours.
async fn let_go(shared: &Shared, held: &Arc<HeldRun>, seen: i64, left: Option<Left>) -> Result<bool, FleetError> {
    match left {
        None | Some(Left::Lost) => Ok(false),
        Some(Left::Waits) => match ask(shared, held, wait_for_batches(seen)).await? {
            LetGo::Held(poked) if poked.halted || shared.stopping.is_cancelled() => {
                release(shared, held, Duration::ZERO).await
            }
            LetGo::Held(_) => Ok(true),
            LetGo::Done | LetGo::Lost => Ok(false),
        },
        Some(Left::Halted) => {
            // A paused run sleeps until it is resumed; a stopped one ends when its batches are back.
            if let LetGo::Held(_) = ask(shared, held, wait_for_batches(seen)).await? {
                return release(shared, held, Duration::ZERO).await;
            }
            shared.fleet.settle_stop(held.claim.run).await?;
            Ok(false)
        }
        Some(Left::Retry(why)) => {
            tracing::warn!(run = %held.claim.run, why, "the run's code is run again in a moment");
            let stops = shared.stopping.is_cancelled();
            release(shared, held, if stops { Duration::ZERO } else { RETRY }).await
        }
    }
}

fn wait_for_batches(seen: i64) -> Act {
    Act::Wait {
        seen,
        due_at: None,
        batches: true,
        waits: Vec::new(),
    }
}

async fn release(shared: &Shared, held: &Arc<HeldRun>, delay: Duration) -> Result<bool, FleetError> {
    ask(shared, held, Act::HandBack { delay, reason: None }).await?;
    shared.fleet.settle_stop(held.claim.run).await?;
    Ok(false)
}

async fn ask(shared: &Shared, held: &Arc<HeldRun>, act: Act) -> Result<LetGo, FleetError> {
    let ending = Ending {
        claim: held.claim,
        act,
        had_batches: true,
    };
    shared.endings.let_go(held, ending).await
}

/// Runs the workflow's code once; `None` when the run is over.
async fn code(shared: &Arc<Shared>, held: &Arc<HeldRun>, run: WorkRun) -> Option<Left> {
    let Some(workflow) = shared.registry.get(&run.workflow) else {
        return Some(Left::Retry(format!("no workflow {} here", run.workflow)));
    };
    let run = Arc::new(run);
    let (leave, left) = oneshot::channel();
    let host = OwnerHost {
        shared: shared.clone(),
        held: held.clone(),
        run: run.clone(),
        leave: Mutex::new(Some(leave)),
    };
    let context = Context::new(run.clone(), Arc::new(host));
    let params = run.params.clone();
    // In a task of its own, so that a panic of the code is the run's failure and not ours.
    let mut task = tokio::spawn(async move { workflow.run(context, &params).await }.in_current_span());
    let ended = tokio::select! {
        ended = &mut task => ended,
        // Code that has ended has dropped its sender too: that says nothing, the branch above has the end.
        Ok(left) = left => {
            task.abort();
            return Some(left);
        }
        fate = held.lease.must_stop() => {
            task.abort();
            // In doubt it is left as it is: only a run that is known to be ours may be put to sleep.
            return Some(if fate == Fate::Halted { Left::Halted } else { Left::Lost });
        }
        () = shared.hurry.cancelled() => {
            task.abort();
            return Some(Left::Retry("this replica stops".to_owned()));
        }
    };
    let outcome = match ended {
        Ok(outcome) => outcome.map_err(|error| format!("{error:#}")),
        Err(join) => Err(format!("the workflow's code panicked: {}", panic_text(join))),
    };
    end(shared, held, outcome).await
}

fn panic_text(join: tokio::task::JoinError) -> String {
    match join.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned()),
        Err(_) => "it was cancelled".to_owned(),
    }
}

async fn end(shared: &Shared, held: &Arc<HeldRun>, outcome: Result<Vec<u8>, String>) -> Option<Left> {
    fail::fail_point!("run.before_end", |_| Some(Left::Lost));
    let written = match outcome {
        Ok(output) => ask(shared, held, Act::Complete { output }).await,
        Err(reason) => fail(shared, held, reason).await,
    };
    match written {
        Ok(LetGo::Done) => {
            fail::fail_point!("run.after_end", |_| None);
            None
        }
        // Taken over, or ended by a request whose answer was lost: either way no longer ours.
        Ok(LetGo::Lost) => Some(Left::Lost),
        // Stopped or paused meanwhile: the row decides.
        Ok(LetGo::Held(_)) => Some(Left::Halted),
        Err(error) => Some(Left::Retry(error.to_string())),
    }
}

async fn fail(shared: &Shared, held: &Arc<HeldRun>, reason: String) -> Result<LetGo, FleetError> {
    tracing::error!(run = %held.claim.run, reason, "the run failed");
    let act = Act::Fail { reason: reason.clone() };
    match ask(shared, held, act).await? {
        // Batches of it are unfinished, or it was stopped or paused: it ends when they are back.
        LetGo::Held(_) => match shared.fleet.fail_claimed_run(&held.claim, &reason).await? {
            Ended::Done => Ok(LetGo::Done),
            Ended::Lost => Ok(LetGo::Lost),
        },
        decided => Ok(decided),
    }
}

/// Carries out the steps of a run that is ours.
struct OwnerHost {
    shared: Arc<Shared>,
    held: Arc<HeldRun>,
    run: Arc<WorkRun>,
    leave: Mutex<Option<oneshot::Sender<Left>>>,
}

impl OwnerHost {
    /// Leaves the code where it is: it never goes on from here.
    async fn leave<T>(&self, left: Left) -> T {
        let leave = self.leave.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(leave) = leave {
            let _ = leave.send(left);
        }
        std::future::pending().await
    }
}

impl ContextHost for OwnerHost {
    fn fan_out(&self, path: String, fan_out: Arc<dyn FanOut>) -> BoxFuture<'_, anyhow::Result<FanOutSummary>> {
        async move {
            if let Some(summary) = recorded(&self.run, &path)? {
                return Ok(summary);
            }
            let known = self.shared.fan_outs.learn(&self.run, &path, fan_out);
            match planner::plan(&self.shared, &self.held.claim, &known).await {
                Ok(PlanEnd::Whole) => {
                    // Nothing to send, or all of it sent while we planned.
                    let done = self.shared.fleet.complete_fan_out(self.run.id, &path).await;
                    if let Err(error) = done {
                        tracing::warn!(run = %self.run.id, step = path, %error, "could not complete the fan-out");
                    }
                    self.leave(Left::Waits).await
                }
                Ok(PlanEnd::Halted) => self.leave(Left::Halted).await,
                Ok(PlanEnd::Lost) => self.leave(Left::Lost).await,
                Ok(PlanEnd::Retry(why)) => self.leave(Left::Retry(why)).await,
                Err(error) => Err(error.context(format!("planning step {path}"))),
            }
        }
        .boxed()
    }
}

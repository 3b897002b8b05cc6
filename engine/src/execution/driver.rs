//! Runs the code of workflows: claims a run, runs its code until it ends or waits, and lets go.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use uuid::Uuid;

use super::book::{Fate, HeldRun, Lease};
use super::executor::Shared;
use super::fan_outs::recorded;
use super::planner::{self, PlanEnd};
use super::worker::jittered;
use crate::lifecycle::{Ended, FleetError, RunClaim, WorkRun};
use crate::telemetry;
use crate::workflow::{Context, ContextHost, FanOut, FanOutSummary};

/// Before a run is tried again whose store or source failed.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) async fn run(shared: Arc<Shared>) {
    let workflows = shared.workflows();
    let slots = Arc::new(Semaphore::new(shared.settings.runs));
    let tasks = TaskTracker::new();
    let mut idle = 0u32;
    while !shared.stopping.is_cancelled() {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let (claim_id, asked) = (Uuid::new_v4(), Instant::now());
        match shared.fleet.claim_run(claim_id, &workflows).await {
            Ok(Some((claim, run))) => {
                idle = 0;
                let shared = shared.clone();
                tasks.spawn(async move {
                    drive(shared, claim, run, asked).await;
                    drop(slot);
                });
                continue;
            }
            Ok(None) => idle = idle.saturating_add(1),
            // If it was granted, the lease ends and the sweep recovers it.
            Err(error) => tracing::warn!(%error, "could not look for runs"),
        }
        drop(slot);
        let pause = if idle > 5 {
            shared.settings.poll * 2
        } else {
            shared.settings.poll
        };
        tokio::select! {
            () = shared.stopping.cancelled() => {}
            () = shared.hints.runs.notified() => {}
            () = tokio::time::sleep(jittered(pause)) => {}
        }
    }
    tasks.close();
    tasks.wait().await;
}

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

async fn drive(shared: Arc<Shared>, claim: RunClaim, run: WorkRun, asked: Instant) {
    let span = telemetry::run_span(&run);
    let held = Arc::new(HeldRun {
        claim,
        lease: Lease::new(asked, shared.settings.trusted()),
    });
    shared.book.hold_run(held.clone());
    let mut run = Some(run);
    while let Some(this) = run.take() {
        let seen = this.wake_seq;
        let left = code(&shared, &held, this).instrument(span.clone()).await;
        match let_go(&shared, &claim, seen, left).await {
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
async fn let_go(shared: &Shared, claim: &RunClaim, seen: i64, left: Option<Left>) -> Result<bool, FleetError> {
    match left {
        None | Some(Left::Lost) => Ok(false),
        Some(Left::Waits) => {
            if shared.fleet.suspend_run(claim, seen).await? {
                return Ok(false);
            }
            if shared.fleet.halted_runs(&[claim.run]).await?.is_empty() {
                return Ok(!shared.stopping.is_cancelled() || release(shared, claim, Duration::ZERO).await?);
            }
            release(shared, claim, Duration::ZERO).await
        }
        Some(Left::Halted) => {
            // A paused run sleeps until it is resumed; a stopped one ends when its batches are back.
            if !shared.fleet.suspend_run(claim, seen).await? {
                release(shared, claim, Duration::ZERO).await?;
            }
            shared.fleet.settle_stop(claim.run).await?;
            Ok(false)
        }
        Some(Left::Retry(why)) => {
            tracing::warn!(run = %claim.run, why, "the run's code is run again in a moment");
            release(
                shared,
                claim,
                if shared.stopping.is_cancelled() {
                    Duration::ZERO
                } else {
                    RETRY
                },
            )
            .await
        }
    }
}

async fn release(shared: &Shared, claim: &RunClaim, delay: Duration) -> Result<bool, FleetError> {
    shared.fleet.hand_back_run(claim, delay).await?;
    shared.fleet.settle_stop(claim.run).await?;
    Ok(false)
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

async fn end(shared: &Shared, held: &HeldRun, outcome: Result<Vec<u8>, String>) -> Option<Left> {
    fail::fail_point!("run.before_end", |_| Some(Left::Lost));
    let claim = &held.claim;
    let written = match &outcome {
        Ok(output) => shared.fleet.complete_claimed_run(claim, output).await,
        Err(reason) => {
            tracing::error!(run = %claim.run, reason, "the run failed");
            shared.fleet.fail_claimed_run(claim, reason).await
        }
    };
    match written {
        Ok(Ended::Done) => {
            fail::fail_point!("run.after_end", |_| None);
            None
        }
        // Stopped meanwhile, taken over, or finished by a request whose answer was lost: the row decides.
        Ok(Ended::Lost) => Some(Left::Halted),
        Err(error) => Some(Left::Retry(error.to_string())),
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

//! Tries a step's code until it succeeds, fails for good, or waits so long that its run is let go of.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::BoxFuture;

use super::history::Asked;
use super::owner_host::{Left, Operation, OwnerHost, done};
use super::run_told::StepTold;
use super::worker::jittered;
use crate::lifecycle::{FleetError, Kind, NewStep, OpenWait, StepState, StepStatus, Transacted, TransactionWork};
use crate::telemetry::closed::StepEnd;
use crate::telemetry::within;
use crate::workflow::{
    Action, Done, Place, RetryPolicy, StepError, StepOptions, TimedOut, check_size, is_fatal, to_json,
};

/// A longer pause between tries lets go of the run, for two writes and a claim.
const LONGEST_PAUSE_IN_PLACE: Duration = Duration::from_secs(10);
/// Before what the store did not answer, or could not do, is tried again.
pub(super) const STORE_PAUSE: Duration = Duration::from_millis(200);
/// Most bytes of an error's text that are kept.
const LONGEST_MESSAGE: usize = 4096;

/// How one try failed.
enum Failure {
    Error(anyhow::Error),
    TimedOut(Duration),
    /// In words of its own, and nothing that trying again helps.
    Known(StepError),
}

/// A step that is being tried.
pub(super) struct Tries {
    pub(super) path: String,
    pub(super) kind: Kind,
    /// It has a row already.
    pub(super) open: bool,
    pub(super) failures: u32,
    pub(super) retry: RetryPolicy,
    pub(super) told: StepTold,
}

impl Tries {
    /// What it waits for between two tries.
    pub(super) fn wait(&self, due_at: Option<DateTime<Utc>>) -> OpenWait {
        OpenWait {
            path: self.path.clone(),
            kind: self.kind,
            due_at,
            attempts: saturated(self.failures),
        }
    }
}

impl OwnerHost {
    /// Runs a step's code, unless its end is recorded.
    pub(super) async fn run_step(
        self: Arc<Self>,
        place: Place,
        options: StepOptions,
        mut action: Action,
        kind: Kind,
        asked: Asked,
    ) -> anyhow::Result<Done> {
        let (mut tries, mut operation) = match self.first_try(&place, kind, options.retry, asked).await {
            Ok(begun) => begun,
            Err(ended) => return ended,
        };
        let mut step = self.new_step(tries.path.clone(), kind);
        if kind == Kind::Undoable {
            self.begin_undoable(&mut tries).await?;
        }
        let tried = self.try_action(&mut tries, &mut action, options, &mut operation).await;
        let (status, end, result) = match tried {
            Ok(result) => (StepStatus::Completed, StepEnd::Completed, result),
            Err(error) => {
                // Refused between two tries: it is as open as it was.
                let Some(failed) = error.downcast_ref().filter(|error| !is_cancelled(error)) else {
                    return Err(error);
                };
                step.attempts = saturated(tries.failures);
                (StepStatus::Failed, StepEnd::Failed, to_json::<StepError>(failed)?)
            }
        };
        let ended = self.ended(step, &tries, status, result).await;
        tries.told.end(end, tries.failures);
        ended
    }

    /// Records that a step has begun before it can have done anything.
    async fn begin_undoable(self: &Arc<Self>, tries: &mut Tries) -> anyhow::Result<()> {
        self.lock().undoables.begun(&tries.path);
        if !tries.open {
            let mut begun = self.new_step(tries.path.clone(), tries.kind);
            begun.status = StepStatus::Open;
            self.save(begun).await?;
            tries.open = true;
        }
        Ok(())
    }

    /// Tries a step's code until it succeeds or fails for good.
    pub(super) async fn try_action(
        self: &Arc<Self>,
        tries: &mut Tries,
        action: &mut Action,
        options: StepOptions,
        operation: &mut Option<Operation>,
    ) -> anyhow::Result<Vec<u8>> {
        let cap = options.max_result.unwrap_or(self.shared.settings.max_result);
        loop {
            let began = Instant::now();
            let trying = self.try_once(action, options.timeout, &tries.path, cap);
            let tried = within(tries.told.context(), trying).await;
            self.told.tried(tries.kind, tried.is_ok(), began.elapsed());
            let failure = match tried {
                Ok(result) => return Ok(result),
                Err(failure) => failure,
            };
            self.failed(tries, failure, operation).await?;
        }
    }

    /// Does a transaction step's work with its record, unless its end is recorded.
    pub(super) async fn run_transaction(
        self: Arc<Self>,
        place: Place,
        options: StepOptions,
        work: TransactionWork,
        kind: Kind,
        asked: Asked,
    ) -> anyhow::Result<Done> {
        let (mut tries, mut operation) = match self.first_try(&place, kind, options.retry, asked).await {
            Ok(begun) => begun,
            Err(ended) => return ended,
        };
        match self.try_transaction(&mut tries, work, options, &mut operation).await {
            Ok(recorded) => {
                self.told.recorded(&recorded, false);
                tries.told.end(StepEnd::Completed, tries.failures);
                done(recorded)
            }
            Err(error) => {
                let Some(failed) = error.downcast_ref().filter(|error| !is_cancelled(error)) else {
                    return Err(error);
                };
                let mut step = self.new_step(tries.path.clone(), kind);
                step.attempts = saturated(tries.failures);
                let failed = to_json::<StepError>(failed)?;
                tries.told.end(StepEnd::Failed, tries.failures);
                self.ended(step, &tries, StepStatus::Failed, failed).await
            }
        }
    }

    /// Tries a transaction until it is recorded or fails for good.
    pub(super) async fn try_transaction(
        self: &Arc<Self>,
        tries: &mut Tries,
        work: TransactionWork,
        options: StepOptions,
        operation: &mut Option<Operation>,
    ) -> anyhow::Result<StepState> {
        let cap = options.max_result.unwrap_or(self.shared.settings.max_result);
        loop {
            let step = self.new_step(tries.path.clone(), tries.kind);
            let (host, work) = (self.clone(), work.clone());
            let (path, recorded_in, began) = (tries.path.clone(), tries.told.context(), Instant::now());
            let transacted = self.surely(&path, async move {
                let transacted = within(recorded_in, host.shared.runs.transact(&step, &work, cap)).await;
                // Told here too when its code is dropped meanwhile: it is to be undone.
                if let Ok(Transacted::Recorded(recorded)) = &transacted
                    && recorded.status == StepStatus::Completed
                {
                    let at = recorded.finished_at.unwrap_or(recorded.started_at);
                    let result = recorded.result.clone().unwrap_or_default();
                    host.lock().undoables.done(&recorded.path, result, at);
                }
                transacted
            });
            let transacted = transacted.await;
            let is_done = matches!(transacted, Ok(Transacted::Recorded(_)));
            self.told.tried(tries.kind, is_done, began.elapsed());
            let failure = match transacted {
                Ok(Transacted::Recorded(recorded)) => return Ok(*recorded),
                Ok(Transacted::Lost) => return self.leave(Left::Lost).await,
                Ok(Transacted::Failed(error)) => Failure::of_work(error),
                // Whether it was committed, the next try finds out: its record is there or not.
                Err(error @ (FleetError::Unanswered(_) | FleetError::NotNow(_))) => {
                    tracing::warn!(name: "transaction_retried", run = %self.held.claim.run, step = tries.path, %error, "a transaction is tried again");
                    tokio::time::sleep(jittered(STORE_PAUSE)).await;
                    continue;
                }
                Err(error) => return self.doom(anyhow::anyhow!("step {} cannot be recorded: {error}", tries.path)),
            };
            self.failed(tries, failure, operation).await?;
        }
    }

    async fn try_once(
        &self,
        action: &mut Action,
        timeout: Option<Duration>,
        path: &str,
        cap: usize,
    ) -> Result<Vec<u8>, Failure> {
        let tried = match timeout {
            None => action().await,
            Some(timeout) => tokio::select! {
                biased;
                tried = action() => tried,
                () = self.shared.clock.sleep(timeout) => return Err(Failure::TimedOut(timeout)),
            },
        };
        let result = tried.map_err(Failure::Error)?;
        check_size(path, &result, cap).map_err(Failure::Known)?;
        Ok(result)
    }

    /// What is to be tried, once it is due; or how it ended before.
    async fn first_try(
        self: &Arc<Self>,
        place: &Place,
        kind: Kind,
        retry: RetryPolicy,
        asked: Asked,
    ) -> Result<(Tries, Option<Operation>), anyhow::Result<Done>> {
        let path = place.to_string();
        let open = match self.comes_to(&path, asked).await {
            ControlFlow::Break(ended) => return Err(ended),
            ControlFlow::Continue(open) => open,
        };
        let begun = match open {
            Some(_) => None,
            None => Some(self.begin_new(&path).await.map_err(Err)?),
        };
        let tries = Tries {
            told: self.told.step(&place.name, &path, kind),
            path,
            kind,
            open: open.is_some(),
            failures: open.as_ref().map_or(0, |step| step.attempts.into()),
            retry,
        };
        if let Some(due_at) = open.and_then(|step| step.due_at) {
            let wait = tries.wait(Some(due_at));
            let due = self
                .wait_until(wait, |host| host.is_past(Some(due_at)).then_some(()))
                .await;
            due.map_err(Err)?;
        }
        let operation = begun.unwrap_or_else(|| self.begin());
        Ok((tries, Some(operation)))
    }

    /// What undoes a step begins, once it is due.
    pub(super) async fn begin_at(self: &Arc<Self>, tries: &Tries, due_at: Option<DateTime<Utc>>) -> Option<Operation> {
        if due_at.is_some() {
            let over = |host: &Self| host.is_past(due_at).then_some(());
            // Nothing refuses it: it undoes.
            let _ = self.wait_until(tries.wait(due_at), over).await;
        }
        Some(self.begin())
    }

    /// Waits until the next try; an error is the step's when there is none.
    async fn failed(
        self: &Arc<Self>,
        tries: &mut Tries,
        failure: Failure,
        operation: &mut Option<Operation>,
    ) -> anyhow::Result<()> {
        tries.failures += 1;
        let run = self.held.claim.run;
        let last =
            matches!(&failure, Failure::Known(_)) || matches!(&failure, Failure::Error(error) if is_fatal(error));
        let Some(pause) = tries.retry.pause(tries.failures, rand::random()).filter(|_| !last) else {
            let error = failure.of(tries);
            tracing::warn!(name: "step_failed", %run, step = tries.path, attempts = tries.failures, "the step failed for good");
            return Err(error.into());
        };
        let pause_ms = pause.as_millis() as u64;
        tracing::info!(name: "step_retried", %run, step = tries.path, attempts = tries.failures, pause_ms, "the step is tried again");
        self.told.meter().step_retried();
        tries.told.retried(tries.failures, pause.as_secs_f64());
        if pause <= LONGEST_PAUSE_IN_PLACE {
            self.pause(pause).await;
            return Ok(());
        }
        let due_at = TimeDelta::from_std(pause)
            .ok()
            .and_then(|pause| self.time().checked_add_signed(pause));
        operation.take();
        self.wait_until(tries.wait(due_at), |host| host.is_past(due_at).then_some(()))
            .await?;
        *operation = Some(self.begin());
        Ok(())
    }

    pub(super) fn ended<'a>(
        &'a self,
        mut step: NewStep,
        tries: &Tries,
        status: StepStatus,
        result: Vec<u8>,
    ) -> BoxFuture<'a, anyhow::Result<Done>> {
        step.finished_at = self.stamp();
        if step.kind == Kind::Undoable && status == StepStatus::Completed {
            self.lock().undoables.done(&step.path, result.clone(), step.finished_at);
        }
        step.status = status;
        step.result = Some(result);
        step.ends_open = tries.open;
        Box::pin(self.save(step))
    }
}

fn is_cancelled(error: &StepError) -> bool {
    matches!(error, StepError::Cancelled { .. })
}

impl Failure {
    /// How the work of a transaction failed.
    fn of_work(error: anyhow::Error) -> Self {
        match error.downcast_ref() {
            Some(TimedOut(timeout)) => Self::TimedOut(*timeout),
            None => error.downcast().map_or_else(Self::Error, Self::Known),
        }
    }

    fn of(self, tries: &Tries) -> StepError {
        let (path, attempts) = (tries.path.clone(), tries.failures);
        match self {
            Self::Error(error) => StepError::Failed {
                path,
                attempts,
                message: shortened(format!("{error:#}")),
            },
            Self::TimedOut(timeout) => StepError::TimedOut {
                path,
                attempts,
                timeout,
            },
            Self::Known(error) => error,
        }
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > LONGEST_MESSAGE {
        text.truncate(text.floor_char_boundary(LONGEST_MESSAGE));
        text.push('…');
    }
    text
}

fn saturated(failures: u32) -> u16 {
    u16::try_from(failures).unwrap_or(u16::MAX)
}

//! Tries a step's code until it succeeds, fails for good, or waits so long that its run is let go of.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures::future::BoxFuture;

use super::history::Asked;
use super::owner_host::{Left, Operation, OwnerHost, done};
use super::worker::jittered;
use crate::lifecycle::{FleetError, Kind, NewStep, OpenWait, StepState, StepStatus, Transacted, TransactionWork};
use crate::workflow::{Action, Done, Place, RetryPolicy, StepError, StepOptions, check_size, is_fatal, to_json};

/// A longer pause between tries lets go of the run, for two writes and a claim.
const LONGEST_PAUSE_IN_PLACE: Duration = Duration::from_secs(10);
/// Before a transaction is tried again that the store did not answer or could not do.
const STORE_PAUSE: Duration = Duration::from_millis(200);
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
struct Tries {
    path: String,
    kind: Kind,
    /// It has a row already.
    open: bool,
    failures: u32,
    retry: RetryPolicy,
}

impl OwnerHost {
    /// Runs a step's code, unless its end is recorded.
    pub(super) async fn run_step(
        self: Arc<Self>,
        place: Place,
        options: StepOptions,
        mut action: Action,
        asked: Asked,
    ) -> anyhow::Result<Done> {
        let (mut tries, mut operation) = match self.first_try(&place, Kind::Step, options.retry, asked).await {
            Ok(begun) => begun,
            Err(ended) => return done(ended),
        };
        let mut step = self.new_step(tries.path.clone(), Kind::Step);
        let cap = options.max_result.unwrap_or(self.shared.settings.max_result);
        loop {
            match self.try_once(&mut action, options.timeout, &tries.path, cap).await {
                Ok(result) => return self.ended(step, &tries, StepStatus::Completed, result).await,
                Err(failure) => {
                    let Some(error) = self.failed(&mut tries, failure, &mut operation).await else {
                        continue;
                    };
                    step.attempts = saturated(tries.failures);
                    return self.ended(step, &tries, StepStatus::Failed, to_json(&error)?).await;
                }
            }
        }
    }

    /// Does a transaction step's work with its record, unless its end is recorded.
    pub(super) async fn run_transaction(
        self: Arc<Self>,
        place: Place,
        work: TransactionWork,
        asked: Asked,
    ) -> anyhow::Result<Done> {
        let retry = RetryPolicy::default();
        let (mut tries, mut operation) = match self.first_try(&place, Kind::Transaction, retry, asked).await {
            Ok(begun) => begun,
            Err(ended) => return done(ended),
        };
        let cap = self.shared.settings.max_result;
        loop {
            let mut step = self.new_step(tries.path.clone(), Kind::Transaction);
            let failure = match self.shared.runs.transact(&step, &work, cap).await {
                Ok(Transacted::Recorded(recorded)) => return done(*recorded),
                Ok(Transacted::Lost) => return self.leave(Left::Lost).await,
                Ok(Transacted::Failed(error)) => error.downcast().map_or_else(Failure::Error, Failure::Known),
                // Whether it was committed, the next try finds out: its record is there or not.
                Err(error @ (FleetError::Unanswered(_) | FleetError::NotNow(_))) => {
                    tracing::warn!(run = %self.held.claim.run, step = tries.path, %error, "a transaction is tried again");
                    tokio::time::sleep(jittered(STORE_PAUSE)).await;
                    continue;
                }
                Err(error) => return Err(anyhow::anyhow!("step {} cannot be recorded: {error}", tries.path)),
            };
            if let Some(error) = self.failed(&mut tries, failure, &mut operation).await {
                step.attempts = saturated(tries.failures);
                return self.ended(step, &tries, StepStatus::Failed, to_json(&error)?).await;
            }
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
    ) -> Result<(Tries, Option<Operation>), StepState> {
        let path = place.to_string();
        let (open, failures) = match asked {
            Asked::Ended(step) => return Err(step),
            Asked::Diverged(how) => return self.leave(Left::Diverged(how)).await,
            Asked::New => match self.to_be_left() {
                Some(left) => return self.leave(left).await,
                None => (false, 0),
            },
            Asked::Open(step) => {
                let wait = OpenWait {
                    path: path.clone(),
                    kind,
                    due_at: step.due_at,
                    attempts: step.attempts,
                };
                let over = |host: &Self| (step.due_at.is_none() || host.is_past(step.due_at)).then_some(());
                self.wait_until(wait, over).await;
                (true, step.attempts.into())
            }
        };
        let tries = Tries {
            path,
            kind,
            open,
            failures,
            retry,
        };
        Ok((tries, Some(self.begin())))
    }

    /// Waits until the next try; answers how the step failed when there is none.
    async fn failed(
        self: &Arc<Self>,
        tries: &mut Tries,
        failure: Failure,
        operation: &mut Option<Operation>,
    ) -> Option<StepError> {
        tries.failures += 1;
        let run = self.held.claim.run;
        let last =
            matches!(&failure, Failure::Known(_)) || matches!(&failure, Failure::Error(error) if is_fatal(error));
        let Some(pause) = tries.retry.pause(tries.failures, rand::random()).filter(|_| !last) else {
            let error = failure.of(tries);
            tracing::warn!(%run, step = tries.path, attempts = tries.failures, "the step failed for good");
            return Some(error);
        };
        tracing::info!(%run, step = tries.path, attempts = tries.failures, ?pause, "the step is tried again");
        if pause <= LONGEST_PAUSE_IN_PLACE {
            self.pause(pause).await;
            return None;
        }
        let due_at = TimeDelta::from_std(pause)
            .ok()
            .and_then(|pause| self.time().checked_add_signed(pause));
        let wait = OpenWait {
            path: tries.path.clone(),
            kind: tries.kind,
            due_at,
            attempts: saturated(tries.failures),
        };
        operation.take();
        self.wait_until(wait, |host| host.is_past(due_at).then_some(())).await;
        *operation = Some(self.begin());
        None
    }

    fn ended<'a>(
        &'a self,
        mut step: NewStep,
        tries: &Tries,
        status: StepStatus,
        result: Vec<u8>,
    ) -> BoxFuture<'a, anyhow::Result<Done>> {
        step.finished_at = self.new_step(String::new(), step.kind).finished_at;
        step.status = status;
        step.result = Some(result);
        step.ends_open = tries.open;
        Box::pin(self.save(step))
    }
}

impl Failure {
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

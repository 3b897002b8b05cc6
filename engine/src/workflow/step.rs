//! Steps: what may be said of one, how one fails, and the future that a context makes of one.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::misfit;
use super::retry::RetryPolicy;
use crate::lifecycle::RunId;

/// What may be said of a step.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepOptions {
    /// How often it is tried again when it fails, and when.
    pub retry: RetryPolicy,
    /// How long one try may take; none: as long as it takes.
    pub timeout: Option<Duration>,
    /// Most bytes of its result as JSON; none: `workflows.max_result`.
    pub max_result: Option<usize>,
}

impl StepOptions {
    /// Tries again like this.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Drops a try that takes longer, and counts it as failed.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Lets the result be so large.
    #[must_use]
    pub fn max_result(mut self, bytes: usize) -> Self {
        self.max_result = Some(bytes);
        self
    }
}

/// How a step failed for good. It is recorded: a replay fails in the same words, and runs nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StepError {
    /// Its code failed as often as it may, or with an error that is not tried again.
    #[error("step {path} failed in attempt {attempts}: {message}")]
    Failed {
        /// The step.
        path: String,
        /// How often it was tried.
        attempts: u32,
        /// The last error.
        message: String,
    },
    /// Its last try did not end in time.
    #[error("step {path} took longer than {timeout:?} in attempt {attempts}")]
    TimedOut {
        /// The step.
        path: String,
        /// How often it was tried.
        attempts: u32,
        /// How long a try may take.
        timeout: Duration,
    },
    /// Its result is larger than what is kept.
    #[error("step {path} returned {size} bytes, more than {cap}: store it elsewhere and return a reference")]
    TooLarge {
        /// The step.
        path: String,
        /// How large it is.
        size: usize,
        /// How large it may be.
        cap: usize,
    },
    /// The child that it started did not return anything.
    #[error("child {child} of step {path} {end}: {reason}", end = if *cancelled { "was cancelled" } else { "failed" })]
    Child {
        /// The step.
        path: String,
        /// The run that it started.
        child: RunId,
        /// It was cancelled, and did not fail.
        cancelled: bool,
        /// Why.
        reason: String,
    },
    /// It was not begun, or waits no longer: the run is to come to its end. Never recorded.
    #[error("step {path} is not done: the run is to come to its end")]
    Cancelled {
        /// The step.
        path: String,
    },
}

/// An error that is not tried again.
#[derive(Debug)]
pub(crate) struct Fatal(anyhow::Error);

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for Fatal {}

/// Marks an error as one that trying again does not help: the step fails at once.
pub fn fatal(error: impl Into<anyhow::Error>) -> anyhow::Error {
    anyhow::Error::new(Fatal(error.into()))
}

pub(crate) fn is_fatal(error: &anyhow::Error) -> bool {
    // The first sees through context that was added, the second through errors that were wrapped.
    error.downcast_ref::<Fatal>().is_some() || error.chain().any(|cause| cause.is::<Fatal>())
}

/// A try took longer than it may.
#[derive(Debug, thiserror::Error)]
#[error("it took longer than {0:?}")]
pub(crate) struct TimedOut(pub(crate) Duration);

/// A step's code with its types erased: a try, and its result as JSON.
pub(crate) type Action = Box<dyn FnMut() -> BoxFuture<'static, anyhow::Result<Vec<u8>>> + Send>;

pub(super) fn erase<T, F, Fut, E>(mut action: F) -> Action
where
    F: FnMut() -> Fut + Send + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Serialize,
    E: Into<anyhow::Error>,
{
    Box::new(move || {
        let tried = action();
        async move { to_json(&tried.await.map_err(Into::into)?) }.boxed()
    })
}

pub(crate) fn to_json<T: Serialize>(value: &T) -> anyhow::Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| fatal(anyhow::anyhow!("its result is not JSON: {error}")))
}

/// Whether a result is small enough to be recorded.
pub(crate) fn check_size(path: &str, result: &[u8], cap: usize) -> Result<(), StepError> {
    if result.len() <= cap {
        return Ok(());
    }
    Err(StepError::TooLarge {
        path: path.to_owned(),
        size: result.len(),
        cap,
    })
}

/// A recorded result as the code wants it; a missing one is JSON's null.
pub(super) fn from_json<T: DeserializeOwned>(path: &str, result: Option<&[u8]>) -> anyhow::Result<T> {
    serde_json::from_slice(result.unwrap_or(b"null"))
        .map_err(|error| anyhow::anyhow!("the recorded result of step {path} does not read: {}", misfit(&error)))
}

/// What a step comes to. Its place in the code is taken when it is made; nothing happens before it is awaited.
#[must_use = "a step does nothing unless it is awaited"]
pub struct StepFuture<T> {
    inner: BoxFuture<'static, anyhow::Result<T>>,
}

impl<T> StepFuture<T> {
    pub(crate) fn new(inner: impl Future<Output = anyhow::Result<T>> + Send + 'static) -> Self {
        Self { inner: inner.boxed() }
    }
}

impl<T> Future for StepFuture<T> {
    type Output = anyhow::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.inner.poll_unpin(cx)
    }
}

impl<T> fmt::Debug for StepFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepFuture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn an_error_stays_fatal_under_context_and_says_what_it_was() {
        let error = fatal(anyhow::anyhow!("the card is stolen"));
        assert_eq!(format!("{error:#}"), "the card is stolen");
        let wrapped = Err::<(), _>(error).context("charging").map_err(|error| {
            assert_eq!(format!("{error:#}"), "charging: the card is stolen");
            error
        });
        assert!(wrapped.is_err_and(|error| is_fatal(&error)));
        assert!(!is_fatal(&anyhow::anyhow!("no answer")));
    }

    #[test]
    fn a_recorded_failure_reads_back_in_the_same_words() {
        let error = StepError::TimedOut {
            path: "0:charge".to_owned(),
            attempts: 2,
            timeout: Duration::from_secs(3),
        };
        let recorded = serde_json::to_vec(&error).unwrap_or_default();
        let read: StepError = from_json("0:charge", Some(&recorded)).unwrap_or_else(|_| unreachable!("it reads"));
        assert_eq!(read, error);
        assert_eq!(read.to_string(), "step 0:charge took longer than 3s in attempt 2");
    }
}

//! A run that was started.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Client, EndedRun};
use crate::inspect::NotRepeated;
use crate::lifecycle::{NewSignal, RunId, Signalled};
use crate::postgres::{DatabaseError, RepeatRun};

/// States of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Not begun.
    Queued,
    /// Its code runs, or its batches do.
    Running,
    /// It waits for something outside.
    Suspended,
    /// An operator has paused it.
    Paused,
    /// Over: its code returned.
    Completed,
    /// Over: its code failed for good, or its deadline passed.
    Failed,
    /// Over: somebody cancelled it.
    Cancelled,
    /// Set aside until a person looks: it kills its workers, or its code does not fit its record.
    Quarantined,
}

impl RunStatus {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Queued, "queued"),
        (Self::Running, "running"),
        (Self::Suspended, "suspended"),
        (Self::Paused, "paused"),
        (Self::Completed, "completed"),
        (Self::Failed, "failed"),
        (Self::Cancelled, "cancelled"),
        (Self::Quarantined, "quarantined"),
    ];

    /// As it stands in the tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Reads it back.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, known)| *known == name);
        found.map(|(status, _)| *status)
    }

    /// Nothing more becomes of it.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The run failed.
    #[error("run {run} failed: {reason}")]
    Failed {
        /// The run.
        run: RunId,
        /// Why.
        reason: String,
    },
    /// Somebody cancelled it.
    #[error("run {run} was cancelled: {reason}")]
    Cancelled {
        /// The run.
        run: RunId,
        /// Why.
        reason: String,
    },
    /// It was set aside; it goes on once somebody resumes it.
    #[error("run {run} is quarantined: {reason}; look at it with `runs why {run}`, then resume or cancel it")]
    Quarantined {
        /// The run.
        run: RunId,
        /// Why.
        reason: String,
    },
    /// There is no such run: it was pruned, or its start is not committed.
    #[error("there is no run {0}: it was pruned, or its start was not committed")]
    Unknown(RunId),
    /// What it returned, or shows, is not what was expected.
    #[error("what run {run} returned or shows does not fit: {why}")]
    Misfit {
        /// The run.
        run: RunId,
        /// Why.
        why: String,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] DatabaseError),
}

/// Why a run was not told something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// The name or the payload cannot be.
    #[error("the signal cannot be sent: {0}")]
    Invalid(String),
    /// There is no such run.
    #[error("there is no run {0}; nothing was sent")]
    Unknown(RunId),
    /// It is over.
    #[error("run {run} is {status}; nothing was sent")]
    Over {
        /// The run.
        run: RunId,
        /// Its state.
        status: String,
    },
    /// It has a thousand signals that it has not taken.
    #[error("run {0} has a thousand signals that it has not taken; nothing was sent")]
    Full(RunId),
    /// The database failed; whether it was sent is not known unless it refused.
    #[error(transparent)]
    Store(#[from] DatabaseError),
}

/// How a run is told something; nothing said, as [`RunHandle::signal`] does it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SignalOptions {
    /// Told once, however often it is asked for under this key.
    pub key: Option<String>,
    /// Why, for the record: with it `lockgate.transitions` says who told the run, and why.
    pub reason: Option<String>,
}

impl SignalOptions {
    /// Tells it once, however often it is asked for under this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Says why, for the record.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}

/// A run, and what may be done with it. Dropping it changes nothing.
#[derive(Clone)]
pub struct RunHandle<O> {
    client: Client,
    id: RunId,
    /// It was started just now: whether it is over need not be asked at once.
    is_new: bool,
    output: PhantomData<fn() -> O>,
}

impl<O> RunHandle<O> {
    pub(super) fn new(client: Client, id: RunId) -> Self {
        Self {
            client,
            id,
            is_new: false,
            output: PhantomData,
        }
    }

    pub(super) fn started(client: Client, id: RunId) -> Self {
        Self {
            is_new: true,
            ..Self::new(client, id)
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> RunId {
        self.id
    }

    /// Waits until it is over, and gives what it returned; of a run that went on as another one, what that returned. A database
    /// that is away is waited for; wrap it in a timeout to wait no longer than that. May be dropped at any time.
    ///
    /// # Errors
    /// It failed, was cancelled or quarantined, is not there, or returned something else; or the database refuses to say, for
    /// want of a right, a login or a schema.
    pub async fn result(&self) -> Result<O, RunError>
    where
        O: DeserializeOwned,
    {
        let (mut run, mut is_new) = (self.id, self.is_new);
        let ended = loop {
            let ended = self.client.waiting.ended(run, is_new).await;
            match ended.continued_as {
                Some(next) => (run, is_new) = (next, false),
                None => break ended,
            }
        };
        if let Some(error) = ended.refused {
            return Err(RunError::Store(error));
        }
        let EndedRun { output, reason, .. } = ended;
        let reason = reason.unwrap_or_default();
        match ended.status {
            Some(RunStatus::Completed) => {
                serde_json::from_slice(output.as_deref().unwrap_or(b"null")).map_err(|error| RunError::Misfit {
                    run,
                    why: error.to_string(),
                })
            }
            Some(RunStatus::Cancelled) => Err(RunError::Cancelled { run, reason }),
            Some(RunStatus::Quarantined) => Err(RunError::Quarantined { run, reason }),
            Some(_) => Err(RunError::Failed { run, reason }),
            None => Err(RunError::Unknown(run)),
        }
    }

    /// Its state now, or of the run that goes on in its place; none: it is not there.
    ///
    /// # Errors
    /// The database failed.
    pub async fn status(&self) -> Result<Option<RunStatus>, DatabaseError> {
        let status = self.client.operator.status_of_run(self.id).await?;
        Ok(status.as_deref().and_then(RunStatus::from_name))
    }

    /// What its code has shown under a name with `ctx.show`, or that of the run that goes on in its place: the newest value;
    /// none: nothing yet. It is there while the run is under way and as long as it is kept.
    ///
    /// # Errors
    /// It is not there, or shows something else.
    pub async fn shown<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, RunError> {
        let run = self.id;
        let shown = self.client.operator.shown(run, name).await?;
        let shown = shown.ok_or(RunError::Unknown(run))?.pop();
        let read = shown.map(serde_json::from_value).transpose();
        read.map_err(|error| RunError::Misfit {
            run,
            why: format!("{name}: {error}"),
        })
    }

    /// Tells it something that its code waits for with `ctx.wait_signal`.
    ///
    /// # Errors
    /// [`SignalError`] says why it was not told.
    pub async fn signal<T: Serialize + Sync>(&self, name: &str, payload: &T) -> Result<(), SignalError> {
        self.signal_with(name, payload, SignalOptions::default()).await
    }

    /// The same, once however often it is asked for under this key.
    ///
    /// # Errors
    /// [`SignalError`] says why it was not told.
    pub async fn signal_once<T: Serialize + Sync>(
        &self,
        key: impl Into<String>,
        name: &str,
        payload: &T,
    ) -> Result<(), SignalError> {
        let once = SignalOptions::default().key(key);
        self.signal_with(name, payload, once).await
    }

    /// The same, under a key or for a reason that is recorded, or both.
    ///
    /// # Errors
    /// [`SignalError`] says why it was not told.
    pub async fn signal_with<T: Serialize + Sync>(
        &self,
        name: &str,
        payload: &T,
        options: SignalOptions,
    ) -> Result<(), SignalError> {
        let run = self.id;
        if name.is_empty() || name.len() > 100 {
            return Err(SignalError::Invalid("its name has not 1 to 100 bytes".to_owned()));
        }
        let payload = serde_json::to_value(payload).map_err(|error| SignalError::Invalid(error.to_string()))?;
        let signal = NewSignal {
            run,
            name: name.to_owned(),
            payload,
            idempotency_key: options.key,
            actor: None,
            reason: options.reason,
        };
        match self.client.operator.signal_run(&signal).await {
            Ok(Signalled::Sent | Signalled::Known) => Ok(()),
            Ok(Signalled::Unknown) => Err(SignalError::Unknown(run)),
            Ok(Signalled::Full) => Err(SignalError::Full(run)),
            Ok(Signalled::Over(status)) => Err(SignalError::Over { run, status }),
            Err(error) if error.code() == Some("54000") => {
                Err(SignalError::Invalid("what is told is larger than 64 KiB".to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Does again what it did, or the run that goes on in its place, once that is over, from the step that failed; see
    /// [`Operator::repeat_run`] for the others. The inner error says why not.
    ///
    /// # Errors
    /// The database failed.
    ///
    /// [`Operator::repeat_run`]: crate::postgres::Operator::repeat_run
    pub async fn retry(&self, reason: &str) -> Result<Result<Self, NotRepeated>, DatabaseError> {
        let retry = RepeatRun {
            reason: Some(reason.to_owned()),
            ..RepeatRun::retry(self.id)
        };
        let repeated = self.client.operator.repeat_run(&retry).await?;
        Ok(repeated.map(|run| Self::new(self.client.clone(), run)))
    }

    /// Asks it to stop, or the run that goes on in its place: its code comes to its end and undoes what it did. Answers its
    /// state now; one that is over stays as it is.
    ///
    /// # Errors
    /// The database failed.
    pub async fn cancel(&self, reason: &str) -> Result<Option<RunStatus>, DatabaseError> {
        self.client.operator.cancel_run(self.id, Some(reason)).await?;
        self.status().await
    }

    /// Asks it to stop without undoing what it did; answers its state now. Why it ended then says what was not undone.
    ///
    /// # Errors
    /// The database failed.
    pub async fn force_cancel(&self, reason: &str) -> Result<Option<RunStatus>, DatabaseError> {
        self.client.operator.force_cancel_run(self.id, Some(reason)).await?;
        self.status().await
    }
}

impl<O> fmt::Debug for RunHandle<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RunHandle").field(&self.id).finish()
    }
}

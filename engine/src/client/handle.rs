//! A run that was started.

use std::fmt;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use super::{Client, EndedRun};
use crate::lifecycle::RunId;
use crate::postgres::DatabaseError;

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
    /// What it returned is not what was expected.
    #[error("what run {run} returned does not fit: {why}")]
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

/// A run, and what may be done with it. Dropping it changes nothing.
#[derive(Clone)]
pub struct RunHandle<O> {
    client: Client,
    id: RunId,
    output: PhantomData<fn() -> O>,
}

impl<O> RunHandle<O> {
    pub(super) fn new(client: Client, id: RunId) -> Self {
        Self {
            client,
            id,
            output: PhantomData,
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> RunId {
        self.id
    }

    /// Waits until it is over, and gives what it returned; of a run that went on as another one, what that returned. A database that is away is waited for; wrap it in a timeout
    /// to wait no longer than that. May be dropped at any time.
    ///
    /// # Errors
    /// It failed, was cancelled or quarantined, is not there, or returned something else.
    pub async fn result(&self) -> Result<O, RunError>
    where
        O: DeserializeOwned,
    {
        let mut run = self.id;
        let ended = loop {
            let ended = self.client.waiting.ended(run).await;
            match ended.continued_as {
                Some(next) => run = next,
                None => break ended,
            }
        };
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

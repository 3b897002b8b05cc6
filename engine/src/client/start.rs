//! A run to be started.

use std::marker::PhantomData;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::start_all::{count_started, params_of};
use super::{Client, RunHandle};
use crate::lifecycle::{NewRun, Started, misfit_attributes};
use crate::postgres::DatabaseError;
use crate::telemetry::TraceContext;
use crate::workflow::Workflow;

/// Why a run was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another unfinished run holds the singleton key.
    #[error("another unfinished run holds singleton key {0}; nothing was started")]
    Held(String),
    /// The singleton or debounce key is contended this moment: ask again.
    #[error("key {0} is contended; nothing was started: try again")]
    Busy(String),
    /// The request itself is wrong.
    #[error("{0}; nothing was started")]
    Invalid(String),
    /// The database failed. Unless it refused, whether the run was started is not known; under an idempotency key the
    /// start can be repeated.
    #[error(transparent)]
    Store(#[from] DatabaseError),
}

/// A run of a workflow, not started yet.
#[must_use = "nothing is started before `send` or `send_in`"]
pub struct Start<W> {
    client: Client,
    pub(super) request: NewRun,
    invalid: Option<StartError>,
    workflow: PhantomData<fn() -> W>,
}

impl<W: Workflow> Start<W> {
    pub(super) fn new(client: Client, input: &W::Input) -> Self
    where
        W::Input: Serialize,
    {
        let (params, invalid) = match params_of::<W>(input) {
            Ok(params) => (params, None),
            Err(invalid) => (Vec::new(), Some(invalid)),
        };
        Self {
            client,
            request: NewRun {
                params,
                traceparent: TraceContext::current().map(TraceContext::traceparent),
                ..NewRun::new(W::NAME)
            },
            invalid,
            workflow: PhantomData,
        }
    }

    /// Makes a repeat find this run instead of starting another, for as long as it is kept (`retention.runs`).
    pub fn key(mut self, idempotency_key: impl Into<String>) -> Self {
        self.request.idempotency_key = Some(idempotency_key.into());
        self
    }

    /// Allows one unfinished run with this key.
    pub fn singleton(mut self, key: impl Into<String>) -> Self {
        self.request.singleton_key = Some(key.into());
        self
    }

    /// Starts it no earlier.
    pub fn at(mut self, time: DateTime<Utc>) -> Self {
        self.request.start_at = Some(time);
        self
    }

    /// Messages per second that the fleet may send for it, from 1.
    pub fn pace(mut self, per_s: u32) -> Self {
        match i32::try_from(per_s) {
            Ok(pace) if pace > 0 => self.request.pace_per_s = Some(pace),
            _ => {
                let why = format!("a pace of {per_s} messages a second cannot be kept");
                self.invalid = Some(StartError::Invalid(why));
            }
        }
        self
    }

    /// Fails it when it is not over this long after its start.
    pub fn deadline(mut self, time: Duration) -> Self {
        self.request.deadline = Some(time);
        self
    }

    /// Gives it an attribute by which it is found: a string, a number or a boolean of at most 250 characters; at most 16 of them.
    pub fn attribute(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        let given = self.request.attributes.get_or_insert_with(|| serde_json::json!({}));
        given[name] = value.into();
        if let Some(wrong) = given.as_object().and_then(misfit_attributes) {
            self.invalid = Some(StartError::Invalid(wrong));
        }
        self
    }

    /// Continues this W3C trace instead of the current one.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.request.traceparent = Some(traceparent.into());
        self
    }

    /// Starts it, or finds the run of the same idempotency key. When this returns it is durable.
    ///
    /// # Errors
    /// [`StartError`] says for each case whether anything was started.
    pub async fn send(mut self) -> Result<RunHandle<W::Output>, StartError> {
        self.check()?;
        let run = self.client.operator.named(self.request.clone());
        let started = if run.starts_alone() {
            let started = self.client.operator.start(&run).await?;
            if matches!(started, Started::New(_)) {
                count_started(&run.workflow, 1);
                self.client.starts.ring(&run);
            }
            started
        } else {
            let id = run.id;
            self.client.starts.start(run).await?;
            count_started(W::NAME, 1);
            Started::New(id)
        };
        self.handle(started)
    }

    /// Refuses what cannot be right.
    pub(crate) fn check(&mut self) -> Result<(), StartError> {
        let empty = |key: &Option<String>| key.as_deref() == Some("");
        if empty(&self.request.idempotency_key) || empty(&self.request.singleton_key) {
            return Err(StartError::Invalid("a key is empty".to_owned()));
        }
        self.request.check().map_err(StartError::Invalid)?;
        self.invalid.take().map_or(Ok(()), Err)
    }

    pub(crate) fn request(&self) -> NewRun {
        self.request.clone()
    }

    pub(crate) fn operator(&self) -> &crate::postgres::Operator {
        &self.client.operator
    }

    pub(crate) fn handle(self, started: Started) -> Result<RunHandle<W::Output>, StartError> {
        let key = self
            .request
            .singleton_key
            .or(self.request.debounce_key)
            .unwrap_or_default();
        match started {
            Started::New(run) => Ok(RunHandle::started(self.client, run)),
            Started::Found(run) | Started::Debounced(run) => Ok(RunHandle::new(self.client, run)),
            Started::Held => Err(StartError::Held(key)),
            Started::Busy => Err(StartError::Busy(key)),
        }
    }
}

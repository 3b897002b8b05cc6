//! Who carries out what a workflow's code asks for.

use std::ops::RangeInclusive;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;

use super::fan_out::FanOut;
use super::path::Place;
use super::step::{Action, StepError, StepOptions};
use crate::lifecycle::{Kind, TransactionWork};

/// How a step ended, as recorded.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    /// What it came to, JSON.
    pub(crate) result: Option<Vec<u8>>,
    /// How it failed, if it did.
    pub(crate) failed: Option<StepError>,
    /// When.
    pub(crate) at: DateTime<Utc>,
}

/// What a wait ends by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitFor {
    /// The clock.
    Instant(DateTime<Utc>),
    /// A signal that has the place's name, or the clock.
    Signal { until: Option<DateTime<Utc>> },
}

impl WaitFor {
    /// What such a step is.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Instant(_) => Kind::Sleep,
            Self::Signal { .. } => Kind::Signal,
        }
    }

    /// When the clock ends it.
    pub(crate) fn due_at(self) -> Option<DateTime<Utc>> {
        match self {
            Self::Instant(at) => Some(at),
            Self::Signal { until } => until,
        }
    }
}

/// What a step comes to. It stays pending for ever when the code is not to go on from here.
pub(crate) type Outcome = BoxFuture<'static, anyhow::Result<Done>>;

/// Carries out what a workflow asks for: as the run's owner, or to find out what its batches send. The record is asked
/// when the method is called; what it has not is done when the future is awaited.
pub(crate) trait ContextHost: Send + Sync {
    fn step(self: Arc<Self>, place: Place, options: StepOptions, action: Action) -> Outcome;
    fn transact(self: Arc<Self>, place: Place, work: TransactionWork) -> Outcome;
    fn wait(self: Arc<Self>, place: Place, wait: WaitFor) -> Outcome;
    fn fan_out(self: Arc<Self>, place: Place, fan_out: Arc<dyn FanOut>) -> Outcome;
    /// The code goes on in branches from here; never returns into code that differs from the one that ran.
    fn join(self: Arc<Self>, place: Place) -> BoxFuture<'static, anyhow::Result<()>>;
    /// Which version of a change this run takes; `next` is the ordinal of the next place of the branch.
    fn version(
        self: Arc<Self>,
        prefix: String,
        next: u32,
        change: String,
        range: RangeInclusive<u32>,
    ) -> BoxFuture<'static, anyhow::Result<u32>>;
}

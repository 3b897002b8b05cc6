//! Who carries out what a workflow's code asks for.

use std::ops::RangeInclusive;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;

use super::fan_out::FanOut;
use super::path::Place;
use super::publish::Publication;
use super::step::{Action, StepError, StepOptions};
use super::undo::Undo;
use crate::lifecycle::{ChildWishes, Kind, RunId, RunStore, TransactionWork};

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

/// A run to start as a child of the one that is run.
#[derive(Debug, Clone)]
pub(crate) struct NewRunOfMine {
    /// Its workflow.
    pub(crate) workflow: &'static str,
    /// Its input, JSON.
    pub(crate) params: Vec<u8>,
    /// What else is said of it.
    pub(crate) wishes: ChildWishes,
    /// Its workflow need not be known here.
    pub(crate) elsewhere: bool,
}

/// What a step comes to. It stays pending for ever when the code is not to go on from here.
pub(crate) type Outcome = BoxFuture<'static, anyhow::Result<Done>>;

/// How the branches of a select stand when the code comes to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Race {
    /// Which has won, and when, if that is recorded.
    pub(crate) won: Option<(usize, DateTime<Utc>)>,
    /// Those that lost and are run once more, as far as they are recorded.
    pub(crate) retraced: Vec<usize>,
}

/// Carries out what a workflow asks for: as the run's owner, or to find out what its batches send. The record is asked
/// when the method is called; what it has not is done when the future is awaited.
pub(crate) trait ContextHost: Send + Sync {
    fn step(self: Arc<Self>, place: Place, options: StepOptions, action: Action, undo: Option<Undo>) -> Outcome;
    fn transact(
        self: Arc<Self>,
        place: Place,
        options: StepOptions,
        work: TransactionWork,
        undo: Option<Undo>,
    ) -> Outcome;
    fn wait(self: Arc<Self>, place: Place, wait: WaitFor) -> Outcome;
    fn fan_out(self: Arc<Self>, place: Place, fan_out: Arc<dyn FanOut>) -> Outcome;
    /// Starts a child, unless that is recorded; answers which run it is.
    fn start_child(self: Arc<Self>, place: Place, child: NewRunOfMine) -> BoxFuture<'static, anyhow::Result<RunId>>;
    /// How the child ended that was started at this path.
    fn child_end(self: Arc<Self>, path: String) -> Outcome;
    fn publish(self: Arc<Self>, place: Place, publication: Publication) -> Outcome;
    /// Records a value for whoever looks at the run.
    fn show(self: Arc<Self>, place: Place, value: Vec<u8>) -> Outcome;
    /// The store, for steps about other runs; none: nothing is done here.
    fn runs(&self) -> Option<Arc<dyn RunStore>>;
    /// Sets an attribute of the run, or says why not.
    fn set_attribute(&self, name: &str, value: serde_json::Value) -> Result<(), String>;
    /// The code goes on in branches from here, of which so many are recorded; never returns into code that differs from the
    /// one that ran.
    fn join(self: Arc<Self>, place: Place) -> BoxFuture<'static, anyhow::Result<usize>>;
    /// A recorded failure, of a step whose path begins so, is about to be told.
    fn is_telling(&self, prefix: &str) -> bool;
    /// The code comes to a select of so many branches; never returns into code that differs from the one that ran.
    fn select(self: Arc<Self>, place: Place, count: usize) -> BoxFuture<'static, anyhow::Result<Race>>;
    /// Whether the first branch to end decides a select; else all of them are run to their ends.
    fn decides(&self) -> bool;
    /// Branches, known by what their paths begin with, have lost: nothing new of them begins.
    fn lose(&self, lost: &[String]);
    /// Records that a branch has won; answers when, as the code is told.
    fn won(
        self: Arc<Self>,
        place: Place,
        winner: usize,
        lost: Vec<String>,
    ) -> BoxFuture<'static, anyhow::Result<DateTime<Utc>>>;
    /// Branches that are run once more have come as far as is needed.
    fn is_retraced(&self, lost: &[String]) -> bool;
    /// Undoes what branches did that have lost.
    fn undo_lost(self: Arc<Self>, lost: Vec<String>) -> BoxFuture<'static, anyhow::Result<()>>;
    /// The run is to come to its end, and the code of a branch, whose next ordinal this is, has come past its record.
    fn is_cancelled(&self, prefix: &str, next: u32) -> bool;
    /// Which version of a change this run takes; `next` is the ordinal of the next place of the branch.
    fn version(
        self: Arc<Self>,
        prefix: String,
        next: u32,
        change: String,
        range: RangeInclusive<u32>,
    ) -> BoxFuture<'static, anyhow::Result<u32>>;
}

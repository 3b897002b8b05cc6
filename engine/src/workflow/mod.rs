//! What a user writes: a workflow, a source of items, and the messages made of them.

mod child;
mod context;
mod continuing;
mod draw;
mod fan_out;
mod host;
mod join;
mod misfit;
mod path;
mod publish;
mod registry;
mod resources;
mod retry;
mod select;
mod show;
mod source;
mod step;
mod undo;

use std::future::Future;
use std::ops::RangeInclusive;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use child::{ChildHandle, ChildOptions};
pub use context::Context;
pub(crate) use continuing::{continued, params_of};
pub use fan_out::FanOutSummary;
pub(crate) use fan_out::{FanOut, Made};
pub(crate) use host::{ContextHost, Done, NewRunOfMine, Outcome, Race, WaitFor};
pub(crate) use misfit::misfit;
pub(crate) use path::{Place, UNDO, is_undo, undo_path};
pub(crate) use publish::Publication;
pub(crate) use registry::DynWorkflow;
pub use registry::Registry;
pub use resources::Resources;
pub use retry::RetryPolicy;
pub use select::Either;
pub(crate) use show::{LARGEST_SHOWN, holds_zero};
pub use source::{IdPages, Source};
pub(crate) use step::{Action, TimedOut, check_size, is_fatal, to_json};
pub use step::{StepError, StepFuture, StepOptions, fatal};
pub(crate) use undo::{TransactionUndo, Undo, UndoAction};

/// A durable workflow: an ordinary async function whose steps are recorded.
///
/// The function may be run again from its start at any time and on any replica; steps that are done answer with
/// what they answered before. Between steps it must therefore decide by its input and by what steps returned only.
pub trait Workflow: Send + Sync + 'static {
    /// The name under which runs of it are started.
    const NAME: &'static str;
    /// Which version of its code this is: runs begin with it and are only ever run by binaries that replay it.
    const VERSION: u32 = 1;
    /// The versions whose runs this code can replay, its own among them. One that it replays and does not begin yet lets two
    /// releases stand side by side: first all replicas learn to replay it, then they begin with it.
    const REPLAYS: RangeInclusive<u32> = Self::VERSION..=Self::VERSION;
    /// Its input, read from the run's JSON parameters.
    type Input: DeserializeOwned + Send + 'static;
    /// What it returns, kept with the run as JSON of at most 1 MiB.
    type Output: Serialize + Send + 'static;

    /// The workflow itself. An error fails the run and is kept as its reason.
    fn run(&self, ctx: Context, input: Self::Input) -> impl Future<Output = anyhow::Result<Self::Output>> + Send;
}

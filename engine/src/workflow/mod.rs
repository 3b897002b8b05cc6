//! What a user writes: a workflow, a source of items, and the messages made of them.

mod context;
mod fan_out;
mod registry;
mod resources;
mod source;

use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use context::Context;
pub(crate) use context::ContextHost;
pub use fan_out::FanOutSummary;
pub(crate) use fan_out::{FanOut, Made};
pub use registry::Registry;
pub use resources::Resources;
pub use source::{IdPages, Source};

/// A durable workflow: an ordinary async function whose steps are recorded.
///
/// The function may be run again from its start at any time and on any replica; steps that are done answer with
/// what they answered before. Between steps it must therefore decide by its input and by what steps returned only.
pub trait Workflow: Send + Sync + 'static {
    /// The name under which runs of it are started.
    const NAME: &'static str;
    /// Its input, read from the run's JSON parameters.
    type Input: DeserializeOwned + Send + 'static;
    /// What it returns, kept with the run as JSON.
    type Output: Serialize + Send + 'static;

    /// The workflow itself. An error fails the run and is kept as its reason.
    fn run(&self, ctx: Context, input: Self::Input) -> impl Future<Output = anyhow::Result<Self::Output>> + Send;
}

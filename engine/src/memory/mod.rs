//! The verbs of the two stores in memory: for tests, for trying things out, and as the plain statement of what they mean.

mod manager;
mod run;
mod runs;
mod store;

pub use manager::{Clock, MemoryTaskRunManager};
#[cfg(feature = "testing")]
pub(crate) use runs::Pulse;
pub use runs::{MemoryRunStore, RunChange, RunStart, RunView, SignalView, VirtualClock};
pub use store::{BatchState, MemoryBatch, MemoryRun, MemoryTransition};

//! The six verbs in memory: for tests, for trying things out, and as the plain statement of what they mean.

mod manager;
mod run;
mod store;

pub use manager::{Clock, MemoryTaskRunManager};
pub use store::{BatchState, MemoryBatch, MemoryRun, MemoryTransition};

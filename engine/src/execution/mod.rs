//! Execution: runs the code of workflows, plans their fan-outs, and streams their batches to the broker.

mod alone;
mod book;
mod checkpoints;
mod drive;
mod driver;
mod endings;
mod executor;
mod fan_outs;
mod group;
mod keeper;
mod pipeline;
mod planner;
mod presence;
mod send;
mod settings;
mod shares;
mod tally;
mod tracker;
mod window;
mod work;
mod worker;

pub use executor::{Executor, ExecutorParts, Hints};
pub(crate) use presence::be_present;
pub use settings::ExecutionSettings;

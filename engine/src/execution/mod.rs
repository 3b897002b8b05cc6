//! Execution: runs the code of workflows, plans their fan-outs, and streams their batches to the broker.

mod alone;
mod attach_host;
mod book;
#[cfg(test)]
mod branch_tests;
mod checkpoints;
mod driver;
mod endings;
mod executor;
#[cfg(test)]
mod fake;
mod fan_out_step;
mod fan_outs;
mod group;
mod history;
mod keeper;
mod letting_go;
mod owner_host;
mod owner_verbs;
mod pipeline;
mod planner;
mod presence;
mod run_task;
#[cfg(test)]
mod run_task_tests;
mod send;
mod settings;
mod shares;
mod step_tries;
mod tally;
mod tracker;
mod waits;
mod window;
mod work;
mod worker;

pub use executor::{Executor, ExecutorParts, Hints};
pub(crate) use presence::be_present;
pub use settings::ExecutionSettings;

//! Execution (R40.2): runs the code of workflows, plans their fan-outs, and streams their batches to the broker.

mod alone;
mod attach_host;
#[cfg(test)]
mod batch_tests;
mod batch_told;
mod book;
#[cfg(test)]
mod branch_tests;
mod checkpoints;
mod child_steps;
#[cfg(test)]
mod child_tests;
mod driver;
#[cfg(test)]
mod driver_tests;
mod eager;
#[cfg(test)]
mod early_end_tests;
mod endings;
mod executor;
mod families;
mod fan_out_step;
mod fan_outs;
mod gauges;
mod going_on;
mod group;
#[cfg(test)]
mod group_tests;
mod history;
#[cfg(test)]
mod join_tests;
mod keeper;
#[cfg(test)]
mod leaving_tests;
mod letting_go;
mod limited;
#[cfg(test)]
mod loser_tests;
#[cfg(test)]
mod nobody;
mod owner_host;
mod owner_verbs;
mod pipeline;
mod plan_told;
mod planner;
mod presence;
mod publications;
mod queues;
mod recall;
#[cfg(test)]
mod result_tests;
mod run_task;
#[cfg(test)]
mod run_task_tests;
mod run_told;
#[cfg(test)]
mod saga_tests;
mod select_step;
#[cfg(test)]
mod select_tests;
mod send;
mod settings;
mod shares;
mod step_tries;
mod suspects;
mod tally;
mod tracker;
#[cfg(test)]
mod trial;
mod under_way;
mod undoables;
mod undoing;
mod unwinding;
mod waits;
mod window;
mod work;
mod worker;
mod writes;

#[cfg(feature = "testing")]
pub(crate) use executor::Shared;
pub use executor::{Executor, ExecutorParts, Hints};
pub(crate) use going_on::going_on;
pub(crate) use group::{Group, Together, Trouble};
pub(crate) use presence::be_present;
pub use settings::ExecutionSettings;
pub(crate) use settings::LARGE_RECORDS;

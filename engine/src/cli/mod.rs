//! The command line.

pub mod schedules;

//! Test support.
#![allow(clippy::unwrap_used, clippy::panic)]

pub mod cli;
mod cli_database;

pub use cli_database::TestDatabase;

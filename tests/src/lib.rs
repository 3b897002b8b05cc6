//! Test support.
#![allow(clippy::unwrap_used, clippy::panic)]

pub mod cli;
mod cli_database;
mod cli_pgbouncer;

pub use cli_database::TestDatabase;
pub use cli_pgbouncer::PgBouncer;

//! Test support: servers, a database for each test, waiting for events, a connection that loses answers, a binary to
//! run, and the conformance suite of run lifecycle managers.
#![allow(clippy::unwrap_used, clippy::panic)]

pub mod cli;
mod cli_pgbouncer;
pub mod conformance;
mod database;
mod lossy;
mod servers;
mod wait;

pub use cli_pgbouncer::PgBouncer;
pub use database::TestDatabase;
pub use lossy::LossyConnection;
pub use servers::{kafka_brokers, postgres_url};
pub use wait::wait_until;

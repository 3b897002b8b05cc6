//! Test support: servers, a database for each test, waiting for events, the binary's command line, a connection that
//! loses answers, and the conformance suite of run lifecycle managers.
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

//! Test support: servers, a database for each test, waiting for events, the binary's command line, a connection that
//! loses answers, the conformance suite of run lifecycle managers, and replicas that die, with what must hold of all
//! they leave behind.
#![allow(clippy::unwrap_used, clippy::panic)]

pub mod api;
pub mod beside;
pub mod blocked;
pub mod bounded;
pub mod certificates;
pub mod chaos_family;
pub mod chaos_pair;
pub mod chaos_secrets;
pub mod chaos_steps;
pub mod chaos_versions;
pub mod cli;
mod cli_pgbouncer;
pub mod cluster;
pub mod collector;
pub mod conformance;
pub mod crash_points;
mod database;
pub mod demo_load;
pub mod doors;
pub mod grafana;
pub mod invariants;
mod lossy;
pub mod mail_server;
pub mod mailroom;
pub mod mock_kafka;
pub mod nemesis;
pub mod notes;
pub mod own_servers;
pub mod place_order;
mod ports;
pub mod probes;
pub mod proxy;
pub mod replica;
pub mod report_queue;
pub mod running_total;
mod seed;
mod servers;
mod skipped;
pub mod smtp_sink;
pub mod steps_story;
pub mod telemetry_servers;
pub mod topic;
pub mod tutorial;
mod wait;

pub use cli_pgbouncer::PgBouncer;
pub use database::TestDatabase;
pub use lossy::LossyConnection;
pub use ports::free_port;
pub use seed::seed;
pub use servers::{kafka_brokers, postgres_url};
pub use skipped::skipped;
pub use wait::wait_until;

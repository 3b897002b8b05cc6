//! Lockgate: a durable workflow engine on Postgres alone.

pub mod cli;
pub mod config;
pub mod delivery;
pub mod execution;
pub mod inspect;
pub mod kafka;
pub mod lifecycle;
pub mod memory;
pub mod postgres;
mod telemetry;
pub mod trigger;
pub mod workflow;

//! Lockgate: a durable workflow engine on Postgres alone.

pub mod delivery;
pub mod execution;
pub mod kafka;
pub mod lifecycle;
pub mod postgres;
mod telemetry;
pub mod trigger;
pub mod workflow;

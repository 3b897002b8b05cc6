//! Lockgate: a durable workflow engine on Postgres alone.

pub mod cli;
pub mod delivery;
pub mod leader;
pub mod lifecycle;
pub mod postgres;
pub mod trigger;
pub mod workflow;

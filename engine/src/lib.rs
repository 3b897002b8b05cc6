//! Lockgate: a durable workflow engine on Postgres alone.

pub mod delivery;
pub mod kafka;
pub mod lifecycle;
pub mod postgres;
pub mod trigger;
pub mod workflow;

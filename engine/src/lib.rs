//! Lockgate: a durable workflow engine on Postgres alone.

pub mod delivery;
pub mod kafka;

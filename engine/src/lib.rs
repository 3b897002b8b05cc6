//! Lockgate: a durable workflow engine on Postgres alone.

pub mod delivery;
pub mod lifecycle;
pub mod memory;
pub mod postgres;

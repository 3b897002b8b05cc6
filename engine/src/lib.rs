//! Lockgate: a durable workflow engine on Postgres alone.

pub mod cli;
pub mod config;
pub mod delivery;
pub mod inspect;
pub mod lifecycle;
pub mod postgres;

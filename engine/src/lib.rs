//! Lockgate: a durable workflow engine on Postgres alone.

pub mod api;
pub mod cli;
pub mod client;
pub mod config;
#[cfg(feature = "failpoints")]
#[doc(hidden)]
pub mod crash;
pub mod delivery;
mod direct;
mod engine;
pub mod execution;
pub mod health;
pub mod inspect;
pub mod kafka;
pub mod leader;
pub mod lifecycle;
mod local;
pub mod memory;
pub mod postgres;
mod serving;
mod settings;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod trigger;
pub mod verify;
pub mod workflow;

pub use direct::orchestrator;
pub use engine::{Engine, EngineBuilder, kafka_config};

//! Durable workflows on real servers: steps, waits, signals, and fan-outs beside them.
#![allow(clippy::unwrap_used)]

mod example;
mod kills;
mod leases;
mod lost;
mod mixed;
mod operators;
mod saga;
mod shop;
mod waits;

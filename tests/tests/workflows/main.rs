//! Durable workflows on real servers: steps, waits, signals, and fan-outs beside them.
#![allow(clippy::unwrap_used)]

mod again;
mod example;
mod families;
mod kills;
mod leases;
mod lost;
mod mixed;
mod operators;
mod panics;
mod poison;
mod queues;
mod reports;
mod results;
mod saga;
mod shop;
mod shown;
mod suspects;
mod transactions;
mod versions;
mod waits;

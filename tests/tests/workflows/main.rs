//! Durable workflows on real servers: steps, waits, signals, and fan-outs beside them.
#![allow(clippy::unwrap_used)]

mod mixed;
mod operators;
mod waits;

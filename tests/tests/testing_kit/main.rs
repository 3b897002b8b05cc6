//! The testing kit, as a user's tests use it: time, signals, crashes, fan-outs and transactions of a whole engine in memory.
#![allow(clippy::unwrap_used, clippy::panic)]

mod again;
mod bad_input;
mod crashes;
mod example;
mod fan_outs;
mod queues;
mod retries;
mod shipped;
mod shipped_shop;
mod shown;
mod time;
mod transactions;

//! What processes tell of themselves: to collectors of every temper, to whoever scrapes, and on stderr.
#![allow(clippy::unwrap_used, clippy::panic)]

mod attributes;
mod canary;
mod catalogue;
mod collector_trouble;
mod journey;
mod kinship;
mod logs;
mod page;
mod scrape;
mod settings;
mod support;
mod told_by_leader;

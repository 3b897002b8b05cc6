//! What people deploy with is held to the code: images, compose file, chart and unit are parsed and compared with the
//! configuration, the ports, the probes and the drain deadline. Whatever is said about the one must be true of the other.
#![allow(clippy::unwrap_used, clippy::panic)]

mod chart;
mod compose;
mod files;
mod image;
mod monitoring;
mod names;
mod sample;
mod unit;
mod values;

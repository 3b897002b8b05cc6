//! As among the workflows' tests, over twenty kills.
#![allow(clippy::unwrap_used)]

#[path = "workflows/kills.rs"]
mod kills;

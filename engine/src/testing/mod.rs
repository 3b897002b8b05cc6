//! The testing kit: a whole engine in memory, in which a test decides what time it is and when it crashes.
//!
//! What runs is the engine itself - its driver, its replays, its groups of checkpoints, its planner and its workers -
//! over a store in memory and a clock that jumps to whatever is due next, so that a sleep of a day takes microseconds.
//! `docs/testing.md` in the repository shows how, with an example.
#![allow(clippy::panic)]

mod asserts;
mod crashes;
mod effects;
mod engine;
mod every_crash;
mod facts;
mod faulty;
mod faulty_fleet;
mod faulty_runs;
mod handle;
mod messages;
mod pump;
mod sources;
mod start;

pub use crashes::Side;
pub use effects::Effects;
pub use engine::TestEngine;
pub use every_crash::every_crash;
pub use handle::TestHandle;
pub use messages::SentMessage;
pub use start::TestStart;

pub(crate) use sources::{fake_ids, fake_rows, note_missing_database};

pub use crate::postgres::{TestPostgres, postgres_for_test as postgres};

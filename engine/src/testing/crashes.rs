//! Where a test wants crashes, and what was written so far.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::lifecycle::RunId;

/// On which side of a durable write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// It was about to be written.
    Before,
    /// It was written, and whoever wrote it did not hear so.
    After,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::After => "after",
        })
    }
}

/// A durable write: of which run, and what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Write {
    pub(super) run: RunId,
    pub(super) what: String,
}

impl Write {
    pub(super) fn new(run: RunId, what: impl Into<String>) -> Self {
        Self { run, what: what.into() }
    }

    /// A claim is known only once it is made.
    pub(super) fn is_claim(&self) -> bool {
        self.what.starts_with(CLAIM)
    }
}

/// A write by how often the same one came before it: the same in every pass of a test.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Point {
    pub(super) write: Write,
    pub(super) time: u32,
}

/// Where to crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// At a step of any run.
    Path(Side, String),
    /// At one point.
    At(Side, Point),
    /// At every write of every run, on both sides.
    Everywhere,
}

#[derive(Debug, Default)]
struct State {
    wishes: Vec<Wish>,
    /// Writes in order, each once.
    points: Vec<Point>,
    times: HashMap<Write, u32>,
    crashed: HashSet<(Side, Write)>,
    crashes: u32,
}

/// The crashes of one engine, shared by its replicas.
#[derive(Debug, Default)]
pub(super) struct Crashes(Mutex<State>);

impl Crashes {
    pub(super) fn wish(&self, wish: Wish) {
        self.lock().wishes.push(wish);
    }

    /// All writes so far.
    pub(super) fn points(&self) -> Vec<Point> {
        self.lock().points.clone()
    }

    /// How many writes there were so far.
    pub(super) fn writes(&self) -> usize {
        self.lock().points.len()
    }

    /// How often it crashed.
    pub(super) fn count(&self) -> u32 {
        self.lock().crashes
    }

    /// Writes are to be done; answers whether it crashes before.
    pub(super) fn before(&self, writes: &[Write]) -> bool {
        let mut state = self.lock();
        state.note(writes);
        state.crashes_at(Side::Before, writes)
    }

    /// They are done; answers whether it crashes now.
    pub(super) fn after(&self, writes: &[Write]) -> bool {
        self.lock().crashes_at(Side::After, writes)
    }

    /// Runs are claimed: what is claimed is known only afterwards, so there is one side of it.
    pub(super) fn claimed(&self, claims: &[Write]) -> bool {
        let mut state = self.lock();
        state.note(claims);
        state.crashes_at(Side::After, claims)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note(&mut self, writes: &[Write]) {
        for write in writes {
            let times = self.times.entry(write.clone()).or_insert(0);
            *times += 1;
            let (write, time) = (write.clone(), *times);
            self.points.push(Point { write, time });
        }
    }

    fn crashes_at(&mut self, side: Side, writes: &[Write]) -> bool {
        let mut crashes = false;
        for write in writes {
            let time = self.times.get(write).copied().unwrap_or(0);
            let Some(at) = self.wishes.iter().position(|wish| wish.is_at(side, write, time)) else {
                continue;
            };
            // What is wished comes true once; everywhere is each write once on each side.
            crashes |= if self.wishes[at] == Wish::Everywhere {
                self.crashed.insert((side, write.clone()))
            } else {
                self.wishes.remove(at);
                true
            };
        }
        self.crashes += u32::from(crashes);
        crashes
    }
}

impl Wish {
    fn is_at(&self, side: Side, write: &Write, time: u32) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Path(at, path) => *at == side && write.what.strip_prefix(STEP) == Some(path),
            Self::At(at, point) => *at == side && point.write == *write && point.time == time,
        }
    }
}

/// How writes of steps begin.
pub(super) const STEP: &str = "step ";
/// How claims are called.
pub(super) const CLAIM: &str = "claim";

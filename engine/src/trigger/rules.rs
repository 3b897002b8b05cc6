//! The choices a schedule carries, each with the one name it has in SQL, in TOML and on the command line.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::CalendarError;

/// The most missed slots that `all(max n)` may fire at once, so that one schedule cannot flood the runs.
pub(super) const MAX_CATCH_UP: u32 = 10_000;

/// What a fixed-time schedule does with a local time that the clocks skip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapRule {
    /// Fires at the first instant after the gap.
    #[default]
    RunAfter,
    /// Does not fire.
    Skip,
}

/// Which pass a fixed-time schedule fires at when the clocks pass its local time twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FoldRule {
    /// Fires at the first pass.
    #[default]
    First,
    /// Fires at the second pass.
    Second,
    /// Fires at both passes.
    Both,
}

/// Which missed slots fire once the outage is over; written `skip`, `last` or `all(max 10)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum CatchUp {
    /// Fires none of them.
    Skip,
    /// Fires the newest one.
    #[default]
    Last,
    /// Fires the newest `max` of them, oldest first.
    All {
        /// How many at most.
        max: u32,
    },
}

impl fmt::Display for GapRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RunAfter => "run_after",
            Self::Skip => "skip",
        })
    }
}

impl FromStr for GapRule {
    type Err = CalendarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "run_after" => Ok(Self::RunAfter),
            "skip" => Ok(Self::Skip),
            _ => Err(unknown("gap rule", text, "`run_after` or `skip`")),
        }
    }
}

impl fmt::Display for FoldRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "first",
            Self::Second => "second",
            Self::Both => "both",
        })
    }
}

impl FromStr for FoldRule {
    type Err = CalendarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "first" => Ok(Self::First),
            "second" => Ok(Self::Second),
            "both" => Ok(Self::Both),
            _ => Err(unknown("fold rule", text, "`first`, `second` or `both`")),
        }
    }
}

impl fmt::Display for CatchUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skip => f.write_str("skip"),
            Self::Last => f.write_str("last"),
            Self::All { max } => write!(f, "all(max {max})"),
        }
    }
}

impl FromStr for CatchUp {
    type Err = CalendarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "skip" => return Ok(Self::Skip),
            "last" => return Ok(Self::Last),
            _ => {}
        }
        let inside = text.strip_prefix("all(").and_then(|rest| rest.strip_suffix(')'));
        let number = inside.map(|inner| inner.strip_prefix("max").unwrap_or(inner).trim());
        match number.and_then(|digits| digits.parse().ok()) {
            Some(max @ 1..=MAX_CATCH_UP) => Ok(Self::All { max }),
            _ => Err(unknown(
                "catch-up policy",
                text,
                "`skip`, `last` or `all(max 10)` with 1 to 10000",
            )),
        }
    }
}

impl From<CatchUp> for String {
    fn from(policy: CatchUp) -> Self {
        policy.to_string()
    }
}

impl TryFrom<String> for CatchUp {
    type Error = CalendarError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

fn unknown(what: &'static str, value: &str, known: &'static str) -> CalendarError {
    CalendarError::Choice {
        what,
        value: value.to_owned(),
        known,
    }
}

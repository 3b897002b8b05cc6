//! The trigger (R40.2): when a schedule fires. Everything here is a pure function of its arguments: no clock, no database.
//!
//! A schedule is a cron text, an IANA time zone and two rules for the nights the clocks change. It produces **slots**:
//! nominal instants in UTC, whole seconds. A slot is an identity (`unique (schedule, slot)`), so that it fires once
//! whatever the number of replicas and however late it fires.
//!
//! # The cron text
//!
//! Five fields, `minute hour day-of-month month day-of-week`, or six with `second` in front; or one of `@hourly`,
//! `@daily` (`@midnight`), `@weekly`, `@monthly`, `@yearly` (`@annually`). There is no year field and no `@reboot`.
//!
//! | Written | Means |
//! |---|---|
//! | `*`, `5`, `1-5`, `1,15`, `*/15`, `8-18/2` | any, a value, a range, a list, steps over all or over a range |
//! | `JAN`…`DEC`, `SUN`…`SAT`, `0`–`7` | names in any case; Sunday is 0 and 7 |
//! | `L`, `LW`, `15W` (day of month) | the last day, the last weekday, the weekday nearest the 15th |
//! | `5L`, `5#2` (day of week) | the last Friday, the second Friday |
//! | `?` | the same as `*`, in the two day fields |
//!
//! When both day fields are restricted a day matches if **either** does, as in every cron; a `+` before the
//! day-of-week field asks for both (`0 9 1-7 * +MON`, the first Monday). Only a bare `*` or `?` counts as unrestricted.
//!
//! # When the clocks change
//!
//! A *gap* is a stretch of local time that a zone skips, a *fold* one that it passes twice. Daylight saving is the
//! usual cause; a change of a zone's standard time, half an hour or a whole day long, is treated the same.
//!
//! A schedule is of one of two kinds, which its second, minute and hour fields alone decide:
//!
//! - **Interval**: at least one of the three holds a `*` or a step (`/`). It follows real time. A gap holds no slots,
//!   nothing is made up for it, and a fold holds the slots of both passes.
//! - **Fixed-time**: all three are written as values, lists and plain ranges (`30 2 * * *`, `0 9,17 * * *`,
//!   `0 0-5 * * *`). Each names times of day. A time inside a gap fires at the first instant after the gap, and a time
//!   inside a fold fires at the first pass only. [`GapRule`] and [`FoldRule`] change that for one schedule.
//!
//! The two rules are stored with every schedule and have no effect on an interval one. A mixed text such as
//! `*/15 2 * * *` has a step, so it is an interval: on the night of the gap it does not fire, on the night of the fold
//! it fires eight times. Write `0,15,30,45 2 * * *` to name the four times instead.
//!
//! Exactly, for a fixed-time schedule:
//!
//! 1. Local times are judged one by one. One that exists once fires at its instant.
//! 2. One inside a gap: under `run_after` it fires at the instant at which the gap ends, even when that is already
//!    another day (a midnight gap, the day Samoa left out); under `skip` not at all.
//! 3. Times moved onto the same instant, or onto an instant that is a slot of its own, are one slot. If the instant is
//!    a slot of its own it keeps its own note, else it is noted as the earliest of the times moved there.
//! 4. One inside a fold fires at the pass or passes that [`FoldRule`] names.
//!
//! Vixie cron does the same for changes of less than three hours. The search in the `croner` crate does not: it takes
//! `0 9,17 * * *` for an interval and asks the day fields again after a gap. Here `croner` reads the text and tells
//! whether a day matches, nothing else.
//!
//! # After an outage
//!
//! [`due`] decides what fires when a leader looks again; its page holds the definitions.

mod calendar;
mod catchup;
mod fields;
mod firing;
mod pattern;
mod preview;
mod rules;
mod zone;

pub use calendar::{Calendar, CalendarError, Slot, SlotNote};
pub use catchup::{CatchUpRules, Due, PassedOver, due, jitter};
pub use firing::{FiringError, MAX_QUEUED, Overlap, Overlapping, ScheduleRow, Step, decide, overlap};
pub use preview::{Outage, PreviewRow, preview};
pub use rules::{CatchUp, FoldRule, GapRule};

#[cfg(test)]
mod tests_catchup;
#[cfg(test)]
mod tests_firing;
#[cfg(test)]
mod tests_parse;
#[cfg(test)]
mod tests_preview;
#[cfg(test)]
mod tests_random;
#[cfg(test)]
mod tests_rules;
#[cfg(test)]
mod tests_walk;
#[cfg(test)]
mod walker;

//! What a leader does with a schedule it looks at: pure decisions, carried out by the store.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Calendar, CalendarError, CatchUp, CatchUpRules, Due, due, jitter};

/// The most unfinished runs that queue behind each other, so that a schedule faster than its runs has an end.
pub const MAX_QUEUED: i64 = 1_000;

/// What a schedule does with a slot that comes while a run of it is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The slot is passed over.
    #[default]
    Skip,
    /// Its run starts when the newest unfinished one is over.
    Queue,
    /// Both run.
    Allow,
}

impl std::fmt::Display for Overlap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Skip => "skip",
            Self::Queue => "queue",
            Self::Allow => "allow",
        })
    }
}

impl std::str::FromStr for Overlap {
    type Err = CalendarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "skip" => Ok(Self::Skip),
            "queue" => Ok(Self::Queue),
            "allow" => Ok(Self::Allow),
            _ => Err(CalendarError::Choice {
                what: "overlap rule",
                value: text.to_owned(),
                known: "`skip`, `queue` or `allow`",
            }),
        }
    }
}

/// A schedule as its row says; whoever edits rows by SQL may have written anything.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleRow {
    /// Its name.
    pub name: String,
    /// Grows with every edit; what was decided of one revision is not done to the next.
    pub revision: i64,
    /// The cron text.
    pub cron: String,
    /// The zone's name.
    pub timezone: String,
    /// The rule for local times that the clocks skip.
    pub dst_gap: String,
    /// The rule for local times that come twice.
    pub dst_fold: String,
    /// `skip`, `last` or `all`.
    pub catch_up: String,
    /// How many of them under `all`.
    pub catch_up_max: u32,
    /// Slots older than this never fire.
    pub catch_up_window: Duration,
    /// Its runs start up to this long after their slot.
    pub jitter: Duration,
    /// The newest settled slot.
    pub last_slot: Option<DateTime<Utc>>,
    /// When it was created, given a new rule or resumed.
    pub active_from: DateTime<Utc>,
}

impl ScheduleRow {
    /// The calendar of its text, zone and rules.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn calendar(&self) -> Result<Calendar, CalendarError> {
        Calendar::parse(
            &self.cron,
            &self.timezone,
            self.dst_gap.parse()?,
            self.dst_fold.parse()?,
        )
    }

    /// Its catch-up rules.
    ///
    /// # Errors
    /// The policy is not known, or the window is too short for slots to fire at all.
    pub fn catch_up_rules(&self, tolerance: Duration) -> Result<CatchUpRules, FiringError> {
        if self.catch_up_window < tolerance {
            return Err(FiringError::Window {
                window: self.catch_up_window,
                tolerance,
            });
        }
        let policy = match self.catch_up.as_str() {
            "all" => CatchUp::All { max: self.catch_up_max },
            other => other.parse()?,
        };
        Ok(CatchUpRules {
            policy,
            window: self.catch_up_window,
            tolerance,
        })
    }
}

/// Why a schedule cannot fire until somebody mends it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FiringError {
    /// Its text, zone or one of its rules.
    #[error(transparent)]
    Calendar(#[from] CalendarError),
    /// Every slot is looked at a moment after its time; one that must be younger than that never fires.
    #[error("the catch-up window of {} is too short; write at least {}, and catch-up `skip` to fire no missed slot",
        humantime::format_duration(*.window), humantime::format_duration(*.tolerance))]
    Window {
        /// The window.
        window: Duration,
        /// The shortest that works.
        tolerance: Duration,
    },
}

/// One transaction of a look: it starts the run of a slot, or only moves the schedule on.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The schedule's last slot as this step must find it.
    pub seen: Option<DateTime<Utc>>,
    /// The slot to fire.
    pub slot: Option<DateTime<Utc>>,
    /// Its run starts no earlier.
    pub start_at: Option<DateTime<Utc>>,
    /// The schedule's last slot after it.
    pub settled: Option<DateTime<Utc>>,
    /// When to look next; `None`: never.
    pub next: Option<DateTime<Utc>>,
    /// Slots that never fire, in words for the audit.
    pub passed_over: Option<String>,
    /// How many those are.
    pub missed: u64,
}

/// What to do with a schedule at `now`, in order. Each step leaves the row such that a look after it, by whoever leads
/// then, decides the rest the same way.
///
/// # Errors
/// The schedule cannot fire until it is mended.
pub fn decide(schedule: &ScheduleRow, now: DateTime<Utc>, tolerance: Duration) -> Result<Vec<Step>, FiringError> {
    let calendar = schedule.calendar()?;
    let rules = schedule.catch_up_rules(tolerance)?;
    let found = due(&calendar, schedule.last_slot, schedule.active_from, now, &rules);
    let mut passed_over = passed_over_text(&found, &rules);
    let mut missed = found.passed_over.total();
    let after = found.next.map(|slot| slot.instant);
    if found.fire.is_empty() {
        return Ok(vec![Step {
            seen: schedule.last_slot,
            slot: None,
            start_at: None,
            settled: found.settled,
            next: after,
            passed_over,
            missed,
        }]);
    }
    let mut steps = Vec::with_capacity(found.fire.len());
    let mut seen = schedule.last_slot;
    for (at, slot) in found.fire.iter().enumerate() {
        let later = found.fire.get(at + 1).map(|slot| slot.instant);
        steps.push(Step {
            seen,
            slot: Some(slot.instant),
            start_at: Some(start_at(schedule, slot.instant, now, &rules)),
            settled: Some(slot.instant),
            next: later.or(after),
            passed_over: passed_over.take(),
            missed: std::mem::take(&mut missed),
        });
        seen = Some(slot.instant);
    }
    Ok(steps)
}

/// A run on time starts its jitter after the slot; a missed one its jitter from now, or all would start at once.
fn start_at(schedule: &ScheduleRow, slot: DateTime<Utc>, now: DateTime<Utc>, rules: &CatchUpRules) -> DateTime<Utc> {
    let delay = jitter(&schedule.name, slot, schedule.jitter);
    let delay = TimeDelta::from_std(delay).unwrap_or_default();
    let missed = (now - slot).to_std().unwrap_or_default() > rules.tolerance;
    if missed { now + delay } else { (slot + delay).max(now) }
}

fn passed_over_text(found: &Due, rules: &CatchUpRules) -> Option<String> {
    let gone = found.passed_over;
    if gone.total() == 0 {
        return None;
    }
    let mut reasons = Vec::new();
    if gone.too_old > 0 {
        let window = humantime::format_duration(rules.window);
        reasons.push(format!("{} older than the window of {window}", gone.too_old));
    }
    if gone.by_policy > 0 {
        reasons.push(format!("{} left out by catch-up `{}`", gone.by_policy, rules.policy));
    }
    Some(format!("missed slots: {}", reasons.join(", ")))
}

/// What becomes of a slot whose schedule has unfinished runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overlapping {
    /// Its run starts, after another one if named.
    Start(Option<Uuid>),
    /// It never fires; why, for the audit.
    PassOver(String),
}

/// Applies the overlap rule. `newest` is the unfinished run of the newest slot, one of `unfinished`.
#[must_use]
pub fn overlap(rule: Overlap, slot: DateTime<Utc>, unfinished: i64, newest: Option<Uuid>) -> Overlapping {
    let Some(run) = newest else {
        return Overlapping::Start(None);
    };
    let slot = slot.format("%Y-%m-%dT%H:%M:%SZ");
    match rule {
        Overlap::Allow => Overlapping::Start(None),
        Overlap::Skip => Overlapping::PassOver(format!("slot {slot}: run {run} is not over (overlap `skip`)")),
        Overlap::Queue if unfinished >= MAX_QUEUED => Overlapping::PassOver(format!(
            "slot {slot}: {unfinished} runs are not over and no more than {MAX_QUEUED} queue up (overlap `queue`)"
        )),
        Overlap::Queue => Overlapping::Start(Some(run)),
    }
}

//! Runs for past slots of a schedule that have none.

use chrono::{DateTime, TimeDelta, Utc};

use super::control::Schedules;
use crate::inspect::BackfilledSlot;
use crate::postgres::database::DatabaseError;
use crate::postgres::inspect::documents;
use crate::trigger::Calendar;

const BACKFILL_SCHEDULE: &str = include_str!("../../../queries/backfill_schedule.sql");

/// Slots of one statement.
const PAGE: usize = 500;
/// Slots of one request.
const MOST_SLOTS: usize = 10_000;
/// How often a lost answer is asked for again: a slot has one run.
const LOST_TRIES: u32 = 2;

/// A range of slots to be made good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backfill {
    /// The schedule.
    pub schedule: String,
    /// The first instant.
    pub from: DateTime<Utc>,
    /// Up to here, exclusively; none: now.
    pub to: Option<DateTime<Utc>>,
    /// So many go on at once of the runs for past slots of the schedule, and of those that it fired in the range.
    pub at_once: u32,
    /// Nothing is started.
    pub dry_run: bool,
    /// Who asks.
    pub actor: Option<String>,
}

/// Why no slot was made good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotBackfilled {
    /// There is no such schedule.
    #[error("there is no schedule {0}")]
    Unknown(String),
    /// The range or the schedule cannot be.
    #[error("{0}")]
    Invalid(String),
}

impl Schedules {
    /// Starts a run for each slot in a range of the past that has none, under the slot's identity, so that asking again
    /// starts none twice. The schedule may be paused; its catch-up and overlap rules and its jitter do not count here, nor
    /// do these runs when it fires. So many go on at once, whatever runs the range has already: they wait for each other in as
    /// many lines, those of requests before included.
    ///
    /// # Errors
    /// The database failed, with how many slots were seen to before, which stays. The inner error says why nothing was started.
    pub async fn backfill(
        &self,
        backfill: &Backfill,
    ) -> Result<Result<Vec<BackfilledSlot>, NotBackfilled>, (u64, DatabaseError)> {
        let views = self.list(Some(&backfill.schedule)).await;
        let Some(view) = views.map_err(|error| (0, error))?.pop() else {
            return Ok(Err(NotBackfilled::Unknown(backfill.schedule.clone())));
        };
        let slots = match view.row.calendar() {
            Ok(calendar) => slots(&calendar, backfill, view.now),
            Err(error) => Err(error.to_string()),
        };
        let slots = match slots {
            Ok(slots) => slots,
            Err(wrong) => return Ok(Err(NotBackfilled::Invalid(wrong))),
        };
        let mut all = Vec::new();
        // Each page finds in the tables what waits for what: nothing is lost with whoever asked for those before.
        for page in slots.chunks(PAGE) {
            let seen_to = if backfill.dry_run { 0 } else { all.len() as u64 };
            let started = self.backfill_page(backfill, page, view.now).await;
            all.extend(started.map_err(|error| (seen_to, error))?);
        }
        Ok(Ok(all))
    }

    async fn backfill_page(
        &self,
        backfill: &Backfill,
        slots: &[DateTime<Utc>],
        now: DateTime<Utc>,
    ) -> Result<Vec<BackfilledSlot>, DatabaseError> {
        let mut lost = 0;
        loop {
            let query = self
                .database
                .statement(BACKFILL_SCHEDULE)
                .bind(backfill.schedule.clone())
                .bind(slots.to_vec())
                .bind(i32::try_from(backfill.at_once).unwrap_or(i32::MAX))
                .bind(backfill.dry_run)
                .bind(backfill.actor.clone())
                .bind(backfill.from)
                .bind(backfill.to.unwrap_or(now));
            match documents(&self.database, query).await {
                Err(error) if error.may_pass() && lost < LOST_TRIES => lost += 1,
                answer => return answer,
            }
        }
    }
}

/// The slots of the range, in order.
fn slots(calendar: &Calendar, backfill: &Backfill, now: DateTime<Utc>) -> Result<Vec<DateTime<Utc>>, String> {
    if backfill.at_once == 0 {
        return Err("at least one run must go on at once".to_owned());
    }
    let to = backfill.to.unwrap_or(now);
    if to > now {
        return Err(format!("{to} is not past: later slots fire by themselves"));
    }
    if to <= backfill.from {
        return Err("the range ends before it begins".to_owned());
    }
    let mut slots = Vec::new();
    let mut before = backfill.from - TimeDelta::nanoseconds(1);
    while let Some(slot) = calendar.next_after(before).filter(|slot| slot.instant < to) {
        if slots.len() == MOST_SLOTS {
            return Err(format!(
                "the range has more than {MOST_SLOTS} slots: ask for less at a time"
            ));
        }
        before = slot.instant;
        slots.push(slot.instant);
    }
    Ok(slots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trigger::{FoldRule, GapRule};

    fn between(cron: &str, from: &str, to: &str) -> Result<Vec<String>, String> {
        let at = |text: &str| text.parse::<DateTime<Utc>>().map_err(|error| error.to_string());
        let calendar = Calendar::parse(cron, "Europe/Berlin", GapRule::default(), FoldRule::default());
        let backfill = Backfill {
            schedule: String::new(),
            from: at(from)?,
            to: Some(at(to)?),
            at_once: 1,
            dry_run: true,
            actor: None,
        };
        let calendar = calendar.map_err(|error| error.to_string())?;
        let slots = slots(&calendar, &backfill, at("2026-06-01T00:00:00Z")?)?;
        Ok(slots.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_range_has_its_first_instant_and_not_its_last() {
        let days = between("0 6 * * *", "2026-03-28T05:00:00Z", "2026-03-30T04:00:00Z");
        let expected = ["2026-03-28 05:00:00 UTC", "2026-03-29 04:00:00 UTC"];
        assert_eq!(days.as_deref(), Ok(expected.map(str::to_owned).as_slice()));
    }

    #[test]
    fn what_is_too_much_or_not_past_is_refused() {
        for (cron, from, to) in [
            ("* * * * * *", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("0 6 * * *", "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("0 6 * * *", "2026-01-02T00:00:00Z", "2027-01-01T00:00:00Z"),
        ] {
            assert!(between(cron, from, to).is_err(), "{from} {to}");
        }
    }
}

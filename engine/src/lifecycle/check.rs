//! What every manager refuses before it asks its store, so that all of them refuse the same.

use std::time::Duration;

use chrono::{DateTime, Datelike, Utc};
use serde_json::value::RawValue;

use super::ids::ItemIds;
use super::manager::{Driver, ManagerError, RunRequest};

/// Most items in one batch: a bound on what one claim can make a store read and write.
const MOST_IDS: usize = 1_000_000;
/// Most bytes of a key or name. Two of them share an index entry, which Postgres limits to 2,704 bytes.
const LONGEST_KEY: usize = 1_000;
/// Far beyond any run, well within what a timestamp holds.
pub(super) const LONGEST_DEADLINE: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

impl RunRequest {
    /// Refuses what no store could keep.
    pub(crate) fn check(&self) -> Result<(), ManagerError> {
        check_key("workflow", Some(&self.workflow))?;
        check_key("singleton_key", self.singleton_key.as_deref())?;
        check_key("idempotency_key", self.idempotency_key.as_deref())?;
        check_key("schedule", self.slot.as_ref().map(|(schedule, _)| schedule.as_str()))?;
        check_key("traceparent", self.traceparent.as_deref())?;
        check_key("actor", self.actor.as_deref())?;
        if serde_json::from_slice::<&RawValue>(&self.params).is_err() {
            return invalid("params are not a JSON document");
        }
        if self
            .pace_per_s
            .is_some_and(|pace| pace == 0 || i32::try_from(pace).is_err())
        {
            return invalid(format!("pace_per_s is not between 1 and {}", i32::MAX));
        }
        if self.deadline.is_some_and(|deadline| deadline.is_zero()) {
            return invalid("deadline is zero, the run would fail at once");
        }
        if self.deadline.is_some_and(|deadline| deadline > LONGEST_DEADLINE) {
            return invalid("deadline is more than a hundred years away");
        }
        check_instant("slot", self.slot.as_ref().map(|(_, slot)| slot))?;
        check_instant("start_at", self.start_at.as_ref())?;
        if self.driven_by == Driver::Caller && self.start_at.is_some() {
            return invalid("start_at is only for runs that the engine drives, a caller starts when it likes");
        }
        Ok(())
    }
}

/// The ids of a claim in ascending order.
pub(crate) fn check_ids(ids: &[i64]) -> Result<ItemIds, ManagerError> {
    if ids.len() > MOST_IDS {
        return invalid(format!("{} ids in one batch, at most {MOST_IDS} are taken", ids.len()));
    }
    let mut ascending = ids.to_vec();
    ascending.sort_unstable();
    if let Some(twice) = ascending.windows(2).find(|pair| pair[0] == pair[1]) {
        return invalid(format!("id {} is in the batch twice", twice[0]));
    }
    ItemIds::new(ascending).or_else(|_| invalid("a batch needs at least one id"))
}

/// A reason as every store can keep it: a text of Postgres holds no zero character, and a run must never stay
/// unfinished because of how its failure is worded.
pub(crate) fn storable_reason(reason: &str) -> String {
    reason.replace('\0', "\u{fffd}")
}

fn check_key(name: &str, key: Option<&str>) -> Result<(), ManagerError> {
    match key {
        Some("") => invalid(format!("{name} is empty")),
        Some(key) if key.contains('\0') => invalid(format!("{name} contains a zero character")),
        Some(key) if key.len() > LONGEST_KEY => invalid(format!(
            "{name} has {} bytes, at most {LONGEST_KEY} are taken",
            key.len()
        )),
        _ => Ok(()),
    }
}

fn check_instant(name: &str, instant: Option<&DateTime<Utc>>) -> Result<(), ManagerError> {
    match instant.map(Datelike::year) {
        Some(year) if !(1..=9999).contains(&year) => invalid(format!("{name} is in the year {year}, not in 1 to 9999")),
        _ => Ok(()),
    }
}

fn invalid<T>(why: impl Into<String>) -> Result<T, ManagerError> {
    Err(ManagerError::Invalid(why.into()))
}

//! What fires when a leader looks at a schedule, be it a second or a month after the last look.
//!
//! Definitions, all against the one `now` of the look (database time):
//!
//! - A slot is **considered** when it lies after the schedule's last settled slot, after the schedule's last change
//!   (created, edited or resumed) and not after `now`. What fell due while a schedule was paused is so never missed.
//! - A considered slot is **on time** while it is no older than the tolerance. It fires, under every policy. The
//!   tolerance covers polling and a change of leader; without it `skip` would drop slots in the best of weather.
//! - An older one is **missed**. The policy picks among those no older than the window: `skip` none, `last` the newest,
//!   `all(max n)` the newest `n`. They fire oldest first, before the on-time ones.
//! - Nothing older than the window ever fires, on time or not.
//!
//! All considered slots are settled by the look: what does not fire now never will. The caller stores
//! [`Due::settled`] as the last slot in the same transaction that starts the runs.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rules::MAX_CATCH_UP;
use super::{Calendar, CatchUp, Slot};

/// The longest tolerance: it bounds the on-time slots of a schedule that fires each second to 600.
const MAX_TOLERANCE: Duration = Duration::from_secs(600);

/// The name space of the hashes behind [`jitter`]; a new value would move every schedule's runs.
const JITTER: Uuid = Uuid::from_u128(0x6c6f_636b_6761_7465_0000_6a69_7474_6572);

/// How a schedule treats slots that it did not fire in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CatchUpRules {
    /// Which missed slots fire.
    pub policy: CatchUp,
    /// The age above which a slot never fires.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// The age up to which a slot is on time; at most ten minutes.
    #[serde(with = "humantime_serde")]
    pub tolerance: Duration,
}

impl Default for CatchUpRules {
    /// The newest missed slot of the last day; a minute of tolerance, which is two changes of leader.
    fn default() -> Self {
        Self {
            policy: CatchUp::default(),
            window: Duration::from_secs(24 * 3_600),
            tolerance: Duration::from_secs(60),
        }
    }
}

/// The decision of one look at a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Due {
    /// The slots that fire now, oldest first.
    pub fire: Vec<Slot>,
    /// The considered slots that never fire.
    pub passed_over: PassedOver,
    /// The newest considered slot, fired or not: the schedule's new last slot. `None` when nothing was considered.
    pub settled: Option<DateTime<Utc>>,
    /// The first slot after now.
    pub next: Option<Slot>,
}

/// How many slots never fire, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct PassedOver {
    /// Older than the window.
    pub too_old: u64,
    /// Inside the window, but not picked by the policy.
    pub by_policy: u64,
}

impl PassedOver {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.too_old + self.by_policy
    }
}

/// Decides which slots fire at `now`. `since` is when the schedule was created, edited or resumed, whichever was last.
///
/// The work grows with the days since the last look, not with the slots in them.
pub fn due(
    calendar: &Calendar,
    last_slot: Option<DateTime<Utc>>,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
    rules: &CatchUpRules,
) -> Due {
    let floor = last_slot.map_or(since, |slot| slot.max(since));
    let too_old_to = floor.max(before_age(now, rules.window)).min(now);
    let missed_to = too_old_to.max(before_age(now, tolerance(rules))).min(now);

    let too_old = calendar.count_between(floor, too_old_to);
    let missed = calendar.count_between(too_old_to, missed_to);
    let picked = match rules.policy {
        CatchUp::Skip => 0,
        CatchUp::Last => 1,
        CatchUp::All { max } => max.min(MAX_CATCH_UP) as usize,
    };
    let mut fire = calendar.newest_between(too_old_to, missed_to, picked);
    let by_policy = missed - fire.len() as u64;
    fire.extend(calendar.slots_between(missed_to, now, usize::MAX));

    let newest = fire.last().copied().filter(|slot| slot.instant > missed_to);
    let settled = newest.or_else(|| calendar.newest_between(floor, missed_to, 1).pop());
    Due {
        fire,
        passed_over: PassedOver { too_old, by_policy },
        settled: settled.map(|slot| slot.instant),
        next: calendar.next_after(floor.max(now)),
    }
}

/// How long after its slot a run starts: evenly spread over `0..=max` by a hash of schedule and slot, so that every
/// replica agrees and a second look gives the same answer. Keep `max` below the schedule's interval, or runs may
/// overtake each other.
pub fn jitter(schedule: &str, slot: DateTime<Utc>, max: Duration) -> Duration {
    let name = format!("{}/{schedule}", slot.timestamp());
    let hash = Uuid::new_v5(&JITTER, name.as_bytes()).as_u128();
    // The top 48 bits lie before the version digits and are all hash.
    let fraction = hash >> 80;
    let choices = max.as_millis().min(u128::from(u32::MAX)) + 1;
    let millis = (fraction * choices) >> 48;
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// The age up to which a slot is on time.
pub(super) fn tolerance(rules: &CatchUpRules) -> Duration {
    rules.tolerance.min(MAX_TOLERANCE)
}

/// The newest instant that is older than `age` at `now`.
fn before_age(now: DateTime<Utc>, age: Duration) -> DateTime<Utc> {
    let age = TimeDelta::from_std(age).unwrap_or(TimeDelta::MAX);
    let oldest = now.checked_sub_signed(age).unwrap_or(DateTime::<Utc>::MIN_UTC);
    oldest
        .checked_sub_signed(TimeDelta::nanoseconds(1))
        .unwrap_or(DateTime::<Utc>::MIN_UTC)
}

//! A time zone as a function from UTC to offsets, and the instants at which the offset changes.

use chrono::{DateTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};

use super::CalendarError;

/// How far apart offsets are compared when looking for a change. The closest two changes of any zone in the database
/// (Noronha in 2000, Gaza in 2040) are 167 hours apart, so at most one lies in a stride; a test holds this.
const STRIDE: TimeDelta = TimeDelta::hours(72);

/// More than any zone has ever jumped: 24 hours, when crossing the date line.
pub(super) const MAX_JUMP: TimeDelta = TimeDelta::hours(25);

/// An instant at which a zone's offset from UTC changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) at: DateTime<Utc>,
    before: TimeDelta,
    after: TimeDelta,
}

impl Change {
    /// What the clocks would have shown at the change.
    pub(super) fn local_before(&self) -> NaiveDateTime {
        local(self.at, self.before)
    }

    /// What the clocks show at the change instead.
    pub(super) fn local_after(&self) -> NaiveDateTime {
        local(self.at, self.after)
    }

    /// Whether local times are left out; otherwise some come twice.
    pub(super) fn is_gap(&self) -> bool {
        self.after > self.before
    }

    /// How much local time comes twice.
    pub(super) fn repeated(&self) -> TimeDelta {
        (self.before - self.after).max(TimeDelta::zero())
    }
}

/// Reads an IANA zone name; an error suggests the nearest one.
pub(super) fn parse(name: &str) -> Result<Tz, CalendarError> {
    name.parse().map_err(|_| CalendarError::Zone {
        zone: name.to_owned(),
        nearest: nearest(name),
    })
}

/// The offset in force at an instant.
pub(super) fn offset_at(zone: Tz, at: DateTime<Utc>) -> TimeDelta {
    let offset = zone.offset_from_utc_datetime(&at.naive_utc());
    TimeDelta::seconds(i64::from(offset.fix().local_minus_utc()))
}

/// What the clocks show at an instant under an offset.
pub(super) fn local(at: DateTime<Utc>, offset: TimeDelta) -> NaiveDateTime {
    at.naive_utc() + offset
}

/// The first change after `from` and not after `to`.
pub(super) fn first_change(zone: Tz, from: DateTime<Utc>, to: DateTime<Utc>) -> Option<Change> {
    let before = offset_at(zone, from);
    let mut known = from;
    while known < to {
        let probe = to.min(known + STRIDE);
        if offset_at(zone, probe) != before {
            return Some(bisect(zone, known, probe));
        }
        known = probe;
    }
    None
}

/// The change between two instants, whole seconds, whose offsets differ.
fn bisect(zone: Tz, from: DateTime<Utc>, to: DateTime<Utc>) -> Change {
    let before = offset_at(zone, from);
    let (mut old, mut new) = (from.timestamp(), to.timestamp());
    while new - old > 1 {
        let middle = old + (new - old) / 2;
        if offset_at(zone, instant(middle)) == before {
            old = middle;
        } else {
            new = middle;
        }
    }
    let at = instant(new);
    let after = offset_at(zone, at);
    Change { at, before, after }
}

/// The instant of a Unix time that lies between two instants chrono can hold.
pub(super) fn instant(timestamp: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(timestamp, 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// The zone whose name is closest: the same but for case, the same city, else the fewest edits.
fn nearest(name: &str) -> &'static str {
    let wanted = name.trim().to_lowercase().replace(' ', "_");
    let city = |zone: &Tz| zone.name().rsplit('/').next().unwrap_or_default().to_lowercase();
    let mut names = TZ_VARIANTS.iter();
    if let Some(zone) = names.find(|zone| zone.name().to_lowercase() == wanted) {
        return zone.name();
    }
    if let Some(zone) = TZ_VARIANTS.iter().find(|zone| city(zone) == wanted) {
        return zone.name();
    }
    // A long text is no zone name; comparing it with 600 names would only cost time.
    if wanted.is_empty() || wanted.len() > 60 {
        return "Europe/Berlin";
    }
    let whole = |zone: &Tz| edits(&zone.name().to_lowercase(), &wanted);
    let closest = TZ_VARIANTS
        .iter()
        .min_by_key(|zone| whole(zone).min(edits(&city(zone), &wanted)));
    closest.map_or("Europe/Berlin", |zone| zone.name())
}

/// The Levenshtein distance.
fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

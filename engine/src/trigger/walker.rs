//! The rule of the module's page worked out by brute force: every minute (or second) of UTC is visited, the clocks are
//! read there, and the slots follow from what they show. It shares no code with the calendar: its own reading of the
//! cron text, its own matching, its own search for changes; only the zones' offsets come from the same database.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike, Offset, TimeZone, Timelike, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};

use super::{FoldRule, GapRule};

const DAY: i64 = 86_400;

/// One change of a zone's offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Jump {
    pub(super) at: i64,
    pub(super) before: i64,
    pub(super) after: i64,
}

/// One step of the walk: what the clocks show at an instant.
pub(super) struct Moment {
    pub(super) utc: i64,
    local: i64,
    fields: Fields,
}

struct Fields {
    second: usize,
    minute: usize,
    hour: usize,
    day: usize,
    month: usize,
    weekday: usize,
}

/// A cron text of digits, `*`, lists, ranges and steps.
pub(super) struct Expected {
    seconds: Vec<bool>,
    minutes: Vec<bool>,
    hours: Vec<bool>,
    days: Vec<bool>,
    months: Vec<bool>,
    weekdays: Vec<bool>,
    any_day: bool,
    any_weekday: bool,
    interval: bool,
}

/// Where a text matches: the instants of each local time in order, and the ends of the gaps that swallow one.
pub(super) struct Walked {
    interval: bool,
    passes: Vec<Vec<i64>>,
    after_gaps: Vec<i64>,
}

/// All changes of a zone between two Unix times, found by comparing each midnight with the next.
pub(super) fn jumps(zone: Tz, from: i64, to: i64) -> Vec<Jump> {
    let mut found = Vec::new();
    let mut day = from;
    let mut before = offset(zone, day);
    while day < to {
        let after = offset(zone, day + DAY);
        if after != before {
            let (mut old, mut new) = (day, day + DAY);
            while new - old > 1 {
                let middle = (old + new) / 2;
                if offset(zone, middle) == before {
                    old = middle;
                } else {
                    new = middle;
                }
            }
            found.push(Jump { at: new, before, after });
        }
        before = after;
        day += DAY;
    }
    found
}

/// Every change of every zone between two Unix times. Zones that make the same change at the same instant show the same
/// clocks around it, so one of them stands for all.
pub(super) fn distinct_jumps(from: i64, to: i64) -> Vec<(Tz, Jump)> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for zone in TZ_VARIANTS {
        for jump in jumps(zone, from, to) {
            if seen.insert(jump) {
                found.push((zone, jump));
            }
        }
    }
    found
}

/// The clocks of a zone at every `step` seconds of `from..=to`.
pub(super) fn walk(zone: Tz, from: i64, to: i64, step: i64) -> Vec<Moment> {
    let mut moments = Vec::new();
    let mut utc = from.div_euclid(step) * step;
    while utc <= to {
        let local = utc + offset(zone, utc);
        let fields = fields(local);
        moments.push(Moment { utc, local, fields });
        utc += step;
    }
    moments
}

impl Expected {
    pub(super) fn read(text: &str) -> Self {
        let mut parts: Vec<&str> = text.split(' ').collect();
        if parts.len() == 5 {
            parts.insert(0, "0");
        }
        let mut weekdays = set(parts[5], 0, 7);
        weekdays[0] |= weekdays[7];
        Self {
            seconds: set(parts[0], 0, 59),
            minutes: set(parts[1], 0, 59),
            hours: set(parts[2], 0, 23),
            days: set(parts[3], 1, 31),
            months: set(parts[4], 1, 12),
            weekdays,
            any_day: parts[3] == "*",
            any_weekday: parts[5] == "*",
            interval: parts[..3].iter().any(|part| part.contains(['*', '/'])),
        }
    }

    /// The matching times among the moments, before the rules choose between them.
    pub(super) fn walk(&self, moments: &[Moment]) -> Walked {
        let mut passes: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for moment in moments.iter().filter(|moment| self.matches(&moment.fields)) {
            passes.entry(moment.local).or_default().push(moment.utc);
        }
        Walked {
            interval: self.interval,
            passes: passes.into_values().collect(),
            after_gaps: self.after_gaps(moments),
        }
    }

    /// The ends of the gaps that swallow a matching time.
    fn after_gaps(&self, moments: &[Moment]) -> Vec<i64> {
        let mut ends = Vec::new();
        for pair in moments.windows(2) {
            let step = pair[1].utc - pair[0].utc;
            let mut missing = pair[0].local + step;
            while missing < pair[1].local {
                if self.matches(&fields(missing)) {
                    ends.push(pair[1].utc);
                    break;
                }
                missing += step;
            }
        }
        ends
    }

    fn matches(&self, at: &Fields) -> bool {
        let (day, weekday) = (self.days[at.day], self.weekdays[at.weekday]);
        let date = match (self.any_day, self.any_weekday) {
            (false, false) => day || weekday,
            _ => day && weekday,
        };
        self.seconds[at.second] && self.minutes[at.minute] && self.hours[at.hour] && self.months[at.month] && date
    }
}

impl Walked {
    /// The slots after `span.0` and not after `span.1`, as Unix times.
    pub(super) fn slots(&self, gap: GapRule, fold: FoldRule, span: (i64, i64)) -> BTreeSet<i64> {
        let mut slots = BTreeSet::new();
        for pass in &self.passes {
            match fold {
                _ if self.interval => slots.extend(pass),
                FoldRule::First => slots.extend(pass.first()),
                FoldRule::Second => slots.extend(pass.last()),
                FoldRule::Both => slots.extend(pass),
            }
        }
        if gap == GapRule::RunAfter && !self.interval {
            slots.extend(&self.after_gaps);
        }
        slots.retain(|slot| span.0 < *slot && *slot <= span.1);
        slots
    }
}

fn set(text: &str, min: usize, max: usize) -> Vec<bool> {
    let mut values = vec![false; max + 1];
    for item in text.split(',') {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, step.parse().unwrap()),
            None => (item, 1),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (min, max),
            Some((first, last)) => (first.parse().unwrap(), last.parse().unwrap()),
            None => (range.parse().unwrap(), range.parse().unwrap()),
        };
        for value in (first..=last).step_by(step) {
            values[value] = true;
        }
    }
    values
}

fn offset(zone: Tz, utc: i64) -> i64 {
    let at = DateTime::<Utc>::from_timestamp(utc, 0).unwrap().naive_utc();
    i64::from(zone.offset_from_utc_datetime(&at).fix().local_minus_utc())
}

fn fields(local: i64) -> Fields {
    let shown = DateTime::<Utc>::from_timestamp(local, 0).unwrap().naive_utc();
    Fields {
        second: shown.second() as usize,
        minute: shown.minute() as usize,
        hour: shown.hour() as usize,
        day: shown.day() as usize,
        month: shown.month() as usize,
        weekday: shown.weekday().num_days_from_sunday() as usize,
    }
}

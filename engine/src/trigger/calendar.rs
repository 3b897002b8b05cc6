//! A schedule's slots: a cron text laid over a time zone by the rule written in the module's page.

use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::Serialize;

use super::pattern::{LAST_YEAR, Pattern};
use super::rules::{FoldRule, GapRule};
use super::zone::{self, Change, MAX_JUMP};

const SECOND: TimeDelta = TimeDelta::seconds(1);

/// Why a schedule cannot be read: always the writer's to mend, before anything is stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CalendarError {
    /// The text is not made of five or six fields.
    #[error(
        "cron `{cron}` has {found} fields; write five (minute hour day-of-month month day-of-week) or six with second \
         in front, for example `30 6 * * MON-FRI`"
    )]
    FieldCount {
        /// The text.
        cron: String,
        /// How many fields it has.
        found: usize,
    },
    /// A field cannot be read.
    #[error("cron `{cron}`: the {field} field `{value}` {problem}; for example `{example}`")]
    Field {
        /// The text.
        cron: String,
        /// The field's name.
        field: &'static str,
        /// What is written there.
        value: String,
        /// What is wrong with it.
        problem: String,
        /// A field that is right.
        example: &'static str,
    },
    /// The word after `@` is not known.
    #[error(
        "cron `{cron}` is not a known nickname; known are @hourly, @daily, @midnight, @weekly, @monthly, @yearly and \
         @annually; for every 15 minutes write `*/15 * * * *`"
    )]
    Nickname {
        /// The text.
        cron: String,
    },
    /// The text as a whole cannot be read.
    #[error("cron `{cron}` cannot be read: {problem}; for example `30 6 * * MON-FRI`")]
    Cron {
        /// The text.
        cron: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No day of the calendar matches.
    #[error(
        "cron `{cron}` never fires: its day-of-month, month and day-of-week fields have no day in common; for the last \
         day of a month write `L`, as in `0 6 L 2 *`"
    )]
    NeverFires {
        /// The text.
        cron: String,
    },
    /// The zone is not in the IANA database.
    #[error("time zone `{zone}` is not an IANA name; did you mean `{nearest}`?")]
    Zone {
        /// The name given.
        zone: String,
        /// The nearest name that exists.
        nearest: &'static str,
    },
    /// A rule or policy has a name that is not known.
    #[error("{what} `{value}` is not known; write {known}")]
    Choice {
        /// What was to be chosen.
        what: &'static str,
        /// The value given.
        value: String,
        /// The values that exist.
        known: &'static str,
    },
}

/// One nominal instant of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Slot {
    /// The slot's identity: the nominal instant, a whole second.
    pub instant: DateTime<Utc>,
    /// What the clocks of the schedule's zone show at that instant.
    pub local: NaiveDateTime,
    /// What the zone's clocks do there.
    pub note: SlotNote,
}

/// What a change of the clocks has to do with a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotNote {
    /// Nothing.
    Normal,
    /// The local time asked for does not exist; the slot is the first instant after the gap.
    ShiftedFromGap {
        /// The local time asked for.
        nominal: NaiveDateTime,
    },
    /// The local time comes twice; this is the first pass.
    FirstOfFold,
    /// The local time comes twice; this is the second pass.
    SecondOfFold,
}

/// A cron text in a time zone.
#[derive(Debug, Clone)]
pub struct Calendar {
    pattern: Pattern,
    zone: Tz,
    gap: GapRule,
    fold: FoldRule,
}

impl Calendar {
    /// Reads a cron text and a zone name; an error says what to write instead.
    pub fn parse(cron: &str, zone: &str, gap: GapRule, fold: FoldRule) -> Result<Self, CalendarError> {
        let pattern = Pattern::parse(cron)?;
        let zone = zone::parse(zone)?;
        Ok(Self {
            pattern,
            zone,
            gap,
            fold,
        })
    }

    /// The cron text.
    pub fn cron(&self) -> &str {
        self.pattern.text()
    }

    /// The zone's IANA name.
    pub fn zone(&self) -> &'static str {
        self.zone.name()
    }

    /// The rule for local times that the clocks skip.
    pub fn gap(&self) -> GapRule {
        self.gap
    }

    /// The rule for local times that come twice.
    pub fn fold(&self) -> FoldRule {
        self.fold
    }

    /// Whether the text names times of day, so that the two rules apply; otherwise it is an interval.
    pub fn is_fixed_time(&self) -> bool {
        self.pattern.is_fixed_time()
    }

    /// The first slot after an instant; `None` only when nothing matches before the year 10000.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<Slot> {
        if after.year() > LAST_YEAR {
            return None;
        }
        // Changes at or before `edge` are behind; `start` is the first instant a slot may have.
        let mut edge = whole_second(after);
        let mut start = edge + SECOND;
        loop {
            let offset = zone::offset_at(self.zone, edge);
            let local = self.pattern.at_or_after(zone::local(start, offset))?;
            let instant = local.and_utc() - offset;
            if let Some(change) = zone::first_change(self.zone, edge, instant) {
                if let Some(slot) = self.slot_after_gap(&change) {
                    return Some(slot);
                }
                (edge, start) = (change.at, change.at);
                continue;
            }
            let note = self.pass(instant, local, offset);
            if self.fires_at(note) {
                return Some(Slot { instant, local, note });
            }
            (edge, start) = (instant, instant + SECOND);
        }
    }

    /// The slots after `from` and not after `to`, oldest first, `max` of them at most.
    pub fn slots_between(&self, from: DateTime<Utc>, to: DateTime<Utc>, max: usize) -> Vec<Slot> {
        let mut slots = Vec::new();
        let mut after = from;
        while slots.len() < max {
            match self.next_after(after) {
                Some(slot) if slot.instant <= to => {
                    after = slot.instant;
                    slots.push(slot);
                }
                _ => break,
            }
        }
        slots
    }

    /// How many slots lie after `from` and not after `to`; one step for each day, not for each slot.
    pub fn count_between(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> u64 {
        let (begin, end) = (whole_second(from) + SECOND, whole_second(to) + SECOND);
        if begin >= end {
            return 0;
        }
        let mut start = begin - MAX_JUMP;
        let mut second_pass_ends = start;
        let mut total = 0;
        // Between two changes local time runs evenly, so matching local times can be counted without walking them.
        loop {
            let offset = zone::offset_at(self.zone, start);
            let change = zone::first_change(self.zone, start, end + MAX_JUMP);
            let stretch_end = change.map_or(end, |next| next.at);
            let first_pass_starts = change.map_or(end, |next| next.at - next.repeated());
            let (first, last) = match self.fold {
                FoldRule::First if self.is_fixed_time() => (second_pass_ends, stretch_end),
                FoldRule::Second if self.is_fixed_time() => (start, first_pass_starts),
                _ => (start, stretch_end),
            };
            let (counted_from, counted_to) = (first.max(begin), last.min(end));
            total += self
                .pattern
                .count(zone::local(counted_from, offset), zone::local(counted_to, offset));
            let Some(next) = change else { return total };
            if begin <= next.at && next.at < end && self.slot_after_gap(&next).is_some() {
                total += 1;
            }
            start = next.at;
            second_pass_ends = next.at + next.repeated();
        }
    }

    /// The newest `max` slots after `from` and not after `to`, oldest first.
    pub fn newest_between(&self, from: DateTime<Utc>, to: DateTime<Utc>, max: usize) -> Vec<Slot> {
        if max == 0 {
            return Vec::new();
        }
        let wanted = max as u64;
        let (mut too_many, mut few_enough) = (whole_second(from).timestamp(), whole_second(to).timestamp());
        if self.count_between(from, to) <= wanted {
            return self.slots_between(from, to, max);
        }
        // A second holds one slot at most, so some start leaves exactly as many as wanted.
        while few_enough - too_many > 1 {
            let middle = too_many + (few_enough - too_many) / 2;
            if self.count_between(zone::instant(middle), to) > wanted {
                too_many = middle;
            } else {
                few_enough = middle;
            }
        }
        self.slots_between(zone::instant(few_enough), to, max)
    }

    /// The first gap after `from` and not after `to` that swallows a local time of the schedule without a slot for it,
    /// with that local time.
    pub(super) fn silent_gap(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Option<(Change, NaiveDateTime)> {
        if self.is_fixed_time() && self.gap == GapRule::RunAfter {
            return None;
        }
        let mut edge = whole_second(from);
        while let Some(change) = zone::first_change(self.zone, edge, to) {
            if let Some(nominal) = self.first_in_gap(&change) {
                return Some((change, nominal));
            }
            edge = change.at;
        }
        None
    }

    /// The slot at the end of a gap that stands for the local times lost in it. There is none when the end of the gap
    /// is a slot of its own: they are one slot.
    fn slot_after_gap(&self, change: &Change) -> Option<Slot> {
        if !self.is_fixed_time() || self.gap == GapRule::Skip {
            return None;
        }
        let nominal = self.first_in_gap(change)?;
        let local = change.local_after();
        if self.pattern.matches(local) {
            return None;
        }
        let note = SlotNote::ShiftedFromGap { nominal };
        Some(Slot {
            instant: change.at,
            local,
            note,
        })
    }

    fn first_in_gap(&self, change: &Change) -> Option<NaiveDateTime> {
        if !change.is_gap() {
            return None;
        }
        self.pattern.first_in(change.local_before(), change.local_after())
    }

    /// Whether the local time comes once or twice, and which pass this instant is.
    fn pass(&self, instant: DateTime<Utc>, local: NaiveDateTime, offset: TimeDelta) -> SlotNote {
        let earlier = instant - MAX_JUMP;
        if zone::offset_at(self.zone, earlier) > offset
            && let Some(change) = zone::first_change(self.zone, earlier, instant)
            && local < change.local_before()
        {
            return SlotNote::SecondOfFold;
        }
        let later = instant + MAX_JUMP;
        if zone::offset_at(self.zone, later) < offset
            && let Some(change) = zone::first_change(self.zone, instant, later)
            && local >= change.local_after()
        {
            return SlotNote::FirstOfFold;
        }
        SlotNote::Normal
    }

    fn fires_at(&self, note: SlotNote) -> bool {
        match (note, self.fold) {
            _ if !self.is_fixed_time() => true,
            (SlotNote::FirstOfFold, FoldRule::Second) | (SlotNote::SecondOfFold, FoldRule::First) => false,
            _ => true,
        }
    }
}

/// The instant without its fraction, kept to the years 1 to 9999 so that adding offsets cannot overflow.
fn whole_second(at: DateTime<Utc>) -> DateTime<Utc> {
    if at.year() < 1 {
        return zone::instant(-62_135_596_800);
    }
    if at.year() > LAST_YEAR {
        return zone::instant(253_402_300_799);
    }
    zone::instant(at.timestamp())
}

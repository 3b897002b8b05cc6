//! What a schedule is going to do, in rows with a note in words. The slots and the decisions come from the code that
//! fires them; nothing is worked out a second time here.

use std::time::Duration;

use chrono::{DateTime, FixedOffset, TimeDelta, Utc};
use serde::Serialize;

use super::catchup::{CatchUpRules, Due, due, tolerance};
use super::{Calendar, FoldRule, Slot, SlotNote};

/// A stretch of time in which no leader looks at the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// The last look before it.
    pub from: DateTime<Utc>,
    /// The first look after it.
    pub to: DateTime<Utc>,
}

/// One slot that fires, or a group of slots that do not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PreviewRow {
    /// The slot in UTC; for a group the first one.
    pub slot: DateTime<Utc>,
    /// The same instant in the schedule's zone, with its offset.
    pub local: DateTime<FixedOffset>,
    /// When it fires; `None` when it never does.
    pub fires_at: Option<DateTime<Utc>>,
    /// How many slots the row stands for: 1 unless they do not fire.
    pub slots: u64,
    /// What the clocks and catch-up do to it; empty when nothing.
    pub note: String,
}

/// The next `count` rows after `from`; with an outage, what catch-up does at its end.
pub fn preview(
    calendar: &Calendar,
    from: DateTime<Utc>,
    count: usize,
    outage: Option<Outage>,
    rules: &CatchUpRules,
) -> Vec<PreviewRow> {
    let mut rows = Rows {
        calendar,
        rows: Vec::new(),
        count,
        settled: from,
    };
    if let Some(outage) = outage.filter(|outage| outage.to > from && outage.to > outage.from) {
        rows.on_time_to(Some(outage.from));
        let floor = from.max(outage.from);
        let decision = due(calendar, None, floor, outage.to, rules);
        rows.outage_end(floor, outage.to, &decision, rules);
    }
    rows.on_time_to(None);
    rows.rows
}

struct Rows<'a> {
    calendar: &'a Calendar,
    rows: Vec<PreviewRow>,
    count: usize,
    /// Everything up to here has its row.
    settled: DateTime<Utc>,
}

impl Rows<'_> {
    fn on_time_to(&mut self, end: Option<DateTime<Utc>>) {
        while self.rows.len() < self.count {
            let next = self.calendar.next_after(self.settled);
            let Some(slot) = next.filter(|slot| end.is_none_or(|end| slot.instant <= end)) else {
                break;
            };
            self.push_fire(&slot, slot.instant, String::new());
        }
    }

    fn outage_end(&mut self, floor: DateTime<Utc>, now: DateTime<Utc>, decision: &Due, rules: &CatchUpRules) {
        self.settled = floor;
        let mut too_old = decision.passed_over.too_old;
        for slot in &decision.fire {
            self.push_passed_over(slot.instant - TimeDelta::seconds(1), &mut too_old, rules);
            let age = (now - slot.instant).to_std().unwrap_or_default();
            let late = if age > tolerance(rules) {
                format!(
                    "missed, fires {} late by catch-up `{}`",
                    humantime::format_duration(Duration::from_secs(age.as_secs())),
                    rules.policy
                )
            } else {
                String::new()
            };
            self.push_fire(slot, now, late);
        }
        self.push_passed_over(now, &mut too_old, rules);
        self.settled = now;
    }

    fn push_fire(&mut self, slot: &Slot, fires_at: DateTime<Utc>, late: String) {
        let notes = [
            silent_note(self.calendar, self.settled, slot.instant),
            clock_note(self.calendar, slot),
            late,
        ];
        let notes: Vec<String> = notes.into_iter().filter(|note| !note.is_empty()).collect();
        self.settled = slot.instant;
        self.push(slot, Some(fires_at), 1, notes.join("; "));
    }

    /// One row for all the slots up to `end` that have none yet.
    fn push_passed_over(&mut self, end: DateTime<Utc>, too_old: &mut u64, rules: &CatchUpRules) {
        let slots = self.calendar.count_between(self.settled, end);
        let Some(first) = self.calendar.next_after(self.settled).filter(|_| slots > 0) else {
            return;
        };
        // The slots beyond the window are the oldest, so the first group holds them all.
        let old = std::mem::take(too_old).min(slots);
        let mut reasons = Vec::new();
        if old > 0 {
            let window = humantime::format_duration(rules.window);
            reasons.push(format!("{old} older than the window of {window}"));
        }
        if slots > old {
            reasons.push(format!("{} left out by catch-up `{}`", slots - old, rules.policy));
        }
        let note = format!("never fires: {}", reasons.join(", "));
        self.settled = end;
        self.push(&first, None, slots, note);
    }

    fn push(&mut self, slot: &Slot, fires_at: Option<DateTime<Utc>>, slots: u64, note: String) {
        if self.rows.len() == self.count {
            return;
        }
        self.rows.push(PreviewRow {
            slot: slot.instant,
            local: with_offset(slot),
            fires_at,
            slots,
            note,
        });
    }
}

/// In words: what the clocks do at a slot, and what the schedule makes of it.
fn clock_note(calendar: &Calendar, slot: &Slot) -> String {
    let time = slot.local.format("%H:%M:%S");
    let (pass, alone) = match slot.note {
        SlotNote::Normal => return String::new(),
        SlotNote::ShiftedFromGap { nominal } => {
            return format!(
                "{} does not exist, fires at the first instant after the gap",
                nominal.format("%Y-%m-%d %H:%M:%S")
            );
        }
        SlotNote::FirstOfFold => ("first", FoldRule::First),
        SlotNote::SecondOfFold => ("second", FoldRule::Second),
    };
    let why = if !calendar.is_fixed_time() {
        "an interval follows real time and fires at both"
    } else if calendar.fold() == alone {
        "the other does not fire"
    } else {
        "both fire"
    };
    format!("{time} comes twice, this is the {pass} pass, {why}")
}

/// In words: a local time that the clocks skipped since the slot before, and that nothing fires for.
fn silent_note(calendar: &Calendar, from: DateTime<Utc>, to: DateTime<Utc>) -> String {
    let Some((change, nominal)) = calendar.silent_gap(from, to) else {
        return String::new();
    };
    format!(
        "before it {} does not exist and does not fire (clocks go from {} to {})",
        nominal.format("%Y-%m-%d %H:%M:%S"),
        change.local_before().format("%H:%M"),
        change.local_after().format("%H:%M")
    )
}

fn with_offset(slot: &Slot) -> DateTime<FixedOffset> {
    let east = (slot.local - slot.instant.naive_utc()).num_seconds();
    let offset = i32::try_from(east).ok().and_then(FixedOffset::east_opt);
    match offset {
        Some(offset) => slot.instant.with_timezone(&offset),
        None => slot.instant.fixed_offset(),
    }
}

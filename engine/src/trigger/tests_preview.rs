//! The preview's rows and their words.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Calendar, CatchUp, CatchUpRules, FoldRule, GapRule, Outage, PreviewRow, preview};

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn rows(
    cron: &str,
    gap: GapRule,
    from: &str,
    count: usize,
    outage: Option<Outage>,
    rules: CatchUpRules,
) -> Vec<PreviewRow> {
    let calendar = Calendar::parse(cron, "Europe/Berlin", gap, FoldRule::First).unwrap();
    preview(&calendar, time(from), count, outage, &rules)
}

fn plain(cron: &str, gap: GapRule, from: &str, count: usize) -> Vec<String> {
    let rows = rows(cron, gap, from, count, None, CatchUpRules::default());
    assert!(rows.iter().all(|row| row.fires_at == Some(row.slot) && row.slots == 1));
    rows.iter()
        .map(|row| format!("{} {}", row.local.to_rfc3339(), row.note))
        .collect()
}

/// Down from 08:30 to 12:00:30 UTC.
fn outage(policy: CatchUp, window: u64) -> Vec<String> {
    let outage = Outage {
        from: time("2027-06-01T08:30:00Z"),
        to: time("2027-06-01T12:00:30Z"),
    };
    let rules = CatchUpRules {
        policy,
        window: Duration::from_secs(window),
        tolerance: Duration::from_secs(60),
    };
    let rows = rows(
        "0 * * * *",
        GapRule::RunAfter,
        "2027-06-01T07:30:00Z",
        6,
        Some(outage),
        rules,
    );
    let text = |row: &PreviewRow| {
        let fires = row
            .fires_at
            .map_or("never".to_owned(), |at| at.format("%H:%M:%S").to_string());
        format!("{} ×{} {fires} {}", row.slot.format("%H:%M"), row.slots, row.note)
            .trim()
            .to_owned()
    };
    rows.iter().map(text).collect()
}

#[test]
fn a_row_gives_local_time_offset_and_what_the_clocks_do() {
    let gap = plain("30 2 * * *", GapRule::RunAfter, "2027-03-27T00:00:00Z", 3);
    assert_eq!(
        gap,
        [
            "2027-03-27T02:30:00+01:00 ",
            "2027-03-28T03:00:00+02:00 2027-03-28 02:30:00 does not exist, fires at the first instant after the gap",
            "2027-03-29T02:30:00+02:00 ",
        ]
    );
    let fold = plain("30 2 * * *", GapRule::RunAfter, "2027-10-31T00:00:00Z", 1);
    let words = "02:30:00 comes twice, this is the first pass, the other does not fire";
    assert_eq!(fold, [format!("2027-10-31T02:30:00+02:00 {words}")]);
    let interval = plain("30 * * * *", GapRule::RunAfter, "2027-10-31T01:00:00Z", 1);
    let words = "02:30:00 comes twice, this is the second pass, an interval follows real time and fires at both";
    assert_eq!(interval, [format!("2027-10-31T02:30:00+01:00 {words}")]);
}

#[test]
fn a_time_that_is_left_out_is_told_at_the_next_row() {
    let words = "before it 2027-03-28 02:30:00 does not exist and does not fire (clocks go from 02:00 to 03:00)";
    let skipped = plain("30 2 * * *", GapRule::Skip, "2027-03-27T12:00:00Z", 2);
    assert_eq!(
        skipped,
        [
            format!("2027-03-29T02:30:00+02:00 {words}"),
            "2027-03-30T02:30:00+02:00 ".to_owned()
        ]
    );
    let interval = plain("30 * * * *", GapRule::RunAfter, "2027-03-28T00:45:00Z", 1);
    assert_eq!(interval, [format!("2027-03-28T03:30:00+02:00 {words}")]);
}

#[test]
fn an_outage_shows_what_fires_late_and_what_never_fires() {
    assert_eq!(
        outage(CatchUp::Last, 86_400),
        [
            "08:00 ×1 08:00:00",
            "09:00 ×2 never never fires: 2 left out by catch-up `last`",
            "11:00 ×1 12:00:30 missed, fires 1h 30s late by catch-up `last`",
            "12:00 ×1 12:00:30",
            "13:00 ×1 13:00:00",
            "14:00 ×1 14:00:00",
        ]
    );
    assert_eq!(
        outage(CatchUp::All { max: 1 }, 9_000)[1],
        "09:00 ×2 never never fires: 1 older than the window of 2h 30m, 1 left out by catch-up `all(max 1)`"
    );
    assert_eq!(
        outage(CatchUp::Skip, 86_400)[1],
        "09:00 ×3 never never fires: 3 left out by catch-up `skip`"
    );
    assert_eq!(outage(CatchUp::Skip, 86_400)[2], "12:00 ×1 12:00:30");
}

#[test]
fn an_outage_that_is_over_before_the_start_changes_nothing() {
    let over = Outage {
        from: time("2027-06-01T01:00:00Z"),
        to: time("2027-06-01T02:00:00Z"),
    };
    let with = rows(
        "0 * * * *",
        GapRule::Skip,
        "2027-06-01T07:30:00Z",
        5,
        Some(over),
        CatchUpRules::default(),
    );
    let without = rows(
        "0 * * * *",
        GapRule::Skip,
        "2027-06-01T07:30:00Z",
        5,
        None,
        CatchUpRules::default(),
    );
    assert_eq!(with, without);
    assert_eq!(with.len(), 5);
}

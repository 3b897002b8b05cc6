//! The calendar against a walk over every minute around every change of every zone in ten years.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};

use super::walker::{Expected, Jump, distinct_jumps, jumps, walk};
use super::{Calendar, FoldRule, GapRule};

const HOUR: i64 = 3_600;

/// Texts with values, lists and plain ranges in the time fields.
const FIXED_TIME: [&str; 12] = [
    "0 0 * * *",
    "30 0 * * *",
    "30 2 * * *",
    "0 3 * * *",
    "45 23 * * *",
    "0,30 0-3 * * *",
    "15 1,2,3,22 * * *",
    "0 0-23 * * *",
    "30 2 * * 0",
    "30 1 1-7 * *",
    "0 2 25-31 3,10 0,6",
    "59 0-2 * 3-11 1-5",
];

/// Texts with a `*` or a step in the time fields.
const INTERVAL: [&str; 10] = [
    "*/15 * * * *",
    "0 * * * *",
    "0 */2 * * *",
    "*/20 2 * * *",
    "* 0 * * *",
    "30 1-3/2 * * *",
    "5-50/15 * * * 0",
    "10 * 1,15 * *",
    "7 */6 * 3,10,11 0,6",
    "20,40 0,1,2,3 * */2 *",
];

fn unix(text: &str) -> i64 {
    text.parse::<DateTime<Utc>>().unwrap().timestamp()
}

fn at(unix: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(unix, 0).unwrap()
}

fn rules(text: &str) -> Vec<(GapRule, FoldRule)> {
    if INTERVAL.contains(&text) {
        // They must make no difference, so the ones that are not the default show the most.
        return vec![(GapRule::Skip, FoldRule::Second)];
    }
    let mut all = Vec::new();
    for gap in [GapRule::RunAfter, GapRule::Skip] {
        for fold in [FoldRule::First, FoldRule::Second, FoldRule::Both] {
            all.push((gap, fold));
        }
    }
    all
}

/// Compares the day before and the day after a change; the walk goes further, so that it sees both passes of a fold.
/// Returns how many slots were compared.
fn compare(zone: Tz, jump: Jump, texts: &[&str]) -> usize {
    let (from, to) = (jump.at - 24 * HOUR, jump.at + 24 * HOUR);
    let margin = (jump.before - jump.after).abs() + HOUR;
    let moments = walk(zone, from - margin, to + margin, 60);
    let mut compared = 0;
    for text in texts {
        let walked = Expected::read(text).walk(&moments);
        for (gap, fold) in rules(text) {
            let calendar = Calendar::parse(text, zone.name(), gap, fold).unwrap();
            let slots = calendar.slots_between(at(from), at(to), usize::MAX);
            let found: BTreeSet<i64> = slots.iter().map(|slot| slot.instant.timestamp()).collect();
            let expected = walked.slots(gap, fold, (from, to));
            assert_eq!(found, expected, "`{text}` {zone} {gap} {fold} around {}", at(jump.at));
            let counted = calendar.count_between(at(from), at(to));
            assert_eq!(counted, slots.len() as u64, "`{text}` {zone} {gap} {fold}");
            compared += slots.len();
        }
    }
    compared
}

#[test]
fn ten_years_of_changes_agree_with_a_minute_walk() {
    let changes = distinct_jumps(unix("2026-11-01T00:00:00Z"), unix("2036-11-30T00:00:00Z"));
    // Fewer would mean that the search for them is broken: Europe alone has 20 at each of several offsets.
    assert!(changes.len() > 300, "only {} changes found", changes.len());
    let texts = [&FIXED_TIME[..], &INTERVAL[..]].concat();
    let mut compared = 0;
    for (zone, jump) in changes {
        compared += compare(zone, jump, &texts);
    }
    assert!(compared > 100_000, "only {compared} slots compared");
}

#[test]
fn odd_changes_of_the_past_agree_with_a_minute_walk() {
    let odd = [
        (Tz::Pacific__Apia, "2011-12-30T10:00:00Z"),       // a day left out
        (Tz::Pacific__Kwajalein, "1993-08-21T12:00:00Z"),  // a day left out
        (Tz::Pacific__Kwajalein, "1969-09-30T13:00:00Z"),  // 23 hours twice
        (Tz::Pacific__Kiritimati, "1994-12-31T10:00:00Z"), // a day left out, across the new year
        (Tz::America__Sao_Paulo, "2018-11-04T03:00:00Z"),  // a gap at midnight
        (Tz::America__Sao_Paulo, "2019-02-17T02:00:00Z"),  // a fold at midnight
        (Tz::America__Caracas, "2007-12-09T07:00:00Z"),    // standard time half an hour back
        (Tz::America__Caracas, "2016-05-01T07:00:00Z"),    // and forward again
        (Tz::Asia__Pyongyang, "2018-05-04T15:00:00Z"),     // half an hour forward
        (Tz::Asia__Kathmandu, "1985-12-31T18:30:00Z"),     // a quarter of an hour forward
        (Tz::Antarctica__Casey, "2018-03-10T17:00:00Z"),   // three hours back
        (Tz::Antarctica__Vostok, "1994-01-31T17:00:00Z"),  // seven hours back
        (Tz::Antarctica__Troll, "2027-03-28T01:00:00Z"),   // two hours forward
        (Tz::Europe__London, "1968-10-26T23:00:00Z"),      // a year-round summer time begins: no jump at all
    ];
    let mut gaps_and_folds = 0;
    for (zone, instant) in odd {
        let near = unix(instant);
        for jump in jumps(zone, near - 24 * HOUR, near + 24 * HOUR) {
            compare(zone, jump, &[&FIXED_TIME[..], &INTERVAL[..]].concat());
            gaps_and_folds += 1;
        }
    }
    assert!(gaps_and_folds >= 12, "only {gaps_and_folds} of the changes were found");
}

#[test]
fn no_zone_changes_twice_within_six_days() {
    // The search compares offsets three days apart; two changes in between could cancel out and be missed.
    let (from, to) = (unix("1970-01-01T00:00:00Z"), unix("2060-01-01T00:00:00Z"));
    for zone in TZ_VARIANTS {
        let changes = jumps(zone, from, to);
        for pair in changes.windows(2) {
            let apart = (pair[1].at - pair[0].at) / HOUR;
            assert!(
                apart > 144,
                "{zone} changes twice within {apart} hours at {}",
                at(pair[0].at)
            );
        }
    }
}

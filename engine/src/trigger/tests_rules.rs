//! The rule for gaps and folds on nights and days that have a name.
#![allow(clippy::unwrap_used)]

use chrono::{DateTime, Utc};

use super::{Calendar, FoldRule, GapRule, SlotNote};

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn calendar(cron: &str, zone: &str, gap: GapRule, fold: FoldRule) -> Calendar {
    Calendar::parse(cron, zone, gap, fold).unwrap()
}

/// The slots of a span as `UTC=local`, with `>` after a shifted one and `1`/`2` after the passes of a fold.
fn list(calendar: &Calendar, from: &str, to: &str) -> Vec<String> {
    let mut rows = Vec::new();
    for slot in calendar.slots_between(time(from), time(to), 1_000) {
        let mark = match slot.note {
            SlotNote::Normal => "",
            SlotNote::ShiftedFromGap { .. } => ">",
            SlotNote::FirstOfFold => "1",
            SlotNote::SecondOfFold => "2",
        };
        let (utc, local) = (slot.instant.format("%dT%H:%M"), slot.local.format("%dT%H:%M"));
        rows.push(format!("{utc}={local}{mark}"));
    }
    rows
}

fn default(cron: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
    list(&calendar(cron, zone, GapRule::RunAfter, FoldRule::First), from, to)
}

#[test]
fn berlin_in_march_a_fixed_time_in_the_gap_fires_when_the_gap_ends() {
    let days = ("2027-03-27T00:00:00Z", "2027-03-29T12:00:00Z");
    let fired = default("30 2 * * *", "Europe/Berlin", days.0, days.1);
    assert_eq!(fired, ["27T01:30=27T02:30", "28T01:00=28T03:00>", "29T00:30=29T02:30"]);

    let skipping = calendar("30 2 * * *", "Europe/Berlin", GapRule::Skip, FoldRule::First);
    assert_eq!(
        list(&skipping, days.0, days.1),
        ["27T01:30=27T02:30", "29T00:30=29T02:30"]
    );
}

#[test]
fn a_shifted_slot_remembers_the_time_that_was_asked_for() {
    let calendar = calendar("10,50 2 * * *", "Europe/Berlin", GapRule::RunAfter, FoldRule::First);
    let slot = calendar.next_after(time("2027-03-28T00:30:00Z")).unwrap();
    let nominal = "2027-03-28T02:10:00".parse().unwrap();
    assert_eq!(slot.note, SlotNote::ShiftedFromGap { nominal });
    assert_eq!(slot.instant, time("2027-03-28T01:00:00Z"));
    // 02:50 moves to the same instant: one slot, and the next is tomorrow's.
    let following = calendar.next_after(slot.instant).unwrap();
    assert_eq!(following.instant, time("2027-03-29T00:10:00Z"));
}

#[test]
fn a_time_moved_onto_a_slot_of_its_own_is_one_normal_slot() {
    let fired = default(
        "0 0-5 * * *",
        "Europe/Berlin",
        "2027-03-28T00:00:00Z",
        "2027-03-28T02:00:00Z",
    );
    assert_eq!(fired, ["28T01:00=28T03:00", "28T02:00=28T04:00"]);
}

#[test]
fn berlin_in_march_an_interval_invents_nothing() {
    let span = ("2027-03-28T00:29:00Z", "2027-03-28T01:30:00Z");
    let fired = default("*/15 * * * *", "Europe/Berlin", span.0, span.1);
    assert_eq!(
        fired,
        [
            "28T00:30=28T01:30",
            "28T00:45=28T01:45",
            "28T01:00=28T03:00",
            "28T01:15=28T03:15",
            "28T01:30=28T03:30"
        ]
    );
    assert!(
        default(
            "*/15 2 * * *",
            "Europe/Berlin",
            "2027-03-28T00:00:00Z",
            "2027-03-28T23:00:00Z"
        )
        .is_empty()
    );
}

#[test]
fn berlin_in_october_a_fixed_time_fires_at_the_pass_it_asks_for() {
    let night = ("2027-10-30T22:00:00Z", "2027-10-31T12:00:00Z");
    let fired = |fold| {
        list(
            &calendar("30 2 * * *", "Europe/Berlin", GapRule::RunAfter, fold),
            night.0,
            night.1,
        )
    };
    assert_eq!(fired(FoldRule::First), ["31T00:30=31T02:301"]);
    assert_eq!(fired(FoldRule::Second), ["31T01:30=31T02:302"]);
    assert_eq!(fired(FoldRule::Both), ["31T00:30=31T02:301", "31T01:30=31T02:302"]);
}

#[test]
fn berlin_in_october_an_interval_fires_in_both_passes() {
    let fired = default(
        "*/30 * * * *",
        "Europe/Berlin",
        "2027-10-30T23:59:00Z",
        "2027-10-31T02:00:00Z",
    );
    assert_eq!(
        fired,
        [
            "31T00:00=31T02:001",
            "31T00:30=31T02:301",
            "31T01:00=31T02:002",
            "31T01:30=31T02:302",
            "31T02:00=31T03:00"
        ]
    );
}

#[test]
fn a_search_that_starts_inside_the_fold_knows_which_pass_it_is() {
    let calendar = calendar("30 2 * * *", "Europe/Berlin", GapRule::RunAfter, FoldRule::First);
    let tomorrow = time("2027-11-01T01:30:00Z");
    for start in [
        "2027-10-31T00:30:00Z",
        "2027-10-31T00:45:00Z",
        "2027-10-31T01:00:00Z",
        "2027-10-31T01:15:00Z",
    ] {
        assert_eq!(
            calendar.next_after(time(start)).unwrap().instant,
            tomorrow,
            "from {start}"
        );
    }
}

#[test]
fn lord_howe_moves_by_half_an_hour() {
    // Forward at 02:00 to 02:30 on 3 October 2027, back at 02:00 to 01:30 on 4 April 2027.
    let spring = ("2027-10-02T14:00:00Z", "2027-10-02T17:00:00Z");
    assert_eq!(
        default("15 2 * * *", "Australia/Lord_Howe", spring.0, spring.1),
        ["02T15:30=03T02:30>"]
    );
    assert_eq!(
        default("30 2 * * *", "Australia/Lord_Howe", spring.0, spring.1),
        ["02T15:30=03T02:30"]
    );
    let autumn = ("2027-04-03T13:00:00Z", "2027-04-03T16:00:00Z");
    assert_eq!(
        default("45 1 * * *", "Australia/Lord_Howe", autumn.0, autumn.1),
        ["03T14:45=04T01:451"]
    );
    assert_eq!(
        default("15 1 * * *", "Australia/Lord_Howe", autumn.0, autumn.1),
        ["03T14:15=04T01:15"]
    );
    let each = default("15,45 * * * *", "Australia/Lord_Howe", autumn.0, "2027-04-03T15:30:00Z");
    assert_eq!(
        each,
        [
            "03T13:15=04T00:15",
            "03T13:45=04T00:45",
            "03T14:15=04T01:15",
            "03T14:45=04T01:451",
            "03T15:15=04T01:452"
        ]
    );
}

#[test]
fn sao_paulo_had_no_midnight_on_the_day_of_the_change() {
    let span = ("2018-11-03T12:00:00Z", "2018-11-05T12:00:00Z");
    let fired = default("0 0 * * *", "America/Sao_Paulo", span.0, span.1);
    assert_eq!(fired, ["04T03:00=04T01:00>", "05T02:00=05T00:00"]);
    // And in February the last hour of Saturday came twice.
    let fold = default(
        "30 23 * * 6",
        "America/Sao_Paulo",
        "2019-02-16T12:00:00Z",
        "2019-02-17T12:00:00Z",
    );
    assert_eq!(fold, ["17T01:30=16T23:301"]);
}

#[test]
fn apia_left_out_a_whole_day() {
    let span = ("2011-12-29T12:00:00Z", "2011-12-31T12:00:00Z");
    let fired = default("0 9 * * *", "Pacific/Apia", span.0, span.1);
    // 9:00 of the 30th, which never was, at the first instant of the 31st; then 9:00 of the 31st.
    assert_eq!(fired, ["29T19:00=29T09:00", "30T10:00=31T00:00>", "30T19:00=31T09:00"]);
    assert_eq!(
        default("0 9 30 12 *", "Pacific/Apia", span.0, span.1),
        ["30T10:00=31T00:00>"]
    );
    let skipping = calendar("0 9 30 12 *", "Pacific/Apia", GapRule::Skip, FoldRule::First);
    assert_eq!(
        skipping.next_after(time(span.0)).unwrap().instant,
        time("2012-12-29T19:00:00Z")
    );
    // The midnight that begins the 31st is a slot of its own, also when the 30th's moves onto it.
    assert_eq!(
        default(
            "0 0 * * *",
            "Pacific/Apia",
            "2011-12-30T00:00:00Z",
            "2011-12-30T12:00:00Z"
        ),
        ["30T10:00=31T00:00"]
    );
    assert_eq!(
        default(
            "0 */6 * * *",
            "Pacific/Apia",
            "2011-12-30T03:00:00Z",
            "2011-12-30T12:00:00Z"
        )
        .len(),
        2
    );
}

#[test]
fn casablanca_goes_back_for_ramadan_and_forward_after_it() {
    // In 2027 Ramadan takes the clocks back on 7 February and forward on 14 March, both an hour.
    let back = ("2027-02-07T00:00:00Z", "2027-02-07T12:00:00Z");
    assert_eq!(
        default("30 2 * * *", "Africa/Casablanca", back.0, back.1),
        ["07T01:30=07T02:301"]
    );
    let forward = ("2027-03-14T00:00:00Z", "2027-03-14T12:00:00Z");
    assert_eq!(
        default("30 2 * * *", "Africa/Casablanca", forward.0, forward.1),
        ["14T02:00=14T03:00>"]
    );
}

#[test]
fn two_changes_a_week_apart_are_both_seen_from_afar() {
    // Recife went forward on 8 October 2000 and gave up on the 15th: the last hour of the 14th came twice. Both ends of
    // the search have the same offset.
    let fired = default(
        "30 23 14 10 *",
        "America/Recife",
        "2000-09-01T00:00:00Z",
        "2000-12-01T00:00:00Z",
    );
    assert_eq!(fired, ["15T01:30=14T23:301"]);
    let far = calendar("30 23 14 10 *", "America/Recife", GapRule::Skip, FoldRule::First);
    let later = |days| time("2000-10-01T00:00:00Z") + chrono::TimeDelta::days(days);
    assert_eq!(far.count_between(later(0), later(60)), 1);
}

#[test]
fn a_change_of_standard_time_is_treated_like_any_other() {
    // Pyongyang went from 23:30 to 00:00 on 4 May 2018, Caracas from 03:00 back to 02:30 on 9 December 2007.
    let gap = default(
        "45 23 * * *",
        "Asia/Pyongyang",
        "2018-05-04T12:00:00Z",
        "2018-05-05T12:00:00Z",
    );
    assert_eq!(gap, ["04T15:00=05T00:00>"]);
    let fold = default(
        "45 2 * * *",
        "America/Caracas",
        "2007-12-09T00:00:00Z",
        "2007-12-09T12:00:00Z",
    );
    assert_eq!(fold, ["09T06:45=09T02:451"]);
}

#[test]
fn offsets_with_seconds_are_exact() {
    // Amsterdam was 19 minutes and 32 seconds ahead of UTC until 1937, so its noon is 11:40:28.
    let calendar = calendar("0 12 * * *", "Europe/Amsterdam", GapRule::RunAfter, FoldRule::First);
    let local = calendar.next_after(time("1930-01-10T00:00:00Z")).unwrap();
    let offset = local.local - local.instant.naive_utc();
    assert_eq!(local.local, "1930-01-10T12:00:00".parse().unwrap());
    // Later databases link Amsterdam to Brussels, which was on UTC then.
    assert!([0, 1_172].contains(&offset.num_seconds()), "offset {offset}");
}

#[test]
fn a_fraction_of_a_second_does_not_repeat_or_lose_a_slot() {
    let calendar = calendar("* * * * * *", "UTC", GapRule::RunAfter, FoldRule::First);
    let next = |text| calendar.next_after(time(text)).unwrap().instant;
    assert_eq!(next("2027-01-01T00:00:00Z"), time("2027-01-01T00:00:01Z"));
    assert_eq!(next("2027-01-01T00:00:00.999Z"), time("2027-01-01T00:00:01Z"));
    assert_eq!(next("1969-12-31T23:59:58.500Z"), time("1969-12-31T23:59:59Z"));
}

#[test]
fn the_ends_of_time_are_quiet() {
    let calendar = calendar("30 2 * * *", "Europe/Berlin", GapRule::Skip, FoldRule::Second);
    assert!(calendar.next_after(DateTime::<Utc>::MAX_UTC).is_none());
    assert!(calendar.next_after(DateTime::<Utc>::MIN_UTC).is_some());
    assert!(calendar.next_after(time("9999-12-31T23:00:00Z")).is_none());
    assert_eq!(
        calendar.count_between(time("2027-01-02T00:00:00Z"), time("2027-01-01T00:00:00Z")),
        0
    );
}

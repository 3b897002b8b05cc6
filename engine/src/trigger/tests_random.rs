//! Random cron texts at random changes of the clocks, against the walk and against each other.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;
use proptest::sample::select;

use super::walker::{Expected, Jump, distinct_jumps, walk};
use super::{Calendar, CatchUp, CatchUpRules, FoldRule, GapRule, due, jitter};

const HOUR: i64 = 3_600;

/// Sixty years of changes whose offsets are whole minutes, so that a minute walk meets every minute of the clocks.
static CHANGES: LazyLock<Vec<(Tz, Jump)>> = LazyLock::new(|| {
    let mut changes = distinct_jumps(0, 60 * 365 * 24 * HOUR);
    changes.retain(|(_, jump)| jump.at % 60 == 0 && jump.before % 60 == 0 && jump.after % 60 == 0);
    changes
});

fn at(unix: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(unix, 0).unwrap()
}

/// A field of a cron text with values from `min` to `max`.
fn field(min: u32, max: u32) -> impl Strategy<Value = String> {
    let value = min..=max;
    let range = (value.clone(), value.clone()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b)));
    let list = proptest::collection::vec(value.clone(), 1..5)
        .prop_map(|values| values.iter().map(u32::to_string).collect::<Vec<_>>().join(","));
    let step = 1..=(max - min);
    prop_oneof![
        2 => Just("*".to_owned()),
        4 => list,
        2 => range.clone(),
        1 => step.clone().prop_map(|step| format!("*/{step}")),
        1 => (range, step).prop_map(|(range, step)| format!("{range}/{step}")),
    ]
}

/// Five fields whose days match often: a rare date would leave nothing to compare.
fn cron() -> impl Strategy<Value = String> {
    let day = prop_oneof![3 => Just("*".to_owned()), 1 => field(1, 31)];
    let weekday = prop_oneof![3 => Just("*".to_owned()), 1 => field(0, 7)];
    (field(0, 59), prop_oneof![field(0, 23), field(0, 4)], day, weekday)
        .prop_map(|(minute, hour, day, weekday)| format!("{minute} {hour} {day} * {weekday}"))
}

fn gap() -> impl Strategy<Value = GapRule> {
    select(vec![GapRule::RunAfter, GapRule::Skip])
}

fn fold() -> impl Strategy<Value = FoldRule> {
    select(vec![FoldRule::First, FoldRule::Second, FoldRule::Both])
}

fn policy() -> impl Strategy<Value = CatchUp> {
    prop_oneof![
        Just(CatchUp::Skip),
        Just(CatchUp::Last),
        (1_u32..20).prop_map(|max| CatchUp::All { max }),
    ]
}

/// The slots of `from..to` (exclusive, inclusive) by the walk, which itself goes `margin` further on both sides.
fn walked(text: &str, zone: Tz, rules: (GapRule, FoldRule), span: (i64, i64), margin: i64, step: i64) -> BTreeSet<i64> {
    let moments = walk(zone, span.0 - margin, span.1 + margin, step);
    Expected::read(text).walk(&moments).slots(rules.0, rules.1, span)
}

fn computed(calendar: &Calendar, span: (i64, i64)) -> BTreeSet<i64> {
    let slots = calendar.slots_between(at(span.0), at(span.1), usize::MAX);
    slots.iter().map(|slot| slot.instant.timestamp()).collect()
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn random_texts_agree_with_a_minute_walk(
        text in cron(), change in select(CHANGES.clone()), gap in gap(), fold in fold(),
    ) {
        let (zone, jump) = change;
        let span = (jump.at - 12 * HOUR, jump.at + 36 * HOUR);
        let calendar = Calendar::parse(&text, zone.name(), gap, fold).unwrap();
        let expected = walked(&text, zone, (gap, fold), span, 26 * HOUR, 60);
        prop_assert_eq!(computed(&calendar, span), expected, "`{}` {} {} {}", text, zone, gap, fold);
    }

    #[test]
    fn counting_and_the_newest_agree_with_the_list(
        text in cron(), change in select(CHANGES.clone()), gap in gap(), fold in fold(),
        start in -40 * HOUR..40 * HOUR, length in 0..60 * HOUR, max in 0_usize..9,
    ) {
        let (zone, jump) = change;
        let (from, to) = (at(jump.at + start), at(jump.at + start + length));
        let calendar = Calendar::parse(&text, zone.name(), gap, fold).unwrap();
        let slots = calendar.slots_between(from, to, usize::MAX);
        prop_assert!(slots.windows(2).all(|pair| pair[0].instant < pair[1].instant));
        prop_assert_eq!(calendar.count_between(from, to), slots.len() as u64);
        prop_assert_eq!(calendar.newest_between(from, to, max), &slots[slots.len().saturating_sub(max)..]);
    }

    #[test]
    fn every_considered_slot_fires_once_or_is_passed_over(
        text in cron(), change in select(CHANGES.clone()), policy in policy(),
        start in -40 * HOUR..HOUR, looks in proptest::collection::vec(1..30 * HOUR, 1..6),
        window in 0_u64..100_000, tolerance in 0_u64..900,
    ) {
        let (zone, jump) = change;
        let calendar = Calendar::parse(&text, zone.name(), GapRule::RunAfter, FoldRule::First).unwrap();
        let (window, tolerance) = (Duration::from_secs(window), Duration::from_secs(tolerance));
        let rules = CatchUpRules { policy, window, tolerance };
        let since = at(jump.at + start);
        let (mut now, mut last, mut fired, mut passed_over) = (since, None, Vec::new(), 0);
        for pause in looks {
            now += TimeDelta::milliseconds(pause * 1_000 + 250);
            let decision = due(&calendar, last, since, now, &rules);
            let window = TimeDelta::from_std(window).unwrap();
            prop_assert!(decision.fire.iter().all(|slot| now - slot.instant <= window));
            prop_assert!(decision.next.is_none_or(|next| next.instant > now));
            last = decision.settled.or(last);
            passed_over += decision.passed_over.total();
            fired.extend(decision.fire);
        }
        prop_assert!(fired.windows(2).all(|pair| pair[0].instant < pair[1].instant));
        prop_assert_eq!(fired.len() as u64 + passed_over, calendar.count_between(since, now));
        prop_assert_eq!(last, calendar.newest_between(since, now, 1).pop().map(|slot| slot.instant));
    }

    #[test]
    fn jitter_stays_in_its_bound_and_repeats(
        name in "[a-z-]{1,20}", slot in 0_i64..4_000_000_000, max in 0_u64..10_000_000,
    ) {
        let max = Duration::from_millis(max);
        let delay = jitter(&name, at(slot), max);
        prop_assert!(delay <= max);
        prop_assert_eq!(delay, jitter(&name, at(slot), max));
    }
}

proptest! {
    #![proptest_config(config(40))]

    #[test]
    fn random_seconds_agree_with_a_second_walk(
        second in field(0, 59), text in cron(), change in select(CHANGES.clone()), gap in gap(), fold in fold(),
    ) {
        let (zone, jump) = change;
        prop_assume!((jump.before - jump.after).abs() <= 2 * HOUR);
        let text = format!("{second} {text}");
        let span = (jump.at - HOUR, jump.at + 2 * HOUR);
        let calendar = Calendar::parse(&text, zone.name(), gap, fold).unwrap();
        let expected = walked(&text, zone, (gap, fold), span, 3 * HOUR, 1);
        prop_assert_eq!(computed(&calendar, span), expected, "`{}` {} {} {}", text, zone, gap, fold);
    }
}

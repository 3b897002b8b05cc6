//! Outages and what catch-up makes of them.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use super::{Calendar, CatchUp, CatchUpRules, Due, FoldRule, GapRule, PassedOver, due, jitter};

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn calendar(cron: &str) -> Calendar {
    Calendar::parse(cron, "Europe/Berlin", GapRule::RunAfter, FoldRule::First).unwrap()
}

fn rules(policy: CatchUp, window: u64) -> CatchUpRules {
    CatchUpRules {
        policy,
        window: Duration::from_secs(window),
        tolerance: Duration::from_secs(MINUTE),
    }
}

fn fired(decision: &Due) -> Vec<String> {
    decision
        .fire
        .iter()
        .map(|slot| slot.instant.format("%H:%M").to_string())
        .collect()
}

/// An hourly schedule whose last slot was 05:00; the leader looks again at 09:30.
fn hourly_after_outage(policy: CatchUp, window: u64) -> Due {
    let (last, created, now) = (
        time("2027-06-01T05:00:00Z"),
        time("2027-01-01T00:00:00Z"),
        time("2027-06-01T09:30:00Z"),
    );
    due(&calendar("0 * * * *"), Some(last), created, now, &rules(policy, window))
}

#[test]
fn an_on_time_slot_fires_under_every_policy() {
    for policy in [CatchUp::Skip, CatchUp::Last, CatchUp::All { max: 5 }] {
        let (last, now) = (time("2027-06-01T08:00:00Z"), time("2027-06-01T09:00:59.900Z"));
        let decision = due(&calendar("0 * * * *"), Some(last), last, now, &rules(policy, HOUR));
        assert_eq!(fired(&decision), ["09:00"], "{policy}");
        assert_eq!(decision.passed_over, PassedOver::default());
        assert_eq!(decision.settled, Some(time("2027-06-01T09:00:00Z")));
        assert_eq!(decision.next.unwrap().instant, time("2027-06-01T10:00:00Z"));
    }
}

#[test]
fn one_instant_past_the_tolerance_a_slot_is_missed() {
    let (last, slot) = (time("2027-06-01T08:00:00Z"), time("2027-06-01T09:00:00Z"));
    let look = |late| {
        due(
            &calendar("0 * * * *"),
            Some(last),
            last,
            slot + late,
            &rules(CatchUp::Skip, HOUR),
        )
    };
    assert_eq!(look(TimeDelta::seconds(60)).fire.len(), 1);
    let missed = look(TimeDelta::seconds(60) + TimeDelta::nanoseconds(1));
    assert!(missed.fire.is_empty());
    assert_eq!(
        missed.passed_over,
        PassedOver {
            too_old: 0,
            by_policy: 1
        }
    );
    // It is settled all the same, so that the next look does not count it again.
    assert_eq!(missed.settled, Some(slot));
}

#[test]
fn skip_drops_last_keeps_one_all_keeps_the_newest() {
    let skip = hourly_after_outage(CatchUp::Skip, 24 * HOUR);
    assert_eq!((fired(&skip), skip.passed_over.by_policy), (vec![], 4));

    let last = hourly_after_outage(CatchUp::Last, 24 * HOUR);
    assert_eq!(
        (fired(&last), last.passed_over.by_policy),
        (vec!["09:00".to_owned()], 3)
    );

    let all = hourly_after_outage(CatchUp::All { max: 3 }, 24 * HOUR);
    assert_eq!(
        (fired(&all).join(" "), all.passed_over.by_policy),
        ("07:00 08:00 09:00".to_owned(), 1)
    );

    let every = hourly_after_outage(CatchUp::All { max: 100 }, 24 * HOUR);
    assert_eq!((fired(&every).len(), every.passed_over.total()), (4, 0));
}

#[test]
fn nothing_older_than_the_window_fires() {
    let all = hourly_after_outage(CatchUp::All { max: 100 }, 2 * HOUR);
    assert_eq!(fired(&all), ["08:00", "09:00"]);
    assert_eq!(
        all.passed_over,
        PassedOver {
            too_old: 2,
            by_policy: 0
        }
    );

    // 08:00 is exactly as old as the window and still fires.
    let edge = hourly_after_outage(CatchUp::All { max: 100 }, HOUR + 30 * MINUTE);
    assert_eq!(fired(&edge), ["08:00", "09:00"]);

    let last = hourly_after_outage(CatchUp::Last, 10 * MINUTE);
    assert_eq!(
        (fired(&last), last.passed_over),
        (
            vec![],
            PassedOver {
                too_old: 4,
                by_policy: 0
            }
        )
    );
    assert_eq!(last.settled, Some(time("2027-06-01T09:00:00Z")));
}

#[test]
fn a_window_shorter_than_the_tolerance_wins() {
    let (last, now) = (time("2027-06-01T08:00:00Z"), time("2027-06-01T09:00:30Z"));
    let decision = due(&calendar("0 * * * *"), Some(last), last, now, &rules(CatchUp::Last, 10));
    assert_eq!((fired(&decision), decision.passed_over.too_old), (vec![], 1));
}

#[test]
fn what_fell_due_before_a_schedule_was_created_or_resumed_is_not_missed() {
    let (resumed, now) = (time("2027-06-01T08:30:00Z"), time("2027-06-01T09:30:00Z"));
    for last in [None, Some(time("2027-05-01T00:00:00Z"))] {
        let decision = due(
            &calendar("0 * * * *"),
            last,
            resumed,
            now,
            &rules(CatchUp::All { max: 9 }, 24 * HOUR),
        );
        assert_eq!(
            (fired(&decision), decision.passed_over.total()),
            (vec!["09:00".to_owned()], 0)
        );
    }
}

#[test]
fn a_last_slot_ahead_of_the_clock_fires_nothing_twice() {
    let (last, now) = (time("2027-06-01T09:00:00Z"), time("2027-06-01T08:59:58Z"));
    let decision = due(
        &calendar("0 * * * *"),
        Some(last),
        time("2027-01-01T00:00:00Z"),
        now,
        &rules(CatchUp::Last, HOUR),
    );
    assert!(decision.fire.is_empty());
    assert_eq!(decision.settled, None);
    assert_eq!(decision.next.unwrap().instant, time("2027-06-01T10:00:00Z"));
}

#[test]
fn a_slot_shifted_out_of_a_gap_is_caught_up_like_any_other() {
    let (last, now) = (time("2027-03-27T01:30:00Z"), time("2027-03-28T06:00:00Z"));
    let decision = due(
        &calendar("30 2 * * *"),
        Some(last),
        last,
        now,
        &rules(CatchUp::Last, 24 * HOUR),
    );
    assert_eq!(fired(&decision), ["01:00"]);
}

#[test]
fn ten_years_of_every_second_cost_days_not_slots() {
    let (last, now) = (time("2027-01-01T00:00:00Z"), time("2037-01-01T00:00:00Z"));
    let rules = rules(CatchUp::All { max: 100 }, 20 * 365 * 24 * HOUR);
    let started = Instant::now();
    let decision = due(&calendar("* * * * * *"), Some(last), last, now, &rules);
    let elapsed = started.elapsed();
    assert_eq!(decision.fire.len(), 100 + 61);
    let seconds = u64::try_from((now - last).num_seconds()).unwrap();
    assert_eq!(decision.passed_over.by_policy, seconds - 161);
    // Some 300 million slots lie in between: a walk over them takes minutes.
    assert!(elapsed < Duration::from_secs(5), "took {elapsed:?}");
}

#[test]
fn jitter_is_the_same_on_every_replica_and_for_ever() {
    let (slot, max) = (time("2027-06-01T09:00:00Z"), Duration::from_secs(600));
    assert_eq!(jitter("daily-task-reports", slot, max), Duration::from_millis(515_395));
    assert_eq!(jitter("daily-task-reports", slot, Duration::ZERO), Duration::ZERO);
    // A thousand slots spread over all ten tenths of the bound.
    let mut tenths = [0_u32; 10];
    for hour in 0..1_000 {
        let delay = jitter("daily-task-reports", slot + TimeDelta::hours(hour), max);
        tenths[usize::try_from(delay.as_secs() / 60).unwrap().min(9)] += 1;
    }
    assert!(tenths.iter().all(|count| (60..150).contains(count)), "{tenths:?}");
}

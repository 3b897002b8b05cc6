#![allow(clippy::unwrap_used)]

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{FiringError, MAX_QUEUED, Overlap, Overlapping, ScheduleRow, Step, decide, overlap};

const TOLERANCE: Duration = Duration::from_secs(60);

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn hourly() -> ScheduleRow {
    ScheduleRow {
        name: "hourly".to_owned(),
        revision: 1,
        cron: "0 * * * *".to_owned(),
        timezone: "UTC".to_owned(),
        dst_gap: "run_after".to_owned(),
        dst_fold: "first".to_owned(),
        catch_up: "all".to_owned(),
        catch_up_max: 2,
        catch_up_window: Duration::from_secs(24 * 3_600),
        jitter: Duration::ZERO,
        last_slot: None,
        active_from: at("2026-01-01T00:30:00Z"),
    }
}

#[test]
fn a_schedule_without_slots_so_far_only_gets_its_next_one() {
    let steps = decide(&hourly(), at("2026-01-01T00:40:00Z"), TOLERANCE).unwrap();
    let expected = Step {
        seen: None,
        slot: None,
        start_at: None,
        settled: None,
        next: Some(at("2026-01-01T01:00:00Z")),
        passed_over: None,
        missed: 0,
    };
    assert_eq!(steps, [expected]);
}

#[test]
fn each_step_finds_the_row_as_the_one_before_left_it() {
    let steps = decide(&hourly(), at("2026-01-01T05:00:10Z"), TOLERANCE).unwrap();
    let slots: Vec<_> = steps.iter().map(|step| step.slot.unwrap()).collect();
    let hours = ["2026-01-01T03:00:00Z", "2026-01-01T04:00:00Z", "2026-01-01T05:00:00Z"];
    assert_eq!(slots, hours.map(at));
    assert_eq!(steps[0].seen, None);
    for pair in steps.windows(2) {
        assert_eq!(pair[1].seen, pair[0].settled);
        assert_eq!(pair[0].next, pair[1].slot);
    }
    assert_eq!(steps[2].next, Some(at("2026-01-01T06:00:00Z")));
    let passed: Vec<_> = steps.iter().filter_map(|step| step.passed_over.as_deref()).collect();
    assert_eq!(passed, ["missed slots: 2 left out by catch-up `all(max 2)`"]);
    assert_eq!(steps.iter().map(|step| step.missed).collect::<Vec<_>>(), [2, 0, 0]);
}

#[test]
fn whoever_looks_after_any_step_decides_the_rest_the_same_way() {
    let now = at("2026-01-01T05:00:10Z");
    let mut schedule = hourly();
    let all = decide(&schedule, now, TOLERANCE).unwrap();
    for done in 1..all.len() {
        schedule.last_slot = all[done - 1].settled;
        assert_eq!(decide(&schedule, now, TOLERANCE).unwrap(), all[done..]);
    }
    schedule.last_slot = all.last().unwrap().settled;
    let after = decide(&schedule, now, TOLERANCE).unwrap();
    assert!(after.len() == 1 && after[0].slot.is_none() && after[0].settled.is_none());
}

#[test]
fn what_is_passed_over_without_a_fire_is_settled_all_the_same() {
    let mut schedule = hourly();
    schedule.catch_up = "skip".to_owned();
    let steps = decide(&schedule, at("2026-01-01T05:30:00Z"), TOLERANCE).unwrap();
    assert_eq!(steps.len(), 1);
    assert_eq!(
        (steps[0].slot, steps[0].settled),
        (None, Some(at("2026-01-01T05:00:00Z")))
    );
    assert_eq!(
        steps[0].passed_over.as_deref(),
        Some("missed slots: 5 left out by catch-up `skip`")
    );
}

#[test]
fn jitter_delays_from_the_slot_on_time_and_from_now_when_missed() {
    let mut schedule = hourly();
    schedule.jitter = Duration::from_secs(1_800);
    let now = at("2026-01-01T05:00:10Z");
    let steps = decide(&schedule, now, TOLERANCE).unwrap();
    for step in &steps {
        let (slot, start) = (step.slot.unwrap(), step.start_at.unwrap());
        let from = if now - slot > TimeDelta::seconds(60) { now } else { slot };
        assert!(
            start >= now && start <= from + TimeDelta::seconds(1_800),
            "{slot} starts at {start}"
        );
    }
    schedule.jitter = Duration::ZERO;
    assert_eq!(decide(&schedule, now, TOLERANCE).unwrap()[0].start_at, Some(now));
}

#[test]
fn what_cannot_be_read_is_a_problem_in_words() {
    type Damage = fn(&mut ScheduleRow);
    let broken: [(&str, Damage); 6] = [
        ("cron `99 * * * *`", |row| row.cron = "99 * * * *".to_owned()),
        ("time zone `Mars`", |row| row.timezone = "Mars".to_owned()),
        ("gap rule `both`", |row| row.dst_gap = "both".to_owned()),
        ("fold rule `skip`", |row| row.dst_fold = "skip".to_owned()),
        ("catch-up policy `some`", |row| row.catch_up = "some".to_owned()),
        ("the catch-up window of 1s is too short", |row| {
            row.catch_up_window = Duration::from_secs(1)
        }),
    ];
    for (told, damage) in broken {
        let mut schedule = hourly();
        damage(&mut schedule);
        let problem: FiringError = decide(&schedule, at("2026-01-01T05:00:00Z"), TOLERANCE).unwrap_err();
        assert!(problem.to_string().starts_with(told), "{problem}");
    }
}

#[test]
fn overlap_rules() {
    let (slot, run) = (at("2026-01-01T05:00:00Z"), Uuid::from_u128(7));
    for rule in [Overlap::Skip, Overlap::Queue, Overlap::Allow] {
        assert_eq!(overlap(rule, slot, 0, None), Overlapping::Start(None));
        assert_eq!(rule.to_string().parse::<Overlap>().unwrap(), rule);
    }
    assert_eq!(overlap(Overlap::Allow, slot, 3, Some(run)), Overlapping::Start(None));
    assert_eq!(
        overlap(Overlap::Queue, slot, 3, Some(run)),
        Overlapping::Start(Some(run))
    );
    let full = overlap(Overlap::Queue, slot, MAX_QUEUED, Some(run));
    assert!(matches!(full, Overlapping::PassOver(_)));
    let skipped = overlap(Overlap::Skip, slot, 1, Some(run));
    let reason = format!("slot 2026-01-01T05:00:00Z: run {run} is not over (overlap `skip`)");
    assert_eq!(skipped, Overlapping::PassOver(reason));
}

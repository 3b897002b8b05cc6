//! Each cause alone: the facts that make it and the words that come of it.
#![allow(clippy::unwrap_used)]

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::*;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn later() -> DateTime<Utc> {
    now() + TimeDelta::minutes(5)
}

fn earlier() -> DateTime<Utc> {
    now() - TimeDelta::minutes(5)
}

const REPLICA: Uuid = Uuid::from_u128(7);

fn replica() -> ReplicaFacts {
    ReplicaFacts {
        replica: REPLICA,
        draining: false,
        workflows: vec!["mail".into()],
        replays: None,
        window_used: 0,
        window_size: 100,
        breakers: vec![],
    }
}

/// A run that is on its way on a healthy fleet, with a fan-out that is planned and has free batches.
fn healthy() -> WhyFacts {
    let run = RunFacts {
        now: now(),
        workflow: "mail".into(),
        status: "running".into(),
        started_at: Some(earlier()),
        fan_out_open: true,
        free: 3,
        ..RunFacts::default()
    };
    WhyFacts {
        run: Some(run),
        replicas: vec![replica()],
        leader: LeaderFacts {
            leads: true,
            expired_at: None,
        },
        snapshots: vec![],
        flow: None,
    }
}

fn with(change: impl FnOnce(&mut RunFacts)) -> WhyFacts {
    let mut facts = healthy();
    change(facts.run.as_mut().unwrap());
    facts
}

fn only(facts: &WhyFacts) -> (Cause, String) {
    let found = causes(facts);
    assert_eq!(found.len(), 1, "{found:?}");
    (found[0].clone(), found[0].to_string())
}

#[test]
fn an_unknown_run_and_a_run_that_is_over_have_no_other_cause() {
    assert_eq!(only(&WhyFacts::default()).0, Cause::UnknownRun);
    let facts = with(|run| {
        run.finished_at = Some(earlier());
        run.status = "failed".into();
        run.reason = Some("boom".into());
    });
    assert!(
        only(&facts)
            .1
            .starts_with("it is over: failed at 2027-01-15 07:55:00Z: boom")
    );
}

#[test]
fn a_run_that_undoes_what_it_did_is_waited_for() {
    let facts = with(|run| {
        run.stop_status = Some("cancelled".into());
        run.undoing = true;
    });
    let text = causes(&facts)[0].to_string();
    assert!(
        text.contains("its code undoes what it did, then it is cancelled"),
        "{text}"
    );
}

#[test]
fn what_somebody_decided_comes_first() {
    let facts = with(|run| {
        run.stop_status = Some("cancelled".into());
        run.holders = vec![BatchHolder {
            replica: REPLICA,
            held: 2,
            until: Some(later()),
            overdue: 0,
            overdue_since: None,
        }];
    });
    let found = causes(&facts);
    assert!(
        found[0]
            .to_string()
            .contains("it waits for 2 batches in flight, then it is cancelled"),
        "{}",
        found[0]
    );
    assert!(matches!(found[1], Cause::BatchesHeld { batches: 2, .. }));
    let (_, text) = only(&with(|run| {
        run.status = "paused".into();
        run.reason = Some("maintenance".into());
        run.halted_at = Some(earlier());
    }));
    assert!(
        text.contains("paused since 2027-01-15 07:55:00Z: maintenance"),
        "{text}"
    );
    assert!(matches!(
        only(&with(|run| run.status = "quarantined".into())).0,
        Cause::Quarantined { .. }
    ));
    let (cause, _) = only(&with(|run| {
        run.started_at = None;
        run.wake_at = Some(later());
    }));
    assert_eq!(cause, Cause::BeforeStart { until: later() });
    let (_, text) = only(&with(|run| {
        run.earlier = Some(EarlierRun {
            run_id: REPLICA,
            status: "running".into(),
            schedule: Some("nightly".into()),
        });
    }));
    assert!(text.contains("of schedule nightly, which is running"), "{text}");
    assert_eq!(only(&with(|run| run.caller_driven = true)).0, Cause::CallerDriven);
}

#[test]
fn a_fleet_that_cannot_take_it() {
    let mut facts = healthy();
    facts.replicas[0].workflows = vec!["other".into()];
    assert_eq!(
        only(&facts).0,
        Cause::NoReplica {
            workflow: "mail".into()
        }
    );
    let mut facts = healthy();
    facts.replicas[0].draining = true;
    assert_eq!(
        only(&facts).0,
        Cause::AllDraining {
            workflow: "mail".into(),
            replicas: 1
        }
    );
}

#[test]
fn open_breakers_are_named_once_per_topic_since_the_first() {
    let mut facts = healthy();
    let breaker = |since| Breaker {
        topic: "mails".into(),
        state: "open".into(),
        since: Some(since),
        reason: Some("all brokers down".into()),
    };
    facts.replicas[0].breakers = vec![breaker(now())];
    facts.replicas.push(ReplicaFacts {
        replica: Uuid::nil(),
        breakers: vec![breaker(earlier())],
        ..replica()
    });
    let (_, text) = only(&facts);
    assert_eq!(
        text,
        "the breaker of topic mails is open since 2027-01-15 07:55:00Z on 2 replicas: all brokers down"
    );
}

#[test]
fn leases_valid_and_overdue() {
    let holder = BatchHolder {
        replica: REPLICA,
        held: 0,
        until: None,
        overdue: 4,
        overdue_since: Some(earlier()),
    };
    let mut facts = with(|run| run.holders = vec![holder]);
    facts.leader = LeaderFacts {
        leads: false,
        expired_at: Some(earlier()),
    };
    let found = causes(&facts);
    assert!(
        found[0].to_string().starts_with("4 batches held by replica"),
        "{}",
        found[0]
    );
    assert!(found[0].to_string().ends_with("waiting for the sweep"));
    assert_eq!(found[1], Cause::NoLeader { since: Some(earlier()) });
    let (cause, _) = only(&with(|run| {
        run.claimed_by = Some(REPLICA);
        run.lease_until = Some(earlier());
    }));
    assert_eq!(
        cause,
        Cause::LeaseOverdue {
            replica: REPLICA,
            batches: 0,
            code: true,
            since: Some(earlier())
        }
    );
}

#[test]
fn planning_and_a_full_window() {
    let (_, text) = only(&with(|run| {
        run.planning = Some("0:mails".into());
        run.claimed_by = Some(REPLICA);
        run.lease_until = Some(later());
    }));
    assert!(
        text.contains("step 0:mails is not finished; replica 00000000"),
        "{text}"
    );
    let (_, text) = only(&with(|run| {
        run.planning = Some("0:mails".into());
        run.plan_trouble = Some("no such table".into());
    }));
    assert!(
        text.ends_with("its source cannot be read and is tried again: no such table"),
        "{text}"
    );
    let mut facts = healthy();
    facts.replicas[0].window_used = 100;
    assert_eq!(
        only(&facts).0,
        Cause::WindowFull {
            replica: REPLICA,
            used: 100,
            size: 100
        }
    );
}

#[test]
fn what_comes_by_itself() {
    let (cause, _) = only(&with(|run| {
        (run.free, run.later, run.next_not_before) = (0, 2, Some(later()));
    }));
    assert_eq!(
        cause,
        Cause::WaitingForRetry {
            batches: 2,
            until: later()
        }
    );
    assert_eq!(
        only(&with(|run| run.pace_next_at = Some(later()))).0,
        Cause::Pacing { until: later() }
    );
    let idle = |run: &mut RunFacts| (run.fan_out_open, run.free) = (false, 0);
    let (cause, _) = only(&with(|run| {
        idle(run);
        run.wake_at = Some(later());
    }));
    assert_eq!(cause, Cause::WakesLater { until: later() });
    assert_eq!(only(&with(idle)).0, Cause::WaitsToBeWoken);
    let waits = OpenStep {
        step: "1:approval".to_owned(),
        kind: "signal".to_owned(),
        ..OpenStep::default()
    };
    let (cause, text) = only(&with(|run| {
        idle(run);
        run.waits = vec![waits.clone()];
    }));
    assert_eq!(cause, Cause::StepWaits(waits));
    assert_eq!(text, "step 1:approval waits for its signal: send it");
    let (_, text) = only(&with(|run| {
        idle(run);
        run.waits = vec![OpenStep {
            step: "0:digest".to_owned(),
            kind: "child".to_owned(),
            child: Some(Uuid::nil()),
            child_status: Some("quarantined".to_owned()),
            ..OpenStep::default()
        }];
    }));
    assert_eq!(
        text,
        "step 0:digest waits for its child 00000000-0000-0000-0000-000000000000, which is quarantined"
    );
}

#[test]
fn a_moving_run_says_so_first_and_still_names_what_slows_it() {
    let mut facts = with(|run| run.finished_last_minute = 120);
    assert_eq!(
        only(&facts).1,
        "nothing holds it: 120 batches finished in the last minute, 3 waiting, 0 in flight"
    );
    facts.snapshots = vec![OldSnapshot {
        pid: 42,
        since: earlier(),
        application: Some("psql".into()),
    }];
    let found = causes(&facts);
    assert!(matches!(
        found[0],
        Cause::NothingHolds {
            finished_last_minute: 120,
            ..
        }
    ));
    assert!(
        found[1]
            .to_string()
            .contains("pid 42 (psql) since 2027-01-15 07:55:00Z"),
        "{}",
        found[1]
    );
}

#[test]
fn a_cause_is_tagged_for_scripts() {
    let json = serde_json::to_value(Cause::NoReplica {
        workflow: "mail".into(),
    })
    .unwrap();
    assert_eq!(json, serde_json::json!({"cause": "no_replica", "workflow": "mail"}));
    let snapshot = OldSnapshot {
        pid: 1,
        since: now(),
        application: None,
    };
    assert_eq!(
        serde_json::to_value(Cause::OldSnapshot(snapshot)).unwrap()["cause"],
        "old_snapshot"
    );
}

#[test]
fn a_run_of_a_version_that_nobody_replays_is_told_so() {
    let of_versions = |replays: [u32; 2]| ReplicaFacts {
        replays: Some(BTreeMap::from([("mail".to_owned(), replays)])),
        ..replica()
    };
    let mut facts = with(|run| run.code_version = Some(3));
    // A binary of before may replay it.
    assert!(!matches!(causes(&facts)[0], Cause::NoVersion { .. }));
    facts.replicas = vec![of_versions([1, 2]), of_versions([1, 1])];
    assert_eq!(
        causes(&facts)[0].to_string(),
        "it began with version 3 of workflow mail, which no live replica replays, only 1, 1 to 2; start one whose REPLAYS has it"
    );
    facts.replicas.push(of_versions([2, 3]));
    assert!(!matches!(causes(&facts)[0], Cause::NoVersion { .. }));
    facts.replicas[2].draining = true;
    assert!(matches!(causes(&facts)[0], Cause::AllDraining { replicas: 1, .. }));
}

#[test]
fn a_fan_out_waits_for_brokers_and_nothing_else_does() {
    let without = || ReplicaFacts {
        window_size: 0,
        ..replica()
    };
    let mut facts = with(|run| run.fan_out_open = true);
    facts.replicas = vec![without(), replica()];
    assert!(!matches!(causes(&facts)[0], Cause::NoBrokers { .. }));
    facts.replicas[1].draining = true;
    assert_eq!(
        causes(&facts)[0].to_string(),
        "no live replica with workflow mail has brokers, of 1: its batches wait; start one that has KAFKA_BROKERS"
    );
    facts.replicas = vec![without(), without()];
    assert_eq!(
        causes(&facts)[0].to_string(),
        "no live replica with workflow mail has brokers, of 2: its batches wait; start one that has KAFKA_BROKERS"
    );
    facts.run.as_mut().unwrap().fan_out_open = false;
    assert!(!matches!(causes(&facts)[0], Cause::NoBrokers { .. }));
}

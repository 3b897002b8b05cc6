//! What a probe is told of what was said.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::{Check, Health, Part};

fn well(health: &Health, parts: &[Part]) {
    for part in parts {
        health.say(*part, Ok::<_, String>("well"));
    }
}

fn check(health: &Health, name: &str) -> Check {
    let found = health.ready().checks.into_iter().find(|check| check.name == name);
    found.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_replica_is_ready_when_all_its_parts_are() {
    let health = Health::default();
    let parts = [Part::Replica, Part::Postgres, Part::Schema, Part::Kafka];
    for part in parts {
        assert!(!health.ready().ok);
        assert_eq!(check(&health, part.name()).reason, "not looked at yet");
        well(&health, &[part]);
    }
    assert_eq!((health.ready().ok, health.ready().status), (true, "ready"));
    for part in parts {
        health.say(part, Err::<&str, _>("away"));
        assert_eq!((health.ready().ok, health.ready().status), (false, "not ready"));
        let found = check(&health, part.name());
        assert_eq!((found.ok, found.reason.as_str()), (false, "away"));
        assert!(health.live().ok, "a server that is away kills nobody");
        well(&health, &[part]);
        assert!(health.ready().ok);
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_says_for_how_long_it_has_been_so() {
    let health = Health::default();
    well(&health, &[Part::Kafka]);
    tokio::time::advance(Duration::from_secs(7)).await;
    well(&health, &[Part::Kafka]);
    assert_eq!(check(&health, "kafka").for_s, 7);
    health.say(Part::Kafka, Err::<&str, _>("one reason"));
    tokio::time::advance(Duration::from_secs(3)).await;
    health.say(Part::Kafka, Err::<&str, _>("another"));
    let found = check(&health, "kafka");
    assert_eq!((found.for_s, found.reason.as_str()), (3, "another"));
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_stands_still_is_neither_ready_nor_live() {
    let health = Health::default();
    well(&health, &[Part::Replica, Part::Postgres, Part::Schema, Part::Kafka]);
    let pulse = health.watch_loop("leases", Duration::from_secs(10));
    for _ in 0..5 {
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(health.live().ok && health.ready().ok);
        pulse.beat();
    }
    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!((health.live().ok, health.live().status), (false, "stuck"));
    assert!(!health.ready().ok);
    assert_eq!(check(&health, "leases").reason, "no turn within 10s");
    pulse.beat();
    assert!(health.live().ok && health.ready().ok);
    tokio::time::advance(Duration::from_secs(11)).await;
    let _other = health.watch_loop("leadership", Duration::from_secs(10));
    health.forget_loop("leases");
    assert!(health.live().ok, "one that ended before the replica is not stuck");
    tokio::time::advance(Duration::from_secs(11)).await;
    assert!(!health.live().ok);
    health.forget_loops();
    assert!(health.live().ok);
}

#[tokio::test(start_paused = true)]
async fn requests_are_turned_away_when_nothing_can_make_them_durable() {
    let health = Health::default();
    assert_eq!(health.turns_away(), None, "nobody has looked yet");
    health.say(Part::Postgres, Err::<&str, _>("away"));
    assert_eq!(health.turns_away(), None);
    health.say(Part::Kafka, Err::<&str, _>("away"));
    assert_eq!(health.turns_away(), Some("neither Postgres nor Kafka answers"));
    well(&health, &[Part::Postgres]);
    assert_eq!(health.turns_away(), None);
    health.say(Part::Schema, Err::<&str, _>("too new"));
    assert!(health.turns_away().is_some());
    let alone = Health::default();
    alone.does_without(Part::Kafka, "there are none");
    assert_eq!(alone.turns_away(), None);
    well(&alone, &[Part::Replica, Part::Postgres, Part::Schema]);
    assert!(alone.ready().ok, "it is not meant to have any");
    assert_eq!(check(&alone, "kafka").reason, "there are none");
    alone.say(Part::Postgres, Err::<&str, _>("away"));
    assert!(alone.turns_away().unwrap().contains("no brokers"));
}

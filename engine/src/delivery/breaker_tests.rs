//! The breaker's promises, by example and over random histories.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use proptest::prelude::*;

const POLICY: BreakerPolicy = BreakerPolicy {
    window: 100,
    min_sample: 10,
    unknown_percent: 50,
    first_pause: Duration::from_secs(1),
    last_pause: Duration::from_secs(60),
    probe_timeout: Duration::from_secs(30),
};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn breaker() -> (Breaker, Instant) {
    (Breaker::new(POLICY, 7), Instant::now())
}

/// Waits as told until a probe is let through.
fn next_probe(breaker: &mut Breaker, now: Instant) -> (Probe, Instant) {
    let Admission::Wait(at) = breaker.admit(now) else {
        panic!("not open: {breaker:?}")
    };
    let Admission::Probe(probe) = breaker.admit(at) else {
        panic!("no probe at the time told: {breaker:?}")
    };
    (probe, at)
}

#[test]
fn a_closed_breaker_lets_everything_through() {
    let (mut breaker, now) = breaker();
    breaker.observe(Observation::Delivered(5000), now);
    breaker.observe(Observation::Unknown(49), now);
    assert_eq!(breaker.admit(now), Admission::Go);
    let report = breaker.report(now);
    assert_eq!(
        (report.state, report.reason, report.retry_in),
        (BreakerState::Closed, None, None)
    );
}

#[test]
fn each_trouble_opens_at_once_and_is_named() {
    let reasons = [
        Reason::TopicMissing,
        Reason::NotAuthorised,
        Reason::AllBrokersDown,
        Reason::ProducerFatal,
    ];
    for reason in reasons {
        let (mut breaker, now) = breaker();
        breaker.observe(Observation::Trouble(reason), now);
        let report = breaker.report(now + seconds(3));
        assert_eq!((report.state, report.reason), (BreakerState::Open, Some(reason)));
        assert_eq!(report.not_closed_for, Some(seconds(3)));
        assert_eq!(report.retry_in, Some(Duration::ZERO));
    }
}

#[test]
fn half_of_the_recent_outcomes_unknown_opens_but_never_a_small_sample() {
    let (mut breaker, now) = breaker();
    breaker.observe(Observation::Unknown(9), now);
    assert_eq!(breaker.admit(now), Admission::Go, "a small sample means nothing");
    breaker.observe(Observation::Unknown(1), now);
    assert!(matches!(breaker.admit(now), Admission::Wait(_)));
    assert_eq!(breaker.report(now).reason, Some(Reason::MostlyUnknown));
}

#[test]
fn only_the_most_recent_outcomes_count() {
    let (mut breaker, now) = breaker();
    breaker.observe(Observation::Delivered(1_000_000), now);
    breaker.observe(Observation::Unknown(49), now);
    assert_eq!(breaker.admit(now), Admission::Go);
    breaker.observe(Observation::Unknown(1), now);
    assert!(
        matches!(breaker.admit(now), Admission::Wait(_)),
        "50 of the last 100 are unknown"
    );
}

#[test]
fn half_open_lets_one_through_and_success_closes() {
    let (mut breaker, now) = breaker();
    breaker.observe(Observation::Trouble(Reason::AllBrokersDown), now);
    let (probe, at) = next_probe(&mut breaker, now);
    assert_eq!(breaker.report(at).state, BreakerState::HalfOpen);
    assert_eq!(breaker.admit(at), Admission::Wait(at + POLICY.probe_timeout));
    breaker.probe_over(probe, ProbeEnd::Delivered, at);
    assert_eq!(breaker.admit(at), Admission::Go);
}

#[test]
fn an_acknowledged_message_closes_a_half_open_breaker_before_its_probe_ends() {
    let (mut breaker, now) = breaker();
    breaker.observe(Observation::Trouble(Reason::TopicMissing), now);
    let (probe, at) = next_probe(&mut breaker, now);
    breaker.observe(Observation::Unknown(10_000), at);
    assert_eq!(
        breaker.report(at).state,
        BreakerState::HalfOpen,
        "old messages time out late"
    );
    breaker.observe(Observation::Delivered(1), at);
    assert_eq!(breaker.report(at).state, BreakerState::Closed);
    breaker.probe_over(probe, ProbeEnd::Failed, at);
    assert_eq!(
        breaker.report(at).state,
        BreakerState::Closed,
        "a decided probe changes nothing"
    );
}

#[test]
fn failing_probes_wait_twice_as_long_up_to_the_last_pause_and_success_starts_over() {
    let (mut breaker, mut now) = breaker();
    breaker.observe(Observation::Trouble(Reason::TopicMissing), now);
    let opened = now;
    for full in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
        let (probe, at) = next_probe(&mut breaker, now);
        let pause = at - now;
        assert!(
            pause <= seconds(full) && pause >= seconds(full).mul_f64(0.75).max(seconds(1)),
            "{full}: {pause:?}"
        );
        breaker.probe_over(probe, ProbeEnd::Failed, at);
        now = at;
    }
    assert_eq!(
        breaker.report(now).not_closed_for,
        Some(now - opened),
        "open since the first trouble"
    );
    let (probe, at) = next_probe(&mut breaker, now);
    breaker.probe_over(probe, ProbeEnd::Delivered, at);
    breaker.observe(Observation::Trouble(Reason::TopicMissing), at);
    let (_, again) = next_probe(&mut breaker, at);
    assert_eq!(again - at, seconds(1));
}

#[test]
fn a_probe_without_messages_costs_no_longer_pause() {
    let (mut breaker, now) = breaker();
    breaker.observe(Observation::Trouble(Reason::TopicMissing), now);
    let (probe, at) = next_probe(&mut breaker, now);
    breaker.probe_over(probe, ProbeEnd::NothingSent, at);
    assert_eq!(breaker.admit(at), Admission::Wait(at + POLICY.first_pause));
}

#[test]
fn a_probe_whose_worker_died_is_replaced_and_its_late_end_ignored() {
    let (mut breaker, now) = breaker();
    breaker.observe(Observation::Trouble(Reason::TopicMissing), now);
    let (dead, at) = next_probe(&mut breaker, now);
    let later = at + POLICY.probe_timeout;
    let Admission::Probe(second) = breaker.admit(later) else {
        panic!("{breaker:?}")
    };
    assert_ne!(dead, second);
    breaker.probe_over(dead, ProbeEnd::Delivered, later);
    assert_eq!(breaker.report(later).state, BreakerState::HalfOpen);
    breaker.probe_over(second, ProbeEnd::Failed, later);
    assert_eq!(breaker.report(later).state, BreakerState::Open);
}

#[test]
fn states_and_reasons_have_fixed_names() {
    let states = [BreakerState::Closed, BreakerState::Open, BreakerState::HalfOpen].map(BreakerState::as_str);
    assert_eq!(states, ["closed", "open", "half_open"]);
    assert_eq!(Reason::from(TopicTrouble::Missing).as_str(), "topic_missing");
    assert_eq!(Reason::from(TopicTrouble::NotAuthorised).as_str(), "not_authorised");
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Pass(u16),
    Admit,
    See(Observation),
    End(u8, ProbeEnd),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let reason = prop_oneof![
        Just(Reason::TopicMissing),
        Just(Reason::AllBrokersDown),
        Just(Reason::ProducerFatal)
    ];
    let end = prop_oneof![
        Just(ProbeEnd::Delivered),
        Just(ProbeEnd::Failed),
        Just(ProbeEnd::NothingSent)
    ];
    let step = prop_oneof![
        (0u16..20_000).prop_map(Step::Pass),
        Just(Step::Admit),
        Just(Step::Admit),
        (0u32..300).prop_map(|n| Step::See(Observation::Delivered(n))),
        (0u32..300).prop_map(|n| Step::See(Observation::Unknown(n))),
        reason.prop_map(|reason| Step::See(Observation::Trouble(reason))),
        (any::<u8>(), end).prop_map(|(which, end)| Step::End(which, end)),
    ];
    prop::collection::vec(step, 1..200)
}

/// How long it takes at most from any state until a batch is let through, asking when told.
fn let_through_after(mut breaker: Breaker, now: Instant) -> Duration {
    match breaker.admit(now) {
        Admission::Go | Admission::Probe(_) => Duration::ZERO,
        Admission::Wait(at) => {
            assert!(at > now, "told to wait for the past");
            assert!(
                !matches!(breaker.admit(at), Admission::Wait(_)),
                "told to wait and then not let through"
            );
            at - now
        }
    }
}

proptest! {
    #[test]
    fn never_two_probes_at_once_and_never_open_for_ever(steps in steps(), seed in any::<u64>()) {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(POLICY, seed);
        let mut probes: Vec<Probe> = Vec::new();
        let mut out: Option<(Probe, Instant)> = None;
        for step in steps {
            match step {
                Step::Pass(ms) => now += Duration::from_millis(u64::from(ms)),
                Step::See(observation) => breaker.observe(observation, now),
                Step::End(which, end) if !probes.is_empty() => {
                    breaker.probe_over(probes[usize::from(which) % probes.len()], end, now);
                }
                Step::End(..) => {}
                Step::Admit => match breaker.admit(now) {
                    Admission::Probe(probe) => {
                        let overlap = out.is_some_and(|(_, since)| now < since + POLICY.probe_timeout);
                        prop_assert!(!overlap, "a second probe at once");
                        prop_assert!(!probes.contains(&probe), "a probe was given twice");
                        probes.push(probe);
                        out = Some((probe, now));
                    }
                    Admission::Go => prop_assert_eq!(breaker.report(now).state, BreakerState::Closed),
                    Admission::Wait(_) => prop_assert_ne!(breaker.report(now).state, BreakerState::Closed),
                },
            }
            if breaker.report(now).state != BreakerState::HalfOpen {
                out = None;
            }
            let report = breaker.report(now);
            prop_assert_eq!(report.reason.is_none(), report.state == BreakerState::Closed);
            let longest = POLICY.last_pause.max(POLICY.probe_timeout);
            prop_assert!(let_through_after(breaker.clone(), now) <= longest);
        }
    }

    #[test]
    fn the_window_counts_as_a_plain_list_does(outcomes in prop::collection::vec((any::<bool>(), 0u32..150), 0..60)) {
        let (mut recent, mut plain) = (Recent::default(), VecDeque::new());
        for (unknown, count) in outcomes {
            recent.push(unknown, count, 100);
            plain.extend(std::iter::repeat_n(unknown, count as usize));
            while plain.len() > 100 {
                plain.pop_front();
            }
            prop_assert_eq!(recent.total as usize, plain.len());
            prop_assert_eq!(recent.unknown as usize, plain.iter().filter(|unknown| **unknown).count());
            prop_assert!(recent.runs.len() <= 101);
        }
    }
}

//! Starting runs: identity, uniqueness, bad input.

use std::time::Duration;

use chrono::{DateTime, TimeZone, Utc};
use lockgate::lifecycle::{ManagerError, RunRequest};

use super::assert_refused;
use super::harness::{Harness, start_as};

pub(super) async fn a_new_request_starts_a_run_with_its_id(harness: &dyn Harness) {
    let request = RunRequest::new("reports");
    let run = harness.handle().try_start_new_run(request.clone()).await.unwrap();
    assert_eq!(run, Some(request.id));
    assert_eq!(harness.status(request.id).await, Some(("running".to_owned(), None)));
    assert_eq!(harness.history(request.id).await.len(), 1);
}

pub(super) async fn the_same_request_again_finds_its_run(harness: &dyn Harness) {
    let requests = [
        RunRequest::new("reports"),
        RunRequest::new("reports").singleton("nightly"),
    ];
    for request in requests {
        for handle in [harness.handle(), harness.handle()] {
            assert_eq!(start_as(&*handle, request.clone()).await, Some(request.id));
        }
        harness.handle().complete_run(request.id).await.unwrap();
        assert_eq!(start_as(&*harness.handle(), request.clone()).await, Some(request.id));
    }
    assert_eq!(harness.runs().await.len(), 2);
}

pub(super) async fn keyless_requests_start_as_many_runs_as_asked(harness: &dyn Harness) {
    for _ in 0..5 {
        let request = RunRequest::new("reports");
        assert_eq!(
            harness.handle().try_start_new_run(request.clone()).await.unwrap(),
            Some(request.id)
        );
    }
    assert_eq!(harness.runs().await.len(), 5);
}

pub(super) async fn a_held_singleton_key_starts_nothing(harness: &dyn Harness) {
    let handle = harness.handle();
    let first = RunRequest::new("reports").singleton("nightly");
    assert_eq!(start_as(&*handle, first.clone()).await, Some(first.id));
    // Whoever asks and for whatever workflow: the key is the key.
    for other in [
        RunRequest::new("reports"),
        RunRequest::new("bills"),
        RunRequest::new("bills").for_engine(),
    ] {
        assert_eq!(start_as(&*harness.handle(), other.singleton("nightly")).await, None);
    }
    assert_eq!(harness.runs().await, vec![first.id]);
}

pub(super) async fn a_singleton_key_is_free_after_the_end(harness: &dyn Harness) {
    let handle = harness.handle();
    let requests: Vec<RunRequest> = (0..3)
        .map(|_| RunRequest::new("reports").singleton("nightly"))
        .collect();
    assert_eq!(start_as(&*handle, requests[0].clone()).await, Some(requests[0].id));
    handle.complete_run(requests[0].id).await.unwrap();
    assert_eq!(start_as(&*handle, requests[1].clone()).await, Some(requests[1].id));
    handle.fail_run(requests[1].id, "no database").await.unwrap();
    assert_eq!(start_as(&*handle, requests[2].clone()).await, Some(requests[2].id));
}

pub(super) async fn keys_differ_by_every_character(harness: &dyn Harness) {
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
    let longest = "k".repeat(1_000);
    let keys = [
        "a", "A", "a ", " a", "a\n", "a'--", "%", "_", composed, decomposed, "🚪", "🚪🚪", "\u{1}", &longest,
    ];
    let handle = harness.handle();
    for key in keys {
        let singleton = RunRequest::new("reports").singleton(key);
        assert_eq!(
            start_as(&*handle, singleton.clone()).await,
            Some(singleton.id),
            "{key:?}"
        );
        let idempotent = RunRequest::new("reports").idempotency(key);
        assert_eq!(start_as(&*handle, idempotent.clone()).await, Some(idempotent.id));
    }
    for key in keys {
        assert_eq!(
            start_as(&*handle, RunRequest::new("reports").singleton(key)).await,
            None,
            "{key:?}"
        );
    }
    assert_eq!(harness.runs().await.len(), 2 * keys.len());
}

pub(super) async fn the_same_idempotency_key_finds_the_first_run_for_ever(harness: &dyn Harness) {
    let first = RunRequest::new("reports").idempotency("order-17");
    let again = || RunRequest::new("reports").idempotency("order-17");
    for _ in 0..2 {
        assert_eq!(start_as(&*harness.handle(), first.clone()).await, Some(first.id));
        assert_eq!(start_as(&*harness.handle(), again()).await, Some(first.id));
    }
    harness.handle().fail_run(first.id, "no database").await.unwrap();
    assert_eq!(start_as(&*harness.handle(), again()).await, Some(first.id));
    assert_eq!(harness.runs().await, vec![first.id]);
}

pub(super) async fn an_idempotency_key_belongs_to_its_workflow(harness: &dyn Harness) {
    let handle = harness.handle();
    let (one, other) = (
        RunRequest::new("reports").idempotency("1"),
        RunRequest::new("bills").idempotency("1"),
    );
    assert_eq!(start_as(&*handle, one.clone()).await, Some(one.id));
    assert_eq!(start_as(&*handle, other.clone()).await, Some(other.id));
}

pub(super) async fn an_idempotency_key_answers_before_a_singleton_key(harness: &dyn Harness) {
    let handle = harness.handle();
    let request = || RunRequest::new("reports").singleton("nightly").idempotency("monday");
    let first = start_as(&*handle, request()).await;
    assert_eq!(start_as(&*handle, request()).await, first);
    let tuesday = RunRequest::new("reports").singleton("nightly").idempotency("tuesday");
    assert_eq!(start_as(&*handle, tuesday.clone()).await, None);
    handle.complete_run(first.unwrap()).await.unwrap();
    assert_eq!(start_as(&*handle, tuesday.clone()).await, Some(tuesday.id));
    assert_eq!(start_as(&*handle, request()).await, first);
}

fn midnight() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2031, 3, 30, 0, 0, 0).unwrap()
}

pub(super) async fn a_slot_has_one_run(harness: &dyn Harness) {
    let handle = harness.handle();
    let request = || RunRequest::new("reports").for_engine().slot("nightly", midnight());
    let first = start_as(&*handle, request()).await;
    assert_eq!(start_as(&*harness.handle(), request()).await, first);
    // Another workflow does not make it another slot.
    let edited = RunRequest::new("bills").for_engine().slot("nightly", midnight());
    assert_eq!(start_as(&*handle, edited).await, first);
    assert_eq!(harness.runs().await, vec![first.unwrap()]);
}

pub(super) async fn slots_of_two_schedules_are_two_runs(harness: &dyn Harness) {
    let handle = harness.handle();
    let later = midnight() + Duration::from_secs(60);
    for (schedule, slot) in [("nightly", midnight()), ("hourly", midnight()), ("nightly", later)] {
        let request = RunRequest::new("reports").for_engine().slot(schedule, slot);
        assert_eq!(start_as(&*handle, request.clone()).await, Some(request.id));
    }
}

pub(super) async fn params_are_kept_to_the_byte(harness: &dyn Harness) {
    let nothing_normal = br#"{"b":1 , "a":"\u0000\ud83d\udeaa", "a": 1e400, "n": -0.0}"#;
    for params in [&b"{}"[..], b"null", b" [1,\n2] ", nothing_normal] {
        let request = RunRequest {
            params: params.to_vec(),
            ..RunRequest::new("reports")
        };
        start_as(&*harness.handle(), request.clone()).await;
        assert_eq!(harness.params(request.id).await, params);
    }
}

pub(super) async fn a_run_for_the_engine_waits_for_it(harness: &dyn Harness) {
    let request = RunRequest {
        start_at: Some(midnight()),
        pace_per_s: Some(100),
        deadline: Some(Duration::from_nanos(86_400_000_000_001)),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        actor: Some("anna".to_owned()),
        ..RunRequest::new("reports").for_engine()
    };
    assert_eq!(start_as(&*harness.handle(), request.clone()).await, Some(request.id));
    assert_eq!(harness.status(request.id).await, Some(("queued".to_owned(), None)));
}

pub(super) async fn names_that_cannot_be_kept_are_invalid(harness: &dyn Harness) {
    let handle = harness.handle();
    let too_long = "k".repeat(1_001);
    for name in ["", "a\0b", "\0", &too_long] {
        let requests = [
            RunRequest::new(name),
            RunRequest::new("reports").singleton(name),
            RunRequest::new("reports").idempotency(name),
            RunRequest::new("reports").slot(name, midnight()),
            RunRequest {
                actor: Some(name.to_owned()),
                ..RunRequest::new("reports")
            },
            RunRequest {
                traceparent: Some(name.to_owned()),
                ..RunRequest::new("reports")
            },
        ];
        for request in requests {
            assert_refused!(handle.try_start_new_run(request).await, ManagerError::Invalid(_));
        }
    }
    assert!(harness.runs().await.is_empty());
}

pub(super) async fn numbers_and_params_that_make_no_sense_are_invalid(harness: &dyn Harness) {
    let handle = harness.handle();
    let plain = || RunRequest::new("reports");
    let mut requests = vec![
        RunRequest {
            pace_per_s: Some(0),
            ..plain()
        },
        RunRequest {
            pace_per_s: Some(u32::MAX),
            ..plain()
        },
        RunRequest {
            deadline: Some(Duration::ZERO),
            ..plain()
        },
        RunRequest {
            deadline: Some(Duration::MAX),
            ..plain()
        },
        RunRequest {
            start_at: Some(midnight()),
            ..plain()
        },
        RunRequest {
            start_at: Some(DateTime::<Utc>::MAX_UTC),
            ..plain().for_engine()
        },
        plain().slot("nightly", DateTime::<Utc>::MIN_UTC),
    ];
    for params in [&b""[..], b"{", b"{} {}", b"\xff", b"\"\xff\"", b"nul"] {
        requests.push(RunRequest {
            params: params.to_vec(),
            ..plain()
        });
    }
    for request in requests {
        assert_refused!(handle.try_start_new_run(request).await, ManagerError::Invalid(_));
    }
    assert!(harness.runs().await.is_empty());
}

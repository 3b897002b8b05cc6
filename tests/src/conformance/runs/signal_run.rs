//! Telling runs something.

use chrono::TimeDelta;
use lockgate::lifecycle::{FleetError, LetGo, NewSignal, NewStep, Signalled};
use lockgate::memory::RunStart;
use serde_json::json;
use uuid::Uuid;

use super::crew::*;
use super::world::{RunWorld, Wake};

pub(super) async fn a_signal_wakes_a_run_that_waits(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start_and_suspend(world, &*store).await;
    assert_eq!(status(world, run).await, is("suspended", Wake::Never));
    send(&*store, signal(run, json!({"by": "card"}))).await;
    assert_eq!(status(world, run).await, is("suspended", Wake::Due));
    let (_, work) = claim(&*store).await;
    assert_eq!((work.id, work.wake_seq, work.signals.len()), (run, 1, 1));
    assert_eq!((work.signals[0].seq, work.signals[0].name.as_str()), (1, "paid"));
    let payload: serde_json::Value = serde_json::from_slice(&work.signals[0].payload).unwrap();
    assert_eq!(payload, json!({"by": "card"}));
}

pub(super) async fn a_signal_comes_before_the_timer_of_its_wait(world: &dyn RunWorld) {
    let store = world.replica();
    let claimed = start_and_claim(world, &*store).await;
    let tomorrow = world.now().await + TimeDelta::days(1);
    assert_eq!(let_go(&*store, wait(claimed, 0, Some(tomorrow))).await, LetGo::Done);
    send(&*store, signal(claimed.run, json!(null))).await;
    let (_, work) = claim(&*store).await;
    assert_eq!(work.signals.len(), 1);
}

pub(super) async fn signals_stay_in_order_with_any_content(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start(world).await;
    let payloads = [
        json!(null),
        json!("ü \" \\ \n"),
        json!([1, {"a": [2.5, true]}]),
        json!({}),
        json!(9_007_199_254_740_993_i64),
    ];
    for (number, payload) in payloads.iter().enumerate() {
        let name = format!("n{}", number % 2);
        send(
            &*store,
            NewSignal {
                name,
                ..signal(run, payload.clone())
            },
        )
        .await;
    }
    let stored = world.signals(run).await;
    let seen: Vec<_> = stored
        .iter()
        .map(|signal| (signal.seq, signal.payload.clone()))
        .collect();
    assert_eq!(seen, (1..).zip(payloads).collect::<Vec<_>>());
    assert_eq!(stored[1].name, "n1");
}

pub(super) async fn the_same_key_is_sent_once(world: &dyn RunWorld) {
    let store = world.replica();
    let (run, other) = (start(world).await, start(world).await);
    send(&*store, keyed(run, "a")).await;
    let again = NewSignal {
        payload: json!("other"),
        ..keyed(run, "a")
    };
    assert_eq!(store.signal_run(&again).await.unwrap(), Signalled::Known);
    assert_eq!(seen(world, run).await.wake_seq, 1, "what is known wakes nobody");
    send(&*store, keyed(run, "b")).await;
    send(&*store, keyed(other, "a")).await;
    let payloads: Vec<_> = world
        .signals(run)
        .await
        .into_iter()
        .map(|signal| signal.payload)
        .collect();
    assert_eq!(payloads, [json!({"key": "a"}), json!({"key": "b"})]);
}

pub(super) async fn a_key_is_known_when_its_signal_is_taken_or_its_run_over(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start(world).await;
    send(&*store, keyed(run, "a")).await;
    let (claim, _) = claim(&*store).await;
    let taking = NewStep {
        signal_seq: Some(1),
        ..step(claim, "0:paid", "1")
    };
    save(&*store, taking).await;
    assert_eq!(store.signal_run(&keyed(run, "a")).await.unwrap(), Signalled::Known);
    assert_eq!(let_go(&*store, complete(claim)).await, LetGo::Done);
    assert_eq!(store.signal_run(&keyed(run, "a")).await.unwrap(), Signalled::Known);
    assert_eq!(
        store.signal_run(&keyed(run, "b")).await.unwrap(),
        Signalled::Over("completed".to_owned())
    );
}

pub(super) async fn a_run_that_is_over_or_unknown_is_told_nothing(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start(world).await;
    assert_eq!(world.cancel(run).await, "cancelled");
    assert_eq!(
        store.signal_run(&signal(run, json!(1))).await.unwrap(),
        Signalled::Over("cancelled".to_owned())
    );
    assert_eq!(world.signals(run).await, []);
    assert_eq!(seen(world, run).await.wake_seq, 0);
    assert_eq!(
        store.signal_run(&signal(Uuid::now_v7(), json!(1))).await.unwrap(),
        Signalled::Unknown
    );
}

pub(super) async fn a_queued_run_keeps_its_time(world: &dyn RunWorld) {
    let store = world.replica();
    let mut later = RunStart::new(WORKFLOW);
    later.request.start_at = Some(world.now().await + TimeDelta::hours(1));
    let run = world.start(later).await.unwrap();
    send(&*store, signal(run, json!(1))).await;
    assert_eq!(status(world, run).await, is("queued", Wake::Later));
    world.advance(HOUR).await;
    let (_, work) = claim(&*store).await;
    assert_eq!((work.signals.len(), work.wake_seq), (1, 1));
}

pub(super) async fn a_paused_run_finds_it_when_it_is_resumed(world: &dyn RunWorld) {
    let store = world.replica();
    let claimed_before = start_and_claim(world, &*store).await;
    let run = claimed_before.run;
    let tomorrow = world.now().await + TimeDelta::days(1);
    assert_eq!(
        let_go(&*store, wait(claimed_before, 0, Some(tomorrow))).await,
        LetGo::Done
    );
    assert_eq!(world.pause(run).await, "paused");
    send(&*store, signal(run, json!(1))).await;
    assert_eq!(status(world, run).await.0, "paused");
    assert_eq!(claimed(&*store, &page(10)).await, NONE);
    assert_eq!(world.resume(run).await, "running");
    // Not when its timer ends tomorrow: the signal is there.
    let (_, work) = claim(&*store).await;
    assert_eq!((work.id, work.signals.len()), (run, 1));
}

pub(super) async fn a_held_run_runs_again_for_a_signal_it_did_not_take(world: &dyn RunWorld) {
    let store = world.replica();
    let claimed_before = start_and_claim(world, &*store).await;
    send(&*store, signal(claimed_before.run, json!(1))).await;
    // It has seen the wake-up, not taken the signal, and waits for something else: nothing wakes it twice.
    assert_eq!(let_go(&*store, wait(claimed_before, 1, None)).await, LetGo::Done);
    assert_eq!(status(world, claimed_before.run).await, is("suspended", Wake::Never));
    send(&*store, signal(claimed_before.run, json!(2))).await;
    let (_, work) = claim(&*store).await;
    assert_eq!(work.signals.len(), 2);
}

pub(super) async fn a_thousand_that_wait_are_enough(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start(world).await;
    let (claim, _) = claim(&*store).await;
    for number in 0..1_000 {
        send(&*store, signal(run, json!(number))).await;
    }
    assert_eq!(store.signal_run(&signal(run, json!(1))).await.unwrap(), Signalled::Full);
    assert_eq!(seen(world, run).await.wake_seq, 1_000);
    let taking = NewStep {
        signal_seq: Some(500),
        ..step(claim, "0:paid", "1")
    };
    save(&*store, taking).await;
    send(&*store, signal(run, json!(1))).await;
    assert_eq!(world.signals(run).await.last().map(|signal| signal.seq), Some(1_001));
}

pub(super) async fn what_cannot_be_kept_is_refused(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start(world).await;
    let named = |name: &str| NewSignal {
        name: name.to_owned(),
        ..signal(run, json!(1))
    };
    let refused = [
        named(""),
        named("a\0b"),
        named(&"n".repeat(101)),
        keyed(run, ""),
        keyed(run, &"k".repeat(2_001)),
        signal(run, json!("a\0b")),
        signal(run, json!({"a\0": 1})),
        signal(run, json!("x".repeat(70_000))),
        NewSignal {
            reason: Some("a\0b".to_owned()),
            ..signal(run, json!(1))
        },
    ];
    for wrong in refused {
        let answer = store.signal_run(&wrong).await;
        assert!(
            matches!(answer, Err(FleetError::Refused(_))),
            "{:.40}: {answer:?}",
            wrong.payload.to_string()
        );
    }
    assert_eq!(world.signals(run).await, []);
    assert_eq!(seen(world, run).await.wake_seq, 0);
    for right in [
        named(&"n".repeat(100)),
        keyed(run, &"k".repeat(1_000)),
        signal(run, json!("x".repeat(60_000))),
    ] {
        send(&*store, right).await;
    }
}

pub(super) async fn many_at_once_are_numbered_without_a_gap(world: &dyn RunWorld) {
    let run = start_and_suspend(world, &*world.replica()).await;
    let many = (0..12).map(|number| {
        let (store, mut signal) = (world.replica(), signal(run, json!(number)));
        // Two of each key.
        signal.idempotency_key = Some((number / 2).to_string());
        tokio::spawn(async move { store.signal_run(&signal).await.unwrap() })
    });
    let answers: Vec<_> = futures::future::join_all(many)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let sent = answers.iter().filter(|answer| **answer == Signalled::Sent).count();
    assert_eq!((sent, answers.len()), (6, 12));
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer, Signalled::Sent | Signalled::Known))
    );
    assert_eq!(world.signals(run).await.len(), 6);
    assert_eq!(seen(world, run).await.wake_seq, 6);
}

pub(super) async fn signals_and_a_suspension_at_once_lose_nothing(world: &dyn RunWorld) {
    let store = world.replica();
    for _ in 0..20 {
        let claimed = start_and_claim(world, &*store).await;
        let (sender, to) = (world.replica(), signal(claimed.run, json!(1)));
        let sending = tokio::spawn(async move { send(&*sender, to).await });
        let suspended = let_go(&*store, wait(claimed, 0, None)).await;
        sending.await.unwrap();
        match suspended {
            LetGo::Done => assert_eq!(status(world, claimed.run).await, is("suspended", Wake::Due)),
            held => assert!(matches!(held, LetGo::Held(poked) if poked.wake_seq == 1), "{held:?}"),
        }
        assert_eq!(
            world.cancel(claimed.run).await,
            if suspended == LetGo::Done {
                "cancelled"
            } else {
                "stopping"
            }
        );
    }
}

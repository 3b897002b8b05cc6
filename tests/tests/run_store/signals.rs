use lockgate::lifecycle::{LetGo, NewSignal, RunStore, Signalled};
use serde_json::json;
use uuid::Uuid;

use crate::{Scene, complete, store, wait};

fn signal(run: Uuid, name: &str) -> NewSignal {
    NewSignal {
        run,
        name: name.to_owned(),
        payload: json!({ "by": "card" }),
        idempotency_key: None,
        actor: None,
        reason: None,
    }
}

#[tokio::test]
async fn a_signal_wakes_a_run_that_waits_and_is_read_with_it() {
    let scene = Scene::new().await;
    let claim = scene.claimed().await;
    assert_eq!(scene.let_go(claim, wait(0)).await, LetGo::Done);
    assert!(scene.claim(9).await.is_empty());
    let sent = scene.runs.signal_run(&signal(claim.run, "paid")).await.unwrap();
    assert_eq!(sent, Signalled::Sent);
    let (_, run) = scene.claim(9).await.remove(0);
    let read = &run.signals[0];
    assert_eq!((read.seq, read.name.as_str()), (1, "paid"));
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&read.payload).unwrap(),
        json!({ "by": "card" })
    );
}

#[tokio::test]
async fn a_run_that_has_not_begun_keeps_its_time_and_finds_its_signal() {
    let scene = Scene::new().await;
    let run: Uuid = scene
        .value("select lockgate.start_run('orders', start_at => clock_timestamp() + interval '1 hour')")
        .await;
    scene.runs.signal_run(&signal(run, "paid")).await.unwrap();
    assert!(scene.claim(9).await.is_empty());
    scene
        .run("update lockgate.task_runs set wake_at = clock_timestamp()")
        .await;
    assert_eq!(scene.claim(9).await[0].1.signals.len(), 1);
}

#[tokio::test]
async fn a_key_sends_once_and_runs_that_are_over_or_unknown_take_nothing() {
    let scene = Scene::new().await;
    let claim = scene.claimed().await;
    let keyed = NewSignal {
        idempotency_key: Some("k".to_owned()),
        ..signal(claim.run, "paid")
    };
    assert_eq!(scene.runs.signal_run(&keyed).await.unwrap(), Signalled::Sent);
    assert_eq!(scene.runs.signal_run(&keyed).await.unwrap(), Signalled::Known);
    assert_eq!(scene.let_go(claim, complete()).await, LetGo::Done);
    assert_eq!(scene.runs.signal_run(&keyed).await.unwrap(), Signalled::Known);
    let over = scene.runs.signal_run(&signal(claim.run, "paid")).await.unwrap();
    assert_eq!(over, Signalled::Over("completed".to_owned()));
    let unknown = scene.runs.signal_run(&signal(Uuid::now_v7(), "paid")).await.unwrap();
    assert_eq!(unknown, Signalled::Unknown);
    assert_eq!(scene.value::<i64>("select count(*) from lockgate.signals").await, 1);
    assert!(scene.runs.signal_run(&signal(claim.run, "")).await.is_err());
}

#[tokio::test]
async fn a_run_that_takes_none_is_full_at_a_thousand() {
    let scene = Scene::new().await;
    let run = scene.start().await;
    scene
        .run(&format!(
            "select lockgate.signal_run('{run}', 'tick') from generate_series(1, 1000)"
        ))
        .await;
    assert_eq!(
        scene.runs.signal_run(&signal(run, "tick")).await.unwrap(),
        Signalled::Full
    );
    scene
        .run("update lockgate.signals set consumed_by = '0:tick' where seq = 500")
        .await;
    assert_eq!(
        scene.runs.signal_run(&signal(run, "tick")).await.unwrap(),
        Signalled::Sent
    );
    assert_eq!(scene.value::<i64>("select max(seq) from lockgate.signals").await, 1001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_signal_is_lost_to_a_run_that_goes_to_sleep_at_once() {
    let scene = Scene::new().await;
    let other = store(&scene.database);
    for _ in 0..30 {
        let claim = scene.claimed().await;
        let paid = signal(claim.run, "paid");
        let (let_go, sent) = tokio::join!(scene.let_go(claim, wait(0)), other.signal_run(&paid));
        assert_eq!(sent.unwrap(), Signalled::Sent);
        let holder = match let_go {
            LetGo::Held(poked) => {
                assert_eq!(poked.wake_seq, 1);
                claim
            }
            LetGo::Done => scene.claim(9).await.remove(0).0,
            LetGo::Lost => panic!("nobody took over"),
        };
        assert_eq!(scene.runs.read_news(&[claim.run]).await.unwrap()[0].signals.len(), 1);
        assert_eq!(scene.let_go(holder, complete()).await, LetGo::Done);
    }
    scene.holds().await;
}

#[tokio::test]
async fn wakers_wake_what_waits_and_only_count_for_the_rest() {
    let scene = Scene::new().await;
    let (waiting, over) = (scene.claimed().await, scene.claimed().await);
    scene.let_go(waiting, wait(0)).await;
    scene.let_go(over, complete()).await;
    let held = scene.claimed().await;
    let paused = scene.claimed().await;
    scene.run(&format!("select lockgate.pause_run('{}')", paused.run)).await;
    scene.let_go(paused, wait(0)).await;
    let all = [waiting.run, over.run, held.run, paused.run];
    assert_eq!(scene.runs.wake_runs(&all).await.unwrap(), 3);
    assert!(matches!(scene.let_go(held, wait(0)).await, LetGo::Held(_)));
    let woken = scene.claim(9).await;
    assert_eq!(woken.len(), 1);
    assert_eq!((woken[0].0.run, woken[0].1.wake_seq), (waiting.run, 1));
    assert_eq!(scene.of(paused.run, "wake_seq").await.unwrap(), "1");
}

use std::time::Duration;

use lockgate::lifecycle::{Act, Kind, LetGo, OpenWait, RunStore};
use uuid::Uuid;

use crate::{Scene, complete, ending, hand_back, instant, wait};

async fn state(scene: &Scene, run: Uuid) -> (String, bool, bool) {
    sqlx::query_as("select status, wake_at is not null, claim_id is not null from lockgate.task_runs where id = $1")
        .bind(run)
        .fetch_one(scene.database.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_group_ends_waits_and_hands_back_each_run_as_it_asks() {
    let scene = Scene::new().await;
    let mut claims = Vec::new();
    for _ in 0..7 {
        claims.push(scene.claimed().await);
    }
    let acts = [
        complete(),
        Act::Fail {
            reason: "out of stock".to_owned(),
        },
        Act::Quarantine {
            reason: "the code differs".to_owned(),
        },
        wait(0),
        Act::Wait {
            seen: 0,
            due_at: Some(instant(0)),
            batches: false,
            waits: vec![OpenWait {
                path: "0:sleep".to_owned(),
                kind: Kind::Sleep,
                due_at: Some(instant(0)),
                attempts: 0,
            }],
        },
        Act::Wait {
            seen: 0,
            due_at: None,
            batches: true,
            waits: Vec::new(),
        },
        Act::HandBack {
            delay: Duration::from_secs(3_600),
            reason: Some("the source failed".to_owned()),
        },
    ];
    let group: Vec<_> = claims
        .iter()
        .zip(acts)
        .map(|(claim, act)| ending(*claim, act))
        .collect();
    assert_eq!(scene.runs.let_go_runs(&group).await.unwrap(), [LetGo::Done; 7]);
    let expected = [
        ("completed", false),
        ("failed", false),
        ("quarantined", false),
        ("suspended", false),
        ("suspended", true),
        ("running", false),
        ("running", true),
    ];
    for (claim, (status, wakes)) in claims.iter().zip(expected) {
        assert_eq!(state(&scene, claim.run).await, (status.to_owned(), wakes, false));
    }
    assert_eq!(
        scene.of(claims[0].run, "convert_from(output, 'UTF8')").await.unwrap(),
        "{\"sum\":1}"
    );
    assert_eq!(scene.of(claims[1].run, "reason").await.unwrap(), "out of stock");
    // One line a claim, at its end, with its beginning.
    let audited: i64 = scene
        .value("select count(*) from lockgate.transitions where since < at and token = 1 and replica is not null")
        .await;
    assert_eq!(audited, 7);
    scene.holds().await;
}

#[tokio::test]
async fn a_wait_is_refused_when_the_run_was_woken_or_stopped_since() {
    let scene = Scene::new().await;
    let claim = scene.claimed().await;
    scene
        .run(&format!("select lockgate.signal_run('{}', 'paid')", claim.run))
        .await;
    let LetGo::Held(poked) = scene.let_go(claim, wait(0)).await else {
        panic!("the signal was overlooked");
    };
    assert_eq!(
        (poked.run, poked.wake_seq, poked.halted, poked.paused),
        (claim.run, 1, false, false)
    );
    let news = scene.runs.read_news(&[claim.run]).await.unwrap().remove(0);
    assert_eq!((news.wake_seq, news.signals.len()), (1, 1));

    scene.run(&format!("select lockgate.cancel_run('{}')", claim.run)).await;
    for act in [wait(1), complete()] {
        let LetGo::Held(poked) = scene.let_go(claim, act).await else {
            panic!("the stop was overlooked");
        };
        assert!(poked.halted);
    }
    assert_eq!(scene.runs.poked_runs(&[claim.run]).await.unwrap()[0].wake_seq, 1);
    assert_eq!(scene.let_go(claim, hand_back()).await, LetGo::Done);
    assert!(
        scene.claim(9).await.is_empty(),
        "a run that was asked to stop was claimed"
    );
    scene.sweep().await;
    assert_eq!(scene.of(claim.run, "status").await.unwrap(), "cancelled");
    scene.holds().await;
}

#[tokio::test]
async fn a_claim_that_is_not_ours_any_more_is_lost_whoever_ended_it() {
    let scene = Scene::new().await;
    let claim = scene.claimed().await;
    assert_eq!(scene.let_go(claim, complete()).await, LetGo::Done);
    let finished = scene.of(claim.run, "finished_at").await;
    // The answer was lost and it is asked again, or what it fails of is reported instead: nothing changes.
    assert_eq!(scene.let_go(claim, complete()).await, LetGo::Lost);
    let fail = Act::Fail {
        reason: "no".to_owned(),
    };
    assert_eq!(scene.let_go(claim, fail).await, LetGo::Lost);
    assert_eq!(scene.of(claim.run, "finished_at").await, finished);
    scene
        .run("delete from lockgate.transitions; delete from lockgate.task_runs")
        .await;
    assert_eq!(scene.let_go(claim, wait(0)).await, LetGo::Lost);
}

#[tokio::test]
async fn a_run_does_not_end_while_a_batch_is_unfinished() {
    let scene = Scene::new().await;
    let claim = scene.claimed().await;
    for status in ["free", "claimed", "recoverable"] {
        let held = if status == "claimed" {
            "gen_random_uuid(), gen_random_uuid(), clock_timestamp()"
        } else {
            "null, null, null"
        };
        scene
            .run(&format!(
                "delete from lockgate.run_batches;
                 insert into lockgate.run_batches (run_id, seq, step, status, first_id, last_id, n_items, claim_token,
                     claim_id, claimed_by, lease_until)
                 values ('{}', 1, '0:all', '{status}', 1, 1, 1, 1, {held})",
                claim.run
            ))
            .await;
        let fail = Act::Fail {
            reason: "no".to_owned(),
        };
        for act in [complete(), fail] {
            assert!(matches!(scene.let_go(claim, act).await, LetGo::Held(_)), "{status}");
        }
    }
    scene.run("delete from lockgate.run_batches").await;
    assert_eq!(scene.let_go(claim, complete()).await, LetGo::Done);
}

#[tokio::test]
async fn a_paused_run_stays_paused_and_rests() {
    let scene = Scene::new().await;
    let pause = |claim: uuid::Uuid| format!("select lockgate.pause_run('{claim}')");
    for act in [wait(0), hand_back()] {
        let claim = scene.claimed().await;
        scene.run(&pause(claim.run)).await;
        assert!(scene.runs.poked_runs(&[claim.run]).await.unwrap()[0].paused);
        assert!(matches!(scene.let_go(claim, complete()).await, LetGo::Held(_)));
        assert_eq!(scene.let_go(claim, act).await, LetGo::Done);
        assert_eq!(scene.of(claim.run, "status").await.unwrap(), "paused");
        assert!(scene.claim(9).await.is_empty());
        scene.run(&format!("select lockgate.resume_run('{}')", claim.run)).await;
        let (claim, _) = scene.claim(9).await.remove(0);
        assert_eq!(scene.let_go(claim, complete()).await, LetGo::Done);
    }
    scene.holds().await;
}

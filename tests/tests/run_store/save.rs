use lockgate::lifecycle::{Act, FleetError, Kind, LetGo, OpenWait, RunStore, Saved, StepStatus};

use crate::{Scene, complete, hand_back, instant, results, step, store};

#[tokio::test]
async fn a_group_is_recorded_each_under_its_own_claim() {
    let scene = Scene::new().await;
    let (kept, lost) = (scene.claimed().await, scene.claimed().await);
    scene.let_go(lost, complete()).await;
    let group = [
        step(kept, "0:charge", "1"),
        step(lost, "0:charge", "2"),
        step(kept, "1:ship", "3"),
    ];
    let saved = scene.runs.save_steps(&group).await.unwrap();
    assert_eq!(saved, [Saved::Done, Saved::Lost, Saved::Done]);
    assert_eq!(scene.let_go(kept, hand_back()).await, LetGo::Done);
    let (_, run) = scene.claim(9).await.remove(0);
    let recorded = [
        ("0:charge".to_owned(), "1".to_owned()),
        ("1:ship".to_owned(), "3".to_owned()),
    ];
    assert_eq!(results(&run), recorded);
    let charge = run.step("0:charge").unwrap();
    assert_eq!((charge.kind, charge.status), (Kind::Step, StepStatus::Completed));
    assert_eq!((charge.started_at, charge.finished_at), (instant(1), Some(instant(2))));
    assert_eq!(charge.claim_token, kept.token);
    assert_eq!(scene.value::<i64>("select count(*) from lockgate.run_steps").await, 2);
    scene.holds().await;
}

#[tokio::test]
async fn one_path_that_is_taken_refuses_the_group_and_only_that_one_adopts() {
    let scene = Scene::new().await;
    let (one, other) = (scene.claimed().await, scene.claimed().await);
    // What a holder whose claim was taken over wrote all the same, just before.
    scene
        .run(&format!(
            "insert into lockgate.run_steps (run_id, path, kind, status, result, claim_token, finished_at)
             values ('{}', '0:charge', 'step', 'completed', 'first', {}, clock_timestamp())",
            one.run,
            one.token - 1
        ))
        .await;
    let group = [step(one, "0:charge", "second"), step(other, "0:charge", "its own")];
    let refused = scene.runs.save_steps(&group).await.unwrap_err();
    assert!(matches!(refused, FleetError::Refused(_)), "{refused}");
    assert_eq!(scene.value::<i64>("select count(*) from lockgate.run_steps").await, 1);
    let Saved::Adopted(earlier) = scene.runs.settle_step(&group[0]).await.unwrap() else {
        panic!("the earlier result was not adopted");
    };
    assert_eq!(earlier.result.as_deref(), Some(&b"first"[..]));
    assert_eq!(scene.runs.settle_step(&group[1]).await.unwrap(), Saved::Done);
}

#[tokio::test]
async fn a_step_that_was_recorded_before_its_answer_was_lost_is_done_and_not_written_again() {
    let scene = Scene::new().await;
    let claim = scene.claimed().await;
    let charge = step(claim, "0:charge", "1");
    assert_eq!(
        scene.runs.save_steps(std::slice::from_ref(&charge)).await.unwrap(),
        [Saved::Done]
    );
    let before: String = scene.value("select xmin::text from lockgate.run_steps").await;
    assert_eq!(scene.runs.settle_step(&charge).await.unwrap(), Saved::Done);
    assert_eq!(
        scene.value::<String>("select xmin::text from lockgate.run_steps").await,
        before
    );
}

#[tokio::test]
async fn a_zombie_writes_nothing_and_hears_so() {
    let scene = Scene::new().await;
    let zombie = scene.claimed().await;
    scene.everybody_dies().await;
    let late = step(zombie, "0:charge", "late");
    assert_eq!(
        scene.runs.save_steps(std::slice::from_ref(&late)).await.unwrap(),
        [Saved::Lost]
    );
    assert_eq!(scene.runs.settle_step(&late).await.unwrap(), Saved::Lost);
    let (claim, run) = scene.claim(9).await.remove(0);
    assert!(run.steps.is_empty());
    assert_eq!(scene.runs.settle_step(&late).await.unwrap(), Saved::Lost);
    let mine = step(claim, "0:charge", "mine");
    assert_eq!(scene.runs.settle_step(&mine).await.unwrap(), Saved::Done);
    // Also when there is a result that it could adopt.
    assert_eq!(scene.runs.settle_step(&late).await.unwrap(), Saved::Lost);
    assert_eq!(scene.let_go(zombie, complete()).await, LetGo::Lost);
    scene.holds().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn holders_at_once_give_a_path_one_result() {
    let scene = Scene::new().await;
    let first = scene.claimed().await;
    for round in 0..20 {
        let path = format!("{round}:race");
        let stores = [store(&scene.database), store(&scene.database), store(&scene.database)];
        let answers = futures::future::join_all(stores.iter().enumerate().map(|(at, store)| {
            let step = step(first, &path, &at.to_string());
            async move { store.settle_step(&step).await.unwrap() }
        }))
        .await;
        // All by one claim: one is recorded, and the others hear what it was.
        let recorded = answers.iter().position(|answer| *answer == Saved::Done).unwrap();
        for (at, answer) in answers.iter().enumerate().filter(|(at, _)| *at != recorded) {
            let Saved::Adopted(earlier) = answer else {
                panic!("{at}: {answer:?}")
            };
            assert_eq!(earlier.result, step(first, &path, &recorded.to_string()).result);
        }
    }
    assert_eq!(scene.value::<i64>("select count(*) from lockgate.run_steps").await, 20);
}

#[tokio::test]
async fn a_wait_is_ended_in_a_group_and_takes_its_signal_once() {
    let scene = Scene::new().await;
    let claim = scene.claimed().await;
    scene
        .run(&format!(
            "select lockgate.signal_run('{}', 'paid') from generate_series(1, 2)",
            claim.run
        ))
        .await;
    let paid = OpenWait {
        path: "0:paid".to_owned(),
        kind: Kind::Signal,
        due_at: Some(instant(9)),
        attempts: 0,
    };
    let act = Act::Wait {
        seen: 2,
        due_at: None,
        batches: false,
        waits: vec![paid],
    };
    assert_eq!(scene.let_go(claim, act).await, LetGo::Done);
    assert_eq!(scene.runs.wake_runs(&[claim.run]).await.unwrap(), 1);
    let (claim, run) = scene.claim(9).await.remove(0);
    let open = run.step("0:paid").unwrap();
    assert_eq!(
        (open.status, open.kind, open.due_at),
        (StepStatus::Open, Kind::Signal, Some(instant(9)))
    );
    assert_eq!(run.signals.iter().map(|signal| signal.seq).collect::<Vec<_>>(), [1, 2]);

    let mut taken = step(claim, "0:paid", "null");
    taken.kind = Kind::Signal;
    taken.signal_seq = Some(1);
    taken.ends_open = true;
    let after = step(claim, "1:ship", "1");
    let saved = scene.runs.save_steps(&[taken.clone(), after]).await.unwrap();
    assert_eq!(saved, [Saved::Done, Saved::Done]);
    // Asked again, as after a lost answer, it is done already; one that never had an open row gets its own.
    assert_eq!(scene.runs.save_steps(&[taken.clone()]).await.unwrap(), [Saved::Done]);
    taken.path = "2:paid".to_owned();
    taken.signal_seq = Some(2);
    assert_eq!(scene.runs.save_steps(&[taken]).await.unwrap(), [Saved::Done]);
    let consumed: Vec<String> = sqlx::query_scalar("select consumed_by from lockgate.signals order by seq")
        .fetch_all(scene.database.pool())
        .await
        .unwrap();
    assert_eq!(consumed, ["0:paid", "2:paid"]);
    let open: i64 = scene
        .value("select count(*) from lockgate.run_steps where status = 'open' or due_at is not null")
        .await;
    assert_eq!(open, 0);
    assert!(scene.runs.read_news(&[claim.run]).await.unwrap()[0].signals.is_empty());
}

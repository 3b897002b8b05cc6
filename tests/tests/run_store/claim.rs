use std::collections::BTreeSet;

use lockgate::lifecycle::{ClaimPage, RunStore, Share};
use uuid::Uuid;

use crate::{Scene, hand_back, page, runnable, step, store};

#[tokio::test]
async fn a_page_takes_of_each_queue_so_many_longest_waiting_first() {
    let scene = Scene::new().await;
    let mut expected = BTreeSet::new();
    for queue in ["orders", "refunds"] {
        for ago in [1, 3, 2] {
            let run: Uuid = scene
                .value(&format!(
                    "select lockgate.start_run('{queue}', start_at => clock_timestamp() - interval '{ago} hours')"
                ))
                .await;
            if ago == 3 || (ago == 2 && queue == "orders") {
                expected.insert(run);
            }
        }
    }
    scene
        .run("select lockgate.start_run('orders', start_at => clock_timestamp() + interval '1 hour')")
        .await;
    let mut asked = page(&["orders", "refunds"], 2);
    asked.shares[1].take = 1;
    let got: BTreeSet<Uuid> = scene
        .runs
        .claim_runs(&asked)
        .await
        .unwrap()
        .iter()
        .map(|(claim, _)| claim.run)
        .collect();
    assert_eq!(got, expected);
    // Under one claim id and its own token each; the same page again takes others.
    let rest = scene.runs.claim_runs(&page(&["orders", "refunds"], 9)).await.unwrap();
    assert_eq!(rest.len(), 3);
    assert!(
        rest.iter()
            .all(|(claim, _)| claim.token == 1 && !got.contains(&claim.run))
    );
    assert!(scene.claim(9).await.is_empty(), "what is due later was claimed");
    scene.holds().await;
}

#[tokio::test]
async fn a_queue_of_its_own_and_a_priority_count() {
    let scene = Scene::new().await;
    let (late, urgent) = (scene.start().await, scene.start().await);
    scene
        .run(&format!(
            "update lockgate.task_runs set queue = 'bulk' where id = '{late}';
             insert into lockgate.task_runs (id, workflow, queue, status, origin_id, wake_at, rank, priority)
             select lockgate.new_id(), workflow, queue, status, origin_id, clock_timestamp(),
                    clock_timestamp() - interval '30 seconds', 2 from lockgate.task_runs where id = '{late}'"
        ))
        .await;
    let mut asked = page(&["bulk"], 1);
    asked.runnable = vec![runnable("orders", 1, 1)];
    let first = scene.runs.claim_runs(&asked).await.unwrap();
    assert_ne!(first[0].0.run, late, "the urgent one goes first");
    assert_eq!(first[0].1.queue, "bulk");
    let second = scene
        .runs
        .claim_runs(&ClaimPage {
            claim_id: Uuid::now_v7(),
            ..asked
        })
        .await
        .unwrap();
    assert_eq!(second[0].0.run, late);
    assert_eq!(scene.claim(9).await[0].0.run, urgent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn claimers_at_once_take_each_run_once() {
    let scene = Scene::new().await;
    scene
        .run("select lockgate.start_run('orders') from generate_series(1, 300)")
        .await;
    let stores: Vec<_> = (0..4).map(|_| store(&scene.database)).collect();
    let pages = stores.iter().map(|store| async move {
        let mut mine = Vec::new();
        loop {
            let page = store.claim_runs(&page(&["orders"], 20)).await.unwrap();
            if page.is_empty() {
                return mine;
            }
            mine.extend(page.into_iter().map(|(claim, _)| claim.run));
        }
    });
    let all: Vec<Uuid> = futures::future::join_all(pages).await.concat();
    assert_eq!(all.len(), 300);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 300);
    scene.holds().await;
}

#[tokio::test]
async fn a_run_is_stamped_with_a_version_and_claimed_only_by_who_replays_it() {
    let scene = Scene::new().await;
    scene.start().await;
    let of = |oldest, newest| ClaimPage {
        runnable: vec![runnable("orders", oldest, newest)],
        ..page(&["orders"], 9)
    };
    let (claim, run) = scene.runs.claim_runs(&of(2, 3)).await.unwrap().remove(0);
    assert_eq!(run.code_version, 3);
    scene.let_go(claim, hand_back()).await;
    assert!(scene.runs.claim_runs(&of(1, 2)).await.unwrap().is_empty());
    let (claim, run) = scene.runs.claim_runs(&of(3, 5)).await.unwrap().remove(0);
    assert_eq!(run.code_version, 3, "it keeps the version that it began with");
    scene.let_go(claim, hand_back()).await;
    // A run that has not begun goes to anybody who has its workflow.
    scene.start().await;
    assert_eq!(scene.runs.claim_runs(&of(1, 1)).await.unwrap()[0].1.code_version, 1);
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_found_with_what_is_recorded() {
    let scene = Scene::new().await;
    let first = scene.claimed().await;
    scene.runs.save_steps(&[step(first, "0:charge", "1")]).await.unwrap();
    scene
        .run(&format!("select lockgate.signal_run('{}', 'go', '[7]')", first.run))
        .await;
    scene.let_go(first, hand_back()).await;
    scene.start().await;
    let asked = page(&["orders"], 9);
    let claimed = scene.runs.claim_runs(&asked).await.unwrap();
    let found = scene.runs.read_claimed_runs(&asked).await.unwrap();
    assert_eq!(found.len(), 2);
    for (claim, run) in &claimed {
        let (_, again) = found.iter().find(|(other, _)| other == claim).unwrap();
        assert_eq!((&run.steps, &run.signals), (&again.steps, &again.signals));
        assert_eq!(run.steps.len(), usize::from(claim.run == first.run));
        assert_eq!(run.signals.len(), usize::from(claim.run == first.run));
    }
    let other = page(&["orders"], 9);
    assert!(scene.runs.read_claimed_runs(&other).await.unwrap().is_empty());
}

#[tokio::test]
async fn only_what_may_go_on_is_claimed_and_seen_as_due() {
    let scene = Scene::new().await;
    let queues = ["orders".to_owned(), "refunds".to_owned()];
    assert_eq!(scene.runs.next_due(&queues).await.unwrap(), None);
    for set in [
        "status = 'paused'",
        "status = 'quarantined'",
        "driven_by = 'caller'",
        "stop_status = 'cancelled'",
        "after_run = (select id from lockgate.task_runs where wake_at > clock_timestamp())",
    ] {
        let run = scene.start().await;
        scene
            .run("select lockgate.start_run('refunds', start_at => clock_timestamp() + interval '1 hour', idempotency_key => 'one')")
            .await;
        scene
            .run(&format!("update lockgate.task_runs set {set} where id = '{run}'"))
            .await;
    }
    let shares = ["orders", "refunds"].map(|queue| Share {
        queue: queue.to_owned(),
        take: 9,
    });
    let asked = ClaimPage {
        shares: shares.to_vec(),
        ..page(&["orders", "refunds"], 9)
    };
    assert!(scene.runs.claim_runs(&asked).await.unwrap().is_empty());
    let due = scene.runs.next_due(&queues).await.unwrap().unwrap().as_secs();
    assert!((3_500..3_601).contains(&due), "{due}");
}

#[tokio::test]
async fn a_run_that_is_to_start_at_no_time_is_refused() {
    let scene = Scene::new().await;
    for never in ["infinity", "-infinity"] {
        let sql = format!("select lockgate.start_run('orders', start_at => '{never}')");
        let refused = sqlx::query(sqlx::AssertSqlSafe(sql))
            .execute(scene.database.pool())
            .await
            .unwrap_err();
        let said = refused.as_database_error().unwrap();
        assert_eq!(
            said.message(),
            format!("start_run: start_at is {never}; nothing was started")
        );
        assert_eq!(said.code().as_deref(), Some("22023"));
    }
    assert_eq!(scene.value::<i64>("select count(*) from lockgate.task_runs").await, 0);
}

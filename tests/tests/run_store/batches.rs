//! What is found of fan-outs: batches to send, and those that nobody completed.

use lockgate::lifecycle::{BatchOutcome, Fleet, ItemIds, PlanChunk, PlanProgress, PlannedBatch, RunClaim, RunStore};
use lockgate::postgres::PostgresFleet;
use uuid::Uuid;

use crate::{Scene, page, runnable};

async fn plan(fleet: &PostgresFleet, claim: &RunClaim, path: &str, batches: i64) {
    fleet.open_fan_out(claim, path, false).await.unwrap();
    let batch = |id| PlannedBatch {
        ids: ItemIds::new(vec![id]).unwrap(),
    };
    let chunk = PlanChunk {
        path: path.to_owned(),
        after: None,
        batches: (1..=batches).map(batch).collect(),
        last: true,
    };
    assert_eq!(fleet.plan_chunk(claim, &chunk).await.unwrap(), PlanProgress::Written);
}

#[tokio::test]
async fn batches_are_found_by_who_replays_their_runs_and_all_of_these_have_their_turn() {
    let scene = Scene::new().await;
    let fleet = scene.fleet();
    let mut runs = Vec::new();
    for version in [1, 2, 2, 2] {
        scene.start().await;
        let mut asked = page(&["orders"], 1);
        asked.runnable = vec![runnable("orders", version, version)];
        let (claim, _) = scene.runs.claim_runs(&asked).await.unwrap().remove(0);
        plan(&fleet, &claim, "0:users", 1).await;
        runs.push(claim.run);
    }
    runs[1..].sort_unstable();
    let find = async |runnable, behind, most| fleet.claimable_runs(&[runnable], &[], behind, most).await.unwrap();
    assert_eq!(find(runnable("orders", 1, 1), None, 9).await, [runs[0]]);
    assert_eq!(find(runnable("orders", 2, 4), None, 9).await, runs[1..]);
    assert_eq!(find(runnable("orders", 1, 2), None, 9).await.len(), 4);
    assert!(find(runnable("orders", 3, 4), None, 9).await.is_empty());
    assert!(find(runnable("others", 1, 2), None, 9).await.is_empty());
    // Too many for one look: the next look begins behind the last that was found.
    let of_two = || runnable("orders", 2, 2);
    assert_eq!(find(of_two(), Some(runs[2]), 2).await, [runs[3], runs[1]]);
    assert_eq!(find(of_two(), Some(runs[3]), 2).await, [runs[1], runs[2]]);
}

#[tokio::test]
async fn a_fan_out_that_nobody_completed_is_whatever_else_of_its_run_waits() {
    let scene = Scene::new().await;
    let (fleet, claim) = (scene.fleet(), scene.claimed().await);
    plan(&fleet, &claim, "0:few", 1).await;
    plan(&fleet, &claim, "1:many", 3).await;
    let few = fleet
        .claim_next_batch(claim.run, Uuid::now_v7())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(few.step, "0:few");
    let outcome = BatchOutcome {
        delivered: 1,
        ..BatchOutcome::default()
    };
    fleet.finish_batch(&few.claim, &few.ids, &outcome).await.unwrap();
    // One of the others is held, two wait.
    fleet
        .claim_next_batch(claim.run, Uuid::now_v7())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(fleet.sweep().await.unwrap().fan_outs, 1);
    let open = "select string_agg(path, ' ') from lockgate.run_steps where status = 'open'";
    assert_eq!(scene.value::<String>(open).await, "1:many");
    assert_eq!(fleet.sweep().await.unwrap().fan_outs, 0);
    scene.holds().await;
}

#[tokio::test]
async fn a_fan_out_that_cannot_be_completed_keeps_no_other_from_it() {
    let scene = Scene::new().await;
    let fleet = scene.fleet();
    for _ in 0..3 {
        scene.start().await;
    }
    let mut runs: Vec<Uuid> = Vec::new();
    for (claim, _) in scene.claim(3).await {
        // Nothing to send: only planned.
        plan(&fleet, &claim, "0:users", 0).await;
        runs.push(claim.run);
    }
    runs.sort_unstable();
    // Whichever end a sweep begins at.
    let broken = format!(
        "create function public.refuse() returns trigger language plpgsql as $$ begin raise exception 'not this one'; end $$;
         create trigger refuse before update on lockgate.run_steps for each row
             when (old.run_id in ('{}', '{}')) execute function public.refuse()",
        runs[0], runs[2]
    );
    scene.run(&broken).await;
    let error = fleet.sweep().await.unwrap_err();
    assert!(error.to_string().contains("not this one"), "{error}");
    let completed = "select string_agg(run_id::text, ' ') from lockgate.run_steps where status = 'completed'";
    assert_eq!(scene.value::<String>(completed).await, runs[1].to_string());
}

//! What is recorded of runs comes with their page as far as it is short, and else by itself.

use std::collections::BTreeMap;

use lockgate::lifecycle::{NewStep, RunClaim, RunId, RunStore, Saved, WorkRun};
use serde_json::json;

use super::crew::*;
use super::world::RunWorld;

const KIB: usize = 1024;
/// Most bytes of a record that come with a page.
const SHORT: usize = 64 * KIB;

/// Starts runs, records so many steps of so many bytes for each, and lets their holder die; so many runs, steps, bytes.
async fn leave<const N: usize>(world: &dyn RunWorld, shapes: [(usize, u32, usize); N]) -> [Vec<RunId>; N] {
    let store = world.replica();
    let mut claims = Vec::new();
    let left = shapes.map(|(runs, ..)| runs);
    for _ in 0..left.iter().sum() {
        claims.push(start_and_claim(world, &*store).await);
    }
    let mut rest = claims.as_slice();
    let mut runs = Vec::new();
    for (count, steps, bytes) in shapes {
        let (mine, others) = rest.split_at(count);
        rest = others;
        record(&*store, mine, steps, bytes).await;
        runs.push(mine.iter().map(|claim| claim.run).collect());
    }
    for claim in &claims {
        world.end_leases(claim).await;
    }
    world.sweep().await;
    runs.try_into().unwrap()
}

async fn record(store: &dyn RunStore, claims: &[RunClaim], steps: u32, bytes: usize) {
    let result = format!("\"{}\"", "x".repeat(bytes - 2));
    for claims in claims.chunks(16) {
        let of_run = |claim: &RunClaim| {
            let (claim, result) = (*claim, result.clone());
            (0..steps).map(move |at| step(claim, &format!("{at}:s"), &result))
        };
        let group: Vec<NewStep> = claims.iter().flat_map(of_run).collect();
        let saved = store.save_steps(&group).await.unwrap();
        assert!(saved.iter().all(|saved| *saved == Saved::Done));
    }
}

async fn claim_all(store: &dyn RunStore, runs: u32) -> BTreeMap<RunId, WorkRun> {
    let got = store.claim_runs(&page(runs)).await.unwrap();
    assert_eq!(got.len(), runs as usize);
    got.into_iter().map(|(claim, run)| (claim.run, run)).collect()
}

fn bytes(run: &WorkRun) -> usize {
    let results = run.steps.iter().filter_map(|step| step.result.as_ref());
    results.map(Vec::len).sum()
}

pub(super) async fn a_page_takes_a_short_record_of_each_run_at_most(world: &dyn RunWorld) {
    let shapes = [(64, 10, 200 * KIB), (2, 10, 5 * KIB), (2, 3, 100)];
    let [large, middle, small] = leave(world, shapes).await;
    let store = world.replica();
    let page = claim_all(&*store, 68).await;
    let read: usize = page.values().map(bytes).sum();
    assert!(read <= 68 * SHORT, "a page brought {read} bytes");
    for run in large {
        assert!(page[&run].unread && page[&run].steps.is_empty());
    }
    for (run, (steps, each)) in middle
        .iter()
        .map(|run| (run, (10, 5 * KIB)))
        .chain(small.iter().map(|run| (run, (3, 100))))
    {
        let run = &page[run];
        assert_eq!((run.unread, run.steps.len(), bytes(run)), (false, steps, steps * each));
    }
}

pub(super) async fn a_large_record_is_read_by_itself(world: &dyn RunWorld) {
    let run = leave(world, [(1, 10, 200 * KIB)]).await[0][0];
    let store = world.replica();
    send(&*store, signal(run, json!(1))).await;
    let page = claim_all(&*store, 1).await;
    assert!(page[&run].unread && page[&run].signals.is_empty());
    let record = store.read_record(run).await.unwrap();
    let results = record.steps.iter().filter_map(|step| step.result.as_ref());
    assert_eq!(results.map(Vec::len).sum::<usize>(), 10 * 200 * KIB);
    assert_eq!((record.steps.len(), record.signals.len()), (10, 1));
}

/// More rows than are read at once, none of them large.
pub(super) async fn a_page_of_many_small_steps_comes_whole(world: &dyn RunWorld) {
    let [runs] = leave(world, [(66, 310, 4)]).await;
    let page = claim_all(&*world.replica(), 66).await;
    for run in runs {
        assert_eq!((page[&run].unread, page[&run].steps.len()), (false, 310));
    }
}

pub(super) async fn large_signals_are_not_read_with_the_page(world: &dyn RunWorld) {
    let store = world.replica();
    let (large, small) = (start(world).await, start(world).await);
    for _ in 0..20 {
        send(&*store, signal(large, json!("x".repeat(5 * KIB)))).await;
    }
    send(&*store, signal(small, json!("x"))).await;
    let page = claim_all(&*store, 2).await;
    assert!(page[&large].unread && page[&large].signals.is_empty());
    assert_eq!((page[&small].unread, page[&small].signals.len()), (false, 1));
    assert_eq!(store.read_record(large).await.unwrap().signals.len(), 20);
}

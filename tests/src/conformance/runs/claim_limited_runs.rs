//! Claiming from a queue that has limits.

use std::collections::BTreeSet;
use std::time::Duration;

use lockgate::lifecycle::{Act, ClaimPage, Holds, LetGo, QueueSettings, RunClaim, RunId, RunStore, derived_id};
use lockgate::memory::RunStart;

use super::continue_runs::{continuation, go_on};
use super::crew::*;
use super::world::RunWorld;

fn queue() -> QueueSettings {
    QueueSettings::new(WORKFLOW)
}

/// Claims, again while somebody else claims from the same queue.
async fn limited(store: &dyn RunStore, page: &ClaimPage) -> Vec<RunClaim> {
    let claimed = store.claim_limited_runs(page).await.unwrap();
    claimed.runs.into_iter().map(|(claim, _)| claim).collect()
}

fn ids(claims: &[RunClaim]) -> Vec<RunId> {
    claims.iter().map(|claim| claim.run).collect()
}

async fn start_of(world: &dyn RunWorld, tenant: Option<&str>, key: Option<&str>) -> RunId {
    let start = RunStart {
        tenant: tenant.map(str::to_owned),
        limit_key: key.map(str::to_owned),
        ..RunStart::new(WORKFLOW)
    };
    world.start(start).await.unwrap()
}

async fn start_many(world: &dyn RunWorld, count: usize) -> Vec<RunId> {
    let mut runs = Vec::new();
    for _ in 0..count {
        runs.push(start(world).await);
    }
    runs
}

async fn end(store: &dyn RunStore, claim: RunClaim) {
    assert_eq!(let_go(store, complete(claim)).await, LetGo::Done);
}

pub(super) async fn no_more_run_at_once_than_may(world: &dyn RunWorld) {
    let (one, other) = (world.replica(), world.replica());
    world.set_queue(queue().max_running(3)).await;
    let runs = start_many(world, 5).await;
    let first = limited(&*one, &page(2)).await;
    assert_eq!(ids(&first), runs[..2]);
    let second = limited(&*other, &page(10)).await;
    assert_eq!(ids(&second), runs[2..3], "the limit is the fleet's");
    assert!(limited(&*one, &page(10)).await.is_empty());
    end(&*one, first[0]).await;
    end(&*other, second[0]).await;
    assert_eq!(limited(&*one, &page(10)).await.len(), 2);
}

pub(super) async fn a_place_is_free_when_its_run_waits(world: &dyn RunWorld) {
    let store = world.replica();
    world.set_queue(queue().max_running(1)).await;
    start_many(world, 3).await;
    let waits = limited(&*store, &page(10)).await[0];
    assert_eq!(let_go(&*store, wait(waits, 0, None)).await, LetGo::Done);
    let failed = limited(&*store, &page(10)).await[0];
    let reason = "no".to_owned();
    assert_eq!(let_go(&*store, ending(failed, Act::Fail { reason })).await, LetGo::Done);
    let back = limited(&*store, &page(10)).await[0];
    assert!(limited(&*store, &page(10)).await.is_empty());
    assert_eq!(let_go(&*store, hand_back(back, HOUR)).await, LetGo::Done);
    send(&*store, signal(waits.run, serde_json::json!(1))).await;
    assert_eq!(ids(&limited(&*store, &page(10)).await), [waits.run]);
}

pub(super) async fn a_place_is_held_until_the_run_is_over(world: &dyn RunWorld) {
    let store = world.replica();
    world.set_queue(queue().max_running(1).holds(Holds::Run)).await;
    let runs = start_many(world, 2).await;
    let first = limited(&*store, &page(10)).await;
    assert_eq!(ids(&first), runs[..1]);
    assert_eq!(let_go(&*store, wait(first[0], 0, None)).await, LetGo::Done);
    assert!(limited(&*store, &page(10)).await.is_empty(), "it waits in its place");
    // And goes on in it though the queue is full.
    send(&*store, signal(runs[0], serde_json::json!(1))).await;
    let again = limited(&*store, &page(10)).await;
    assert_eq!(ids(&again), runs[..1]);
    assert!(limited(&*store, &page(10)).await.is_empty());
    end(&*store, again[0]).await;
    assert_eq!(ids(&limited(&*store, &page(10)).await), runs[1..]);
}

/// What goes on is the same run to its queue.
pub(super) async fn a_run_goes_on_as_another_in_its_place(world: &dyn RunWorld) {
    let store = world.replica();
    world.set_queue(queue().max_running(1).holds(Holds::Run)).await;
    let runs = start_many(world, 2).await;
    let first = limited(&*store, &page(10)).await;
    assert_eq!(ids(&first), runs[..1]);
    assert_eq!(go_on(&*store, continuation(first[0], 0)).await, LetGo::Done);
    let next = limited(&*store, &page(10)).await;
    assert_eq!(ids(&next), [derived_id(runs[0], "continued")]);
    end(&*store, next[0]).await;
    assert_eq!(ids(&limited(&*store, &page(10)).await), runs[1..]);
}

pub(super) async fn a_dead_holder_holds_no_place(world: &dyn RunWorld) {
    let store = world.replica();
    world.set_queue(queue().max_running(1)).await;
    let run = start(world).await;
    let dead = limited(&*store, &page(10)).await[0];
    start(world).await;
    die(world, &dead).await;
    let next = limited(&*store, &page(10)).await;
    assert_eq!(next.len(), 1);
    assert_eq!(let_go(&*store, complete(dead)).await, LetGo::Lost);
    assert_eq!(limited(&*store, &page(10)).await.len(), 0, "one place, one holder");
    assert!(ids(&next) != [run] || next[0].token == 2);
}

pub(super) async fn a_stopped_run_holds_no_place(world: &dyn RunWorld) {
    let store = world.replica();
    world.set_queue(queue().max_running(1).holds(Holds::Run)).await;
    let run = start(world).await;
    let held = limited(&*store, &page(10)).await[0];
    assert_eq!(let_go(&*store, wait(held, 0, None)).await, LetGo::Done);
    let next = start(world).await;
    assert!(limited(&*store, &page(10)).await.is_empty());
    assert_eq!(world.cancel(run).await, "cancelled");
    assert_eq!(ids(&limited(&*store, &page(10)).await), [next]);
}

pub(super) async fn no_more_of_a_key_run_at_once_than_may(world: &dyn RunWorld) {
    let store = world.replica();
    world.set_queue(queue().max_per_key(2)).await;
    let mut of_a = Vec::new();
    for _ in 0..4 {
        of_a.push(start_of(world, None, Some("a")).await);
    }
    let of_b = start_of(world, None, Some("b")).await;
    let got = limited(&*store, &page(10)).await;
    assert_eq!(BTreeSet::from_iter(ids(&got)), BTreeSet::from([of_a[0], of_a[1], of_b]));
    assert!(limited(&*store, &page(10)).await.is_empty());
    let ended = got.iter().find(|claim| claim.run == of_a[0]).unwrap();
    end(&*store, *ended).await;
    assert_eq!(ids(&limited(&*store, &page(10)).await), of_a[2..3]);
}

pub(super) async fn a_full_key_holds_up_no_other(world: &dyn RunWorld) {
    let store = world.replica();
    world.set_queue(queue().max_per_key(1)).await;
    for _ in 0..30 {
        start_of(world, None, Some("a")).await;
    }
    let of_b = start_of(world, None, Some("b")).await;
    // A page of one looks at the head only, and that is of a full key from then on.
    let first = limited(&*store, &page(1)).await;
    assert_eq!(first.len(), 1);
    assert_eq!(ids(&limited(&*store, &page(1)).await), [of_b]);
    assert!(limited(&*store, &page(1)).await.is_empty());
    end(&*store, first[0]).await;
    assert_eq!(limited(&*store, &page(5)).await.len(), 1);
}

pub(super) async fn what_has_no_key_has_no_limit_of_a_key(world: &dyn RunWorld) {
    let store = world.replica();
    world.set_queue(queue().max_per_key(1)).await;
    for _ in 0..5 {
        start_of(world, None, Some("a")).await;
    }
    let bare = start_many(world, 3).await;
    let mut got = ids(&limited(&*store, &page(10)).await);
    got.extend(ids(&limited(&*store, &page(10)).await));
    assert_eq!(got.len(), 4);
    assert!(bare.iter().all(|run| got.contains(run)));
}

pub(super) async fn a_small_tenant_is_served_beside_a_large_one(world: &dyn RunWorld) {
    let store = world.replica();
    world.set_queue(queue().max_running(10).fair()).await;
    for _ in 0..40 {
        start_of(world, Some("large"), None).await;
    }
    let mut small = Vec::new();
    for _ in 0..3 {
        small.push(start_of(world, Some("small"), None).await);
    }
    let got = ids(&limited(&*store, &page(6)).await);
    assert_eq!(got.len(), 6);
    assert_eq!(got.iter().filter(|run| small.contains(run)).count(), 3, "{got:?}");
}

/// One look, or two where the turn is just behind, finds all that may go on, whoever else sleeps or has no room.
async fn found_in_two_looks(world: &dyn RunWorld, store: &dyn RunStore) {
    let ready: BTreeSet<RunId> = {
        let mut ready = BTreeSet::new();
        for _ in 0..40 {
            ready.insert(start_of(world, Some("tenant 150, ready"), None).await);
        }
        ready
    };
    let mut got = BTreeSet::new();
    for _ in 0..2 {
        got.extend(ids(&limited(store, &page(40)).await));
    }
    assert_eq!(got, ready);
}

pub(super) async fn tenants_that_sleep_are_in_nobodys_way(world: &dyn RunWorld) {
    let store = world.replica();
    world.set_queue(queue().max_running(1_000).fair()).await;
    let later = world.now().await + HOUR;
    for number in 0..300 {
        let mut start = RunStart {
            tenant: Some(format!("tenant {number:03}")),
            ..RunStart::new(WORKFLOW)
        };
        start.request.start_at = Some(later);
        world.start(start).await.unwrap();
    }
    found_in_two_looks(world, &*store).await;
}

pub(super) async fn tenants_that_have_no_room_are_in_nobodys_way(world: &dyn RunWorld) {
    let store = world.replica();
    world.set_queue(queue().max_running(1_000).max_per_key(1).fair()).await;
    for number in 0..300 {
        let tenant = format!("tenant {number:03}");
        for _ in 0..2 {
            start_of(world, Some(&tenant), Some(&tenant)).await;
        }
    }
    let mut first = 0;
    while first < 300 {
        let more = limited(&*store, &page(300)).await.len();
        assert!(more > 0, "{first}");
        first += more;
    }
    assert_eq!(first, 300);
    found_in_two_looks(world, &*store).await;
}

pub(super) async fn tenants_take_turns_where_one_place_is_free(world: &dyn RunWorld) {
    let store = world.replica();
    world.set_queue(queue().max_running(1).fair()).await;
    let mut tenants = std::collections::BTreeMap::new();
    for tenant in ["a", "b", "c"] {
        for _ in 0..3 {
            tenants.insert(start_of(world, Some(tenant), None).await, tenant);
        }
    }
    let mut order = Vec::new();
    for _ in 0..9 {
        let got = limited(&*store, &page(5)).await;
        assert_eq!(got.len(), 1);
        order.push(tenants[&got[0].run]);
        end(&*store, got[0]).await;
    }
    for round in order.chunks(3) {
        assert_eq!(
            BTreeSet::from_iter(round),
            BTreeSet::from([&"a", &"b", &"c"]),
            "{order:?}"
        );
    }
}

pub(super) async fn the_rate_holds_and_a_pause_saves_up_a_burst(world: &dyn RunWorld) {
    let store = world.replica();
    // So slow that no token comes by itself while this runs.
    world.set_queue(queue().rate_per_s(0.001).burst(3)).await;
    start_many(world, 10).await;
    let first = store.claim_limited_runs(&page(10)).await.unwrap();
    assert_eq!(first.runs.len(), 3, "a rate that is new begins with a whole burst");
    let again = first.again.expect("a token will come");
    assert!(
        again > Duration::from_secs(900) && again <= Duration::from_secs(1_000),
        "{again:?}"
    );
    assert!(limited(&*world.replica(), &page(10)).await.is_empty());
    world.advance(Duration::from_secs(1_001)).await;
    assert_eq!(limited(&*store, &page(10)).await.len(), 1);
    world.advance(Duration::from_secs(100_000)).await;
    assert_eq!(
        limited(&*store, &page(10)).await.len(),
        3,
        "no more than a burst is saved up"
    );
}

pub(super) async fn a_rate_of_runs_counts_first_claims_only(world: &dyn RunWorld) {
    let store = world.replica();
    world
        .set_queue(queue().rate_per_s(0.001).burst(1).holds(Holds::Run))
        .await;
    let run = start(world).await;
    let held = limited(&*store, &page(10)).await[0];
    start(world).await;
    for token in 2..5 {
        assert_eq!(
            let_go(&*store, hand_back(held_now(held, token - 1), Duration::ZERO)).await,
            LetGo::Done
        );
        let again = limited(&*store, &page_with(held.claim_id)).await;
        assert_eq!((ids(&again), again[0].token), (vec![run], token));
    }
}

fn held_now(claim: RunClaim, token: i64) -> RunClaim {
    RunClaim { token, ..claim }
}

fn page_with(claim_id: uuid::Uuid) -> ClaimPage {
    ClaimPage { claim_id, ..page(10) }
}

pub(super) async fn a_paused_queue_gives_nothing(world: &dyn RunWorld) {
    let store = world.replica();
    let run = start(world).await;
    world.pause_queue(WORKFLOW, true).await;
    assert!(limited(&*store, &page(10)).await.is_empty());
    // Limits that are set meanwhile leave it paused.
    world.set_queue(queue().max_running(5)).await;
    assert!(limited(&*store, &page(10)).await.is_empty());
    let rules = store.read_queues(&[WORKFLOW.to_owned()]).await.unwrap().rules;
    assert!(rules.len() == 1 && rules[0].limited, "{rules:?}");
    world.pause_queue(WORKFLOW, false).await;
    assert_eq!(ids(&limited(&*store, &page(10)).await), [run]);
}

pub(super) async fn an_urgent_run_goes_first_in_a_limited_queue_too(world: &dyn RunWorld) {
    let store = world.replica();
    world.set_queue(queue().max_running(1)).await;
    let usual = start(world).await;
    let urgent = RunStart {
        priority: 5,
        ..RunStart::new(WORKFLOW)
    };
    let urgent = world.start(urgent).await.unwrap();
    for run in [urgent, usual] {
        let got = limited(&*store, &page(10)).await;
        assert_eq!(ids(&got), [run]);
        end(&*store, got[0]).await;
    }
}

pub(super) async fn a_suspect_of_a_limited_queue_is_claimed_apart(world: &dyn RunWorld) {
    let store = world.replica();
    world.set_queue(queue().max_running(1)).await;
    let run = start(world).await;
    assert_eq!(store.suspect_queues().await.unwrap(), [""; 0]);
    for _ in 0..2 {
        let held = limited(&*store, &page(10)).await[0];
        die(world, &held).await;
    }
    assert!(limited(&*store, &page(10)).await.is_empty());
    assert_eq!(store.suspect_queues().await.unwrap(), [WORKFLOW]);
    assert_eq!(ids(&limited(&*store, &suspects()).await), [run]);
    assert_eq!(store.suspect_queues().await.unwrap(), [""; 0]);
}

pub(super) async fn a_limit_that_is_set_later_counts_what_runs(world: &dyn RunWorld) {
    let store = world.replica();
    start_many(world, 3).await;
    let held = store.claim_runs(&page(2)).await.unwrap();
    world.set_queue(queue().max_running(2)).await;
    assert!(limited(&*store, &page(10)).await.is_empty());
    end(&*store, held[0].0).await;
    assert_eq!(limited(&*store, &page(10)).await.len(), 1);
    // Who did not know of the limit yet claimed beside it: the sweep counts that.
    start_many(world, 2).await;
    store.claim_runs(&page(1)).await.unwrap();
    world.sweep().await;
    end(&*store, held[1].0).await;
    assert!(limited(&*store, &page(10)).await.is_empty());
}

pub(super) async fn queues_with_runs_of_a_workflow_are_known(world: &dyn RunWorld) {
    let store = world.replica();
    let workflows = [WORKFLOW.to_owned()];
    let named = async || store.read_queues(&workflows).await.unwrap().named;
    assert_eq!(named().await, [""; 0]);
    for (queue, workflow) in [
        ("bulk", WORKFLOW),
        ("mails", "mails"),
        ("other", "invoices"),
        ("bulk", "invoices"),
    ] {
        let start = RunStart {
            queue: Some(queue.to_owned()),
            ..RunStart::new(workflow)
        };
        world.start(start).await.unwrap();
    }
    start(world).await;
    assert_eq!(named().await, ["bulk"]);
    let got = store.claim_runs(&page_of(&[("bulk", 10)], (1, 1))).await.unwrap();
    assert_eq!(got.len(), 1, "what has no code here is left");
    assert_eq!(named().await, [""; 0]);
}

pub(super) async fn queues_with_something_to_do_are_known(world: &dyn RunWorld) {
    let store = world.replica();
    let names = [WORKFLOW.to_owned(), "bulk".to_owned()];
    assert_eq!(store.waiting_queues(&names).await.unwrap(), [""; 0]);
    let held = start_and_claim(world, &*store).await;
    assert_eq!(store.waiting_queues(&names).await.unwrap(), [""; 0]);
    let_go(&*store, hand_back(held, HOUR)).await;
    assert_eq!(
        store.waiting_queues(&names).await.unwrap(),
        [""; 0],
        "its time has not come"
    );
    world.advance(HOUR).await;
    assert_eq!(store.waiting_queues(&names).await.unwrap(), [WORKFLOW]);
}

pub(super) async fn many_replicas_never_exceed_a_limit(world: &dyn RunWorld) {
    world.set_queue(queue().max_running(7).max_per_key(3)).await;
    for number in 0..60 {
        start_of(world, None, Some(["a", "b", "c"][number % 3])).await;
    }
    let stores: Vec<_> = (0..4).map(|_| world.replica()).collect();
    let mut done = 0;
    while done < 60 {
        let pages = stores.iter().map(|store| async { limited(&**store, &page(5)).await });
        let got: Vec<RunClaim> = futures::future::join_all(pages).await.concat();
        assert!(got.len() <= 7, "{} at once", got.len());
        let mut of_key = std::collections::BTreeMap::<usize, usize>::new();
        let runs = world.runs().await;
        for claim in &got {
            let number = runs.iter().position(|seen| seen.run == claim.run).unwrap();
            *of_key.entry(number % 3).or_default() += 1;
        }
        assert!(of_key.values().all(|count| *count <= 3), "{of_key:?}");
        for claim in &got {
            end(&*stores[0], *claim).await;
        }
        done += got.len();
    }
}

//! How batches are claimed and sent: by which code, in what trouble, and what is learnt of their fan-outs meanwhile.
#![allow(clippy::unwrap_used)]

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::Utc;
use futures::FutureExt;
use futures::future::BoxFuture;
use uuid::Uuid;

use super::executor::{Executor, ExecutorParts, Hints, Shared};
use super::settings::ExecutionSettings;
use super::trial::{page, until};
use super::worker;
use crate::delivery::{
    BreakerPolicy, Breakers, Command, EMAIL, Message, Observation, Outcome, Publisher, Reason, Rejected, Ticket,
    TopicError, TopicInfo,
};
use crate::lifecycle::*;
use crate::memory::{MemoryRunStore, RunStart, VirtualClock};
use crate::workflow::{Context, IdPages, Registry, Resources, Source, Workflow};

const TOPIC: &str = "email_commands";
/// Of a batch: more than are sent in one go.
const ITEMS: i64 = 400;

/// Two fan-outs beside each other; what each says, the version of the code.
struct Sends<const VERSION: u32>;

impl<const OF: u32> Workflow for Sends<OF> {
    const NAME: &'static str = "tested";
    const VERSION: u32 = OF;
    const REPLAYS: std::ops::RangeInclusive<u32> = OF..=OF;
    type Input = ();
    type Output = ();

    async fn run(&self, ctx: Context, (): ()) -> anyhow::Result<()> {
        let few = ctx.fan_out(Rows("few"), message);
        let held = ctx.fan_out(Rows("held"), message);
        tokio::try_join!(few, held)?;
        Ok(())
    }
}

fn message(_: &i64) -> anyhow::Result<Option<Command>> {
    Ok(Some(Command {
        command_type: EMAIL.into(),
        topic: None,
        key: None,
        payload: b"{}".to_vec(),
        correlation_id: None,
    }))
}

/// Rows of a source; those of `held` never come.
struct Rows(&'static str);

#[async_trait]
impl Source for Rows {
    type Row = i64;

    fn name(&self) -> &str {
        self.0
    }
    async fn ids(&self, _: &Resources, _: Option<i64>) -> anyhow::Result<Box<dyn IdPages>> {
        unreachable!()
    }
    async fn rows(&self, _: &Resources, ids: &[i64]) -> anyhow::Result<Vec<(i64, i64)>> {
        if self.0 == "held" {
            return pending().await;
        }
        Ok(ids.iter().map(|id| (*id, *id)).collect())
    }
}

/// Takes all that it is offered, and says so, or does not.
#[derive(Default)]
struct Taker {
    offered: AtomicU32,
    is_silent: AtomicBool,
}

impl Publisher for Taker {
    fn publish(&self, _: &Message, ticket: Ticket) -> Result<(), Rejected> {
        self.offered.fetch_add(1, Ordering::SeqCst);
        let (partition, offset) = (0, 0);
        if !self.is_silent.load(Ordering::SeqCst) {
            ticket
                .sink
                .settle(ticket.index, Outcome::Delivered { partition, offset });
        }
        Ok(())
    }
    fn capacity(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
    fn check_topic<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<TopicInfo, TopicError>> {
        unreachable!()
    }
    fn shutdown(&self, _: Duration) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

/// A run of version 1 with batches, and a replica that may send them.
struct Crew {
    store: MemoryRunStore,
    shared: Arc<Shared>,
    taker: Arc<Taker>,
    claim: RunClaim,
}

impl Crew {
    async fn with(code: impl Workflow, planned: &[(&str, usize)]) -> Self {
        let store = MemoryRunStore::new(Arc::new(VirtualClock::new(Utc::now())), Duration::from_secs(3_600));
        let mut start = RunStart::new("tested");
        start.request.params = b"null".to_vec();
        store.start_run(start).unwrap();
        let runnable = Runnable {
            workflow: "tested".to_owned(),
            version: 1,
            replays: 1..=1,
        };
        let (claim, _) = store
            .claim_runs(&page("tested", 1, vec![runnable]))
            .await
            .unwrap()
            .remove(0);
        for (path, batches) in planned {
            plan(&store, &claim, path, *batches).await;
        }
        let (shared, taker) = replica(&store, code);
        Self {
            store,
            shared,
            taker,
            claim,
        }
    }

    fn sent(&self) -> u32 {
        self.taker.offered.load(Ordering::SeqCst)
    }

    fn is_completed(&self, path: &str) -> bool {
        let steps = self.store.steps(self.claim.run).into_iter();
        steps
            .filter(|step| step.path == path)
            .any(|step| step.status == StepStatus::Completed)
    }
}

async fn plan(store: &MemoryRunStore, claim: &RunClaim, path: &str, batches: usize) {
    store.open_fan_out(claim, path);
    let batch = |number: i64| PlannedBatch {
        ids: ItemIds::new((number * ITEMS..(number + 1) * ITEMS).collect()).unwrap(),
    };
    let chunk = PlanChunk {
        path: path.to_owned(),
        after: None,
        batches: (1..).take(batches).map(batch).collect(),
        last: true,
    };
    assert_eq!(store.plan_chunk(claim, &chunk).await.unwrap(), PlanProgress::Written);
}

fn replica(store: &MemoryRunStore, code: impl Workflow) -> (Arc<Shared>, Arc<Taker>) {
    let mut registry = Registry::default();
    registry.add(code);
    let mut settings = ExecutionSettings::new(Uuid::nil());
    settings.poll = Duration::from_millis(20);
    let taker = Arc::new(Taker::default());
    let executor = Executor::new(ExecutorParts {
        fleet: Arc::new(store.clone()),
        runs: Arc::new(store.clone()),
        publisher: taker.clone(),
        breakers: Arc::new(Breakers::new(BreakerPolicy::default())),
        door: None,
        registry,
        resources: Resources::default(),
        settings,
        hints: Arc::new(Hints::default()),
        clock: Arc::new(SystemClock),
    });
    (executor.shared(), taker)
}

#[tokio::test]
async fn who_has_code_of_another_version_neither_finds_nor_sends_batches() {
    let other = Crew::with(Sends::<2>, &[("0:few", 3)]).await;
    let find = async |shared: &Shared| {
        let runnable = shared.registry.runnable();
        shared.fleet.claimable_runs(&runnable, &[], None, 9).await.unwrap()
    };
    assert!(find(&other.shared).await.is_empty());
    let (same, _) = replica(&other.store, Sends::<1>);
    assert_eq!(find(&same).await, [other.claim.run]);
    // It was told of the run all the same.
    assert!(other.shared.fan_outs.of_batch(other.claim.run, "0:few").await.is_none());
    assert!(
        other.shared.fan_outs.is_unreached(other.claim.run),
        "it would try again at once"
    );
    assert_eq!(other.shared.fan_outs.declined(|_| true), [other.claim.run]);
    assert!(same.fan_outs.of_batch(other.claim.run, "0:few").await.is_some());
}

#[tokio::test]
async fn who_goes_on_with_another_fan_out_completes_the_one_that_is_over() {
    let fleet = Crew::with(Sends::<1>, &[("0:few", 1), ("1:held", 2)]).await;
    fleet.shared.work.offer(fleet.claim.run);
    let working = tokio::spawn(worker::run(fleet.shared.clone()));
    until("the first fan-out is completed", || fleet.is_completed("0:few")).await;
    assert!(!fleet.is_completed("1:held"));
    working.abort();
}

#[tokio::test]
async fn an_open_breaker_is_given_nothing_by_a_fan_out_of_which_nothing_is_known() {
    let fleet = Crew::with(Sends::<1>, &[("0:few", 1)]).await;
    let shared = &fleet.shared;
    shared
        .breakers
        .observe(TOPIC, Observation::Trouble(Reason::AllBrokersDown));
    shared.work.offer(fleet.claim.run);
    let working = tokio::spawn(worker::run(shared.clone()));
    let learnt = || {
        shared
            .fan_outs
            .of_run(fleet.claim.run)
            .iter()
            .any(|known| !known.topics().is_empty())
    };
    until("it is known where it sends", learnt).await;
    until("the batch is handed back", || shared.book.batch_count() == 0).await;
    assert_eq!(fleet.sent(), 0, "messages for an open breaker");
    let later = Instant::now() + Duration::from_secs(3_600);
    let in_trouble = |topic: &String| shared.breakers.is_in_trouble(topic);
    shared
        .fan_outs
        .forget_unused(later, |known| known.topics().iter().any(in_trouble));
    assert_eq!(
        shared.fan_outs.of_run(fleet.claim.run).len(),
        1,
        "the next one would go at the breaker again"
    );
    working.abort();
}

#[tokio::test]
async fn failures_of_a_source_are_counted_over_its_pauses() {
    let fleet = Crew::with(Sends::<1>, &[("0:few", 1)]).await;
    let (shared, run) = (&fleet.shared, fleet.claim.run);
    let known = shared.fan_outs.of_batch(run, "0:few").await.unwrap();
    let first = known.source_failed().unwrap();
    drop(known);
    let pause = Instant::now() + Duration::from_secs(61);
    shared.fan_outs.forget_unused(pause, |_| false);
    shared.forget_unused();
    tokio::time::sleep(first).await;
    // Its code was run anew meanwhile, here.
    let read = Arc::new(shared.fleet.read_run(run).await.unwrap().unwrap());
    let again = shared.fan_outs.of_batch(run, "0:few").await.unwrap();
    let known = shared.fan_outs.learn(&read, "0:few", again.fan_out.clone());
    assert!(known.source_failed().unwrap() > first, "it is counted anew");
    drop((known, again));
    known_no_more(shared, run);
}

fn known_no_more(shared: &Shared, run: RunId) {
    shared
        .fan_outs
        .forget_unused(Instant::now() + Duration::from_secs(601), |_| false);
    assert!(shared.fan_outs.of_run(run).is_empty(), "nothing is ever forgotten");
}

#[tokio::test]
async fn a_probe_sends_no_more_than_its_first_messages_before_one_is_taken() {
    let crew = Crew::with(Sends::<1>, &[("0:few", 1)]).await;
    let (shared, run) = (&crew.shared, crew.claim.run);
    shared.fan_outs.of_batch(run, "0:few").await.unwrap().sends_to(TOPIC);
    shared
        .breakers
        .observe(TOPIC, Observation::Trouble(Reason::AllBrokersDown));
    crew.taker.is_silent.store(true, Ordering::SeqCst);
    until("it may be probed", || shared.breakers.may_probe(TOPIC)).await;
    shared.work.offer(run);
    let working = tokio::spawn(worker::run(shared.clone()));
    until("it is probed", || crew.sent() > 0).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(crew.sent(), 125, "of {ITEMS}, to a topic that may take none");
    // It takes messages again, which somebody else finds out.
    shared.breakers.observe(TOPIC, Observation::Delivered(1));
    until("the rest is sent", || i64::from(crew.sent()) == ITEMS).await;
    working.abort();
}

#[tokio::test]
async fn a_source_that_never_comes_back_holds_up_no_replica_that_leaves() {
    let crew = Crew::with(Sends::<1>, &[("0:few", 1), ("1:held", 1)]).await;
    let shared = &crew.shared;
    shared.work.offer(crew.claim.run);
    let working = tokio::spawn(worker::run(shared.clone()));
    let hangs = || crew.is_completed("0:few") && shared.book.batch_count() == 1;
    until("only what hangs is left", hangs).await;
    shared.stopping.cancel();
    shared.hurry.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(30), working).await;
    ended.expect("it waits for its source").unwrap();
    assert_eq!(shared.book.batch_count(), 0, "it is handed back");
}

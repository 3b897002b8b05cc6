//! One leader at a time, by the database's clock: elected, renewed, deposed, resigned (RC.5).
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[path = "support_schedules/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lockgate::leader::{LeaderLoop, LeaderStore};
use lockgate::lifecycle::{Fleet, FleetError};
use lockgate::postgres::PostgresLeader;
use lockgate_tests::cluster::Cluster;
use lockgate_tests::wait_until;
use sqlx::postgres::PgListener;
use support::{PATIENCE, World};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A fifth of it is what a leader stands down early, on a machine that may stand still for a second or two.
const LEASE: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(600);

const EXPIRES: &str = "select (extract(epoch from expires_at) * 1000000)::bigint from lockgate.leader_lease";

/// I13: no term begins before the one before it ended, and terms are written in their order.
async fn assert_terms_do_not_overlap(world: &World, at_least: i64) {
    let terms = "select count(*) from lockgate.transitions where entity = 'leader' and to_status = 'elected'";
    assert!(world.number(terms).await >= at_least);
    let overlaps = world
        .texts(
            "select format('term %s began %s, %s', term, at, reason)
               from (select term, at, reason, lag(term) over (order by id) as before,
                            substring(reason from 'ended at (.*)$')::timestamptz as before_ended
                       from lockgate.transitions where entity = 'leader' and key = 'engine' and to_status = 'elected') t
              where at < before_ended or term is distinct from coalesce(before, 0) + 1
                 or (term > 1 and before_ended is null)
             union all
             select format('term %s resigned %s, after the next began %s', r.term, r.at, e.at)
               from lockgate.transitions r join lockgate.transitions e on e.term = r.term + 1 and e.to_status = 'elected'
              where r.to_status = 'resigned' and e.at < r.at",
        )
        .await;
    assert!(overlaps.is_empty(), "{overlaps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_that_ask_at_once_one_is_elected() {
    let world = World::new().await;
    for term in 1..=5 {
        let mut asking = JoinSet::new();
        for _ in 0..8 {
            let store = world.leader();
            asking.spawn(async move { store.elect_leader(LONG).await.unwrap() });
        }
        let elected: Vec<i64> = asking.join_all().await.into_iter().flatten().collect();
        assert_eq!(elected, [term]);
        world
            .run("update lockgate.leader_lease set expires_at = clock_timestamp()")
            .await;
    }
    assert_terms_do_not_overlap(&world, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_leader_neither_renews_nor_resigns_a_foreign_lease() {
    let world = World::new().await;
    let (old, new) = (world.leader(), world.leader());
    assert_eq!(old.elect_leader(LONG).await.unwrap(), Some(1));
    assert_eq!(new.elect_leader(LONG).await.unwrap(), None);
    world
        .run("update lockgate.leader_lease set expires_at = clock_timestamp()")
        .await;
    assert!(!old.renew_leader(1, LONG).await.unwrap(), "what is over stays over");
    assert_eq!(new.elect_leader(LONG).await.unwrap(), Some(2));
    let expires = world.number(EXPIRES).await;
    for term in [1, 2] {
        assert!(!old.renew_leader(term, 2 * LONG).await.unwrap());
        assert!(!old.resign_leader(term).await.unwrap());
        assert_eq!(world.number(EXPIRES).await, expires);
    }
    assert!(
        !new.renew_leader(1, LONG).await.unwrap(),
        "nor its own under another term"
    );
    assert!(new.renew_leader(2, 2 * LONG).await.unwrap());
    assert!(world.number(EXPIRES).await > expires);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lost_the_answer_of_its_election_asks_again() {
    let world = World::new().await;
    let leader = world.leader();
    assert_eq!(leader.elect_leader(LONG).await.unwrap(), Some(1));
    assert_eq!(leader.elect_leader(LONG).await.unwrap(), Some(2));
    assert!(!leader.renew_leader(1, LONG).await.unwrap());
    assert_terms_do_not_overlap(&world, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_only_read() {
    let world = World::new().await;
    world.leader().elect_leader(LONG).await.unwrap();
    let row = "select xmin::text || ' ' || xmax::text || ' ' || ctid::text from lockgate.leader_lease";
    let before = world.texts(row).await;
    for _ in 0..20 {
        assert_eq!(world.leader().elect_leader(LONG).await.unwrap(), None);
    }
    assert_eq!(world.texts(row).await, before, "neither locked nor written");
}

/// A replica that only leads.
struct Replica {
    stop: CancellationToken,
    hint: Arc<Notify>,
    term: watch::Receiver<Option<i64>>,
    task: JoinHandle<()>,
    frozen: Arc<AtomicBool>,
}

impl Replica {
    fn start(world: &World, lease: Duration, renew: Duration) -> Self {
        let frozen = Arc::new(AtomicBool::new(false));
        let store = Freezable {
            inner: world.leader(),
            frozen: frozen.clone(),
        };
        let (term, seen) = watch::channel(None);
        let (stop, hint) = (CancellationToken::new(), Arc::new(Notify::new()));
        let leading = LeaderLoop::new(lease, renew, Arc::new(store), Vec::new(), hint.clone(), term);
        let task = tokio::spawn(leading.run(stop.clone()));
        Self {
            stop,
            hint,
            term: seen,
            task,
            frozen,
        }
    }

    async fn leads(&mut self) -> i64 {
        let leads = timeout(PATIENCE, self.term.wait_for(Option::is_some)).await;
        leads.expect("leads at last").unwrap().unwrap()
    }

    async fn stands_down(&mut self) {
        let stood_down = timeout(PATIENCE, self.term.wait_for(Option::is_none)).await;
        assert!(stood_down.unwrap().unwrap().is_none());
    }

    async fn stopped(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

/// A store that, while frozen, gives no answers, as a paused network does.
struct Freezable {
    inner: PostgresLeader,
    frozen: Arc<AtomicBool>,
}

impl Freezable {
    async fn thawed(&self) {
        while self.frozen.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[async_trait]
impl LeaderStore for Freezable {
    async fn elect_leader(&self, lease: Duration) -> Result<Option<i64>, FleetError> {
        self.thawed().await;
        self.inner.elect_leader(lease).await
    }
    async fn renew_leader(&self, term: i64, lease: Duration) -> Result<bool, FleetError> {
        self.thawed().await;
        self.inner.renew_leader(term, lease).await
    }
    async fn resign_leader(&self, term: i64) -> Result<bool, FleetError> {
        self.thawed().await;
        self.inner.resign_leader(term).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_followed_soon_after_its_lease() {
    let world = World::new().await;
    let mut first = Replica::start(&world, LEASE, RENEW);
    assert_eq!(first.leads().await, 1);
    let mut second = Replica::start(&world, LEASE, RENEW);
    let renewed = world.number(EXPIRES).await;
    world.until("a renewal", EXPIRES, |expires| expires > renewed).await;
    assert_eq!(*second.term.borrow(), None);
    first.task.abort();
    assert_eq!(second.leads().await, 2);
    let late = elected(&world, 2).await.0 - ended(&world, 1).await;
    assert!(late.to_std().unwrap() < LEASE, "took {late} after the lease");
    assert_terms_do_not_overlap(&world, 2).await;
    second.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_resigns_is_followed_at_once() {
    let world = World::new().await;
    // Nobody renews or polls within this test: only the resignation and its hint can hand over.
    let mut first = Replica::start(&world, LONG, LONG);
    assert_eq!(first.leads().await, 1);
    let mut second = Replica::start(&world, LONG, LONG);
    let mut listener = PgListener::connect_with(&world.pool).await.unwrap();
    listener.listen("lockgate_wake").await.unwrap();
    first.stop.cancel();
    let told = timeout(PATIENCE, listener.recv()).await.unwrap().unwrap();
    assert_eq!(told.payload(), "leader");
    second.hint.notify_one();
    assert_eq!(second.leads().await, 2);
    assert_eq!(
        world
            .texts("select term::text || to_status from lockgate.transitions where entity = 'leader' order by id")
            .await,
        ["1elected", "1resigned", "2elected"]
    );
    assert_terms_do_not_overlap(&world, 2).await;
    first.stopped().await;
    second.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_hints_a_resignation_hands_over_within_one_poll() {
    let world = World::new().await;
    let mut first = Replica::start(&world, LONG, LONG);
    assert_eq!(first.leads().await, 1);
    let mut second = Replica::start(&world, LONG, RENEW);
    first.stopped().await;
    assert_eq!(second.leads().await, 2);
    second.stopped().await;
}

/// Frozen leaders stand down before their lease ends, and those who follow never overlap with them.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_leader_stands_down_before_its_lease_ends() {
    let world = World::new().await;
    let mut replicas = [
        Replica::start(&world, LEASE, RENEW),
        Replica::start(&world, LEASE, RENEW),
        Replica::start(&world, LEASE, RENEW),
    ];
    for term in 1..=2 {
        let leader = leader_of(&replicas, term).await;
        replicas[leader].frozen.store(true, Ordering::SeqCst);
        replicas[leader].stands_down().await;
        let stood_down = Utc::now();
        leader_of(&replicas, term + 1).await;
        let ended = ended(&world, term).await;
        assert!(
            stood_down < ended,
            "stood down at {stood_down}, when the lease of term {term} had ended at {ended}"
        );
        replicas[leader].frozen.store(false, Ordering::SeqCst);
    }
    for replica in replicas {
        replica.stopped().await;
    }
    assert_terms_do_not_overlap(&world, 3).await;
}

/// When the lease of a term ended, as whoever came next has written down.
async fn ended(world: &World, term: i64) -> DateTime<Utc> {
    let (_, reason) = elected(world, term + 1).await;
    let (_, at) = reason.split_once("ended at ").unwrap();
    at.parse().unwrap()
}

/// When a term began, and what was written down then.
async fn elected(world: &World, term: i64) -> (DateTime<Utc>, String) {
    let elected = "select at, reason from lockgate.transitions
                    where entity = 'leader' and to_status = 'elected' and term = $1";
    let elected = sqlx::query_as(elected).bind(term).fetch_one(&world.pool).await;
    elected.unwrap()
}

async fn leader_of(replicas: &[Replica], term: i64) -> usize {
    let leads = |replica: &Replica| *replica.term.borrow() == Some(term);
    support::until("the next term", async || replicas.iter().any(leads)).await;
    replicas.iter().position(leads).unwrap()
}

/// Many replicas that are killed, frozen and stopped at random moments of a short lease.
#[tokio::test(flavor = "multi_thread")]
async fn terms_never_overlap_while_leaders_come_and_go() {
    let world = World::new().await;
    let (lease, renew) = (Duration::from_millis(500), Duration::from_millis(120));
    let mut replicas: Vec<Replica> = (0..4).map(|_| Replica::start(&world, lease, renew)).collect();
    for term in 1..=15 {
        let leads = |replica: &Replica| replica.term.borrow().is_some_and(|led| led >= term);
        support::until("a later term", async || replicas.iter().any(leads)).await;
        let Some(at) = replicas.iter().position(leads) else {
            continue;
        };
        let leader = replicas.remove(at);
        match term % 3 {
            0 => leader.task.abort(),
            1 => leader.stopped().await,
            // Left frozen: it stays a stale leader until the end.
            _ => leader.frozen.store(true, Ordering::SeqCst),
        }
        replicas.push(Replica::start(&world, lease, renew));
    }
    for replica in replicas {
        replica.stopped().await;
    }
    assert_terms_do_not_overlap(&world, 15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_only_leads_is_seen_until_it_leaves() {
    const STATE: &str = "select case when stopped_at is null then 'live' else 'stopped' end
        from lockgate.replicas where id = $1 and roles = '{leader}' and workflows = '{}'";
    let cluster = Cluster::new().await;
    let mut replica = cluster.replica_called(&["run", "--roles", "leader"], &[]);
    let id = replica.runs().await;
    let state = async || -> Option<String> {
        sqlx::query_scalar(STATE)
            .bind(id)
            .fetch_optional(&cluster.pool)
            .await
            .unwrap()
    };
    wait_until(PATIENCE, "its row is there", async || {
        state().await.as_deref() == Some("live")
    })
    .await;
    replica.terminate();
    assert!(replica.ends().await.success());
    assert_eq!(state().await.as_deref(), Some("stopped"));
}

/// What somebody has locked, such as a person in psql, is left for later and holds nothing else up.
#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_passes_by_runs_that_somebody_has_locked() {
    let world = World::new().await;
    let [locked, free] = [Uuid::now_v7(), Uuid::now_v7()];
    for run in [locked, free] {
        world
            .run(&format!(
                "insert into lockgate.task_runs (id, workflow, status, origin_id, deadline_at)
                 values ('{run}', 'reports', 'queued', '{run}', clock_timestamp() - interval '1 second')"
            ))
            .await;
    }
    let ended = async |run: Uuid| {
        let status = format!("select count(*) from lockgate.task_runs where id = '{run}' and status = 'failed'");
        world.number(&status).await == 1
    };
    let mut person = world.pool.begin().await.unwrap();
    sqlx::query("select from lockgate.task_runs where id = $1 for update")
        .bind(locked)
        .execute(&mut *person)
        .await
        .unwrap();
    world.fleet().sweep().await.unwrap();
    assert!(ended(free).await && !ended(locked).await);
    person.rollback().await.unwrap();
    world.fleet().sweep().await.unwrap();
    assert!(ended(locked).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_stops_when_the_schema_takes_only_newer_writers() {
    let cluster = Cluster::new().await;
    let mut replica = cluster.replica();
    replica.runs().await;
    sqlx::query("update lockgate.migrations set min_writer = 9999 where version = 1")
        .execute(&cluster.pool)
        .await
        .unwrap();
    assert_eq!(replica.ends().await.code(), Some(4));
    let said = "the schema takes writers of version 9999 or newer, this binary knows";
    assert!(replica.log().contains(said), "{}", replica.log());
}

//! Connections that die without a word, as when the server's node vanishes and its address moves on: whoever draws one does
//! not wait as long as a call may take, and whoever listens notices.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::join_all;
use lockgate::leader::LeaderStore;
use lockgate::lifecycle::{FleetError, RunStore};
use lockgate::postgres::{DEAF, Database, DatabaseSettings, PostgresLeader, PostgresRunStore, listen};
use lockgate_tests::TestDatabase;
use lockgate_tests::proxy::Proxy;
use lockgate_tests::wait_until;
use sqlx::Executor;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const CONNECTIONS: usize = 12;

/// A database behind a proxy, all of whose connections are made and kept; and when the first of them was used last, at the
/// earliest.
async fn warm(database: &TestDatabase, deadline: Duration) -> (Proxy, PostgresRunStore, Instant) {
    let proxy = Proxy::before(database.url()).await;
    let settings = DatabaseSettings {
        max_connections: CONNECTIONS as u32,
        deadline,
        ..DatabaseSettings::new(proxy.url())
    };
    let through = PostgresRunStore::new(Database::new(&settings).unwrap(), Uuid::now_v7(), deadline);
    proxy.slow_down(
        "Queues with runs that holders died on",
        Duration::from_millis(300),
        CONNECTIONS,
    );
    let calls = (0..CONNECTIONS).map(|_| async { (through.suspect_queues().await, Instant::now()) });
    let ends = join_all(calls).await.into_iter().map(|(answer, ended)| {
        answer.unwrap();
        ended
    });
    let used = ends.min().unwrap();
    (proxy, through, used)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_lay_idle_and_are_dead_cost_one_caller_a_moment() {
    let database = TestDatabase::new().await;
    let (proxy, through, _) = warm(&database, Duration::from_secs(40)).await;
    // Long enough that they are asked before they are used.
    tokio::time::sleep(Duration::from_secs(7)).await;
    proxy.silence();
    let begun = Instant::now();
    through.suspect_queues().await.unwrap();
    let first = begun.elapsed();
    assert!(first < Duration::from_secs(20), "the first waited {first:?}");
    let begun = Instant::now();
    for answer in join_all((0..CONNECTIONS).map(|_| through.suspect_queues())).await {
        answer.unwrap();
    }
    let others = begun.elapsed();
    // One after the other they would wait two seconds each.
    assert!(others < Duration::from_secs(15), "the others waited {others:?}");
}

/// Nobody asks one that was used a moment ago; when it does not answer, it speaks for the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_not_answered_closes_the_others_that_were_used_before() {
    let database = TestDatabase::new().await;
    // A machine that is so busy that they lay idle meanwhile would have them asked.
    let (proxy, through) = loop {
        let (proxy, through, used) = warm(&database, Duration::from_secs(8)).await;
        proxy.silence();
        if used.elapsed() < Duration::from_millis(300) {
            break (proxy, through);
        }
    };
    let unanswered = through.suspect_queues().await.unwrap_err();
    assert!(matches!(unanswered, FleetError::Unanswered(_)), "{unanswered}");
    let begun = Instant::now();
    for answer in join_all((0..CONNECTIONS).map(|_| through.suspect_queues())).await {
        answer.unwrap();
    }
    let others = begun.elapsed();
    assert!(others < Duration::from_secs(15), "the others waited {others:?}");
    drop(proxy);
}

/// Nobody asks its connection first, and it has to be tried again long before the lease is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_of_leadership_on_a_dead_connection_fails_in_a_moment_and_the_next_one_is_answered() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::before(database.url()).await;
    let settings = DatabaseSettings {
        deadline: Duration::from_secs(60),
        ..DatabaseSettings::new(proxy.url())
    };
    let leader = PostgresLeader::new(Database::new(&settings).unwrap(), Uuid::now_v7());
    let lease = Duration::from_secs(120);
    let term = leader.elect_leader(lease).await.unwrap().unwrap();
    // As long as it is between renewals: nobody would believe in a connection that lay idle for so long.
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(leader.renew_leader(term, lease).await.unwrap());
    proxy.silence();
    let begun = Instant::now();
    let unanswered = leader.renew_leader(term, lease).await.unwrap_err();
    let waited = begun.elapsed();
    assert!(matches!(unanswered, FleetError::Unanswered(_)), "{unanswered}");
    assert!(waited < Duration::from_secs(20), "it waited {waited:?}");
    assert!(leader.renew_leader(term, lease).await.unwrap());
    // A server that is slow, and not dead, is waited for the second time.
    let slow = || proxy.slow_down("Prolongs this holder's own term", Duration::from_secs(4), 1);
    slow();
    leader.renew_leader(term, lease).await.unwrap_err();
    slow();
    assert!(leader.renew_leader(term, lease).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_whose_connection_is_dead_says_so_and_listens_again() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::before(database.url()).await;
    let heard = Arc::<Mutex<Vec<String>>>::default();
    let (hears, stop) = (heard.clone(), CancellationToken::new());
    let hint = Arc::new(move |payload: &str| hears.lock().unwrap().push(payload.to_owned()));
    let listening = tokio::spawn(listen(proxy.url().to_owned(), hint, stop.clone()));
    let hears = async |count: usize, what: &str| {
        wait_until(Duration::from_secs(40), what, async || {
            heard.lock().unwrap().len() >= count
        })
        .await;
    };
    hears(1, "it listens").await;
    proxy.silence();
    // It is deaf, and then it looks once and listens.
    hears(3, "it has noticed").await;
    database.pool().execute("notify lockgate_wake, 'again'").await.unwrap();
    hears(4, "it hears").await;
    assert_eq!(*heard.lock().unwrap(), ["run", DEAF, "run", "again"]);
    stop.cancel();
    listening.await.unwrap();
}

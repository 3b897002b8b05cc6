//! Replicas die again and again and the broker goes away while services enqueue: nothing is lost, nothing invented, and
//! what was sent is in order.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lockgate_tests::cluster::Cluster;
use lockgate_tests::notes::{self, Note};
use lockgate_tests::own_servers::OwnServers;
use lockgate_tests::replica::{PATIENCE, Replica};
use lockgate_tests::wait_until;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const KILLS: usize = 24;
const PEOPLE: u32 = 60;

async fn waiting(cluster: &Cluster) -> i64 {
    let waiting = sqlx::query_scalar("select count(*) from lockgate.outbox")
        .fetch_one(&cluster.pool)
        .await;
    waiting.unwrap_or(-1)
}

/// A service that enqueues a note to everybody in each transaction, one after the other, until it is told to stop.
fn service(cluster: &Cluster, stop: CancellationToken) -> JoinHandle<Vec<Uuid>> {
    let (pool, topic) = (cluster.pool.clone(), cluster.topic.name().to_owned());
    tokio::spawn(async move {
        let mut ids = Vec::new();
        for n in 1.. {
            if stop.is_cancelled() {
                break;
            }
            let everybody = (0..PEOPLE).map(|person| Note::new(&topic, Some(&format!("person {person}")), n));
            ids.extend(notes::enqueue(&pool, everybody).await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        ids
    })
}

async fn all_is_sent(cluster: &Cluster) {
    wait_until(PATIENCE, "the outbox is empty", async || waiting(cluster).await == 0).await;
    let stored = "select count(*) from lockgate.undelivered_messages";
    let stored: i64 = sqlx::query_scalar(stored).fetch_one(&cluster.pool).await.unwrap();
    assert_eq!(stored, 0, "the rows are durable where they are");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_out_of_order_over_twenty_four_kills() {
    let mut random = StdRng::seed_from_u64(lockgate_tests::seed());
    let cluster = Cluster::new().await;
    let stop = CancellationToken::new();
    let service = service(&cluster, stop.clone());
    let mut replicas = [cluster.replica(), cluster.replica()];
    for replica in &mut replicas {
        replica.runs().await;
    }
    let mut kills = 0;
    while kills < KILLS {
        let held = "select claimed_by from lockgate.outbox_lanes where claim_id is not null limit 1";
        let mut holder = None;
        wait_until(PATIENCE, "somebody holds a lane", async || {
            holder = sqlx::query_scalar::<_, Uuid>(held)
                .fetch_optional(&cluster.pool)
                .await
                .unwrap();
            holder.is_some()
        })
        .await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..40))).await;
        let victim = replicas.iter_mut().find(|replica| replica.id() == holder);
        let Some(victim) = victim else {
            // The lane of one that is dead already: somebody takes it over when its lease ends.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        victim.kill();
        *victim = cluster.replica();
        victim.runs().await;
        kills += 1;
    }
    stop.cancel();
    let ids = service.await.unwrap();
    all_is_sent(&cluster).await;
    let taken: i64 = sqlx::query_scalar("select sum(claim_token)::bigint from lockgate.outbox_lanes")
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    let twice = notes::hold(&cluster.topic.sent().await, &ids);
    println!(
        "{kills} kills, {} commands, {twice} sent twice, {taken} claims of lanes",
        ids.len()
    );
    assert!(twice > 0 && taken > KILLS as i64, "no kill met a page on its way");
}

/// The broker is gone for a while; the rows stay where they are.
async fn outlives(servers: &OwnServers, down: &str, up: &str, gone: Duration) {
    let cluster = servers.cluster().await;
    let mut replicas = [cluster.replica(), cluster.replica()];
    for replica in &mut replicas {
        replica.runs().await;
    }
    let stop = CancellationToken::new();
    let service = service(&cluster, stop.clone());
    servers.act(down, "kafka");
    let since = Instant::now();
    let opened = "select count(*) from lockgate.replicas where breakers <> '[]'";
    wait_until(PATIENCE, "a breaker opens", async || {
        sqlx::query_scalar::<_, i64>(opened)
            .fetch_one(&cluster.pool)
            .await
            .unwrap()
            > 0
    })
    .await;
    tokio::time::sleep(gone.saturating_sub(since.elapsed())).await;
    stop.cancel();
    let ids = service.await.unwrap();
    let (left, back) = (waiting(&cluster).await, Instant::now());
    assert!(left > 0);
    servers.act(up, "kafka");
    all_is_sent(&cluster).await;
    let sent = cluster.topic.sent().await;
    let there: BTreeSet<Uuid> = sent.iter().map(|record| record.message_id).collect();
    println!(
        "{down} of the broker for {:.0} s: {left} of {} waited, sent {:.1} s after it was back, {} twice",
        gone.as_secs_f64(),
        ids.len(),
        back.elapsed().as_secs_f64(),
        sent.len() - there.len()
    );
    assert_eq!(there, ids.into_iter().collect(), "lost or invented");
    assert!(replicas.iter_mut().all(Replica::is_alive));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_broker_leaves_the_rows_where_they_are() {
    let servers = OwnServers::up(&["kafka"]);
    outlives(&servers, "freeze", "thaw", Duration::from_secs(30)).await;
    outlives(&servers, "kill", "start", Duration::from_secs(15)).await;
}

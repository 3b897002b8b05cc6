//! D: deaths, refusals and lost answers around the finish of a batch (R40.7).

use std::time::Duration;

use lockgate_tests::cluster::{Cluster, WINDOW};
use lockgate_tests::proxy::Proxy;
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::wait_until;
use serde_json::json;
use sqlx::Executor;

use crate::dies_at;

pub async fn before_commit() {
    let (_, found) = dies_at("finish.before_commit:2").await;
    assert!(found.recovered >= 1 && found.duplicates <= WINDOW, "{found}");
    assert!(
        found.duplicates > 0,
        "what was confirmed and not committed must be sent again: {found}"
    );
}

pub async fn after_the_last() {
    // The fourth of four finishes: nobody is left to notice that it was the last, but the sweep.
    let (_, found) = dies_at("finish.after_commit:4").await;
    assert_eq!((found.duplicates, found.recovered), (0, 0), "{found}");
}

pub async fn rows_cannot_be_written() {
    let cluster = Cluster::new()
        .await
        .with("LOCKGATE_LEASE_DURATION", "10s")
        .with("LOCKGATE_KAFKA_MESSAGE_TIMEOUT", "7s");
    let full = "create function public.full_disk() returns trigger language plpgsql as $$
                begin raise exception 'no space left on device' using errcode = '53100'; end $$;
                create trigger full_disk before insert on lockgate.undelivered_email_commands
                    for each row execute function public.full_disk();
                create trigger full_disk before insert on lockgate.undelivered_other_commands
                    for each row execute function public.full_disk();";
    cluster.pool.execute(sqlx::raw_sql(full)).await.unwrap();
    let run = cluster
        .start("chaos-items", json!({"items": 1_000, "unserialisable": [5, 505]}))
        .await;
    let replica = cluster.replica();
    let refused = async || replica.log().matches("finish not written yet").count();
    wait_until(PATIENCE, "the finish was tried", async || refused().await > 0).await;
    // Longer than a lease: it is renewed all the while.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let before = refused().await;
    wait_until(PATIENCE, "the finish was tried again and again", async || {
        refused().await >= (before + 1).max(32)
    })
    .await;
    assert_eq!((cluster.batches_done(run).await, cluster.recovered(run).await), (0, 0));
    cluster.holds(run).await;
    let empty = "drop trigger full_disk on lockgate.undelivered_email_commands;
                 drop trigger full_disk on lockgate.undelivered_other_commands";
    cluster.pool.execute(sqlx::raw_sql(empty)).await.unwrap();
    let found = cluster.completes(run).await;
    assert_eq!(
        (found.fates["refused"], found.fates["delivered"], found.duplicates),
        (2, 998, 0),
        "{found}"
    );
}

pub async fn answer_lost() {
    // Fewer workers than batches, so that a finish also claims the next.
    let cluster = Cluster::new().await.patient().with("LOCKGATE_WORKER_BATCHES", "2");
    let proxy = Proxy::before(cluster.url()).await;
    proxy.lose_reply("Finishes a batch of which every item was delivered", 2);
    proxy.lose_reply("Finishes a batch with any outcome", 1);
    let run = cluster
        .start("chaos-items", json!({"items": 4_000, "unserialisable": [3_999]}))
        .await;
    let _replica = cluster.replica_with(&[("DATABASE_URL", proxy.url()), ("DATABASE_URL_DIRECT", cluster.url())]);
    let found = cluster.completes(run).await;
    assert_eq!(proxy.cut(), 3);
    assert_eq!((found.duplicates, found.recovered), (0, 0), "{found}");
    assert_eq!(
        (found.fates["refused"], found.fates["delivered"]),
        (1, 3_999),
        "{found}"
    );
}

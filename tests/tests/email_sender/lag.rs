//! What a consumer has before it is told, also of a group that never committed anything.

use lockgate_tests::mailroom::{Letter, Mailroom};
use lockgate_tests::probes::{LISTEN, Probes};
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::wait_until;
use sqlx::Executor;

/// A database that takes no messages for a while, as one that was demoted.
const REFUSES: &str = "create function public.demoted() returns trigger language plpgsql as $$
     begin raise exception 'demoted' using errcode = 'read_only_sql_transaction'; end $$;
     create trigger demoted before insert on lockgate.inbox for each statement execute function public.demoted()";

/// The sum of what is told; `None`: nothing is.
async fn lag(probes: &Probes) -> Option<f64> {
    let page = probes.metrics().await;
    let told = page.lines().filter(|line| line.starts_with("lockgate_consumer_lag{"));
    let values = told.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    values.reduce(|all, one| all + one)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_tells_how_much_it_has_before_it() {
    let room = Mailroom::new()
        .await
        .with(LISTEN.0, LISTEN.1)
        .with("LOCKGATE_KAFKA_PROPERTIES_STATISTICS_INTERVAL_MS", "500");
    room.pool.execute(sqlx::raw_sql(REFUSES)).await.unwrap();
    room.post((0..300).map(Letter::to_user).collect()).await;
    let mut sender = room.sender();
    let probes = Probes::of(&mut sender).await;
    wait_until(PATIENCE, "all is before it", async || lag(&probes).await == Some(300.0)).await;
    assert_eq!(room.mails().await, 0);
    room.pool
        .execute("drop function public.demoted() cascade")
        .await
        .unwrap();
    room.has_mails(300).await;
    wait_until(PATIENCE, "nothing is before it", async || lag(&probes).await == Some(0.0)).await;
    // It goes on from what it committed, and so does the next one.
    room.is_read().await;
    sender.terminate();
    assert!(sender.ends().await.success());
    room.post((300..310).map(Letter::to_user).collect()).await;
    room.pool.execute(sqlx::raw_sql(REFUSES)).await.unwrap();
    let mut next = room.sender();
    let probes = Probes::of(&mut next).await;
    wait_until(PATIENCE, "the rest is before the next", async || {
        lag(&probes).await == Some(10.0)
    })
    .await;
    next.terminate();
    assert!(next.ends().await.success());
}

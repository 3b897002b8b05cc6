//! What a consumer has before it is told, also of a group that never committed anything; and that its mail server lets it
//! not in.

use lockgate_tests::mailroom::{Letter, Mailroom};
use lockgate_tests::probes::{LISTEN, Probes};
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::wait_until;
use sqlx::Executor;

/// A database that takes no messages for a while, for a reason that may pass.
const REFUSES: &str = "create function public.not_now() returns trigger language plpgsql as $$
     begin raise exception 'not now' using errcode = 'object_not_in_prerequisite_state'; end $$;
     create trigger not_now before insert on lockgate.inbox for each statement execute function public.not_now()";

/// The sum of what is told in such lines; `None`: nothing is.
async fn told(probes: &Probes, metric: &str, label: &str) -> Option<f64> {
    let page = probes.metrics().await;
    let series = format!("{metric}{{");
    let told = page
        .lines()
        .filter(|line| line.starts_with(&series) && line.contains(label));
    let values = told.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    values.reduce(|all, one| all + one)
}

async fn lag(probes: &Probes) -> Option<f64> {
    told(probes, "lockgate_consumer_lag", "messaging_consumer_group_name").await
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
        .execute("drop function public.not_now() cascade")
        .await
        .unwrap();
    room.has_mails(300).await;
    wait_until(PATIENCE, "nothing is before it", async || {
        lag(&probes).await == Some(0.0)
    })
    .await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_server_that_is_not_reached_is_counted() {
    let room = Mailroom::new().await.with(LISTEN.0, LISTEN.1);
    let mut sender = room.sender_with(&[("EMAIL_SMTP_URL", "smtp://127.0.0.1:1")]);
    let probes = Probes::of(&mut sender).await;
    room.post(vec![Letter::to_user(1)]).await;
    let barred = "lockgate_outcome=\"barred\"";
    wait_until(PATIENCE, "it is counted", async || {
        told(&probes, "lockgate_mails_total", barred)
            .await
            .is_some_and(|count| count >= 1.0)
    })
    .await;
    sender.terminate();
    assert!(sender.ends().await.success());
}

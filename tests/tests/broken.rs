//! Bad items and odd sources: the bad item is named and stored, its neighbours go, and the sum still holds.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use lockgate_tests::cluster::{Cluster, WINDOW};
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::wait_until;
use serde_json::json;
use sqlx::Executor;
use uuid::Uuid;

const SAVED: &str =
    "select count(*) from lockgate.run_batches where run_id = $1 and status = 'claimed' and delivered_bits is not null";

async fn reason(cluster: &Cluster, run: Uuid) -> String {
    let query = sqlx::query_scalar("select coalesce(reason, '') from lockgate.task_runs where id = $1");
    query.bind(run).fetch_one(&cluster.pool).await.unwrap()
}

async fn rows(cluster: &Cluster, count: i64) {
    let sql = "create schema chaos; create table chaos.rows (id bigint primary key)";
    cluster.pool.execute(sqlx::raw_sql(sql)).await.unwrap();
    let fill = "insert into chaos.rows select generate_series(1, $1)";
    sqlx::query(fill).bind(count).execute(&cluster.pool).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_that_kills_its_worker_is_alone_in_the_end_and_stored() {
    let cluster = Cluster::new()
        .await
        .patient()
        .with("LOCKGATE_WORKER_BATCH_SIZE", "8")
        .with("LOCKGATE_CHAOS_KILLS", "1");
    let run = cluster.start("chaos-items", json!({"items": 40, "kills": [21]})).await;
    let deadline = Instant::now() + PATIENCE * 2;
    let mut deaths = 0;
    let mut replica = cluster.replica();
    while cluster.status(run).await != "completed" {
        assert!(Instant::now() < deadline, "not over after {deaths} deaths");
        if !replica.is_alive() {
            assert!(replica.log().contains("item 21 kills its worker"));
            deaths += 1;
            // A death more than there were would be counted if a lease ended that somebody is only slow to renew.
            cluster.end_leases().await;
            replica = cluster.replica();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let found = cluster.completes(run).await;
    println!("{deaths} deaths: {found}");
    assert_eq!((found.fates["delivered"], found.fates["refused"]), (39, 1), "{found}");
    let stored: (i64, String) =
        sqlx::query_as("select item_id, reason_code from lockgate.undelivered_messages where run_id = $1")
            .bind(run)
            .fetch_one(&cluster.pool)
            .await
            .unwrap();
    assert_eq!(stored, (21, "kills_worker".to_owned()));
    // Three deaths before it is split, then one for each half it is in: 8, 4, 2, 1.
    let parents = "select count(*) from lockgate.run_batches where run_id = $1 and status = 'split'";
    assert_eq!(cluster.count(parents, run).await, 3);
    assert!((6..=7).contains(&deaths), "{deaths} deaths");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_in_trouble_for_a_while_and_items_that_cannot_be_stored_end_no_run() {
    let cluster = Cluster::new().await.patient();
    // More panics and failures at once than there may be in a row: all workers meet the same trouble.
    let input = json!({"items": 20_000, "rows_panic": 20, "rows_fail": 20, "unfit": [7, 12_007]});
    let run = cluster.start("chaos-items", input).await;
    let mut replica = cluster.replica();
    let found = cluster.completes(run).await;
    assert!(replica.is_alive());
    assert!(replica.log().contains("the source panicked"), "vacuous");
    assert_eq!(
        (found.fates["delivered"], found.fates["refused"]),
        (19_998, 2),
        "{found}"
    );
    let codes =
        "select count(*) from lockgate.undelivered_messages where run_id = $1 and reason_code = 'invalid_command'
                    and status = 'refused'";
    assert_eq!(cluster.count(codes, run).await, 2);
}

/// A replica that has nothing else to do renews nothing in the pauses, and counts on all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_can_never_be_read_fails_its_run() {
    let cluster = Cluster::new().await;
    let run = cluster
        .start("chaos-items", json!({"items": 2_000, "rows_fail": 4_000_000_000_u32}))
        .await;
    let _replica = cluster.replica();
    // The pauses add up to most of a minute.
    cluster.reaches_within(run, "failed", Duration::from_secs(150)).await;
    let why = reason(&cluster, run).await;
    assert!(why.contains("the source of step 0:items cannot be read: read"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_item_and_one_item_are_runs_like_any_other() {
    let cluster = Cluster::new().await.patient();
    let none = cluster.start("chaos-items", json!({"items": 0})).await;
    let one = cluster.start("chaos-items", json!({"items": 1})).await;
    let all_skipped = cluster
        .start("chaos-items", json!({"items": 3, "skipped": [1, 2, 3]}))
        .await;
    let _replica = cluster.replica();
    let found = cluster.completes(none).await;
    assert_eq!((found.planned, found.records), (0, 0), "{found}");
    let found = cluster.completes(one).await;
    assert_eq!((found.planned, found.records), (1, 1), "{found}");
    let found = cluster.completes(all_skipped).await;
    assert_eq!((found.fates["skipped"], found.records), (3, 0), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_go_between_plan_and_reading_are_counted_as_vanished() {
    let cluster = Cluster::new().await.patient();
    rows(&cluster, 900).await;
    let run = cluster.start("chaos-rows", json!({})).await;
    // Plans all of it, and dies before the first message.
    cluster.dies_at("claim.after_commit").await;
    let gone = cluster
        .pool
        .execute("delete from chaos.rows where id % 10 = 3")
        .await
        .unwrap()
        .rows_affected();
    let _replica = cluster.replica();
    let found = cluster.completes(run).await;
    assert_eq!(found.planned, 900);
    assert_eq!(
        (found.fates["vanished"], found.fates["delivered"]),
        (usize::try_from(gone).unwrap(), 810),
        "{found}"
    );
    assert_eq!(found.records - found.duplicates, 810, "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_that_come_twice_or_descend_fail_the_run_by_name() {
    let cluster = Cluster::new().await.patient();
    let twice = cluster
        .start("chaos-items", json!({"items": 3_000, "repeats": 2_500}))
        .await;
    let back = cluster
        .start("chaos-items", json!({"items": 3_000, "descends": 1_300}))
        .await;
    let _replica = cluster.replica();
    cluster.reaches(twice, "failed").await;
    cluster.reaches(back, "failed").await;
    let said = reason(&cluster, twice).await;
    assert!(
        said.contains("item 2500 after item 2500: ids must ascend and come once"),
        "{said}"
    );
    let said = reason(&cluster, back).await;
    assert!(
        said.contains("item 1299 after item 1300: ids must ascend and come once"),
        "{said}"
    );
    // What was planned and sent before that is accounted for, and nothing twice.
    for run in [twice, back] {
        let found = cluster.holds(run).await;
        assert_eq!(found.duplicates, 0, "{found}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_claims_nothing_more_and_hands_back_what_is_in_flight() {
    let cluster = Cluster::new().await.patient();
    let run = cluster
        .start_paced("chaos-items", json!({"items": 5_000}), Some(5))
        .await;
    let _replica = cluster.replica();
    wait_until(PATIENCE, "some progress is saved", async || {
        cluster.count(SAVED, run).await > 0
    })
    .await;
    let asked = Instant::now();
    let answer: String = sqlx::query_scalar("select lockgate.cancel_run($1)")
        .bind(run)
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    assert_eq!(answer, "stopping");
    cluster.reaches(run, "cancelled").await;
    // At five messages a second the rest of the batch would take a minute and a half.
    assert!(
        asked.elapsed() < Duration::from_secs(40),
        "it took {:?}",
        asked.elapsed()
    );
    let found = cluster.holds(run).await;
    let late = "select count(*) from lockgate.transitions t join lockgate.task_runs r on r.id = t.run_id
                 where t.run_id = $1 and t.entity = 'batch' and t.to_status = 'claimed' and t.at > r.stop_requested_at";
    assert_eq!(cluster.count(late, run).await, 0, "claimed after the cancel: {found}");
    let back =
        "select count(*) from lockgate.transitions where run_id = $1 and entity = 'batch' and to_status = 'free'";
    assert!(cluster.count(back, run).await >= 1, "nothing was handed back: {found}");
    let stopped_at: chrono::DateTime<chrono::Utc> =
        sqlx::query_scalar("select finished_at from lockgate.task_runs where id = $1")
            .bind(run)
            .fetch_one(&cluster.pool)
            .await
            .unwrap();
    let copies = cluster.topic.read().await.remove(&run).unwrap();
    let last = copies.iter().map(|copy| copy.made_at).max().unwrap();
    assert!(
        last <= stopped_at.timestamp_millis(),
        "K7: sent at {last}, the run ended at {stopped_at}"
    );
    assert!(copies.len() < 500, "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_run_rests_until_it_is_resumed() {
    let cluster = Cluster::new().await.patient();
    let run = cluster
        .start_paced("chaos-items", json!({"items": 25_000}), Some(500))
        .await;
    let _replica = cluster.replica();
    wait_until(PATIENCE, "a batch is done", async || {
        cluster.batches_done(run).await >= 1
    })
    .await;
    sqlx::query("select lockgate.pause_run($1)")
        .bind(run)
        .execute(&cluster.pool)
        .await
        .unwrap();
    let claimed = "select count(*) from lockgate.run_batches where run_id = $1 and status = 'claimed'";
    wait_until(PATIENCE, "batches in flight are done", async || {
        cluster.count(claimed, run).await == 0
    })
    .await;
    let done = cluster.batches_done(run).await;
    assert!(done < 50, "the pause came after the end");
    let rests = Instant::now() + Duration::from_secs(2);
    while Instant::now() < rests {
        assert_eq!(
            (cluster.batches_done(run).await, cluster.count(claimed, run).await),
            (done, 0)
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    sqlx::query("select lockgate.resume_run($1)")
        .bind(run)
        .execute(&cluster.pool)
        .await
        .unwrap();
    sqlx::query("update lockgate.task_runs set pace_per_s = null where id = $1")
        .bind(run)
        .execute(&cluster.pool)
        .await
        .unwrap();
    let found = cluster.completes(run).await;
    assert_eq!((found.fates["delivered"], found.duplicates), (25_000, 0), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_past_its_deadline_fails_and_says_so() {
    let cluster = Cluster::new().await.patient();
    let sql = "select lockgate.start_run('chaos-items', '{\"items\": 5000}', pace_per_s => 20, deadline => '3 s')";
    let run: Uuid = sqlx::query_scalar(sql).fetch_one(&cluster.pool).await.unwrap();
    let _replica = cluster.replica();
    let started = Instant::now();
    cluster.reaches(run, "failed").await;
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "it took {:?}",
        started.elapsed()
    );
    assert_eq!(reason(&cluster, run).await, "not over before its deadline");
    let found = cluster.holds(run).await;
    assert_eq!(found.duplicates, 0, "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paced_run_keeps_its_pace_over_the_whole_fleet() {
    const PACE: i32 = 600;
    let cluster = Cluster::new().await.patient().with("LOCKGATE_WORKER_BATCH_SIZE", "100");
    let run = cluster
        .start_paced("chaos-items", json!({"items": 12_000}), Some(PACE))
        .await;
    let _replicas = [cluster.replica(), cluster.replica()];
    let found = cluster.completes(run).await;
    let begun = "select min(at) from lockgate.transitions
                  where run_id = $1 and entity = 'batch' and to_status = 'claimed'";
    let begun: chrono::DateTime<chrono::Utc> = sqlx::query_scalar(begun)
        .bind(run)
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    let mut times: Vec<i64> = cluster
        .topic
        .read()
        .await
        .remove(&run)
        .unwrap()
        .iter()
        .map(|copy| copy.made_at)
        .collect();
    times.sort_unstable();
    // Without the ends, where batches begin and run out.
    let (from, to) = (times.len() / 10, times.len() * 9 / 10);
    let seconds = (times[to] - times[from]) as f64 / 1000.0;
    let pace = (to - from) as f64 / seconds;
    println!("{pace:.0} a second over {seconds:.1} s: {found}");
    assert!(seconds >= 5.0, "too short to say: {seconds} s");
    // A machine that has much else to do is slower,
    assert!(
        pace / f64::from(PACE) >= 0.3,
        "{pace:.0} messages a second instead of {PACE}"
    );
    // and catches up with no more than was claimed ahead: two seconds, and the batch that each replica has begun.
    let ahead = 2 * i64::from(PACE) + 2 * 100;
    let early = times.iter().zip(1_i64..).find(|(at, number)| {
        let since = *at - begun.timestamp_millis();
        *number > since * i64::from(PACE) / 1_000 + ahead
    });
    assert_eq!(early, None, "faster than {PACE} a second from {begun} on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_from_one_snapshot_begins_anew_when_its_planner_dies() {
    let cluster = Cluster::new().await.patient().with("LOCKGATE_WORKER_BATCH_SIZE", "100");
    rows(&cluster, 1_500).await;
    let run = cluster.start("chaos-rows", json!({"consistent": true})).await;
    cluster.dies_at("plan.after_chunk:1").await;
    let unplanned = "select count(*) from lockgate.run_batches where run_id = $1";
    assert_eq!(cluster.count(unplanned, run).await, 2, "it died after two batches");
    let claims = "select count(*) from lockgate.transitions where run_id = $1 and entity = 'batch'";
    assert_eq!(cluster.count(claims, run).await, 0, "claimed before the plan was whole");
    // The snapshot is gone: the new plan sees the table as it is now.
    cluster
        .pool
        .execute(sqlx::raw_sql(
            "delete from chaos.rows where id <= 10; insert into chaos.rows values (5000)",
        ))
        .await
        .unwrap();
    let _replica = cluster.replica();
    let found = cluster.completes(run).await;
    assert_eq!(
        (found.planned, found.fates["delivered"], found.fates.len()),
        (1_491, 1_491, 1),
        "{found}"
    );
    assert!(found.duplicates <= WINDOW, "{found}");
}

/// Has the database refuse the end of batches with this SQLSTATE, as a full disk or a constraint would.
async fn refuse_finishes(cluster: &Cluster, code: &'static str) {
    let sql = format!(
        "create schema chaos_refusal;
         create function chaos_refusal.refuse() returns trigger language plpgsql as
         $$ begin raise exception using errcode = '{code}', message = 'refused by a test'; end $$;
         create trigger refuse before insert on lockgate.transitions for each row
         when (new.entity = 'batch' and new.to_status = 'done') execute function chaos_refusal.refuse()"
    );
    cluster
        .pool
        .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql)))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_for_a_while_fails_no_run() {
    let cluster = Cluster::new().await.patient();
    refuse_finishes(&cluster, "53100").await;
    let mut replica = cluster.replica();
    let run = cluster.start("chaos-items", json!({"items": 2_000})).await;
    // More refusals than a batch that can never be finished is given.
    wait_until(PATIENCE, "many finishes are refused", async || {
        replica.log().matches("the store cannot do it now").count() > 40
    })
    .await;
    cluster
        .pool
        .execute(sqlx::raw_sql("drop trigger refuse on lockgate.transitions"))
        .await
        .unwrap();
    let found = cluster.completes(run).await;
    assert_eq!(found.fates["delivered"], 2_000, "{found}");
    assert!(replica.is_alive());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_end_can_never_be_written_fails_its_run_by_name() {
    let cluster = Cluster::new().await.patient();
    refuse_finishes(&cluster, "23514").await;
    let mut replica = cluster.replica();
    let run = cluster.start("chaos-items", json!({"items": 300})).await;
    cluster.reaches(run, "failed").await;
    let reason = reason(&cluster, run).await;
    assert!(
        reason.starts_with("batch 1 cannot be finished: ") && reason.contains("refused by a test"),
        "{reason}"
    );
    assert!(replica.is_alive());
}

/// A stop inside somebody's own transaction is decided there, and known to the claims of others only when it commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cancelled_in_an_open_transaction_is_claimed_by_nobody_meanwhile() {
    let cluster = Cluster::new().await.patient();
    let mut replica = cluster.replica();
    let run = cluster
        .start_paced("chaos-items", json!({"items": 20_000}), Some(500))
        .await;
    wait_until(PATIENCE, "some batches are done", async || {
        cluster.batches_done(run).await >= 2
    })
    .await;
    replica.terminate();
    assert!(replica.ends().await.success());
    let unpaced = "update lockgate.task_runs set pace_per_s = null where id = $1";
    sqlx::query(unpaced).bind(run).execute(&cluster.pool).await.unwrap();
    let waiting = "select count(*) from lockgate.run_batches where run_id = $1 and status = 'free'";
    let (done, waits) = (cluster.batches_done(run).await, cluster.count(waiting, run).await);
    assert!(waits > 0, "nothing is left to be claimed after {done} batches");

    let mut person = cluster.pool.begin().await.unwrap();
    let answer: String = sqlx::query_scalar("select lockgate.cancel_run($1)")
        .bind(run)
        .fetch_one(&mut *person)
        .await
        .unwrap();
    assert_eq!(answer, "cancelled");
    let mut replica = cluster.replica();
    replica.runs().await;
    let other = cluster.start("chaos-items", json!({"items": 1_000})).await;
    cluster.completes(other).await;
    person.commit().await.unwrap();
    assert_eq!(
        cluster.batches_done(run).await,
        done,
        "claimed while the cancel was on its way"
    );
    let over = "select count(*) from lockgate.run_batches where run_id = $1 and status = 'claimed'";
    assert_eq!(cluster.count(over, run).await, 0);
    assert_eq!(cluster.status(run).await, "cancelled");
}

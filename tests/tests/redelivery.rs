//! Redelivery on a real Postgres and a real broker (R36.8); a scripted publisher stands in where a fault must
//! come on demand.
#![allow(clippy::unwrap_used, clippy::panic)]

mod delivery_support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use delivery_support::scripted::{Fate, Scripted, delivered, unknown};
use delivery_support::*;
use lockgate::delivery::{
    BreakerPolicy, Breakers, PageRequest, PublisherEvents, RedeliverySettings, Rejected, SettledRow, Settlement,
    TopicTrouble, UndeliveredStore,
};
use lockgate::lifecycle::Fleet;
use lockgate::postgres::PostgresUndelivered;
use lockgate_tests::wait_until;
use uuid::Uuid;

const UNTOUCHED: &str = "select count(*) from lockgate.undelivered_messages
    where attempts = 0 and claim_token = 0 and payload is not null";

/// Record by message id.
async fn by_message_id(world: &World) -> BTreeMap<String, Vec<lockgate::delivery::Record>> {
    let mut found: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for record in world.records().await {
        let id = record.headers.iter().find(|(name, _)| name == "message-id").unwrap();
        found
            .entry(String::from_utf8(id.1.clone()).unwrap())
            .or_default()
            .push(record);
    }
    found
}

/// Batches were numbered in order.
fn batch_of(item: i64) -> i32 {
    match item {
        ..2000 => 1,
        2000..3000 => 2,
        _ => 3,
    }
}

/// Until it ends each loop stands before its first page: how quick one is decides nothing.
async fn hold_rows(world: &World) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut held = world.tables.pool().begin().await.unwrap();
    let hold = "lock table lockgate.undelivered_email_commands, lockgate.undelivered_other_commands in share row exclusive mode";
    sqlx::query(hold).execute(&mut *held).await.unwrap();
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn two_loops_at_once_send_each_message_once_and_unchanged() {
    let world = World::new(&[
        (1..=1000).collect(),
        (2000..3000).collect(),
        (3000..5000).step_by(2).collect(),
    ])
    .await;
    world.finish_all_unknown().await;
    let (ours, theirs) = (breakers(), breakers());
    let settings = RedeliverySettings {
        page: 50,
        pages: 1,
        ..quick()
    };
    let publishers = (world.publisher(&ours).await, world.publisher(&theirs).await);
    let held = hold_rows(&world).await;
    let one = Running::start(world.database(), publishers.0, &ours, settings.clone());
    let other = Running::start(world.database(), publishers.1, &theirs, settings);
    let waits = "select count(distinct pid) from pg_locks
        where not granted and database = (select oid from pg_database where datname = current_database())";
    wait_until(SOON, "both wait", async || world.value::<i64>(waits).await == 2).await;
    held.rollback().await.unwrap();
    world.all_rows_are("delivered").await;
    let replicas = BTreeSet::from([one.replica, other.replica]);
    assert!(one.stop().await && other.stop().await);

    let rows: Vec<(Uuid, i64, i32, i64, i64, Uuid)> = sqlx::query_as(
        "select message_id, item_id, kafka_partition, kafka_offset, claim_token, claimed_by
           from lockgate.undelivered_messages order by item_id",
    )
    .fetch_all(world.tables.pool())
    .await
    .unwrap();
    let records = by_message_id(&world).await;
    assert_eq!((rows.len(), records.len()), (3000, 3000));
    for (id, item, partition, offset, token, _) in &rows {
        let [record] = records[&id.to_string()].as_slice() else {
            panic!("item {item} is in the topic more than once");
        };
        assert_eq!(
            (record.partition, record.offset, *token),
            (*partition, *offset, 1),
            "{item}"
        );
        // Each batch was claimed once.
        let sent = message(&world.topic, world.run, batch_of(*item), 1, *item);
        assert_eq!((&record.key, &record.payload), (&sent.key, &sent.payload));
        let headers = sent.headers.iter();
        let headers: Vec<_> = headers.map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
        assert_eq!(record.headers, headers, "{item}");
    }
    assert_eq!(
        rows.iter().map(|row| row.5).collect::<BTreeSet<_>>(),
        replicas,
        "both took part"
    );

    let kept = "select count(*) from lockgate.undelivered_messages
        where payload is not null or key is not null or headers <> '[]' or finished_at is null or lease_until is not null";
    assert_eq!(world.value::<i64>(kept).await, 0);
    let audited = "select count(distinct key) from lockgate.transitions
        where entity = 'undelivered' and from_status = 'claimed' and to_status = 'delivered' and token = 1
          and replica is not null and run_id is not null and batch_seq is not null";
    assert_eq!(world.value::<i64>(audited).await, 3000);
    let proof = "select delivered = 3000 and adds_up and undelivered = 0 from lockgate.v_run_proof";
    assert!(world.value::<bool>(proof).await);
    assert_eq!(world.problems().await, []);
}

#[tokio::test]
async fn an_unknown_outcome_backs_off_and_dies_at_the_cap() {
    let world = World::new(&[vec![7]]).await;
    world.finish_all_unknown().await;
    let publisher = Scripted::new(|_| Fate::Settle(unknown()));
    let first_delay = Duration::from_millis(200);
    let settings = RedeliverySettings {
        max_attempts: 4,
        first_delay,
        max_delay: first_delay * 2,
        ..quick()
    };
    let running = Running::start(world.database(), publisher.clone(), &breakers(), settings);
    world.all_rows_are("dead").await;
    let offers: Vec<_> = publisher.offers.lock().unwrap().iter().map(|(at, _)| *at).collect();
    assert_eq!(offers.len(), 4);
    for (at, factor) in [1, 2, 2].into_iter().enumerate() {
        let gap = offers[at + 1] - offers[at];
        // Jitter shortens a delay by a quarter at most.
        assert!(gap >= first_delay * factor * 3 / 4, "attempt {at}: {gap:?}");
    }
    let row =
        "select attempts = 4 and last_error = 'timed_out: no answer' and payload is not null and finished_at is null
        from lockgate.undelivered_messages";
    assert!(world.value::<bool>(row).await);
    let audited = "select array_agg(to_status || ' ' || coalesce(reason, '') order by id)
        from lockgate.transitions where entity = 'undelivered'";
    assert_eq!(world.value::<Vec<String>>(audited).await, ["dead timed_out: no answer"]);
    assert_eq!(world.problems().await, []);
    assert!(running.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_never_sent_again_by_itself() {
    let world = World::with_topic(&[vec![1, 2], vec![3]], &[("max.message.bytes", "2000")]).await;
    let fleet = world.fleet();
    let batch = world.claim(&fleet).await;
    let mut oversize = world.undelivered(&batch, 2, false);
    oversize.payload = Some(
        (0..20_000u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect(),
    );
    finish(&fleet, &batch, 0, vec![world.undelivered(&batch, 1, true), oversize]).await;
    let breakers = breakers();
    let publisher = world.publisher(&breakers).await;
    let running = Running::start(world.database(), publisher, &breakers, quick());
    world.all_rows_are("refused").await;
    let rows: Vec<(i64, String, i32, i64)> = sqlx::query_as(
        "select item_id, reason_code, attempts, claim_token from lockgate.undelivered_messages order by item_id",
    )
    .fetch_all(world.tables.pool())
    .await
    .unwrap();
    assert_eq!(rows, [(1, "too_large".into(), 0, 0), (2, "too_large".into(), 1, 1)]);
    // A row that comes later and goes shows that the loop has looked again.
    let batch = world.claim(&fleet).await;
    finish(&fleet, &batch, 0, vec![world.undelivered(&batch, 3, false)]).await;
    wait_until(SOON, "the later row is delivered", async || {
        let delivered = "select count(*) from lockgate.undelivered_messages where status = 'delivered'";
        world.value::<i64>(delivered).await == 1
    })
    .await;
    assert!(running.stop().await);
    let claims = "select sum(claim_token)::bigint from lockgate.undelivered_messages where status = 'refused'";
    assert_eq!(world.value::<i64>(claims).await, 1);
    assert_eq!(by_message_id(&world).await.len(), 1);
    let audited = "select count(*) from lockgate.transitions where entity = 'undelivered' and to_status = 'refused'";
    assert_eq!(world.value::<i64>(audited).await, 1);
}

#[tokio::test]
async fn an_open_breaker_leaves_its_rows_alone_and_nobody_elses() {
    let world = World::new(&[(1..=10).collect()]).await;
    world.finish_all_unknown().await;
    world
        .execute("update lockgate.undelivered_messages set topic = 'broken' where item_id <= 5")
        .await;
    let breakers = shut_breakers();
    breakers.topic_trouble("broken", TopicTrouble::Missing);
    let publisher = Scripted::new(|_| Fate::Settle(delivered(0)));
    let settings = RedeliverySettings {
        poll: Duration::from_millis(5),
        ..quick()
    };
    let running = Running::start(world.database(), publisher.clone(), &breakers, settings);
    wait_until(SOON, "the other topic's rows are delivered", async || {
        let delivered = "select count(*) from lockgate.undelivered_messages where status = 'delivered'";
        world.value::<i64>(delivered).await == 5
    })
    .await;
    assert!(running.stop().await);
    assert_eq!(world.value::<i64>(UNTOUCHED).await, 5);
    assert!(
        publisher
            .offers
            .lock()
            .unwrap()
            .iter()
            .all(|(_, topic)| topic != "broken")
    );
}

#[tokio::test]
async fn an_outcome_unknown_because_of_the_topic_costs_no_attempt_and_a_probe_finds_out() {
    let world = World::new(&[(1..=100).collect()]).await;
    world.finish_all_unknown().await;
    let policy = BreakerPolicy {
        first_pause: Duration::from_millis(50),
        last_pause: Duration::from_millis(50),
        ..BreakerPolicy::default()
    };
    let breakers = Arc::new(Breakers::new(policy));
    let healthy = Arc::new(AtomicBool::new(false));
    let (healed, told) = (healthy.clone(), breakers.clone());
    let publisher = Scripted::new(move |message| {
        if healed.load(Ordering::SeqCst) {
            return Fate::Settle(delivered(0));
        }
        told.topic_trouble(&message.topic, TopicTrouble::NotAuthorised);
        Fate::Settle(unknown())
    });
    let running = Running::start(world.database(), publisher.clone(), &breakers, quick());
    wait_until(SOON, "probes have failed", async || {
        world
            .value::<bool>("select max(claim_token) >= 2 from lockgate.undelivered_messages")
            .await
    })
    .await;
    let tried = "select max(attempts) from lockgate.undelivered_messages";
    assert_eq!(world.value::<i32>(tried).await, 0);
    healthy.store(true, Ordering::SeqCst);
    world.all_rows_are("delivered").await;
    assert_eq!(world.value::<i32>(tried).await, 1);
    assert!(running.stop().await);
}

#[tokio::test]
async fn what_the_publisher_does_not_take_costs_no_attempt() {
    let world = World::new(&[(1..=100).collect()]).await;
    world.finish_all_unknown().await;
    let publisher = Scripted::new(|_| Fate::Reject(Rejected::Unavailable));
    let running = Running::start(world.database(), publisher.clone(), &breakers(), quick());
    wait_until(SOON, "it was offered twice", async || publisher.offered() >= 2).await;
    let gap = {
        let offers = publisher.offers.lock().unwrap();
        offers[1].0 - offers[0].0
    };
    assert!(gap > Duration::from_millis(800), "no hot loop: {gap:?}");
    assert!(running.stop().await);
    world.all_rows_are("due").await;
    let tried = "select max(attempts) from lockgate.undelivered_messages";
    assert_eq!(world.value::<i32>(tried).await, 0);
}

#[tokio::test]
async fn rows_of_a_killed_holder_are_recovered_and_it_can_write_nothing_more() {
    let world = World::new(&[vec![1, 2, 3]]).await;
    world.finish_all_unknown().await;
    let killed = PostgresUndelivered::new(world.database(), Uuid::new_v4());
    let request = PageRequest {
        claim_id: Uuid::new_v4(),
        topic: world.topic.clone(),
        rows: 10,
        bytes: 1 << 20,
        lease: Duration::from_secs(60),
    };
    let rows = killed.claim_undelivered(&request).await.unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!(
        world.fleet().sweep().await.unwrap().undelivered,
        0,
        "its lease still holds"
    );
    world
        .execute("update lockgate.undelivered_messages set lease_until = clock_timestamp() - interval '1 s'")
        .await;
    assert_eq!(world.fleet().sweep().await.unwrap().undelivered, 3);
    let publisher = Scripted::new(|_| Fate::Settle(delivered(9)));
    let running = Running::start(world.database(), publisher, &breakers(), quick());
    world.all_rows_are("delivered").await;
    assert!(running.stop().await);

    let settled: Vec<SettledRow> = rows
        .iter()
        .map(|row| SettledRow {
            claim: row.claim.clone(),
            settlement: Settlement::Delivered {
                partition: 5,
                offset: 5,
            },
        })
        .collect();
    let claims: Vec<_> = rows.iter().map(|row| row.claim.clone()).collect();
    assert_eq!(killed.settle_undelivered(request.claim_id, &settled).await.unwrap(), 0);
    assert_eq!(
        killed
            .renew_undelivered(request.claim_id, &claims, request.lease)
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        killed
            .hand_back_undelivered(request.claim_id, &claims, Duration::ZERO)
            .await
            .unwrap(),
        0
    );
    let untouched = "select bool_and(status = 'delivered' and kafka_offset = 9 and claim_token = 2)
        from lockgate.undelivered_messages";
    assert!(world.value::<bool>(untouched).await);
    let audited = "select array_agg(to_status || ' ' || token order by id) from lockgate.transitions where entity = 'undelivered'";
    let audited = world.value::<Vec<String>>(audited).await;
    assert_eq!(audited[..3], ["due 1"; 3]);
    assert_eq!(audited[3..], ["delivered 2"; 3]);
}

#[tokio::test]
async fn a_settlement_whose_answer_was_lost_is_found_again() {
    let world = World::new(&[vec![1, 2]]).await;
    world.finish_all_unknown().await;
    let store = PostgresUndelivered::new(world.database(), Uuid::new_v4());
    let request = PageRequest {
        claim_id: Uuid::new_v4(),
        topic: world.topic.clone(),
        rows: 10,
        bytes: 1 << 20,
        lease: Duration::from_secs(60),
    };
    let rows = store.claim_undelivered(&request).await.unwrap();
    let delivered = SettledRow {
        claim: rows[0].claim.clone(),
        settlement: Settlement::Delivered {
            partition: 1,
            offset: 2,
        },
    };
    let back = [rows[1].claim.clone()];
    for _ in 0..2 {
        let settled = store.settle_undelivered(request.claim_id, std::slice::from_ref(&delivered));
        assert_eq!(settled.await.unwrap(), 1);
        let given_back = store.hand_back_undelivered(request.claim_id, &back, Duration::from_secs(60));
        assert_eq!(given_back.await.unwrap(), 1);
    }
    let audited = "select count(*) from lockgate.transitions where entity = 'undelivered'";
    assert_eq!(world.value::<i64>(audited).await, 1);
    let attempts = "select array_agg(attempts order by status) from lockgate.undelivered_messages";
    assert_eq!(world.value::<Vec<i32>>(attempts).await, [1, 0]);
    assert_eq!(store.due_topics().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_page_ends_where_its_bytes_do() {
    let world = World::new(&[(1..=10).collect()]).await;
    world.finish_all_unknown().await;
    let store = PostgresUndelivered::new(world.database(), Uuid::new_v4());
    let mut request = PageRequest {
        claim_id: Uuid::new_v4(),
        topic: world.topic.clone(),
        rows: 10,
        bytes: 1,
        lease: Duration::from_secs(60),
    };
    assert_eq!(store.claim_undelivered(&request).await.unwrap().len(), 1);
    // Payloads of one-digit items have ten bytes.
    request.bytes = 30;
    assert_eq!(store.claim_undelivered(&request).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_broker_only_slows_it_as_the_lease_is_renewed() {
    let world = World::new(&[vec![1, 2, 3]]).await;
    world.finish_all_unknown().await;
    let publisher = Scripted::new(|_| Fate::Hold);
    let lease = Duration::from_secs(18);
    let settings = RedeliverySettings { lease, ..quick() };
    let running = Running::start(world.database(), publisher.clone(), &breakers(), settings);
    wait_until(SOON, "all is on its way", async || publisher.holds() == 3).await;
    let fleet = world.fleet();
    let until = "select min(lease_until) from lockgate.undelivered_messages";
    let mut leases = BTreeSet::new();
    wait_until(SOON, "a lease has gone by, renewed at each third", async || {
        // Nobody takes it for lost, as is seen a moment after a renewal: a busy machine may come late to the next.
        if leases.insert(world.value::<DateTime<Utc>>(until).await) {
            assert_eq!(fleet.sweep().await.unwrap().undelivered, 0);
        }
        leases.len() > 4
    })
    .await;
    publisher.let_go();
    world.all_rows_are("delivered").await;
    assert!(running.stop().await);
    assert_eq!(
        (
            publisher.offered(),
            world
                .value::<i64>("select max(claim_token) from lockgate.undelivered_messages")
                .await
        ),
        (3, 1)
    );
}

#[tokio::test]
async fn stopping_hands_back_what_has_no_outcome_in_time() {
    let world = World::new(&[vec![1, 2, 3]]).await;
    world.finish_all_unknown().await;
    let publisher = Scripted::new(|message| match message.key.as_deref() {
        Some(b"2") => Fate::Settle(delivered(0)),
        _ => Fate::Hold,
    });
    let settings = RedeliverySettings {
        drain: Duration::from_millis(200),
        ..quick()
    };
    let running = Running::start(world.database(), publisher.clone(), &breakers(), settings);
    wait_until(SOON, "all is on its way", async || publisher.holds() == 2).await;
    assert!(running.stop().await);
    let rows = "select array_agg(format('%s %s %s', item_id, status, attempts) order by item_id) from lockgate.undelivered_messages";
    assert_eq!(
        world.value::<Vec<String>>(rows).await,
        ["1 due 0", "2 delivered 1", "3 due 0"]
    );
    let store = PostgresUndelivered::new(world.database(), Uuid::new_v4());
    assert_eq!(store.due_topics().await.unwrap(), std::slice::from_ref(&world.topic));
}

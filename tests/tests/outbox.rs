//! The relay of the outbox on a real Postgres and a real broker (R36.10); a scripted publisher stands in where a fault must
//! come on demand.
#![allow(clippy::unwrap_used, clippy::panic)]

mod delivery_support;
mod outbox_support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use delivery_support::scripted::{Fate, Scripted, delivered, unknown};
use delivery_support::{SOON, World, breakers, shut_breakers};
use lockgate::delivery::{Breakers, OutboxSettings, PublisherEvents, Rejected, TopicTrouble};
use lockgate_tests::notes::{self, Note};
use lockgate_tests::topic::Topic;
use lockgate_tests::{kafka_brokers, wait_until};
use outbox_support::{HELD, Relaying, TAKEN, WAITING, is_empty, quick, topic};
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_at_once_send_each_command_once_and_those_of_a_key_in_order() {
    let world = World::new(&[]).await;
    let mut ids = notes::enqueue(world.tables.pool(), notes::to_everybody(&world.topic, 50, 60)).await;
    let (ours, theirs) = (breakers(), breakers());
    let settings = OutboxSettings {
        page: 20,
        lanes: 2,
        ..quick()
    };
    let publishers = (world.publisher(&ours).await, world.publisher(&theirs).await);
    let one = Relaying::start(world.database(), publishers.0, &ours, settings.clone());
    let other = Relaying::start(world.database(), publishers.1, &theirs, settings);
    for n in 61..70 {
        ids.extend(
            notes::enqueue(
                world.tables.pool(),
                (0..50).map(|p| Note::new(&world.topic, Some(&format!("person {p}")), n)),
            )
            .await,
        );
    }
    ids.extend(notes::enqueue(world.tables.pool(), (1..=500).map(|n| Note::new(&world.topic, None, n))).await);
    is_empty(&world).await;
    assert!(one.stop().await && other.stop().await);
    let records = topic(&world).sent().await;
    assert_eq!(notes::hold(&records, &ids), 0, "records sent twice");
    let record = &records[0];
    let names: Vec<&str> = record.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["message-id", "correlation-id", "crc32c"]);
    assert_eq!(world.value::<i64>(HELD).await, 0);
    // More lanes than one relay may hold were worked on, each more than once.
    assert_eq!(world.value::<i64>(TAKEN).await, 16);
}

#[tokio::test]
async fn what_sql_enqueued_goes_to_the_configured_topic_with_id_and_checksum() {
    let world = World::new(&[]).await;
    let call =
        "select lockgate.enqueue_email('ada@example.org', 'welcome', user_id => 7, idempotency_key => 'k')::text";
    let id: String = world.value(call).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = seen.clone();
    let publisher = Scripted::new(move |message| {
        sees.lock().unwrap().push(message.clone());
        Fate::Settle(delivered(0))
    });
    let relaying = Relaying::start(world.database(), publisher, &breakers(), quick());
    is_empty(&world).await;
    assert!(relaying.stop().await);
    let seen = seen.lock().unwrap();
    let [message] = seen.as_slice() else {
        panic!("{} messages", seen.len())
    };
    assert_eq!(
        (&*message.topic, message.key.as_deref()),
        ("email_commands", Some(b"7".as_slice()))
    );
    assert_eq!(message.headers.get("message-id"), Some(id.as_bytes()));
    let sum = format!("{:08x}", crc32c::crc32c(&message.payload));
    assert_eq!(message.headers.get("crc32c"), Some(sum.as_bytes()));
}

#[tokio::test]
async fn commands_of_a_type_without_a_topic_wait_and_hold_up_nobody() {
    let world = World::new(&[]).await;
    world
        .execute("select lockgate.enqueue_command('sms', '{}', n::text) from generate_series(1, 40) n")
        .await;
    world
        .execute("select lockgate.enqueue_email('a@b', 'x', user_id => n) from generate_series(1, 40) n")
        .await;
    let publisher = Scripted::new(|_| Fate::Settle(delivered(0)));
    let relaying = Relaying::start(world.database(), publisher, &breakers(), quick());
    let emails = "select count(*) from lockgate.outbox where command_type = 'email'";
    wait_until(SOON, "the others are sent", async || {
        world.value::<i64>(emails).await == 0
    })
    .await;
    assert!(relaying.stop().await);
    assert_eq!(world.value::<i64>(WAITING).await, 40);
}

#[tokio::test]
async fn of_a_key_nothing_is_deleted_from_the_first_unknown_outcome_on_until_all_is_sent_in_order() {
    let world = World::new(&[]).await;
    let notes = (1..=3).flat_map(|n| ["a", "b"].map(|to| Note::new(&world.topic, Some(to), n)));
    notes::enqueue(world.tables.pool(), notes).await;
    let failed = AtomicBool::new(false);
    let sent = Arc::new(Mutex::new(Vec::new()));
    let (sees, offset) = (sent.clone(), AtomicUsize::new(0));
    let publisher = Scripted::new(move |message| {
        let what = format!(
            "{}{}",
            String::from_utf8_lossy(message.key.as_ref().unwrap()),
            String::from_utf8_lossy(&message.payload)
                .split("\"n\":")
                .nth(1)
                .unwrap()
                .get(..1)
                .unwrap()
        );
        sees.lock().unwrap().push(what.clone());
        if what == "a2" && !failed.swap(true, Ordering::SeqCst) {
            return Fate::Settle(unknown());
        }
        Fate::Settle(delivered(offset.fetch_add(1, Ordering::SeqCst) as i64))
    });
    let relaying = Relaying::start(world.database(), publisher, &breakers(), quick());
    is_empty(&world).await;
    assert!(relaying.stop().await);
    let sent = sent.lock().unwrap().clone();
    let of = |key: &str| {
        sent.iter()
            .filter(|what| what.starts_with(key))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (of("a"), of("b")),
        (
            ["a1", "a2", "a3", "a2", "a3"].map(str::to_owned).to_vec(),
            ["b1", "b2", "b3"].map(str::to_owned).to_vec()
        )
    );
    let stored = "select count(*) from lockgate.undelivered_messages";
    assert_eq!(world.value::<i64>(stored).await, 0, "the outbox row is durable");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_stored_as_refused_and_its_neighbours_go() {
    let world = World::with_topic(&[], &[("max.message.bytes", "20000")]).await;
    let note = |n: u32| Note::new(&world.topic, Some("a"), n);
    let notes = (1..=40).map(|n| if n % 10 == 5 { note(n).filled(60_000) } else { note(n) });
    let ids = notes::enqueue(world.tables.pool(), notes).await;
    let breakers = breakers();
    let publisher = world.publisher(&breakers).await;
    let relaying = Relaying::start(world.database(), publisher, &breakers, quick());
    is_empty(&world).await;
    assert!(relaying.stop().await);
    let rows: Vec<(Uuid, String, String, bool)> = sqlx::query_as(
        "select message_id, status, reason_code, run_id is null and topic = $1 and command_type = 'note' and attempts = 0
                and headers->0 = jsonb_build_array('message-id', message_id) and octet_length(payload) > 60000
           from lockgate.undelivered_messages order by message_id",
    )
    .bind(&world.topic)
    .fetch_all(world.tables.pool())
    .await
    .unwrap();
    let refused: Vec<Uuid> = [5, 15, 25, 35].iter().map(|n| ids[n - 1]).collect();
    assert_eq!(rows.len(), 4, "{rows:?}");
    for (id, status, code, whole) in rows {
        assert!(refused.contains(&id) && whole, "{id}");
        assert_eq!((status.as_str(), code.as_str()), ("refused", "too_large"));
    }
    let sent: Vec<Uuid> = ids.into_iter().filter(|id| !refused.contains(id)).collect();
    let twice = notes::hold(&topic(&world).sent().await, &sent);
    println!("sent again to be in order: {twice}");
    let audited = "select count(*) from lockgate.transitions where entity = 'undelivered' and to_status = 'refused' and replica is not null";
    assert_eq!(world.value::<i64>(audited).await, 4);
}

#[tokio::test]
async fn headers_that_cannot_be_read_hold_up_nobody() {
    let world = World::new(&[]).await;
    let page =
        "select lockgate.enqueue_commands('{a,a,a}', array[gen_random_uuid(), gen_random_uuid(), gen_random_uuid()],
        '{t,t,t}', '{k,k,k}', array['{}', '[[\"x\", \"\\u00e4\\n\"]]', '[[1, 2]]'], '{1,2,3}', '{null,null,null}')";
    world.execute(page).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = seen.clone();
    let publisher = Scripted::new(move |message| {
        sees.lock().unwrap().push(message.headers.clone());
        Fate::Settle(delivered(0))
    });
    let relaying = Relaying::start(world.database(), publisher, &breakers(), quick());
    is_empty(&world).await;
    assert!(relaying.stop().await);
    let seen = seen.lock().unwrap().clone();
    assert_eq!((seen.len(), seen[0].get("x")), (1, Some("ä\n".as_bytes())));
    let refused = "select string_agg(convert_from(payload, 'UTF8') || reason_code, ' ' order by payload) from lockgate.undelivered_messages where status = 'refused'";
    assert_eq!(world.value::<String>(refused).await, "1no_message 3no_message");
}

#[tokio::test]
async fn an_open_breaker_leaves_its_rows_alone_and_nobody_elses() {
    let world = World::new(&[]).await;
    for topic in ["broken", "sound"] {
        notes::enqueue(world.tables.pool(), notes::to_everybody(topic, 20, 2)).await;
    }
    let breakers = shut_breakers();
    breakers.topic_trouble("broken", TopicTrouble::Missing);
    let publisher = Scripted::new(|_| Fate::Settle(delivered(0)));
    let relaying = Relaying::start(world.database(), publisher.clone(), &breakers, quick());
    let sound = "select count(*) from lockgate.outbox where route = 'sound'";
    wait_until(SOON, "the other topic's commands are sent", async || {
        world.value::<i64>(sound).await == 0
    })
    .await;
    assert!(relaying.stop().await);
    assert_eq!(world.value::<i64>(WAITING).await, 40);
    assert!(
        publisher
            .offers
            .lock()
            .unwrap()
            .iter()
            .all(|(_, topic)| topic == "sound")
    );
}

#[tokio::test]
async fn a_topic_that_hangs_holds_up_no_other_of_the_same_lanes() {
    let world = World::new(&[]).await;
    notes::enqueue(world.tables.pool(), notes::to_everybody("hangs", 30, 1)).await;
    let publisher = Scripted::new(|message| match &*message.topic {
        "hangs" => Fate::Hold,
        _ => Fate::Settle(delivered(0)),
    });
    let settings = OutboxSettings { lanes: 16, ..quick() };
    let relaying = Relaying::start(world.database(), publisher.clone(), &breakers(), settings);
    wait_until(SOON, "all of it is on its way", async || publisher.holds() == 30).await;
    notes::enqueue(world.tables.pool(), notes::to_everybody("sound", 30, 1)).await;
    let sound = "select count(*) from lockgate.outbox where route = 'sound'";
    wait_until(SOON, "the others are sent", async || {
        world.value::<i64>(sound).await == 0
    })
    .await;
    assert_eq!((publisher.holds(), world.value::<i64>(WAITING).await), (30, 30));
    publisher.let_go();
    is_empty(&world).await;
    assert!(relaying.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_costs_nothing_and_once_it_is_there_all_goes() {
    let world = World::new(&[]).await;
    let missing = format!("late-{}", Uuid::new_v4().simple());
    let ids = notes::enqueue(world.tables.pool(), notes::to_everybody(&missing, 30, 4)).await;
    let breakers = Arc::new(Breakers::new(lockgate::delivery::BreakerPolicy {
        first_pause: Duration::from_millis(200),
        last_pause: Duration::from_millis(500),
        ..Default::default()
    }));
    let publisher = world.publisher(&breakers).await;
    let relaying = Relaying::start(world.database(), publisher, &breakers, quick());
    wait_until(SOON, "its breaker opens", async || breakers.is_open(&missing)).await;
    assert_eq!(world.value::<i64>(WAITING).await, 120);
    lockgate::kafka::create_topic(&world.kafka, &missing, 3, &[])
        .await
        .unwrap();
    wait_until(SOON * 2, "all is sent", async || world.value::<i64>(WAITING).await == 0).await;
    assert!(relaying.stop().await);
    let _ = notes::hold(&Topic::existing(kafka_brokers(), &missing).sent().await, &ids);
    assert_eq!(
        world
            .value::<i64>("select count(*) from lockgate.undelivered_messages")
            .await,
        0
    );
}

#[tokio::test]
async fn a_publisher_that_takes_nothing_is_asked_with_pauses() {
    let world = World::new(&[]).await;
    notes::enqueue(world.tables.pool(), (1..=9).map(|n| Note::new("t", Some("a"), n))).await;
    let publisher = Scripted::new(|_| Fate::Reject(Rejected::Unavailable));
    let relaying = Relaying::start(world.database(), publisher.clone(), &breakers(), quick());
    wait_until(SOON, "it was asked three times", async || publisher.offered() >= 3).await;
    assert!(relaying.stop().await);
    let offers = publisher.offers.lock().unwrap().clone();
    let gaps = [offers[1].0 - offers[0].0, offers[2].0 - offers[1].0];
    assert!(
        gaps[0] > Duration::from_millis(700) && gaps[1] > Duration::from_millis(1400),
        "{gaps:?}"
    );
    assert_eq!(world.value::<i64>(WAITING).await, 9);
    let met = "select max(last_error) from lockgate.v_outbox_health";
    assert!(world.value::<String>(met).await.starts_with("not_taken"));
}

#[tokio::test]
async fn nothing_goes_before_its_time() {
    let world = World::new(&[]).await;
    let delayed = "select lockgate.enqueue_email('a@b', 'x', user_id => n, not_before => clock_timestamp() + '1 hour') from generate_series(1, 30) n";
    world.execute(delayed).await;
    world
        .execute("select lockgate.enqueue_email('a@b', 'x', user_id => n) from generate_series(1, 30) n")
        .await;
    let publisher = Scripted::new(|_| Fate::Settle(delivered(0)));
    let relaying = Relaying::start(world.database(), publisher.clone(), &breakers(), quick());
    wait_until(SOON, "the others are sent", async || publisher.offered() >= 30).await;
    wait_until(SOON, "nothing else is left", async || {
        world.value::<i64>(WAITING).await == 30
    })
    .await;
    let shown = "select sum(delayed)::bigint from lockgate.v_outbox_health";
    assert_eq!(world.value::<i64>(shown).await, 30);
    // As long as it takes to look again, many times over.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(publisher.offered(), 30, "they came with the others");
    world
        .execute("update lockgate.outbox set not_before = clock_timestamp() + '1 s'")
        .await;
    let due = "select min(not_before) from lockgate.outbox";
    let due = world.value::<DateTime<Utc>>(due).await;
    wait_until(SOON, "they are sent, too", async || publisher.offered() == 60).await;
    let now = "select clock_timestamp()";
    assert!(
        world.value::<DateTime<Utc>>(now).await >= due,
        "they came before their time"
    );
    is_empty(&world).await;
    assert!(relaying.stop().await);
    assert_eq!(publisher.offered(), 60);
}

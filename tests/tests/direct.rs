//! Direct commands: handed over at once, sent, and stored when the brokers do not take them (R36.4).
#![allow(clippy::unwrap_used, clippy::panic)]

mod delivery_support;
mod direct_support;

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use delivery_support::scripted::{Fate, Scripted, delivered, unknown};
use delivery_support::{Running, quick as redelivery};
use direct_support::*;
use lockgate::delivery::{
    CommandDoor, Direct, DirectSettings, Failure, HandedOver, Handover, KeyHash, NotificationOrchestrator, Outcome,
    Rejected, Topics, Waited,
};
use lockgate::kafka::KafkaPublisher;
use lockgate_tests::topic::Topic;
use lockgate_tests::{TestDatabase, kafka_brokers, wait_until};

fn start(parts: lockgate::delivery::OrchestratorParts) -> NotificationOrchestrator {
    NotificationOrchestrator::start(parts).unwrap()
}

#[tokio::test]
async fn a_command_reaches_the_topic_and_leaves_no_row() {
    let tables = TestDatabase::new().await;
    let topic = Topic::new(kafka_brokers(), &[]).await;
    let mut config = config(tables.url(), kafka_brokers(), topic.name());
    config.direct.key_secret = Some(lockgate::config::Opaque::new("secret"));
    // A busy broker has its time, as below.
    config.direct.patience = SOON;
    let orchestrator = lockgate::orchestrator(&config, None).unwrap();
    let command = Direct::new(email(1));
    let (id, ready) = (
        command.message_id,
        command
            .clone()
            .into_ready(&Topics::new(&config.topics), &KeyHash::with_secret(b"secret")),
    );
    let Waited::Delivered { partition, offset } = orchestrator.submit_and_wait(command).await else {
        panic!("it was not delivered: {:?}", orchestrator.stats());
    };
    let sent = ready.unwrap().message;
    let records = records(kafka_brokers(), topic.name()).await;
    let record = &records[&id][0];
    assert_eq!((record.partition, record.offset), (partition, offset));
    assert_eq!((&record.key, &record.payload), (&sent.key, &sent.payload));
    assert!(record.key.is_some());
    let headers: Vec<_> = sent
        .headers
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_vec()))
        .collect();
    assert_eq!(record.headers, headers);
    assert_eq!(orchestrator.stop(SOON).await.unplaced, 0);
    assert!(rows(tables.pool(), None).await.is_empty());
}

/// R36.5: the save has a transaction of its own.
#[tokio::test]
async fn a_rollback_of_the_caller_does_not_take_the_row_with_it() {
    let tables = TestDatabase::new().await;
    let publisher = Scripted::new(|_| Fate::Reject(Rejected::Unavailable));
    let orchestrator = start(parts(&tables, publisher, quick()));
    let mut callers = tables.pool().begin().await.unwrap();
    sqlx::query("create table registrations (name text)")
        .execute(&mut *callers)
        .await
        .unwrap();
    let command = Direct::new(email(1));
    let id = command.message_id;
    assert!(matches!(orchestrator.submit_and_wait(command).await, Waited::Stored));
    callers.rollback().await.unwrap();
    assert!(rows(tables.pool(), Some("due")).await.contains(&id));
    let gone: bool = sqlx::query_scalar("select to_regclass('registrations') is null")
        .fetch_one(tables.pool())
        .await
        .unwrap();
    assert!(gone && reasons(tables.pool()).await["unavailable"] == 1);
}

#[tokio::test]
async fn what_cannot_be_sent_is_told_at_once_or_kept_as_refused() {
    let tables = TestDatabase::new().await;
    let orchestrator = start(parts(&tables, Scripted::new(|_| Fate::Settle(delivered(0))), quick()));
    let mut wrong = email(1);
    wrong.locale = "d".into();
    let Handover::Invalid(invalid) = orchestrator.submit(Direct::new(wrong)) else {
        panic!("a wrong locale is told at once");
    };
    assert_eq!(invalid.field, "locale");
    // That it is too large shows only when its bytes are made.
    let command = Direct::new(too_large(2));
    let id = command.message_id;
    let Waited::Invalid(invalid) = orchestrator.submit_and_wait(command).await else {
        panic!("it is too large");
    };
    assert_eq!(invalid.field, "templateContext");
    wait_until(SOON, "it is stored", async || {
        !rows(tables.pool(), Some("refused")).await.is_empty()
    })
    .await;
    let kept: (uuid::Uuid, String, bool) = sqlx::query_as(
        "select message_id, reason_code, octet_length(payload) > 70000 from lockgate.undelivered_email_commands",
    )
    .fetch_one(tables.pool())
    .await
    .unwrap();
    assert_eq!(kept, (id, "invalid".to_owned(), true));
    assert!(matches!(
        orchestrator.submit_and_wait(Direct::new(email(3))).await,
        Waited::Delivered { .. }
    ));
    assert_eq!(orchestrator.stats().invalid, 2);
}

#[tokio::test]
async fn one_that_the_broker_refuses_does_not_take_its_neighbours_down() {
    let tables = TestDatabase::new().await;
    let topic = Topic::new(kafka_brokers(), &[("max.message.bytes", "4000")]).await;
    let mut config = config(tables.url(), kafka_brokers(), topic.name());
    // A busy broker has its time: what it does not answer for so long is stored, and is no answer here.
    config.direct.patience = SOON;
    let orchestrator = lockgate::orchestrator(&config, None).unwrap();
    let mut large = email(0);
    let noise: String = (0..20_000u32)
        .map(|n| char::from(b'!' + (n.wrapping_mul(2_654_435_761) >> 26) as u8))
        .collect();
    large.template_context = serde_json::json!({ "text": noise });
    let large = Direct::new(large);
    let large_id = large.message_id;
    let mut neighbours = submit_all(&orchestrator, 100);
    assert!(matches!(orchestrator.submit(large), Handover::Accepted));
    neighbours.extend(submit_all(&orchestrator, 100));
    wait_until(SOON, "all are placed", async || placed(&orchestrator) == 201).await;
    let sent = records(kafka_brokers(), topic.name()).await;
    assert_eq!(
        sent.keys().copied().collect::<std::collections::BTreeSet<_>>(),
        neighbours
    );
    assert_eq!(rows(tables.pool(), Some("refused")).await, [large_id].into());
    assert_eq!(reasons(tables.pool()).await, [("too_large".to_owned(), 1)].into());
    let stats = orchestrator.stats();
    assert_eq!((stats.delivered, stats.refused, stats.stored["too_large"]), (200, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_for_a_missing_topic_are_stored_and_sent_unchanged_once_it_is_there() {
    let tables = TestDatabase::new().await;
    let name = format!("t{}", uuid::Uuid::new_v4().simple());
    let config = config(tables.url(), kafka_brokers(), &name);
    let orchestrator = lockgate::orchestrator(&config, None).unwrap();
    let ids = submit_all(&orchestrator, 500);
    wait_until(SOON, "all are stored", async || placed(&orchestrator) == 500).await;
    assert_eq!(rows(tables.pool(), Some("due")).await, ids);
    // By now the breaker knows, so that what comes goes straight to the table.
    wait_until(SOON, "the breaker is open", async || {
        let waited = orchestrator.submit_and_wait(Direct::new(email(7))).await;
        assert!(matches!(waited, Waited::Stored), "{waited:?}");
        orchestrator.stats().stored.contains_key("breaker_open")
    })
    .await;
    assert_eq!(orchestrator.stop(SOON).await.unplaced, 0);
    type Stored = (uuid::Uuid, Option<Vec<u8>>, Vec<u8>, serde_json::Value);
    let stored: Vec<Stored> =
        sqlx::query_as("select message_id, key, payload, headers from lockgate.undelivered_email_commands")
            .fetch_all(tables.pool())
            .await
            .unwrap();
    lockgate::kafka::create_topic(&lockgate::kafka::KafkaConfig::new(kafka_brokers()), &name, 3, &[])
        .await
        .unwrap();
    let now = "update lockgate.undelivered_messages set next_attempt_at = clock_timestamp()";
    sqlx::query(now).execute(tables.pool()).await.unwrap();
    let breakers = breakers();
    let kafka = lockgate::kafka::KafkaConfig::new(kafka_brokers());
    let publisher = Arc::new(KafkaPublisher::start(kafka, breakers.clone()).unwrap());
    let running = Running::start(tables.database(), publisher, &breakers, redelivery());
    wait_until(SOON, "all are delivered", async || {
        rows(tables.pool(), Some("delivered")).await.len() == stored.len()
    })
    .await;
    assert!(running.stop().await);
    let sent = records(kafka_brokers(), &name).await;
    for (id, key, payload, headers) in stored {
        let [record] = sent[&id].as_slice() else {
            panic!("{id} is there more than once")
        };
        assert_eq!((&record.key, &record.payload), (&key, &payload));
        let text =
            |(name, value): &(String, Vec<u8>)| serde_json::json!([name, String::from_utf8(value.clone()).unwrap()]);
        assert_eq!(record.headers.iter().map(text).collect::<serde_json::Value>(), headers);
    }
}

#[tokio::test]
async fn a_full_queue_sends_what_comes_to_the_table() {
    let tables = TestDatabase::new().await;
    let publisher = Scripted::new(|_| Fate::Reject(Rejected::Full));
    let settings = DirectSettings {
        queue: 4,
        patience: Duration::from_secs(600),
        ..quick()
    };
    let orchestrator = start(parts(&tables, publisher, settings));
    submit_all(&orchestrator, 100);
    // Four wait in the queue, and one in the pump's hand.
    wait_until(SOON, "the others are stored", async || placed(&orchestrator) >= 95).await;
    assert_eq!(reasons(tables.pool()).await.keys().collect::<Vec<_>>(), ["queue_full"]);
    let stats = orchestrator.stats();
    assert_eq!((stats.accepted, stats.not_accepted), (100, 0));
    assert_eq!(orchestrator.stop(Duration::from_secs(20)).await.unplaced, 0);
    assert_eq!(rows(tables.pool(), Some("due")).await.len(), 100);
}

#[tokio::test]
async fn a_command_not_to_be_sent_yet_waits_in_the_table() {
    let tables = TestDatabase::new().await;
    let publisher = Scripted::new(|_| Fate::Settle(delivered(0)));
    let orchestrator = start(parts(&tables, publisher.clone(), quick()));
    let later = Utc::now() + chrono::Duration::hours(1);
    let waited = orchestrator
        .submit_and_wait(Direct::new(email(1)).not_before(later))
        .await;
    assert!(matches!(waited, Waited::Stored), "{waited:?}");
    let past = Utc::now() - chrono::Duration::hours(1);
    let waited = orchestrator
        .submit_and_wait(Direct::new(email(2)).not_before(past))
        .await;
    assert!(matches!(waited, Waited::Delivered { .. }), "{waited:?}");
    assert_eq!(publisher.offered(), 1);
    let due: chrono::DateTime<Utc> = sqlx::query_scalar(
        "select next_attempt_at from lockgate.undelivered_email_commands where reason_code = 'not_before'",
    )
    .fetch_one(tables.pool())
    .await
    .unwrap();
    assert!((due - later).abs() < chrono::Duration::milliseconds(1));
}

#[tokio::test]
async fn commands_without_an_answer_are_stored_in_time_and_settled_when_it_comes() {
    let tables = TestDatabase::new().await;
    let publisher = Scripted::new(|_| Fate::Hold);
    // Long enough that all of a burst are under way when the first is given up.
    let settings = DirectSettings {
        patience: Duration::from_secs(2),
        ..quick()
    };
    let orchestrator = start(parts(&tables, publisher.clone(), settings));
    let first = submit_all(&orchestrator, 10);
    wait_until(SOON, "they are stored", async || placed(&orchestrator) == 10).await;
    assert_eq!(reasons(tables.pool()).await, [("unconfirmed".to_owned(), 10)].into());
    let not_raced = "select bool_and(next_attempt_at > created_at + interval '3 s') from lockgate.undelivered_messages";
    assert!(
        sqlx::query_scalar::<_, bool>(not_raced)
            .fetch_one(tables.pool())
            .await
            .unwrap()
    );
    // While the brokers stand still commands go straight to the table, but for one now and then.
    submit_all(&orchestrator, 50);
    wait_until(SOON, "they are stored too", async || placed(&orchestrator) == 60).await;
    assert!(orchestrator.stats().stalled && reasons(tables.pool()).await["stalled"] >= 49);
    // One row is somebody else's when its acknowledgement comes.
    let taken = *first.first().unwrap();
    let claim =
        "update lockgate.undelivered_messages set status = 'claimed', claim_token = 1, claim_id = gen_random_uuid(),
        lease_until = clock_timestamp() + interval '1 h' where message_id = $1";
    sqlx::query(claim).bind(taken).execute(tables.pool()).await.unwrap();
    publisher.let_go();
    let others = &first - &[taken].into();
    wait_until(SOON, "the stall is over and the others are settled", async || {
        let settled = rows(tables.pool(), Some("delivered")).await.is_superset(&others);
        settled && !orchestrator.stats().stalled
    })
    .await;
    assert!(rows(tables.pool(), Some("claimed")).await.contains(&taken));
    let audited = "select count(*) from lockgate.transitions t join lockgate.undelivered_messages m on t.key = m.id::text
        where entity = 'undelivered' and from_status = 'due' and to_status = 'delivered' and replica is not null
          and m.payload is null and m.key is null and m.headers = '[]' and m.kafka_partition = 0 and m.kafka_offset is not null";
    // What a trial sent is confirmed as well, and counted a moment after it is written.
    let mut settled: i64 = 0;
    wait_until(SOON, "as many are counted as are written", async || {
        settled = sqlx::query_scalar(audited).fetch_one(tables.pool()).await.unwrap();
        settled.unsigned_abs() == orchestrator.stats().confirmed
    })
    .await;
    assert!(settled >= 9, "{settled}");
}

#[tokio::test]
async fn unknown_outcomes_are_stored_and_open_the_breaker_as_those_of_batches_do() {
    let tables = TestDatabase::new().await;
    let publisher = Scripted::new(|_| Fate::Settle(unknown()));
    let orchestrator = start(parts(&tables, publisher.clone(), quick()));
    let ids = submit_all(&orchestrator, 2_000);
    wait_until(SOON, "all are stored", async || placed(&orchestrator) == 2_000).await;
    assert_eq!(rows(tables.pool(), Some("due")).await, ids);
    let reasons = reasons(tables.pool()).await;
    assert!(reasons["timed_out"] >= 50 && reasons["breaker_open"] > 0, "{reasons:?}");
    assert_eq!(reasons["timed_out"].unsigned_abs() as usize, publisher.offered());
}

#[tokio::test]
async fn the_same_command_handed_over_twice_is_stored_once() {
    let tables = TestDatabase::new().await;
    let refused = Outcome::Refused(Failure {
        code: "too_large",
        detail: "planted".to_owned(),
    });
    let orchestrator = start(parts(
        &tables,
        Scripted::new(move |_| Fate::Settle(refused.clone())),
        quick(),
    ));
    for _ in 0..3 {
        let command = Direct::new(email(1)).idempotency_key("registration-1");
        assert!(matches!(orchestrator.submit_and_wait(command).await, Waited::Refused));
    }
    assert_eq!(rows(tables.pool(), Some("refused")).await.len(), 1);
}

#[tokio::test]
async fn the_door_answers_for_each_command_in_order() {
    let tables = TestDatabase::new().await;
    let topics = Topics::new(&[("email".to_owned(), TOPIC.to_owned())].into());
    let publisher = Scripted::new(
        |message| match message.payload.windows(10).any(|part| part == b"\"number\":1") {
            true => Fate::Reject(Rejected::Unavailable),
            false => Fate::Settle(delivered(5)),
        },
    );
    let orchestrator = start(parts(&tables, publisher, quick()));
    let ready = |number| {
        Direct::new(email(number))
            .into_ready(&topics, &KeyHash::none())
            .unwrap()
    };
    let answers = orchestrator.hand_over(vec![ready(0), ready(1), ready(2)]).await;
    let sent = HandedOver::Delivered {
        partition: 0,
        offset: 5,
    };
    assert_eq!(answers, [sent, HandedOver::Stored, sent]);
    orchestrator.stop(SOON).await;
    assert_eq!(orchestrator.hand_over(vec![ready(3)]).await, [HandedOver::NotAccepted]);
    assert_eq!(rows(tables.pool(), Some("due")).await.len(), 1);
}

//! Direct commands at their limits: a handler that blocks, a stop, full queues, a store that fails, code that panics
//! (R36.6).
#![allow(clippy::unwrap_used, clippy::panic)]

mod delivery_support;
mod direct_support;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use delivery_support::scripted::{Fate as Offer, Scripted, delivered};
use direct_support::*;
use lockgate::delivery::{
    CommandDoor, CommandKind, ConfirmedRow, Direct, DirectSettings, Failure, FallbackError, FallbackRow, FallbackStore,
    Fate, HandedOver, Handover, InvalidCommand, KeyHash, Notice, NotificationOrchestrator, OrchestratorParts,
    OutcomeHandler, Rejected, Topics, Waited,
};
use lockgate::postgres::{Database, DatabaseSettings, PostgresFallback};
use lockgate_tests::blocked::Blocked;
use lockgate_tests::proxy::Proxy;
use lockgate_tests::topic::Topic;
use lockgate_tests::{TestDatabase, kafka_brokers, wait_until};
use serde::Serialize;
use uuid::Uuid;

fn start(parts: OrchestratorParts) -> NotificationOrchestrator {
    NotificationOrchestrator::start(parts).unwrap()
}

/// R36.3: outcomes are handled apart from Kafka's threads and from those of the caller.
#[tokio::test]
async fn a_handler_that_blocks_for_ever_holds_up_nothing() {
    const COMMANDS: usize = 20_000;
    let tables = TestDatabase::new().await;
    let topic = Topic::new(kafka_brokers(), &[]).await;
    let handler = Arc::new(Blocked::default());
    let mut config = config(tables.url(), kafka_brokers(), topic.name());
    // A busy broker has its time: what it does not answer for so long is stored.
    config.direct.patience = SOON;
    let orchestrator = lockgate::orchestrator(&config, Some(handler.clone())).unwrap();
    submit_all(&orchestrator, 1);
    handler.blocks().await;
    let mut slowest = Duration::ZERO;
    for number in 0..COMMANDS {
        let command = Direct::new(email(number));
        let before = Instant::now();
        assert!(matches!(orchestrator.submit(command), Handover::Accepted));
        slowest = slowest.max(before.elapsed());
    }
    // This test's own runtime has one thread: it goes on, and so do the sends.
    wait_until(SOON, "all are delivered", async || {
        orchestrator.stats().delivered == COMMANDS as u64 + 1
    })
    .await;
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    // The first is with the handler, as many as there is room for wait, and of the rest the notice is dropped.
    let dropped = orchestrator.stats().notices_dropped;
    assert!(dropped > 0 && dropped < COMMANDS as u64, "{dropped}");
    assert_eq!(orchestrator.stop(SOON).await.unplaced, 0);
    assert_eq!(records(kafka_brokers(), topic.name()).await.len(), COMMANDS + 1);
    handler.release();
}

#[derive(Default)]
struct Kept(Mutex<Vec<Notice>>);

impl OutcomeHandler for Kept {
    fn handle(&self, notice: Notice) {
        let first = {
            let mut kept = self.0.lock().unwrap();
            kept.push(notice);
            kept.len() == 1
        };
        assert!(!first, "a handler may panic");
    }
}

#[tokio::test]
async fn a_handler_hears_of_each_command_also_after_it_panicked() {
    let tables = TestDatabase::new().await;
    let handler = Arc::new(Kept::default());
    let turns = AtomicBool::new(false);
    let publisher = Scripted::new(move |_| match turns.fetch_xor(true, Ordering::SeqCst) {
        false => Offer::Settle(delivered(3)),
        true => Offer::Reject(Rejected::Unavailable),
    });
    let orchestrator = start(OrchestratorParts {
        handler: Some(handler.clone()),
        ..parts(&tables, publisher, quick())
    });
    let ids = submit_all(&orchestrator, 10);
    wait_until(SOON, "it has heard of all", async || {
        handler.0.lock().unwrap().len() == 10
    })
    .await;
    let kept = handler.0.lock().unwrap();
    assert_eq!(
        kept.iter().map(|notice| notice.message_id).collect::<BTreeSet<_>>(),
        ids
    );
    let stored = Fate::Stored {
        code: "unavailable",
        refused: false,
    };
    assert_eq!(kept.iter().filter(|notice| notice.fate == stored).count(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_loses_nothing_that_was_accepted_while_it_came() {
    let tables = TestDatabase::new().await;
    let topic = Topic::new(kafka_brokers(), &[]).await;
    let mut config = config(tables.url(), kafka_brokers(), topic.name());
    config.direct.queue = 1_000;
    config.direct.spill = 1_000;
    let orchestrator = lockgate::orchestrator(&config, None).unwrap();
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let orchestrator = orchestrator.clone();
            std::thread::spawn(move || {
                let mut accepted = BTreeSet::new();
                for number in 0.. {
                    let command = Direct::new(email(number));
                    let id = command.message_id;
                    match orchestrator.submit(command) {
                        Handover::Accepted => accepted.insert(id),
                        Handover::NotAccepted(back) if orchestrator.stats().accepted > 20_000 => {
                            assert_eq!(back.message_id, id);
                            return accepted;
                        }
                        Handover::NotAccepted(_) => continue,
                        Handover::Invalid(invalid) => panic!("{invalid}"),
                    };
                }
                accepted
            })
        })
        .collect();
    wait_until(SOON, "much is accepted", async || {
        orchestrator.stats().accepted > 20_000
    })
    .await;
    assert_eq!(orchestrator.stop(SOON).await.unplaced, 0);
    let accepted: BTreeSet<Uuid> = callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect();
    let sent: BTreeSet<Uuid> = records(kafka_brokers(), topic.name()).await.into_keys().collect();
    let stored = rows(tables.pool(), None).await;
    assert_eq!(&sent | &stored, accepted);
    assert_eq!(orchestrator.stats().accepted, accepted.len() as u64);
    assert!(matches!(
        orchestrator.submit(Direct::new(email(0))),
        Handover::NotAccepted(_)
    ));
}

#[tokio::test]
async fn what_is_under_way_when_the_time_to_send_is_over_is_stored() {
    let tables = TestDatabase::new().await;
    let publisher = Scripted::new(|_| Offer::Hold);
    let settings = DirectSettings {
        window: 10,
        patience: Duration::from_secs(600),
        ..quick()
    };
    let orchestrator = start(parts(&tables, publisher, settings));
    let ids = submit_all(&orchestrator, 30);
    assert_eq!(orchestrator.stop(Duration::from_secs(20)).await.unplaced, 0);
    assert_eq!(rows(tables.pool(), Some("due")).await, ids);
    let expected = [("stopping".to_owned(), 20), ("unconfirmed".to_owned(), 10)];
    assert_eq!(reasons(tables.pool()).await, expected.into());
}

/// A store that cannot write until it is told that it can.
#[derive(Default)]
struct Down {
    works: AtomicBool,
    stored: Mutex<Vec<Uuid>>,
}

#[async_trait]
impl FallbackStore for Down {
    async fn store_undelivered(&self, rows: &[FallbackRow]) -> Result<u64, FallbackError> {
        if !self.works.load(Ordering::SeqCst) {
            return Err(FallbackError::NotNow("planted".to_owned()));
        }
        self.stored
            .lock()
            .unwrap()
            .extend(rows.iter().map(|row| row.message_id));
        Ok(rows.len() as u64)
    }

    async fn confirm_undelivered(&self, rows: &[ConfirmedRow]) -> Result<u64, FallbackError> {
        Ok(rows.len() as u64)
    }
}

fn without_kafka(store: &Arc<Down>) -> NotificationOrchestrator {
    let settings = DirectSettings {
        queue: 10,
        spill: 20,
        patience: Duration::from_secs(600),
        ..quick()
    };
    let publisher = Scripted::new(|_| Offer::Reject(Rejected::Full));
    start(with_store(store.clone(), publisher, settings))
}

#[tokio::test]
async fn with_kafka_and_postgres_gone_commands_come_back_and_the_rest_waits_in_memory() {
    let store = Arc::new(Down::default());
    let orchestrator = without_kafka(&store);
    let (mut accepted, mut back) = (BTreeSet::new(), 0);
    for number in 0..1_000 {
        let command = Direct::new(email(number));
        let (id, before) = (command.message_id, command.clone());
        match orchestrator.submit(command) {
            Handover::Accepted => assert!(accepted.insert(id)),
            Handover::NotAccepted(command) => {
                assert_eq!(*command, before);
                back += 1;
            }
            Handover::Invalid(invalid) => panic!("{invalid}"),
        }
    }
    // What the queues hold, the one in the pump's hand, and a page in the writer's.
    assert!(
        accepted.len() >= 30 && back >= 1_000 - 30 - 2 - 500,
        "{}",
        accepted.len()
    );
    assert_eq!(orchestrator.stats().not_accepted, back);
    wait_until(SOON, "it was tried more than once", async || {
        orchestrator.stats().store_failures > 1
    })
    .await;
    store.works.store(true, Ordering::SeqCst);
    assert_eq!(orchestrator.stop(SOON).await.unplaced, 0);
    assert_eq!(
        store.stored.lock().unwrap().iter().copied().collect::<BTreeSet<_>>(),
        accepted
    );
}

/// Nobody may believe that nothing became of what is still being tried.
#[tokio::test]
async fn what_is_neither_sent_nor_stored_in_time_is_unsettled_and_not_given_back() {
    let store = Arc::new(Down::default());
    let publisher = Scripted::new(|_| Offer::Reject(Rejected::Unavailable));
    let orchestrator = start(with_store(store.clone(), publisher, hasty()));
    let topics = Topics::new(&[("email".to_owned(), TOPIC.to_owned())].into());
    let ready = |number| {
        Direct::new(email(number))
            .into_ready(&topics, &KeyHash::none())
            .unwrap()
    };
    let (many, one) = tokio::join!(
        orchestrator.hand_over(vec![ready(0), ready(1)]),
        orchestrator.submit_and_wait(Direct::new(email(2)))
    );
    assert_eq!(many, [HandedOver::Unsettled; 2]);
    assert!(matches!(one, Waited::Unsettled), "{one:?}");
    store.works.store(true, Ordering::SeqCst);
    wait_until(SOON, "all three are stored after all", async || {
        store.stored.lock().unwrap().len() == 3
    })
    .await;
}

#[tokio::test]
async fn what_the_brokers_refuse_is_said_to_be_refused_and_not_to_be_sent_later() {
    let tables = TestDatabase::new().await;
    let failure = || Failure {
        code: "too_large",
        detail: "planted".to_owned(),
    };
    let publisher = Scripted::new(move |_| Offer::Reject(Rejected::Refused(failure())));
    let orchestrator = start(parts(&tables, publisher, quick()));
    let topics = Topics::new(&[("email".to_owned(), TOPIC.to_owned())].into());
    let ready = Direct::new(email(0)).into_ready(&topics, &KeyHash::none()).unwrap();
    assert_eq!(orchestrator.hand_over(vec![ready]).await, [HandedOver::Refused]);
    let waited = orchestrator.submit_and_wait(Direct::new(email(1))).await;
    assert!(matches!(waited, Waited::Refused), "{waited:?}");
    assert_eq!(rows(tables.pool(), Some("refused")).await.len(), 2);
}

#[tokio::test]
async fn the_memory_that_waiting_commands_take_is_bounded() {
    let store = Arc::new(Down::default());
    let settings = DirectSettings {
        memory: 1 << 20,
        ..hasty()
    };
    let publisher = Scripted::new(|_| Offer::Reject(Rejected::Full));
    let orchestrator = start(with_store(store.clone(), publisher, settings));
    let topics = Topics::new(&[("email".to_owned(), TOPIC.to_owned())].into());
    let large = |number| {
        let mut ready = Direct::new(email(number))
            .into_ready(&topics, &KeyHash::none())
            .unwrap();
        ready.message.payload = vec![b'x'; 60_000];
        ready
    };
    let commands = (0..100).map(large).collect();
    let answers = orchestrator.hand_over(commands).await;
    let back = answers
        .iter()
        .filter(|answer| **answer == HandedOver::NotAccepted)
        .count();
    // A megabyte holds seventeen of them; the one in the pump's hand waits no longer.
    assert!((100 - 19..=100 - 17).contains(&back), "{back} were given back");
    store.works.store(true, Ordering::SeqCst);
    assert_eq!(orchestrator.stop(SOON).await.unplaced, 0);
    assert_eq!(store.stored.lock().unwrap().len(), 100 - back);
}

/// Kafka that answers is used, whatever became of Postgres.
#[tokio::test]
async fn a_table_that_cannot_be_written_does_not_hold_up_what_the_brokers_take() {
    let store = Arc::new(Down::default());
    let settings = DirectSettings { spill: 20, ..hasty() };
    let refused = Arc::new(AtomicBool::new(true));
    let refuses = refused.clone();
    let publisher = Scripted::new(move |_| match refuses.load(Ordering::SeqCst) {
        true => Offer::Reject(Rejected::Unavailable),
        false => Offer::Settle(delivered(0)),
    });
    let orchestrator = start(with_store(store.clone(), publisher, settings));
    submit_all(&orchestrator, 1_000);
    wait_until(SOON, "the table's queue is full", async || {
        orchestrator.stats().store_failures > 0
    })
    .await;
    refused.store(false, Ordering::SeqCst);
    submit_all(&orchestrator, 200);
    wait_until(SOON, "those behind are sent", async || {
        orchestrator.stats().delivered >= 200
    })
    .await;
    store.works.store(true, Ordering::SeqCst);
    assert_eq!(orchestrator.stop(SOON).await.unplaced, 0);
}

#[tokio::test]
async fn a_stop_says_how_many_could_not_be_placed() {
    let store = Arc::new(Down::default());
    let orchestrator = without_kafka(&store);
    submit_all(&orchestrator, 15);
    let begun = Instant::now();
    assert_eq!(orchestrator.stop(Duration::from_secs(1)).await.unplaced, 15);
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(store.stored.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_answer_of_the_database_that_is_lost_stores_nothing_twice() {
    let tables = TestDatabase::new().await;
    let proxy = Proxy::before(tables.url()).await;
    proxy.lose_request("undelivered_messages", 1);
    proxy.lose_reply("undelivered_messages", 1);
    let database = Database::new(&DatabaseSettings::new(proxy.url())).unwrap();
    let store = Arc::new(PostgresFallback::new(database, Uuid::new_v4()));
    let publisher = Scripted::new(|_| Offer::Reject(Rejected::Unavailable));
    let orchestrator = start(with_store(store, publisher, quick()));
    let ids = submit_all(&orchestrator, 700);
    wait_until(SOON, "all are stored", async || placed(&orchestrator) == 700).await;
    assert_eq!((proxy.cut(), orchestrator.stats().store_failures), (2, 2));
    assert_eq!(rows(tables.pool(), Some("due")).await, ids);
    assert_eq!(reasons(tables.pool()).await["unavailable"], 700);
}

#[tokio::test]
async fn a_row_that_can_never_be_stored_does_not_hold_up_its_neighbours() {
    let tables = TestDatabase::new().await;
    let publisher = Scripted::new(|_| Offer::Reject(Rejected::Unavailable));
    let orchestrator = start(parts(&tables, publisher, quick()));
    let topics = Topics::new(&[("email".to_owned(), TOPIC.to_owned())].into());
    let mut commands: Vec<_> = (0..50)
        .map(|number| {
            Direct::new(email(number))
                .into_ready(&topics, &KeyHash::none())
                .unwrap()
        })
        .collect();
    commands[20].command_type.clear();
    let answers = orchestrator.hand_over(commands).await;
    for (number, answer) in answers.into_iter().enumerate() {
        let expected = if number == 20 {
            HandedOver::NotAccepted
        } else {
            HandedOver::Stored
        };
        assert_eq!(answer, expected, "{number}");
    }
    assert_eq!(
        (
            rows(tables.pool(), Some("due")).await.len(),
            orchestrator.stats().unplaced
        ),
        (49, 1)
    );
    // No text of Postgres can hold a zero character: it is left out, and the command is kept.
    let mut command = Direct::new(email(0));
    command.traceparent = Some("00-\0".to_owned());
    assert!(matches!(orchestrator.submit_and_wait(command).await, Waited::Stored));
}

/// What is beyond a limit of the server stays so: SQLSTATE class 54 is about the row, and not waited out.
#[tokio::test]
async fn a_row_that_is_beyond_a_limit_of_the_server_does_not_hold_up_its_neighbours() {
    let tables = TestDatabase::new().await;
    let orchestrator = start(parts(
        &tables,
        Scripted::new(|_| Offer::Reject(Rejected::Unavailable)),
        quick(),
    ));
    let topics = Topics::new(&[("email".to_owned(), TOPIC.to_owned())].into());
    let ready = |number| {
        Direct::new(email(number))
            .into_ready(&topics, &KeyHash::none())
            .unwrap()
    };
    let commands: Vec<_> = (0..50).map(ready).collect();
    let plant = format!(
        "create function public.limit() returns trigger language plpgsql as
             $$ begin raise 'planted' using errcode = 'program_limit_exceeded'; end $$;
         create trigger planted before insert on lockgate.undelivered_messages for each row
             when (new.message_id = '{}') execute function public.limit()",
        commands[20].message_id
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(plant))
        .execute(tables.pool())
        .await
        .unwrap();
    let answers = orchestrator.hand_over(commands).await;
    let back: Vec<usize> = (0..50).filter(|at| answers[*at] != HandedOver::Stored).collect();
    assert_eq!((back, answers[20]), (vec![20], HandedOver::NotAccepted));
    assert_eq!(rows(tables.pool(), Some("due")).await.len(), 49);
    let stats = orchestrator.stats();
    assert_eq!((stats.unplaced, stats.store_failures), (1, 0));
}

/// A kind of command whose code panics where it is told to.
#[derive(Debug)]
struct Fragile {
    in_check: bool,
}

impl Serialize for Fragile {
    fn serialize<S: serde::Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        panic!("planted")
    }
}

impl CommandKind for Fragile {
    const TYPE: &'static str = "fragile";

    fn validate(&self) -> Result<(), InvalidCommand> {
        assert!(!self.in_check, "planted");
        Ok(())
    }

    fn key(&self, _hash: &KeyHash) -> Option<Vec<u8>> {
        None
    }

    fn correlation_id(&self) -> &str {
        "c"
    }

    fn topic(&self) -> Option<Cow<'static, str>> {
        Some("fragile".into())
    }
}

#[tokio::test]
async fn the_code_of_a_kind_that_panics_harms_that_command_only() {
    let tables = TestDatabase::new().await;
    let orchestrator = start(parts(&tables, Scripted::new(|_| Offer::Settle(delivered(0))), quick()));
    let in_check = orchestrator.submit(Direct::new(Fragile { in_check: true }));
    assert!(matches!(in_check, Handover::Invalid(_)), "{in_check:?}");
    let later = orchestrator
        .submit_and_wait(Direct::new(Fragile { in_check: false }))
        .await;
    assert!(matches!(later, Waited::Invalid(_)), "{later:?}");
    let next = orchestrator.submit_and_wait(Direct::new(email(1))).await;
    assert!(matches!(next, Waited::Delivered { .. }), "{next:?}");
    assert_eq!(orchestrator.stop(SOON).await.unplaced, 0);
    let kept = "select count(*) from lockgate.undelivered_other_commands
        where command_type = 'fragile' and status = 'refused' and reason_code = 'invalid' and payload is null";
    assert_eq!(
        sqlx::query_scalar::<_, i64>(kept)
            .fetch_one(tables.pool())
            .await
            .unwrap(),
        1
    );
}

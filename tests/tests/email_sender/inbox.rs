//! The inbox by itself, with an effect of a test's own whose table would take a second effect (R36.9).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use lockgate::delivery::{InboundPage, Record, Rejection, Settler, TakeError, Taken, consume};
use lockgate::kafka::{ConsumerSettings, KafkaConfig, KafkaConsumer};
use lockgate::postgres::{Effect, EffectError, Inbox};
use lockgate_tests::mailroom::{Letter, Mailroom};
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::wait_until;
use sqlx::{Executor, PgConnection};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const EFFECTS: &str = "select count(*) from public.effects";

/// Writes an id for each message; may be told to fail.
#[derive(Default)]
struct Count {
    /// So many times the server is asked for what it does not have: an error that may pass.
    fails: AtomicU32,
    panics_on: Option<Uuid>,
    /// Its effect is beyond a limit of the server.
    exceeds: Option<Uuid>,
    rejects: Option<Uuid>,
}

#[async_trait]
impl Effect for Count {
    type Prepared = ();

    fn prepare(&self, _id: Uuid, _record: &Record) -> Result<(), Rejection> {
        Ok(())
    }

    async fn apply(&self, connection: &mut PgConnection, new: &[(Uuid, &())]) -> Result<(), EffectError> {
        let ids: Vec<Uuid> = new.iter().map(|(id, ())| *id).collect();
        let insert = "insert into public.effects select unnest($1::uuid[])";
        sqlx::query(insert).bind(&ids).execute(&mut *connection).await?;
        if self
            .fails
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
        {
            sqlx::query("select from public.not_there")
                .execute(&mut *connection)
                .await?;
        }
        if self.exceeds.is_some_and(|id| ids.contains(&id)) {
            let limit = "do $$ begin raise 'planted' using errcode = 'program_limit_exceeded'; end $$";
            sqlx::query(limit).execute(&mut *connection).await?;
        }
        assert!(!self.panics_on.is_some_and(|id| ids.contains(&id)), "as it was told");
        match self.rejects.filter(|id| ids.contains(id)) {
            Some(_) => Err(EffectError::Rejected(Rejection::new("unwanted", "nobody wants it"))),
            None => Ok(()),
        }
    }
}

/// An inbox whose failures a test can see.
struct Watched {
    inbox: Inbox<Count>,
    failures: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Settler for Watched {
    async fn take(&self, page: &InboundPage) -> Result<Taken, TakeError> {
        let taken = self.inbox.take(page).await;
        let failure = taken.as_ref().err().map(ToString::to_string);
        self.failures.lock().unwrap().extend(failure);
        taken
    }
}

struct Consuming {
    failures: Arc<Mutex<Vec<String>>>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Taken>,
}

/// Consumes with this effect as consumer `counter`, in a group of this name.
async fn consuming(room: &Mailroom, group: &str, effect: &Arc<Count>) -> Consuming {
    room.pool
        .execute("create table if not exists public.effects (message_id uuid)")
        .await
        .unwrap();
    let failures = Arc::<Mutex<Vec<String>>>::default();
    let inbox = Watched {
        inbox: Inbox::new(room.database(), "counter", effect.clone()).most_dead(3),
        failures: failures.clone(),
    };
    let settings = ConsumerSettings {
        page_records: 50,
        ..ConsumerSettings::new(room.topic.name(), &format!("{group}-{}", room.group()))
    };
    let consumer = KafkaConsumer::start(&KafkaConfig::new(room.topic.brokers()), settings).unwrap();
    let stop = CancellationToken::new();
    let told = stop.clone();
    let task = tokio::spawn(async move { consume(Box::new(consumer), Arc::new(inbox), told).await.unwrap() });
    Consuming { failures, stop, task }
}

impl Consuming {
    async fn stops(self) -> Taken {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_reading_of_the_whole_topic_finds_nothing_new() {
    let room = Mailroom::new().await;
    let letters: Vec<Letter> = (0..1_000).chain(0..100).map(Letter::to_user).collect();
    room.post(letters).await;
    let effect = Arc::<Count>::default();
    let first = consuming(&room, "one", &effect).await;
    room.reaches(1_000, EFFECTS).await;
    wait_until(PATIENCE, "the copies are read", async || {
        room.number("select count(*) from lockgate.inbox").await == 1_000
    })
    .await;
    let first = first.stops().await;
    assert_eq!((first.new, first.dead), (1_000, 0));
    // A group of its own begins at the beginning.
    let second = consuming(&room, "two", &effect).await;
    room.post(vec![Letter::to_user(5_000)]).await;
    room.reaches(1_001, EFFECTS).await;
    let second = second.stops().await;
    assert_eq!((second.new, second.dead), (1, 0));
    assert!(second.repeated > 0, "{second:?}");
    assert_eq!(
        room.number("select count(distinct message_id) from public.effects")
            .await,
        1_001
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_may_pass_is_waited_out_and_takes_back_the_ids_too() {
    let room = Mailroom::new().await;
    room.post((0..200).map(Letter::to_user).collect()).await;
    let effect = Arc::new(Count {
        fails: AtomicU32::new(4),
        ..Count::default()
    });
    let consuming = consuming(&room, "one", &effect).await;
    room.reaches(200, EFFECTS).await;
    {
        // A busy server may have failed once more, in words of its own.
        let failures = consuming.failures.lock().unwrap();
        let mut kinds = BTreeMap::new();
        for failure in failures.iter() {
            *kinds.entry(failure).or_insert(0) += 1;
        }
        assert_eq!(kinds.values().max(), Some(&4), "{kinds:?}");
    }
    assert_eq!(
        consuming.stops().await,
        Taken {
            new: 200,
            repeated: 0,
            dead: 0
        }
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_effect_panics_is_rejected_or_beyond_a_limit_is_put_aside_alone() {
    let room = Mailroom::new().await;
    room.post((0..200).map(Letter::to_user).collect()).await;
    let id = lockgate_tests::mailroom::id_of;
    let effect = Arc::new(Count {
        panics_on: Some(id(17)),
        rejects: Some(id(18)),
        exceeds: Some(id(19)),
        ..Count::default()
    });
    let consuming = consuming(&room, "one", &effect).await;
    room.reaches(197, EFFECTS).await;
    room.reaches(3, "select count(*) from lockgate.inbox_dead").await;
    assert_eq!(
        consuming.stops().await,
        Taken {
            new: 197,
            repeated: 0,
            dead: 3
        }
    );
    let why = "select reason_code || ': ' || reason from lockgate.inbox_dead order by 1";
    let why: Vec<String> = sqlx::query_scalar(why).fetch_all(&room.pool).await.unwrap();
    let words = [
        "effect_failed: the database refused its effect with SQLSTATE 54000",
        "effect_panicked: the code of its effect panicked",
        "unwanted: nobody wants it",
    ];
    assert_eq!(why, words);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_too_many_dead_it_stands_still_until_somebody_has_looked() {
    let room = Mailroom::new().await;
    let hopeless = |user| Letter {
        id: None,
        partition: Some(0),
        ..Letter::to_user(user)
    };
    room.post((0..3).map(hopeless).collect()).await;
    let effect = Arc::<Count>::default();
    let consuming = consuming(&room, "one", &effect).await;
    room.reaches(3, "select count(*) from lockgate.inbox_dead").await;
    room.post(vec![
        hopeless(4),
        Letter {
            partition: Some(0),
            ..Letter::to_user(5)
        },
    ])
    .await;
    let said = "3 records of consumer counter are dead";
    wait_until(PATIENCE, "it has tried twice in vain", async || {
        let failures = consuming.failures.lock().unwrap();
        failures.iter().filter(|failure| failure.starts_with(said)).count() >= 2
    })
    .await;
    assert_eq!(
        room.number(EFFECTS).await,
        0,
        "it went on behind a record that it could not keep"
    );
    room.pool.execute("delete from lockgate.inbox_dead").await.unwrap();
    room.reaches(1, EFFECTS).await;
    assert_eq!(
        consuming.stops().await,
        Taken {
            new: 1,
            repeated: 0,
            dead: 4
        }
    );
}

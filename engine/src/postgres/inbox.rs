//! The inbox: each message has its effect once in this database, because its id is remembered in the transaction of the
//! effect.

use std::collections::{BTreeMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::postgres::PgArguments;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::database::{Database, DatabaseError};
use super::foreign::{IDLED, IDLED_TOO_LONG, is_of_aborted, take_back};
use crate::delivery::{InboundPage, Record, Rejection, Settler, TakeError, Taken, identify};

const REMEMBER_MESSAGES: &str = include_str!("../../queries/remember_messages.sql");
const KEEP_DEAD_RECORD: &str = include_str!("../../queries/keep_dead_record.sql");

/// Dead records that a consumer may have before it stands still: so many are no accident of a record but a mistake of
/// whoever set it up, and a whole topic must not end up there.
const MOST_DEAD: u32 = 10_000;

type Query = sqlx::query::Query<'static, sqlx::Postgres, PgArguments>;

/// What a consumer does with its messages.
#[async_trait]
pub trait Effect: Send + Sync + 'static {
    /// What is made of a record before the transaction begins.
    type Prepared: Send + Sync + 'static;

    /// Reads a record. Called again when the record is read again, so it must do nothing else.
    ///
    /// # Errors
    /// Nothing can ever be done with the record: it is put aside, its neighbours go on.
    fn prepare(&self, message_id: Uuid, record: &Record) -> Result<Self::Prepared, Rejection>;

    /// Writes the effects of new messages on this connection, in the transaction in which their ids are remembered; it
    /// neither commits nor rolls back. What it does elsewhere is done again when the transaction fails.
    ///
    /// # Errors
    /// All of the transaction is taken back. When one of the messages is to blame, its neighbours are tried without it.
    async fn apply(&self, connection: &mut PgConnection, new: &[(Uuid, &Self::Prepared)]) -> Result<(), EffectError>;
}

/// Why effects were not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EffectError {
    /// The database failed. Errors about values are blamed on a message, all others may pass.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// Nothing can ever be done with one of the messages; it is looked for when there are several.
    #[error("{}: {}", .0.code, .0.reason)]
    Rejected(Rejection),
}

/// The memory of one consumer, and what it does with what is new.
pub struct Inbox<E: Effect> {
    database: Database,
    consumer: Arc<str>,
    effect: Arc<E>,
    most_dead: u32,
}

/// A record with an id and a prepared effect.
struct Item<P> {
    at: usize,
    id: Uuid,
    prepared: Arc<P>,
}

impl<P> Clone for Item<P> {
    fn clone(&self) -> Self {
        Self {
            prepared: self.prepared.clone(),
            ..*self
        }
    }
}

/// A record that nothing can be done with.
struct Dead {
    at: usize,
    id: Option<Uuid>,
    why: Rejection,
}

impl<E: Effect> Inbox<E> {
    /// The inbox of this consumer. Processes of the same name share one memory; another name has its own.
    #[must_use]
    pub fn new(database: Database, consumer: &str, effect: Arc<E>) -> Self {
        Self {
            database,
            consumer: consumer.into(),
            effect,
            most_dead: MOST_DEAD,
        }
    }

    /// Sets how many dead records there may be before the consumer stands still.
    #[must_use]
    pub fn most_dead(mut self, most_dead: u32) -> Self {
        self.most_dead = most_dead;
        self
    }

    /// Sorts the records of a page: first copies of messages, and what is dead. Later copies are neither.
    fn sort(&self, page: &InboundPage) -> (Vec<Item<E::Prepared>>, Vec<Dead>) {
        let (mut items, mut dead) = (Vec::with_capacity(page.records.len()), Vec::new());
        let mut seen = HashSet::with_capacity(page.records.len());
        for (at, record) in page.records.iter().enumerate() {
            let id = match identify(record) {
                Ok(id) => id,
                Err(why) => {
                    dead.push(Dead { at, id: None, why });
                    continue;
                }
            };
            if seen.contains(&id) {
                continue;
            }
            let prepare = AssertUnwindSafe(|| self.effect.prepare(id, record));
            match std::panic::catch_unwind(prepare).unwrap_or_else(|_| Err(panicked())) {
                Ok(prepared) => {
                    seen.insert(id);
                    let prepared = Arc::new(prepared);
                    items.push(Item { at, id, prepared });
                }
                Err(why) => dead.push(Dead { at, id: Some(id), why }),
            }
        }
        (items, dead)
    }

    /// Settles messages. When one is to blame for their failure, halves them until it is alone, and dead.
    fn settle<'a>(
        &'a self,
        page: &'a InboundPage,
        items: &'a [Item<E::Prepared>],
    ) -> BoxFuture<'a, Result<Taken, TakeError>> {
        async move {
            let why = match self.give_effects(page, items.to_vec()).await {
                Ok(Ok(new)) => {
                    let (new, all) = (new as u64, items.len() as u64);
                    return Ok(Taken {
                        new,
                        repeated: all - new,
                        dead: 0,
                    });
                }
                Ok(Err(why)) => why,
                Err(error) => blame(&error).ok_or_else(|| TakeError::Database(told(&error)))?,
            };
            if let [Item { at, id, .. }] = items {
                return self
                    .put_aside(
                        page,
                        vec![Dead {
                            at: *at,
                            id: Some(*id),
                            why,
                        }],
                    )
                    .await;
            }
            let mut taken = Taken::default();
            for half in items.chunks(items.len().div_ceil(2)) {
                taken += self.settle(page, half).await?;
            }
            Ok(taken)
        }
        .boxed()
    }

    /// One transaction: remembers messages and gives effect to those that were not remembered yet; answers how many.
    async fn give_effects(
        &self,
        page: &InboundPage,
        items: Vec<Item<E::Prepared>>,
    ) -> Result<Result<usize, Rejection>, DatabaseError> {
        let remember = self.remember(page, &items);
        let (effect, pooler_mode) = (self.effect.clone(), self.database.pooler_mode());
        let done = self.database.decided_transaction(move |connection| {
            async move {
                let rows = remember.fetch_all(&mut *connection).await?;
                let new = rows
                    .iter()
                    .map(|row| row.try_get(0))
                    .collect::<Result<HashSet<Uuid>, _>>()?;
                let undone = apply(effect.as_ref(), connection, &items, &new, pooler_mode).await?;
                fail::fail_point!("inbox.before_commit");
                Ok(undone.map_or(Ok(new.len()), Err))
            }
            .boxed()
        });
        let done = done.await?;
        fail::fail_point!("inbox.after_commit");
        Ok(done)
    }

    fn remember(&self, page: &InboundPage, items: &[Item<E::Prepared>]) -> Query {
        let record = |item: &Item<E::Prepared>| &page.records[item.at];
        self.database
            .statement(REMEMBER_MESSAGES)
            .bind(self.consumer.to_string())
            .bind(page.topic.to_string())
            .bind(items.iter().map(|item| item.id).collect::<Vec<_>>())
            .bind(items.iter().map(|item| record(item).partition).collect::<Vec<_>>())
            .bind(items.iter().map(|item| record(item).offset).collect::<Vec<_>>())
    }

    /// Keeps the dead with all that was read of them.
    async fn put_aside(&self, page: &InboundPage, dead: Vec<Dead>) -> Result<Taken, TakeError> {
        let count = dead.len() as u64;
        let queries: Vec<Query> = dead.iter().map(|dead| self.keep(page, dead)).collect();
        let kept = self.database.decided_transaction(move |connection| {
            async move {
                for query in queries {
                    let room: bool = query.fetch_one(&mut *connection).await?.try_get(0)?;
                    if !room {
                        return Ok(Err(()));
                    }
                }
                Ok(Ok(()))
            }
            .boxed()
        });
        match kept.await {
            Ok(Ok(())) => {}
            Ok(Err(())) => {
                let consumer = self.consumer.to_string();
                return Err(TakeError::TooManyDead {
                    consumer,
                    most: self.most_dead,
                });
            }
            Err(error) => return Err(TakeError::Database(error.to_string())),
        }
        self.report(page, &dead);
        Ok(Taken {
            dead: count,
            ..Taken::default()
        })
    }

    fn keep(&self, page: &InboundPage, dead: &Dead) -> Query {
        let record = &page.records[dead.at];
        let (names, values): (Vec<String>, Vec<Vec<u8>>) = record.headers.iter().cloned().unzip();
        self.database
            .statement(KEEP_DEAD_RECORD)
            .bind(self.consumer.to_string())
            .bind(page.topic.to_string())
            .bind(record.partition)
            .bind(record.offset)
            .bind(record.timestamp.unwrap_or(DateTime::<Utc>::UNIX_EPOCH))
            .bind(dead.id)
            .bind(dead.why.code)
            .bind(dead.why.reason.clone())
            .bind(record.key.clone())
            .bind(names)
            .bind(values)
            .bind(i64::from(self.most_dead))
            .bind(record.payload.clone())
    }

    /// One line for each reason of a page, with the first place where it was met.
    fn report(&self, page: &InboundPage, dead: &[Dead]) {
        let mut by_code: BTreeMap<&str, (usize, &Dead)> = BTreeMap::new();
        for dead in dead {
            by_code.entry(dead.why.code).or_insert((0, dead)).0 += 1;
        }
        for (code, (count, first)) in by_code {
            let record = &page.records[first.at];
            let (partition, offset, reason) = (record.partition, record.offset, &first.why.reason);
            tracing::warn!(
                name: "records_put_aside",
                consumer = %self.consumer, topic = %page.topic, partition, offset, code, count, reason,
                "messages are put aside; the first is named"
            );
        }
    }
}

#[async_trait]
impl<E: Effect> Settler for Inbox<E> {
    async fn take(&self, page: &InboundPage) -> Result<Taken, TakeError> {
        let (items, dead) = self.sort(page);
        let copies = page.records.len() - items.len() - dead.len();
        let mut taken = Taken {
            repeated: copies as u64,
            ..Taken::default()
        };
        if !dead.is_empty() {
            taken += self.put_aside(page, dead).await?;
        }
        if !items.is_empty() {
            taken += self.settle(page, &items).await?;
        }
        Ok(taken)
    }
}

/// Gives effect to what is new; answers why it must be taken back, if so.
async fn apply<E: Effect>(
    effect: &E,
    connection: &mut PgConnection,
    items: &[Item<E::Prepared>],
    new: &HashSet<Uuid>,
    pooler_mode: bool,
) -> Result<Option<Rejection>, sqlx::Error> {
    let new = items.iter().filter(|item| new.contains(&item.id));
    let new: Vec<(Uuid, &E::Prepared)> = new.map(|item| (item.id, item.prepared.as_ref())).collect();
    if new.is_empty() {
        return Ok(None);
    }
    match AssertUnwindSafe(effect.apply(&mut *connection, &new))
        .catch_unwind()
        .await
    {
        Ok(Ok(())) => Ok((!take_back(connection, pooler_mode).await?).then(aborted)),
        Ok(Err(EffectError::Database(error))) => Err(error),
        Ok(Err(EffectError::Rejected(why))) => Ok(Some(why)),
        Err(_) => Ok(Some(panicked())),
    }
}

fn aborted() -> Rejection {
    Rejection::new(
        "effect_aborted",
        "a statement of its effect failed, or ended its transaction, and its code went on: nothing can be committed",
    )
}

/// What may pass, in words that tell whose it is.
fn told(error: &DatabaseError) -> String {
    match error.code() {
        Some(IDLED) => IDLED_TOO_LONG.to_owned(),
        _ => error.to_string(),
    }
}

/// What a failed statement says against its values; `None`: it may pass.
fn blame(error: &DatabaseError) -> Option<Rejection> {
    if is_of_aborted(error.code()) {
        return Some(aborted());
    }
    let code = error.code()?;
    // The server's message may quote a value.
    error.is_of_the_work().then(|| {
        Rejection::new(
            "effect_failed",
            format!("the database refused its effect with SQLSTATE {code}"),
        )
    })
}

fn panicked() -> Rejection {
    Rejection::new("effect_panicked", "the code of its effect panicked")
}

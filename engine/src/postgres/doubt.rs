//! Connections that may be dead without anybody having heard so: a node that vanishes says nothing, and whoever asks it waits.
//!
//! The driver sets neither keepalive nor a time for what nobody acknowledges, so each dead connection would cost whoever
//! draws it all the time that a call has. One that is found out speaks for those that were used before it was asked.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::{Executor, PgConnection};

/// One that was used a moment ago is not asked whether it works.
const ASKED_AFTER: Duration = Duration::from_millis(500);
/// One that we kept is asked later: who has nothing to do looks every few seconds, and would ask each time; that a server was
/// away for less than this is noticed by who asks it for something.
const KEPT_ASKED_AFTER: Duration = Duration::from_secs(6);
/// What its answer may take: a server that works needs a round trip, and a connection too many costs less than a wait.
pub(super) const ANSWER: Duration = Duration::from_secs(2);

/// What is known of the connections of a pool.
#[derive(Debug, Default)]
pub(super) struct Doubt(Mutex<Option<Instant>>);

impl Doubt {
    /// One did not answer that was asked at this time.
    pub(super) fn cast(&self, asked: Instant) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *since = (*since).max(Some(asked));
    }

    /// Whether one that was used last at this time may be as dead.
    pub(super) fn is_about(&self, used: Instant) -> bool {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| used < since)
    }

    /// A connection that lay idle in the pool may have been left in a transaction, or its server demoted: clear the one,
    /// refuse the other. It may also have been cut off.
    pub(super) async fn usable(&self, connection: &mut PgConnection, used: Instant) -> Result<bool, sqlx::Error> {
        let question = "rollback; show transaction_read_only";
        self.answers(connection, used, ASKED_AFTER, question).await
    }

    /// The same of one that we kept, which is in no transaction: else it would not have been kept.
    pub(super) async fn works(&self, connection: &mut PgConnection, used: Instant) -> Result<bool, sqlx::Error> {
        let question = "show transaction_read_only";
        self.answers(connection, used, KEPT_ASKED_AFTER, question).await
    }

    async fn answers(
        &self,
        connection: &mut PgConnection,
        used: Instant,
        asked_after: Duration,
        question: &'static str,
    ) -> Result<bool, sqlx::Error> {
        if self.is_about(used) {
            return Ok(false);
        }
        let asked = Instant::now();
        if asked.saturating_duration_since(used) < asked_after {
            return Ok(true);
        }
        let answer = tokio::time::timeout(ANSWER, connection.fetch_one(sqlx::raw_sql(question))).await;
        match answer.unwrap_or_else(|_| Err(silent())) {
            Ok(answer) => Ok(sqlx::Row::try_get::<String, _>(&answer, 0)? == "off"),
            Err(error) => {
                self.cast(asked);
                Err(error)
            }
        }
    }
}

fn silent() -> sqlx::Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "the server does not answer any more").into()
}

/// Whether a call failed of its connection, so that others may be dead too: of one that broke, or as a server says that ends.
pub(super) fn is_of_connection(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(server) => server.code().is_some_and(|code| code.starts_with("57P")),
        _ => false,
    }
}

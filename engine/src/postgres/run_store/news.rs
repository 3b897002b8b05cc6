//! What reaches runs from outside: signals, wake-ups, and instants that come.

use std::collections::HashMap;
use std::time::Duration;

use futures::FutureExt;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::rows::{read_steps, steps_of};
use super::{PostgresRunStore, Query};
use crate::lifecycle::{FleetError, Kind, News, RunId, Signal};
use crate::postgres::database::{Database, DatabaseError};

pub(in crate::postgres) const WAKE_RUNS: &str = include_str!("../../../queries/wake_runs.sql");
const WAKE_BEHIND: &str = include_str!("../../../queries/wake_behind.sql");
const READ_WAITING_SIGNALS: &str = include_str!("../../../queries/read_waiting_signals.sql");
const NEXT_DUE: &str = include_str!("../../../queries/next_due.sql");

impl PostgresRunStore {
    pub(super) async fn wake_rows(&self, runs: &[RunId]) -> Result<u64, FleetError> {
        let query = self.database.statement(WAKE_RUNS).bind(runs.to_vec());
        let done = self
            .database
            .run(move |connection| query.execute(connection).boxed())
            .await?;
        Ok(done.rows_affected())
    }

    pub(super) async fn wake_rows_behind(&self, run: RunId) -> Result<(), FleetError> {
        let query = self.database.statement(WAKE_BEHIND).bind(run);
        self.database
            .run(move |connection| query.execute(connection).boxed())
            .await?;
        Ok(())
    }

    /// The wake-ups are counted before what they brought is read: what comes later is counted later too.
    pub(super) async fn read_news_of(&self, runs: &[RunId]) -> Result<Vec<News>, FleetError> {
        let poked = self.poked_rows(runs).await?;
        let signals = signals_of(&self.database, runs.to_vec());
        let fan_outs = steps_of(&self.database, runs.to_vec(), Some(Kind::FanOut));
        let (mut signals, mut fan_outs) = self
            .database
            .run(move |connection| {
                async move {
                    let signals = read_signals(&mut *connection, signals).await?;
                    Ok((signals, read_steps(connection, fan_outs).await?))
                }
                .boxed()
            })
            .await?;
        let news = poked.into_iter().map(|poked| News {
            run: poked.run,
            wake_seq: poked.wake_seq,
            signals: signals.remove(&poked.run).unwrap_or_default(),
            fan_outs: fan_outs.remove(&poked.run).unwrap_or_default(),
        });
        Ok(news.collect())
    }

    pub(super) async fn next_due_of(&self, queues: &[String]) -> Result<Option<Duration>, FleetError> {
        let query = self.database.statement(NEXT_DUE).bind(queues.to_vec());
        let row = self
            .database
            .run(move |connection| query.fetch_one(connection).boxed())
            .await?;
        let seconds: Option<f64> = row.try_get(0).map_err(DatabaseError::from)?;
        Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)))
    }
}

/// Asks for the signals that runs have not taken.
pub(super) fn signals_of(database: &Database, runs: Vec<RunId>) -> Query {
    database.statement(READ_WAITING_SIGNALS).bind(runs)
}

/// Reads them, by run.
pub(super) async fn read_signals(
    connection: &mut PgConnection,
    query: Query,
) -> Result<HashMap<RunId, Vec<Signal>>, sqlx::Error> {
    let mut signals: HashMap<RunId, Vec<Signal>> = HashMap::new();
    for row in &query.fetch_all(connection).await? {
        signals.entry(row.try_get("run_id")?).or_default().push(signal(row)?);
    }
    Ok(signals)
}

pub(super) fn signal(row: &PgRow) -> Result<Signal, sqlx::Error> {
    Ok(Signal {
        seq: row.try_get("seq")?,
        name: row.try_get("name")?,
        payload: row.try_get("payload")?,
    })
}
